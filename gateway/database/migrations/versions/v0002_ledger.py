"""The ledger: what is spent of budgets, and what is owed after releases."""

from __future__ import annotations

from typing import Final

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TABLES: Final = """
CREATE TABLE sluicegate.spent (
    consumer text COLLATE "C" NOT NULL,
    purpose text COLLATE "C" NOT NULL,
    day text COLLATE "C" NOT NULL,
    records bigint NOT NULL CHECK (records >= 0),
    PRIMARY KEY (consumer, purpose, day)
);
CREATE INDEX spent_day ON sluicegate.spent (day);
CREATE TABLE sluicegate.debt (
    kind text COLLATE "C" NOT NULL,
    exchange text COLLATE "C" NOT NULL,
    consumer text COLLATE "C" NOT NULL,
    provider text COLLATE "C" NOT NULL,
    dataset text COLLATE "C" NOT NULL,
    until text COLLATE "C" NOT NULL,
    subject text COLLATE "C" NOT NULL,
    PRIMARY KEY (kind, exchange)
);
CREATE INDEX debt_until ON sluicegate.debt (kind, until);
"""


def upgrade() -> None:
    """Make the tables. They hold no evidence and need no guards: the log has what they are made of."""
    op.execute(_TABLES)
