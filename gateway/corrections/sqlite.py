"""The tables of corrections in a SQLite file beside the log's, for the workers of one host."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final

from gateway.corrections.errors import CorrectionsUnavailableError
from gateway.errors import ConfigError

APPLICATION_ID: Final = 0x534C_434F
"""`SLCO` in the file's header (`PRAGMA application_id`)."""

SCHEMA_VERSION: Final = 1
"""`PRAGMA user_version`. Other versions are refused, never guessed at."""

LOCK_TIMEOUT_S: Final = 2.0
LOOK_INTERVAL_S: Final = 0.25
"""How often a change made by another process is looked for."""

_TABLES: Final = f"""
BEGIN IMMEDIATE;
CREATE TABLE recipient (
    id INTEGER PRIMARY KEY,
    exchange TEXT NOT NULL,
    page INTEGER NOT NULL,
    consumer TEXT NOT NULL,
    provider TEXT NOT NULL,
    dataset TEXT NOT NULL,
    purpose TEXT NOT NULL,
    key_epoch TEXT NOT NULL,
    form TEXT NOT NULL,
    time TEXT NOT NULL,
    records INTEGER NOT NULL,
    tokens BLOB NOT NULL
) STRICT;
CREATE INDEX recipient_of_one ON recipient (dataset, tokens) WHERE records = 1;
CREATE INDEX recipient_of_many ON recipient (dataset, id) WHERE records > 1;
CREATE INDEX recipient_time ON recipient (time);
CREATE TABLE correction (
    id TEXT NOT NULL PRIMARY KEY,
    announcer TEXT NOT NULL,
    dataset TEXT NOT NULL,
    kind TEXT NOT NULL,
    reason TEXT NOT NULL,
    effective TEXT NOT NULL,
    announced TEXT NOT NULL,
    records INTEGER NOT NULL,
    entry INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX correction_announced ON correction (announced, id);
CREATE TABLE correction_notice (
    correction TEXT NOT NULL REFERENCES correction (id),
    recipient TEXT NOT NULL,
    digest TEXT NOT NULL,
    position INTEGER,
    delivered TEXT NOT NULL DEFAULT '',
    answered TEXT NOT NULL DEFAULT '',
    outcome TEXT NOT NULL DEFAULT '',
    content BLOB,
    PRIMARY KEY (correction, recipient)
) STRICT;
CREATE INDEX correction_notice_open ON correction_notice (recipient, position) WHERE outcome = '';
CREATE TABLE correction_head (id INTEGER PRIMARY KEY CHECK (id = 1), position INTEGER NOT NULL) STRICT;
INSERT INTO correction_head (id, position) VALUES (1, 0);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""  # noqa: S608 - the numbers are our own


class _Transaction:
    """See `gateway.corrections.database.Statements`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, statement: str, values: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Run `statement`; return its rows."""
        return self._connection.execute(statement, values or {}).fetchall()

    def execute_many(self, statement: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run `statement` once for each of `rows`."""
        self._connection.executemany(statement, rows)

    def iterate(self, statement: str, values: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query."""
        yield from self._connection.execute(statement, values)

    def contains(self, column: str, value: str) -> str:
        """Return a condition that lets every row pass: in this process, reading and looking is quicker."""
        return f"(:{value} = :{value} OR {column} IS NULL)"

    def announce_change(self) -> None:
        """Do nothing: whoever waits looks four times a second."""


class SqliteTables:
    """See `gateway.corrections.database.Tables`. One connection, flushed at every commit."""

    def __init__(self, path: Path) -> None:
        """Open the file at `path`, or make one of mode 0600."""
        self._lock = threading.Lock()
        _create_file(path)
        try:
            self._connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=rw",
                uri=True,
                timeout=LOCK_TIMEOUT_S,
                isolation_level=None,
                check_same_thread=False,
            )
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("PRAGMA trusted_schema = OFF")
            # What is erased is overwritten.
            self._connection.execute("PRAGMA secure_delete = ON")
            _prepare(self._connection)
        except sqlite3.Error as error:
            raise _unavailable() from error

    def transaction(self) -> AbstractContextManager[_Transaction]:
        """Hold one transaction, and the file's lock for writing."""
        return self._begun("BEGIN IMMEDIATE")

    def reading(self) -> AbstractContextManager[_Transaction]:
        """Hold one transaction that sees the file as it is when it first reads."""
        return self._begun("BEGIN")

    @contextmanager
    def _begun(self, begin: str) -> Iterator[_Transaction]:
        with self._lock:
            try:
                self._connection.execute(begin)
                try:
                    yield _Transaction(self._connection)
                    self._connection.execute("COMMIT")
                finally:
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK")
            except sqlite3.Error as error:
                raise _unavailable() from error

    def overwrite_erased(self) -> None:
        """Empty the write-ahead log; the file itself is overwritten as it is changed."""
        with self._lock:
            try:
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            except sqlite3.Error as error:
                raise _unavailable() from error

    async def await_change(self, timeout_s: float) -> None:
        """Wait for a quarter second at most: another process's change is only found by looking."""
        await asyncio.sleep(min(timeout_s, LOOK_INTERVAL_S))

    def close(self) -> None:
        """Close the file. May be called twice."""
        with self._lock:
            self._connection.close()


def _create_file(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise ConfigError(f"The file {path} is open to others; run: chmod 600 {path}") from None
    except OSError as error:
        raise CorrectionsUnavailableError(f"The file {path} cannot be made ({error.strerror}).") from error


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
        raise CorrectionsUnavailableError(
            "The file beside the log holds no corrections of the version known here."
        )


def _unavailable() -> CorrectionsUnavailableError:
    return CorrectionsUnavailableError(
        "The register of recipients cannot be used; the operator must see that its file exists, is writable "
        "and its disk has space."
    )
