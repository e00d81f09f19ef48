"""Contributions: the batches that companies upload, and the keys that each has brought."""

from __future__ import annotations

from typing import Final

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_TABLES: Final = """
CREATE TABLE sluicegate.contribution_batch (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    contributor text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    exchange text COLLATE "C" NOT NULL UNIQUE,
    contract text COLLATE "C" NOT NULL,
    dataset text COLLATE "C" NOT NULL,
    choice text COLLATE "C" NOT NULL,
    seed bytea NOT NULL,
    state text COLLATE "C" NOT NULL,
    outcome bytea NOT NULL,
    touched text COLLATE "C" NOT NULL,
    UNIQUE (contributor, name)
);
CREATE INDEX contribution_unfinished ON sluicegate.contribution_batch (touched) WHERE state <> 'done';
CREATE TABLE sluicegate.contribution_claim (
    batch bigint NOT NULL REFERENCES sluicegate.contribution_batch (number),
    token bytea NOT NULL,
    place bigint NOT NULL,
    PRIMARY KEY (batch, token)
);
"""


def upgrade() -> None:
    """Make the tables. They hold no evidence and need no guards: how a batch ended stands in the log."""
    op.execute(_TABLES)
