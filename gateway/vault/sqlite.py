"""The vault in a SQLite file beside the log's, for the workers of one host."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from gateway.errors import ConfigError
from gateway.vault.engine import Row
from gateway.vault.errors import VaultUnavailableError

APPLICATION_ID: Final = 0x534C_5641
"""`SLVA` in the file's header (`PRAGMA application_id`)."""

SCHEMA_VERSION: Final = 1
"""`PRAGMA user_version`. Other versions are refused, never guessed at."""

LOCK_TIMEOUT_S: Final = 60.0
"""How long a writer waits for another: committing a million records takes some seconds."""

_CACHE_KIB: Final = 8 * 1024

_TABLES: Final = f"""
BEGIN IMMEDIATE;
CREATE TABLE vault_holding (
    number INTEGER PRIMARY KEY,
    contract TEXT NOT NULL,
    dataset TEXT NOT NULL,
    version INTEGER NOT NULL,
    alive INTEGER NOT NULL,
    retention TEXT NOT NULL,
    destroyed INTEGER,
    time TEXT NOT NULL,
    UNIQUE (contract, dataset)
) STRICT;
CREATE TABLE vault_key (
    holding INTEGER NOT NULL REFERENCES vault_holding (number),
    number INTEGER NOT NULL,
    kek TEXT NOT NULL,
    wrapped BLOB NOT NULL,
    made TEXT NOT NULL,
    PRIMARY KEY (holding, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE vault_batch (
    number INTEGER PRIMARY KEY,
    holding INTEGER NOT NULL REFERENCES vault_holding (number),
    name TEXT NOT NULL,
    identity TEXT NOT NULL,
    key INTEGER NOT NULL,
    layout TEXT NOT NULL,
    records INTEGER NOT NULL,
    pages INTEGER NOT NULL,
    resume BLOB NOT NULL,
    evidence BLOB NOT NULL,
    touched TEXT NOT NULL,
    version INTEGER,
    bound BLOB NOT NULL,
    discarded INTEGER NOT NULL,
    UNIQUE (holding, name),
    UNIQUE (holding, version)
) STRICT;
CREATE TABLE vault_run (
    number INTEGER PRIMARY KEY,
    batch INTEGER NOT NULL REFERENCES vault_batch (number),
    first INTEGER NOT NULL,
    digests BLOB NOT NULL
) STRICT;
CREATE INDEX vault_run_batch ON vault_run (batch, number);
CREATE TABLE vault_page (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    run INTEGER NOT NULL,
    batch INTEGER NOT NULL,
    place INTEGER NOT NULL,
    records INTEGER NOT NULL,
    content BLOB NOT NULL
) STRICT;
CREATE INDEX vault_page_batch ON vault_page (batch, number, records);
CREATE INDEX vault_page_run ON vault_page (run);
CREATE TABLE vault_token (
    run INTEGER NOT NULL,
    token INTEGER NOT NULL,
    place INTEGER NOT NULL,
    PRIMARY KEY (run, token, place)
) STRICT, WITHOUT ROWID;
CREATE TABLE vault_keyed (
    run INTEGER NOT NULL,
    token BLOB NOT NULL,
    place INTEGER NOT NULL,
    PRIMARY KEY (run, token, place)
) STRICT, WITHOUT ROWID;
CREATE TABLE vault_live (
    holding INTEGER NOT NULL,
    token BLOB NOT NULL,
    place INTEGER NOT NULL,
    PRIMARY KEY (holding, token)
) STRICT, WITHOUT ROWID;
CREATE TABLE vault_dead (
    place INTEGER PRIMARY KEY,
    holding INTEGER NOT NULL,
    version INTEGER NOT NULL
) STRICT;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""


class SqliteEngine:
    """See `gateway.vault.engine.Engine`. One connection that writes and one that reads."""

    def __init__(self, path: Path) -> None:
        """Open the vault at `path`, or make one of mode 0600.

        Raises `VaultUnavailableError`, and `ConfigError` if other users may read or write it.
        """
        self._writer_lock, self._reader_lock = threading.Lock(), threading.Lock()
        _create_file(path)
        try:
            self._writer = _connect(path)
            _prepare(self._writer)
            self._reader = _connect(path)
            self._reader.execute("PRAGMA query_only = ON")
        except sqlite3.Error as error:
            raise _unavailable() from error

    @contextmanager
    def writing(self) -> Iterator[_SqliteSession]:
        """See `Engine`."""
        with self._writer_lock:
            connection = self._writer
            try:
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield _SqliteSession(connection)
                    connection.execute("COMMIT")
                finally:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
            except sqlite3.Error as error:
                raise _unavailable() from error

    @contextmanager
    def reading(self) -> Iterator[_SqliteSession]:
        """See `Engine`."""
        with self._reader_lock:
            try:
                yield _SqliteSession(self._reader)
            except sqlite3.Error as error:
                raise _unavailable() from error

    def scrub(self) -> bool:
        """See `Engine`: `secure_delete` has overwritten rows in the file; what is left is older pages."""
        with self._writer_lock:
            try:
                (busy, *_) = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            except sqlite3.Error as error:
                raise _unavailable() from error
        return not busy

    def close(self) -> None:
        """See `Engine`."""
        with self._reader_lock:
            self._reader.close()
        with self._writer_lock:
            self._writer.close()


class _SqliteSession:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, statement: str, values: Mapping[str, Any]) -> list[Row]:
        return self._connection.execute(statement, values).fetchall()

    def change(self, statement: str, values: Mapping[str, Any]) -> int:
        return self._connection.execute(statement, values).rowcount

    def insert(self, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        places = ", ".join("?" * len(columns))
        statement = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})"  # noqa: S608 - our names
        self._connection.executemany(statement, rows)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=LOCK_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
    )
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "secure_delete = ON",
        "foreign_keys = ON",
        "trusted_schema = OFF",
        "cell_size_check = ON",
        f"cache_size = -{_CACHE_KIB}",
    ):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _create_file(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise ConfigError(f"The vault {path} is open to others; run: chmod 600 {path}") from None
    except OSError as error:
        raise VaultUnavailableError(f"The vault {path} cannot be made ({error.strerror}).") from error


def _prepare(connection: sqlite3.Connection) -> None:
    if not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
        try:
            connection.executescript(_TABLES)
        except sqlite3.OperationalError:
            # Another worker made them in the same moment.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if (application, version) != (APPLICATION_ID, SCHEMA_VERSION):
        raise ConfigError("The file named in [vault] is no vault of the known version; correct the path.")


def _unavailable() -> VaultUnavailableError:
    return VaultUnavailableError(
        "The vault cannot be used, and nothing was changed; the operator must see that its file exists, is "
        "writable and its disk has space."
    )
