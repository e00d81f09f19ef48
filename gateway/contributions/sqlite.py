"""The register of batches in a SQLite file beside the log's, for the workers of one host."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from gateway.clock import rfc3339
from gateway.contributions.register import Batch, BatchBusyError, BatchState, RegisterUnavailableError
from gateway.errors import ConfigError

APPLICATION_ID: Final = 0x534C_434F
"""`SLCO` in the file's header (`PRAGMA application_id`)."""

SCHEMA_VERSION: Final = 1
"""`PRAGMA user_version`. Other versions are refused, never guessed at."""

LOCK_TIMEOUT_S: Final = 2.0

_TABLES: Final = f"""
BEGIN IMMEDIATE;
CREATE TABLE batch (
    number INTEGER PRIMARY KEY,
    contributor TEXT NOT NULL,
    name TEXT NOT NULL,
    exchange TEXT NOT NULL UNIQUE,
    contract TEXT NOT NULL,
    dataset TEXT NOT NULL,
    choice TEXT NOT NULL,
    seed BLOB NOT NULL,
    state TEXT NOT NULL,
    outcome BLOB NOT NULL,
    touched TEXT NOT NULL,
    UNIQUE (contributor, name)
) STRICT;
CREATE INDEX batch_unfinished ON batch (touched) WHERE state <> 'done';
CREATE TABLE claim (
    batch INTEGER NOT NULL,
    token BLOB NOT NULL,
    row INTEGER NOT NULL,
    PRIMARY KEY (batch, token)
) STRICT, WITHOUT ROWID;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""

_COLUMNS: Final = "contributor, name, exchange, contract, dataset, choice, seed, state, outcome, touched"


class SqliteRegister:
    """See `gateway.contributions.register.BatchRegister`. One connection, flushed at every commit."""

    def __init__(self, path: Path) -> None:
        """Open the register at `path`, or make one of mode 0600.

        Raises `RegisterUnavailableError`, and `ConfigError` if other users may read or write it.
        """
        self._lock = threading.Lock()
        self._locks = path.with_name(f"{path.name}-locks")
        _create_file(path)
        _create_file(self._locks)
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
            _prepare(self._connection)
        except sqlite3.Error as error:
            raise _unavailable() from error

    def find(self, contributor: str, name: str) -> Batch | None:
        """Return the batch that a company calls `name`."""
        with self._guarded() as connection:
            row = connection.execute(
                f"SELECT {_COLUMNS} FROM batch WHERE contributor = ? AND name = ?",  # noqa: S608 - constants
                (contributor, name),
            ).fetchone()
        return None if row is None else _batch(row)

    def add(self, batch: Batch) -> None:
        """Take note of a new batch."""
        with self._writing() as connection:
            done = connection.execute(
                f"INSERT INTO batch ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
                " ON CONFLICT DO NOTHING",
                (
                    batch.contributor,
                    batch.name,
                    batch.exchange,
                    batch.contract,
                    batch.dataset,
                    batch.choice,
                    batch.seed,
                    batch.state.value,
                    batch.outcome,
                    batch.touched,
                ),
            )
            if done.rowcount != 1:
                raise BatchBusyError

    def claim(self, exchange: str, claims: Sequence[tuple[int, bytes]], now: datetime) -> set[int]:
        """Insert all; only if that made fewer rows than claims is each looked at by itself."""
        with self._writing() as connection:
            number = _number(connection, exchange)
            connection.execute("UPDATE batch SET touched = ? WHERE number = ?", (rfc3339(now), number))
            before = connection.total_changes
            connection.executemany(
                "INSERT INTO claim (batch, token, row) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                [(number, token, row) for row, token in claims],
            )
            if connection.total_changes - before == len(claims):
                return set()
            select = "SELECT row FROM claim WHERE batch = ? AND token = ?"
            return {
                row
                for row, token in claims
                if connection.execute(select, (number, token)).fetchone()[0] != row
            }

    def release(self, exchange: str, row: int) -> None:
        """Forget the claims from `row` on."""
        with self._writing() as connection:
            number = _number(connection, exchange)
            connection.execute("DELETE FROM claim WHERE batch = ? AND row >= ?", (number, row))

    def settle(self, exchange: str, state: BatchState, outcome: bytes) -> None:
        """Take note of how far the end of a batch has come."""
        with self._writing() as connection:
            number = _number(connection, exchange)
            connection.execute(
                "UPDATE batch SET state = ?, outcome = ? WHERE number = ?", (state.value, outcome, number)
            )
            if state is BatchState.DONE:
                connection.execute("DELETE FROM claim WHERE batch = ?", (number,))

    def forget(self, exchange: str) -> None:
        """Forget a batch and all its claims."""
        with self._writing() as connection:
            connection.execute(
                "DELETE FROM claim WHERE batch = (SELECT number FROM batch WHERE exchange = ?)", (exchange,)
            )
            connection.execute("DELETE FROM batch WHERE exchange = ?", (exchange,))

    def unfinished(self) -> list[Batch]:
        """Return the batches that are not done, the one that lies longest first."""
        with self._guarded() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM batch WHERE state <> 'done' ORDER BY touched"  # noqa: S608
            ).fetchall()
        return [_batch(row) for row in rows]

    def batches(self) -> list[Batch]:
        """Return every batch, for a move; the first noted first."""
        with self._guarded() as connection:
            rows = connection.execute(f"SELECT {_COLUMNS} FROM batch ORDER BY number").fetchall()  # noqa: S608
        return [_batch(row) for row in rows]

    def claims(self, exchange: str) -> list[tuple[int, bytes]]:
        """Return the claims of a batch in rising order, for a move."""
        with self._guarded() as connection:
            number = _number(connection, exchange)
            return connection.execute(
                "SELECT row, token FROM claim WHERE batch = ? ORDER BY row", (number,)
            ).fetchall()

    @contextmanager
    def exclusively(self, contributor: str, name: str) -> Iterator[None]:
        """Hold a lock on one byte of a file: of this open file, so that threads exclude each other too."""
        start = int.from_bytes(sha256(f"{contributor}/{name}".encode()).digest()[:7], "big")
        try:
            descriptor = os.open(self._locks, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise _unavailable() from error
        try:
            wanted = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, start, 1, 0)
            try:
                fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, wanted)
            except (BlockingIOError, PermissionError):
                raise BatchBusyError from None
            except OSError as error:
                raise _unavailable() from error
            yield
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Close the file. May be called twice."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Hold one write transaction; nothing is kept if the block fails."""
        with self._guarded() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    @contextmanager
    def _guarded(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._connection
            except sqlite3.Error as error:
                raise _unavailable() from error


def _number(connection: sqlite3.Connection, exchange: str) -> int:
    row = connection.execute("SELECT number FROM batch WHERE exchange = ?", (exchange,)).fetchone()
    if row is None:
        raise BatchBusyError
    return int(row[0])


def _batch(row: tuple[Any, ...]) -> Batch:
    contributor, name, exchange, contract, dataset, choice, seed, state, outcome, touched = row
    return Batch(
        contributor=contributor,
        name=name,
        exchange=exchange,
        contract=contract,
        dataset=dataset,
        choice=choice,
        seed=bytes(seed),
        state=BatchState(state),
        outcome=bytes(outcome),
        touched=touched,
    )


def _create_file(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise ConfigError(
                f"The register of contributions {path} is open to others; run: chmod 600 {path}"
            ) from None
    except OSError as error:
        raise RegisterUnavailableError(
            f"The register of contributions {path} cannot be made ({error.strerror})."
        ) from error


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
        raise RegisterUnavailableError(
            "The file beside the log is no register of contributions of the version known here."
        )


def _unavailable() -> RegisterUnavailableError:
    return RegisterUnavailableError(
        "The register of contributions cannot be used; the operator must see that its file exists, is "
        "writable and its disk has space."
    )
