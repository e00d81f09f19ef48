"""Corrections: who received which record, what was announced of records, and what recipients are told."""

from __future__ import annotations

from typing import Final

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_TABLES: Final = """
CREATE TABLE sluicegate.recipient (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    exchange text COLLATE "C" NOT NULL,
    page integer NOT NULL,
    consumer text COLLATE "C" NOT NULL,
    provider text COLLATE "C" NOT NULL,
    dataset text COLLATE "C" NOT NULL,
    purpose text COLLATE "C" NOT NULL,
    key_epoch text COLLATE "C" NOT NULL,
    form text COLLATE "C" NOT NULL,
    time text COLLATE "C" NOT NULL,
    records integer NOT NULL,
    tokens bytea NOT NULL
);
-- Tokens are random to who has no key: compressing them is work in vain.
ALTER TABLE sluicegate.recipient ALTER COLUMN tokens SET STORAGE EXTERNAL;
CREATE INDEX recipient_of_one ON sluicegate.recipient (dataset, tokens) WHERE records = 1;
CREATE INDEX recipient_of_many ON sluicegate.recipient (dataset, id) WHERE records > 1;
CREATE INDEX recipient_time ON sluicegate.recipient (time);
CREATE TABLE sluicegate.correction (
    id text COLLATE "C" PRIMARY KEY,
    announcer text COLLATE "C" NOT NULL,
    dataset text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    reason text COLLATE "C" NOT NULL,
    effective text COLLATE "C" NOT NULL,
    announced text COLLATE "C" NOT NULL,
    records integer NOT NULL,
    entry bigint
);
CREATE INDEX correction_announced ON sluicegate.correction (announced, id);
CREATE TABLE sluicegate.correction_notice (
    correction text COLLATE "C" NOT NULL REFERENCES sluicegate.correction (id),
    recipient text COLLATE "C" NOT NULL,
    digest text COLLATE "C" NOT NULL,
    position bigint,
    delivered text COLLATE "C" NOT NULL DEFAULT '',
    answered text COLLATE "C" NOT NULL DEFAULT '',
    outcome text COLLATE "C" NOT NULL DEFAULT '',
    content bytea,
    PRIMARY KEY (correction, recipient)
);
CREATE INDEX correction_notice_open ON sluicegate.correction_notice (recipient, position) WHERE outcome = '';
CREATE TABLE sluicegate.correction_head (id integer PRIMARY KEY CHECK (id = 1), position bigint NOT NULL);
INSERT INTO sluicegate.correction_head (id, position) VALUES (1, 0);
"""


def upgrade() -> None:
    """Make the tables. They hold no evidence and need no guards: the log has that."""
    op.execute(_TABLES)
