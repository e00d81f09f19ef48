"""Usage: webhooks of contributors, notices to them and their delivery, statements issued."""

from __future__ import annotations

from typing import Final

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_TABLES: Final = """
CREATE TABLE sluicegate.usage_webhook (
    member text COLLATE "C" PRIMARY KEY,
    url text COLLATE "C" NOT NULL,
    moment text COLLATE "C" NOT NULL
);
CREATE TABLE sluicegate.usage_notice (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    member text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    time text COLLATE "C" NOT NULL,
    body text COLLATE "C" NOT NULL,
    UNIQUE (member, key)
);
CREATE INDEX usage_notice_member ON sluicegate.usage_notice (member, id);
CREATE TABLE sluicegate.usage_delivery (
    notice bigint PRIMARY KEY REFERENCES sluicegate.usage_notice (id) ON DELETE CASCADE,
    member text COLLATE "C" NOT NULL,
    attempts integer NOT NULL,
    due text COLLATE "C" NOT NULL
);
CREATE INDEX usage_delivery_due ON sluicegate.usage_delivery (due);
CREATE TABLE sluicegate.usage_statement (
    member text COLLATE "C" NOT NULL,
    month text COLLATE "C" NOT NULL,
    envelope bytea NOT NULL,
    PRIMARY KEY (member, month)
);
"""


def upgrade() -> None:
    """Make the tables. They hold no evidence and need no guards: the log has what they are made of."""
    op.execute(_TABLES)
