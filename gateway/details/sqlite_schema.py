"""The tables of the store of details in SQLite, and how connections to it are made."""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path
from typing import Final
from urllib.parse import quote

from gateway.details.errors import DetailsUnavailableError
from gateway.errors import ConfigError

APPLICATION_ID: Final = 0x534C_4445
"""`SLDE` in the file's header (`PRAGMA application_id`)."""

SCHEMA_VERSION: Final = 1
"""`PRAGMA user_version`. Other versions are refused, never guessed at."""

TABLES: Final = f"""
BEGIN IMMEDIATE;
CREATE TABLE store (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    origin TEXT NOT NULL,
    scrub INTEGER NOT NULL
) STRICT;
CREATE TABLE batch (
    number INTEGER PRIMARY KEY,
    keys BLOB NOT NULL
) STRICT;
CREATE TABLE details (
    number INTEGER PRIMARY KEY,
    exchange TEXT NOT NULL,
    kind TEXT NOT NULL,
    day TEXT NOT NULL,
    batch INTEGER NOT NULL REFERENCES batch (number),
    content BLOB NOT NULL,
    wraps BLOB NOT NULL
) STRICT;
CREATE INDEX details_exchange ON details (exchange);
CREATE INDEX details_day ON details (day);
CREATE INDEX details_batch ON details (batch);
CREATE TABLE token (
    token BLOB NOT NULL,
    details INTEGER NOT NULL,
    PRIMARY KEY (token, details)
) STRICT, WITHOUT ROWID;
CREATE INDEX token_details ON token (details);
CREATE TABLE erasure (
    entry INTEGER PRIMARY KEY,
    time TEXT NOT NULL,
    salt BLOB NOT NULL
) STRICT;
CREATE TABLE erased (
    exchange TEXT NOT NULL,
    kind TEXT NOT NULL,
    entry INTEGER NOT NULL REFERENCES erasure (entry),
    PRIMARY KEY (exchange, kind, entry)
) STRICT, WITHOUT ROWID;
CREATE INDEX erased_entry ON erased (entry);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""


def create_file(path: Path) -> bool:
    """Make an empty file of mode 0600 unless there is one; return whether it was made.

    Raises `ConfigError` if other users may read or write an existing one.
    """
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise ConfigError(
                f"The store of details {path} is open to others; run: chmod 600 {path}"
            ) from None
        return False
    except OSError as error:
        raise ConfigError(f"The store of details {path} cannot be made ({error.strerror}).") from error
    return True


def connect(path: Path, busy_timeout_s: float) -> sqlite3.Connection:
    """Open the existing file, so that what is deleted is overwritten. Raises `sqlite3.Error`.

    Durable at each commit: details must not be lost more easily than the entries they belong to.
    """
    connection = sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode=rw",
        uri=True,
        timeout=busy_timeout_s,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def prepare(connection: sqlite3.Connection, origin: str) -> None:
    """Make the tables of an empty file, or check those of another.

    Raises `ConfigError` if it is no store of details of the version known here, or another log's.
    """
    if not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
        connection.executescript(TABLES)
        connection.execute("INSERT INTO store VALUES (1, ?, 0)", (origin,))
        connection.execute("COMMIT")
        return
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if (application, version) != (APPLICATION_ID, SCHEMA_VERSION):
        raise ConfigError(
            "The file named in [details] is not a store of details of the known version; correct the path."
        )
    if connection.execute("SELECT origin FROM store").fetchall() != [(origin,)]:
        raise ConfigError("The store of details belongs to another log; correct the path in [details].")


def unavailable(error: sqlite3.Error) -> DetailsUnavailableError:
    """Return the error that tells of a fault of SQLite; the fault itself stays its cause."""
    told = DetailsUnavailableError(
        "The store of details cannot be used; check that its file exists, is writable and its disk has space."
    )
    told.__cause__ = error
    return told
