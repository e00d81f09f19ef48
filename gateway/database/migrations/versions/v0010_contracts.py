"""Contracts: the signed terms, the signatures, and where each version stands."""

from __future__ import annotations

from typing import Final

from alembic import op

revision = "0010"
down_revision = "0003"
branch_labels = None
depends_on = None

_TABLES: Final = """
CREATE TABLE sluicegate.contract_registry (
    id integer PRIMARY KEY CHECK (id = 1),
    revision bigint NOT NULL
);
INSERT INTO sluicegate.contract_registry VALUES (1, 0);
CREATE TABLE sluicegate.contracts (
    id text COLLATE "C" PRIMARY KEY,
    contract text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    terms bytea NOT NULL,
    signatures text NOT NULL,
    standing text NOT NULL,
    UNIQUE (contract, version)
);
CREATE FUNCTION sluicegate.announce_contracts() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    UPDATE sluicegate.contract_registry SET revision = revision + 1;
    PERFORM pg_notify('sluicegate_contracts', '');
    RETURN NULL;
END $$;
CREATE TRIGGER contracts_announced AFTER INSERT OR UPDATE OR DELETE ON sluicegate.contracts
    FOR EACH STATEMENT EXECUTE FUNCTION sluicegate.announce_contracts();
ALTER TABLE sluicegate.contracts ENABLE ALWAYS TRIGGER contracts_announced;
"""


def upgrade() -> None:
    """Make the tables. They need no guards: every change stands in the log, and rows are held to it."""
    op.execute(_TABLES)
