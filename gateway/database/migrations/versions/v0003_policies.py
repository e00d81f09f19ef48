"""Bundle files and approvals of policies."""

from __future__ import annotations

from typing import Final

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TABLES: Final = """
CREATE TABLE sluicegate.policy_file (
    digest text COLLATE "C" PRIMARY KEY,
    bundle text COLLATE "C" NOT NULL,
    content bytea NOT NULL
);
-- A bundle file is compressed already.
ALTER TABLE sluicegate.policy_file ALTER COLUMN content SET STORAGE EXTERNAL;
CREATE TABLE sluicegate.policy_proposal (
    sequence bigint PRIMARY KEY,
    statement text COLLATE "C" NOT NULL,
    file text COLLATE "C" NOT NULL,
    envelope bytea NOT NULL
);
CREATE INDEX policy_proposal_statement ON sluicegate.policy_proposal (statement);
CREATE FUNCTION sluicegate.announce_policy() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    PERFORM pg_notify('sluicegate_policy', '');
    RETURN NULL;
END $$;
CREATE TRIGGER policy_proposal_announces AFTER INSERT ON sluicegate.policy_proposal
    FOR EACH STATEMENT EXECUTE FUNCTION sluicegate.announce_policy();
ALTER TABLE sluicegate.policy_proposal ENABLE ALWAYS TRIGGER policy_proposal_announces;
"""


def upgrade() -> None:
    """Make the tables; their rows are added and never changed."""
    op.execute(_TABLES)
    for table in ("policy_file", "policy_proposal"):
        for name, when in (
            (f"{table}_is_append_only", "BEFORE UPDATE OR DELETE"),
            (f"{table}_is_not_truncated", "BEFORE TRUNCATE"),
        ):
            op.execute(
                f"CREATE TRIGGER {name} {when} ON sluicegate.{table} FOR EACH STATEMENT"
                " EXECUTE FUNCTION sluicegate.refuse_change();"
                f" ALTER TABLE sluicegate.{table} ENABLE ALWAYS TRIGGER {name};"
            )
