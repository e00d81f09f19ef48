"""Accounts: budgets, quotas and balances of contracts in one table, and what is held on them."""

from __future__ import annotations

from typing import Final

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_TABLES: Final = """
CREATE TABLE sluicegate.account (
    kind text COLLATE "C" NOT NULL,
    owner text COLLATE "C" NOT NULL,
    consumer text COLLATE "C" NOT NULL,
    per text COLLATE "C" NOT NULL,
    first text COLLATE "C" NOT NULL,
    ends text COLLATE "C" NOT NULL,
    records bigint NOT NULL CHECK (records >= 0),
    bound bigint,
    PRIMARY KEY (kind, owner, consumer, per, first)
) WITH (fillfactor = 50);
CREATE INDEX account_ends ON sluicegate.account (ends);
CREATE TABLE sluicegate.hold (
    exchange text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    owner text COLLATE "C" NOT NULL,
    consumer text COLLATE "C" NOT NULL,
    per text COLLATE "C" NOT NULL,
    first text COLLATE "C" NOT NULL,
    records bigint NOT NULL CHECK (records > 0),
    PRIMARY KEY (exchange, kind, owner, consumer, per, first)
);
INSERT INTO sluicegate.account (kind, owner, consumer, per, first, ends, records)
    SELECT 'budget', purpose, consumer, 'day', day, (day::date + 1)::text, records FROM sluicegate.spent;
DROP TABLE sluicegate.spent;
"""


def upgrade() -> None:
    """Make the tables, and carry over what is spent of budgets. They hold no evidence and need no guards."""
    op.execute(_TABLES)
