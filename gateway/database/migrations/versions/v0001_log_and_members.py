"""The audit log, members, and what nodes agree on."""

from __future__ import annotations

from typing import Final

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TABLES: Final = """
CREATE TABLE sluicegate.log (
    id integer PRIMARY KEY CHECK (id = 1),
    origin text COLLATE "C" NOT NULL,
    vkey text COLLATE "C" NOT NULL
);
CREATE TABLE sluicegate.head (
    id integer PRIMARY KEY CHECK (id = 1),
    size bigint NOT NULL,
    frontier bytea NOT NULL,
    note text COLLATE "C" NOT NULL
) WITH (fillfactor = 10);
CREATE TABLE sluicegate.checkpoint (
    size bigint PRIMARY KEY,
    note text COLLATE "C" NOT NULL
);
CREATE TABLE sluicegate.entry (
    idx bigint PRIMARY KEY,
    hash bytea NOT NULL,
    time text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    exchange text COLLATE "C" NOT NULL,
    consumer text COLLATE "C" NOT NULL,
    provider text COLLATE "C" NOT NULL,
    dataset text COLLATE "C" NOT NULL,
    reasons text COLLATE "C" NOT NULL,
    tier text COLLATE "C" NOT NULL,
    purpose text COLLATE "C" NOT NULL,
    data bytea NOT NULL
);
CREATE INDEX entry_exchange ON sluicegate.entry (exchange);
CREATE TABLE sluicegate.block (
    number bigint PRIMARY KEY,
    first_time text COLLATE "C" NOT NULL,
    last_time text COLLATE "C" NOT NULL
);
CREATE TABLE sluicegate.block_term (
    term text COLLATE "C" NOT NULL,
    number bigint NOT NULL,
    bits bytea NOT NULL,
    PRIMARY KEY (term, number)
);
CREATE TABLE sluicegate.tile (
    level integer NOT NULL,
    number bigint NOT NULL,
    root bytea NOT NULL,
    hashes bytea NOT NULL,
    PRIMARY KEY (level, number)
);
CREATE TABLE sluicegate.published (
    id bigint PRIMARY KEY,
    size bigint NOT NULL,
    note text COLLATE "C" NOT NULL,
    time text COLLATE "C" NOT NULL,
    grade text COLLATE "C" NOT NULL
);
CREATE INDEX published_size ON sluicegate.published (size);
CREATE INDEX published_grade ON sluicegate.published (grade, id);
-- Hashes do not compress, and entries are read whole: compression would only cost.
ALTER TABLE sluicegate.entry ALTER COLUMN data SET STORAGE EXTERNAL;
ALTER TABLE sluicegate.tile ALTER COLUMN hashes SET STORAGE EXTERNAL;
CREATE TABLE sluicegate.once (
    key bytea PRIMARY KEY,
    until bigint NOT NULL
);
CREATE INDEX once_until ON sluicegate.once (until);
CREATE TABLE sluicegate.pair (
    consumer text COLLATE "C" NOT NULL,
    provider text COLLATE "C" NOT NULL,
    last bigint NOT NULL,
    PRIMARY KEY (consumer, provider)
);
CREATE TABLE sluicegate.probe (
    id integer PRIMARY KEY CHECK (id = 1),
    count bigint NOT NULL
);
INSERT INTO sluicegate.probe VALUES (1, 0);
CREATE TABLE sluicegate.registry (
    id integer PRIMARY KEY CHECK (id = 1),
    revision bigint NOT NULL
);
INSERT INTO sluicegate.registry VALUES (1, 0);
CREATE TABLE sluicegate.members (
    id text COLLATE "C" PRIMARY KEY,
    title text NOT NULL,
    member_class text NOT NULL,
    roles text NOT NULL,
    uri text COLLATE "C" NOT NULL UNIQUE,
    endpoint text,
    state text NOT NULL
);
CREATE TABLE sluicegate.signing_keys (
    key_id text COLLATE "C" PRIMARY KEY,
    member text COLLATE "C" NOT NULL REFERENCES sluicegate.members (id),
    public bytea NOT NULL
);
CREATE TABLE sluicegate.shared_state (
    name text COLLATE "C" PRIMARY KEY,
    value text COLLATE "C" NOT NULL,
    generation bigint NOT NULL
);
"""

_FUNCTIONS: Final = """
CREATE FUNCTION sluicegate.refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = 'restrict_violation';
END $$;
CREATE FUNCTION sluicegate.refuse_shrinking() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    IF new.size <= old.size THEN
        RAISE EXCEPTION 'the audit log only grows' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN new;
END $$;
CREATE FUNCTION sluicegate.refuse_counting_down() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    IF new.last <= old.last OR (new.consumer, new.provider) <> (old.consumer, old.provider) THEN
        RAISE EXCEPTION 'numbers are never given twice' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN new;
END $$;
CREATE FUNCTION sluicegate.keep_checkpoint() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    INSERT INTO sluicegate.checkpoint (size, note) VALUES (new.size, new.note);
    RETURN NULL;
END $$;
CREATE FUNCTION sluicegate.announce_members() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    UPDATE sluicegate.registry SET revision = revision + 1;
    PERFORM pg_notify('sluicegate_members', '');
    RETURN NULL;
END $$;
CREATE FUNCTION sluicegate.announce_state() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    PERFORM pg_notify('sluicegate_state', '');
    RETURN NULL;
END $$;
"""

_APPEND_ONLY: Final = ("log", "checkpoint", "entry", "block", "block_term", "tile", "published")


def upgrade() -> None:
    """Make the tables and their guards. The schema itself is there: the version table stands in it."""
    op.execute(_TABLES)
    op.execute(_FUNCTIONS)
    for table in _APPEND_ONLY:
        _guard(table, f"{table}_is_append_only", "BEFORE UPDATE OR DELETE", "STATEMENT", "refuse_change")
    for table in (*_APPEND_ONLY, "head", "pair"):
        _guard(table, f"{table}_is_not_truncated", "BEFORE TRUNCATE", "STATEMENT", "refuse_change")
    for table in ("head", "pair"):
        _guard(table, f"{table}_is_not_deleted", "BEFORE DELETE", "STATEMENT", "refuse_change")
    _guard("pair", "pair_counts_up", "BEFORE UPDATE", "ROW", "refuse_counting_down")
    _guard("head", "head_grows", "BEFORE UPDATE", "ROW", "refuse_shrinking")
    _guard("head", "head_is_kept", "AFTER UPDATE", "ROW", "keep_checkpoint")
    for table in ("members", "signing_keys"):
        _guard(
            table, f"{table}_announces", "AFTER INSERT OR UPDATE OR DELETE", "STATEMENT", "announce_members"
        )
    _guard(
        "shared_state", "state_announces", "AFTER INSERT OR UPDATE OR DELETE", "STATEMENT", "announce_state"
    )


def _guard(table: str, name: str, when: str, each: str, function: str) -> None:
    op.execute(
        f"CREATE TRIGGER {name} {when} ON sluicegate.{table} FOR EACH {each}"
        f" EXECUTE FUNCTION sluicegate.{function}();"
        f" ALTER TABLE sluicegate.{table} ENABLE ALWAYS TRIGGER {name};"
    )
