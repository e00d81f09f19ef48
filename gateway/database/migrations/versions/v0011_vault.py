"""The vault: contributed records, sealed, and their data keys, wrapped."""

from __future__ import annotations

from typing import Final

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_TABLES: Final = """
CREATE TABLE sluicegate.vault_holding (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    contract text COLLATE "C" NOT NULL,
    dataset text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    alive bigint NOT NULL,
    retention text COLLATE "C" NOT NULL,
    destroyed bigint,
    time text COLLATE "C" NOT NULL,
    UNIQUE (contract, dataset)
);
CREATE TABLE sluicegate.vault_key (
    holding bigint NOT NULL REFERENCES sluicegate.vault_holding (number),
    number bigint NOT NULL,
    kek text COLLATE "C" NOT NULL,
    wrapped bytea NOT NULL,
    made text COLLATE "C" NOT NULL,
    PRIMARY KEY (holding, number)
);
CREATE TABLE sluicegate.vault_batch (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    holding bigint NOT NULL REFERENCES sluicegate.vault_holding (number),
    name text COLLATE "C" NOT NULL,
    identity text COLLATE "C" NOT NULL,
    key bigint NOT NULL,
    layout text COLLATE "C" NOT NULL,
    records bigint NOT NULL,
    pages bigint NOT NULL,
    resume bytea NOT NULL,
    evidence bytea NOT NULL,
    touched text COLLATE "C" NOT NULL,
    version bigint,
    bound bytea NOT NULL,
    discarded bigint NOT NULL,
    UNIQUE (holding, name),
    UNIQUE (holding, version)
);
CREATE TABLE sluicegate.vault_run (
    number bigint PRIMARY KEY,
    batch bigint NOT NULL REFERENCES sluicegate.vault_batch (number),
    first bigint NOT NULL,
    digests bytea NOT NULL
);
CREATE INDEX vault_run_batch ON sluicegate.vault_run (batch, number);
CREATE TABLE sluicegate.vault_page (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run bigint NOT NULL,
    batch bigint NOT NULL,
    place bigint NOT NULL,
    records bigint NOT NULL,
    content bytea NOT NULL
);
-- Sealed bytes do not compress.
ALTER TABLE sluicegate.vault_page ALTER content SET STORAGE EXTERNAL;
CREATE INDEX vault_page_batch ON sluicegate.vault_page (batch, number, records);
CREATE INDEX vault_page_run ON sluicegate.vault_page (run);
CREATE TABLE sluicegate.vault_token (
    run bigint NOT NULL,
    token bigint NOT NULL,
    place bigint NOT NULL,
    PRIMARY KEY (run, token, place)
);
CREATE TABLE sluicegate.vault_keyed (
    run bigint NOT NULL,
    token bytea NOT NULL,
    place bigint NOT NULL,
    PRIMARY KEY (run, token, place)
);
CREATE TABLE sluicegate.vault_live (
    holding bigint NOT NULL,
    token bytea NOT NULL,
    place bigint NOT NULL,
    PRIMARY KEY (holding, token)
);
CREATE TABLE sluicegate.vault_dead (
    place bigint PRIMARY KEY,
    holding bigint NOT NULL,
    version bigint NOT NULL
);
"""

_SCRUB: Final = """
CREATE FUNCTION sluicegate.scrub_vault_keys() RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    copied real;
    alive bigint;
BEGIN
    LOCK TABLE sluicegate.vault_key IN ACCESS EXCLUSIVE MODE;
    -- Written anew into a file of its own, without what was deleted; the old file is emptied.
    CLUSTER sluicegate.vault_key USING vault_key_pkey;
    SELECT count(*) INTO alive FROM sluicegate.vault_key;
    SELECT reltuples INTO copied FROM pg_class WHERE oid = 'sluicegate.vault_key_pkey'::regclass;
    -- Copied, and indexed, are also deleted rows that somebody may still have to see.
    RETURN copied <= alive::real;
END $$;
REVOKE ALL ON FUNCTION sluicegate.scrub_vault_keys() FROM PUBLIC;
"""


def upgrade() -> None:
    """Make the tables. They hold no evidence and need no guards: what happens to them stands in the log."""
    op.execute(_TABLES)
    op.execute(_SCRUB)
