"""The tables of an audit log in SQLite, and how connections to it are made."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import quote

from gateway.audit.errors import LogMismatchError, LogUnavailableError

APPLICATION_ID: Final = 0x534C_5547
"""`SLUG` in the file's header (`PRAGMA application_id`): tells the file from other databases."""

SCHEMA_VERSION: Final = 2
"""`PRAGMA user_version`. Other versions are refused, never guessed at."""

MIN_SQLITE: Final = (3, 37, 0)
"""STRICT tables."""

TABLES: Final = """
CREATE TABLE log (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    origin TEXT NOT NULL,
    vkey TEXT NOT NULL
) STRICT;

CREATE TABLE head (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    size INTEGER NOT NULL,
    frontier BLOB NOT NULL,
    note TEXT NOT NULL
) STRICT;

CREATE TABLE checkpoint (
    size INTEGER PRIMARY KEY,
    note TEXT NOT NULL
) STRICT;

CREATE TABLE entry (
    idx INTEGER PRIMARY KEY,
    hash BLOB NOT NULL,
    time TEXT NOT NULL,
    kind TEXT NOT NULL,
    exchange TEXT NOT NULL,
    consumer TEXT NOT NULL,
    provider TEXT NOT NULL,
    dataset TEXT NOT NULL,
    reasons TEXT NOT NULL,
    tier TEXT NOT NULL,
    purpose TEXT NOT NULL,
    data BLOB NOT NULL
) STRICT;
CREATE INDEX entry_exchange ON entry (exchange);

CREATE TABLE block (
    number INTEGER PRIMARY KEY,
    first_time TEXT NOT NULL,
    last_time TEXT NOT NULL
) STRICT;

CREATE TABLE block_term (
    term TEXT NOT NULL,
    number INTEGER NOT NULL,
    bits BLOB NOT NULL,
    PRIMARY KEY (term, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE tile (
    level INTEGER NOT NULL,
    number INTEGER NOT NULL,
    root BLOB NOT NULL,
    hashes BLOB NOT NULL,
    PRIMARY KEY (level, number)
) STRICT;

CREATE TABLE published (
    id INTEGER PRIMARY KEY,
    size INTEGER NOT NULL,
    note TEXT NOT NULL,
    time TEXT NOT NULL,
    grade TEXT NOT NULL
) STRICT;
CREATE INDEX published_size ON published (size);
CREATE INDEX published_grade ON published (grade, id);

CREATE TABLE pair (
    consumer TEXT NOT NULL,
    provider TEXT NOT NULL,
    last INTEGER NOT NULL,
    PRIMARY KEY (consumer, provider)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER pair_counts_up BEFORE UPDATE ON pair
WHEN new.last <= old.last OR new.consumer <> old.consumer OR new.provider <> old.provider BEGIN
    SELECT RAISE(ABORT, 'numbers are never given twice');
END;
CREATE TRIGGER pair_stays BEFORE DELETE ON pair BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;

CREATE TABLE once (
    key BLOB PRIMARY KEY,
    until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX once_until ON once (until);

CREATE TABLE probe (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    count INTEGER NOT NULL
) STRICT;
INSERT INTO probe VALUES (1, 0);

CREATE TRIGGER head_is_kept AFTER UPDATE ON head BEGIN
    INSERT INTO checkpoint (size, note) VALUES (new.size, new.note);
END;
"""

APPEND_ONLY: Final = ("log", "checkpoint", "entry", "block", "block_term", "tile", "published")
"""Tables whose rows are never changed nor deleted. Triggers say so: against mistakes, not attackers,
who can drop a trigger; what they do then is found by `gateway.audit.fsck`."""


def schema_script() -> str:
    """Return the SQL that makes an empty log's tables, in one transaction."""
    guards = "".join(
        f"CREATE TRIGGER {table}_keeps_{verb.lower()} BEFORE {verb} ON {table} BEGIN "
        f"SELECT RAISE(ABORT, 'the audit log is append-only'); END;\n"
        for table in APPEND_ONLY
        for verb in ("UPDATE", "DELETE")
    )
    return (
        f"BEGIN IMMEDIATE;\n{TABLES}\n{guards}\n"
        f"PRAGMA application_id = {APPLICATION_ID};\nPRAGMA user_version = {SCHEMA_VERSION};\nCOMMIT;"
    )


def expected_objects() -> set[tuple[str, ...]]:
    """Return (type, name, SQL) of every table, index and trigger of this version."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(schema_script())
        return set(connection.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL"))


def check_schema(connection: sqlite3.Connection) -> None:
    """Raise `LogMismatchError` unless the database holds an audit log of the version known here."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise LogMismatchError("This database is not an audit log; check the configured path.")
    if version != SCHEMA_VERSION:
        raise LogMismatchError(
            f"This audit log has schema version {version}; this release knows version "
            f"{SCHEMA_VERSION} only. Use the release that wrote it.",
            version=version,
        )


def connect_for_writing(path: Path, busy_timeout_s: float) -> sqlite3.Connection:
    """Open the existing file for writing, durably: write-ahead log, flushed at every commit.

    The connection does not start transactions by itself and copies pages back into the database only
    when told to. Raises `sqlite3.Error`.
    """
    if sqlite3.sqlite_version_info < MIN_SQLITE:
        raise LogUnavailableError("The audit log needs SQLite 3.37 or newer; update the system's SQLite.")
    connection = sqlite3.connect(
        _uri(path, "rw"), uri=True, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
    except BaseException:
        connection.close()
        raise
    return connection


def connect_for_reading(path: Path) -> sqlite3.Connection:
    """Open the file read-only, beside a running writer or as a copy on a read-only medium.

    Raises `sqlite3.Error`.
    """
    # SQLite cannot open a database in WAL mode where it may not create the shared-memory file.
    # Without a write-ahead log there is nothing to share, so the file can be read as it is.
    alone = not Path(f"{path}-wal").exists() and not os.access(path.parent, os.W_OK)
    mode = "ro&immutable=1" if alone else "ro"
    connection = sqlite3.connect(_uri(path, mode), uri=True, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _uri(path: Path, mode: str) -> str:
    return f"file:{quote(str(path.absolute()))}?mode={mode}"
