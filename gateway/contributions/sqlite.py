"""The register of batches in a SQLite file beside the log's, for the workers of one host.

The claims of a batch stand in *runs*, each sorted by token: a claim begins one, and as soon as eight of a
level are there they are merged to one of the next. In one sorted table every claim of some thousand keys
would change a page for each, and a batch of a million records write fifty times its size.
"""

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

SCHEMA_VERSION: Final = 2
"""`PRAGMA user_version`. Other versions are refused, never guessed at."""

LOCK_TIMEOUT_S: Final = 10.0
"""Merging claims of a large batch takes some seconds on a busy machine."""

_MERGED: Final = 8
"""Runs of one level that become one."""
_HIGHEST: Final = 2
"""Runs of this level stay as they are, with a million claims or so: merging more would keep others out."""

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
CREATE TABLE run (
    batch INTEGER NOT NULL,
    number INTEGER NOT NULL,
    level INTEGER NOT NULL,
    PRIMARY KEY (batch, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE claim (
    batch INTEGER NOT NULL,
    run INTEGER NOT NULL,
    token BLOB NOT NULL,
    row INTEGER NOT NULL,
    PRIMARY KEY (batch, run, token)
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
            self._connection.execute(
                "CREATE TEMP TABLE wanted (token BLOB PRIMARY KEY) STRICT, WITHOUT ROWID"
            )
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
        """Look for all of them in each run; those that are new begin the next run."""
        holders: dict[bytes, int] = {}
        for row, token in claims:
            holders.setdefault(token, row)
        with self._writing() as connection:
            number = _number(connection, exchange)
            connection.execute("UPDATE batch SET touched = ? WHERE number = ?", (rfc3339(now), number))
            held = _held(connection, number, sorted(holders))
            _add_run(connection, number, [(t, row) for t, row in sorted(holders.items()) if t not in held])
        holders.update(held)
        return {row for row, token in claims if holders[token] != row}

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
                _remove_claims(connection, number)

    def forget(self, exchange: str) -> None:
        """Forget a batch and all its claims."""
        with self._writing() as connection:
            for (number,) in connection.execute(
                "SELECT number FROM batch WHERE exchange = ?", (exchange,)
            ).fetchall():
                _remove_claims(connection, number)
                connection.execute("DELETE FROM batch WHERE number = ?", (number,))

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


def _held(connection: sqlite3.Connection, batch: int, tokens: Sequence[bytes]) -> dict[bytes, int]:
    """Return which of the tokens are claimed, and by which row. Sorted, they are found side by side."""
    connection.execute("DELETE FROM temp.wanted")
    connection.executemany("INSERT INTO temp.wanted (token) VALUES (?)", ((token,) for token in tokens))
    return dict(
        connection.execute(
            "SELECT claim.token, claim.row FROM run CROSS JOIN temp.wanted AS wanted CROSS JOIN claim"
            " ON claim.batch = run.batch AND claim.run = run.number AND claim.token = wanted.token"
            " WHERE run.batch = ?",
            (batch,),
        )
    )


def _add_run(connection: sqlite3.Connection, batch: int, claims: Sequence[tuple[bytes, int]]) -> None:
    """Add a run of (token, row), sorted; merge what there are enough of."""
    (number,) = connection.execute(
        "SELECT coalesce(max(number), 0) + 1 FROM run WHERE batch = ?", (batch,)
    ).fetchone()
    connection.executemany(
        "INSERT INTO claim (batch, run, token, row) VALUES (?, ?, ?, ?)",
        ((batch, number, token, row) for token, row in claims),
    )
    connection.execute("INSERT INTO run (batch, number, level) VALUES (?, ?, 0)", (batch, number))
    for level in range(_HIGHEST):
        (count,) = connection.execute(
            "SELECT count(*) FROM run WHERE batch = ? AND level = ?", (batch, level)
        ).fetchone()
        if count < _MERGED:
            return
        number += 1
        merged = "(SELECT number FROM run WHERE batch = :batch AND level = :level)"
        values = {"batch": batch, "level": level, "number": number}
        connection.execute(
            "INSERT INTO claim (batch, run, token, row) SELECT batch, :number, token, row FROM claim"  # noqa: S608
            f" WHERE batch = :batch AND run IN {merged} ORDER BY token",
            values,
        )
        connection.execute(f"DELETE FROM claim WHERE batch = :batch AND run IN {merged}", values)  # noqa: S608
        connection.execute("DELETE FROM run WHERE batch = :batch AND level = :level", values)
        connection.execute(
            "INSERT INTO run (batch, number, level) VALUES (:batch, :number, :level + 1)", values
        )


def _remove_claims(connection: sqlite3.Connection, batch: int) -> None:
    for table in ("claim", "run"):
        connection.execute(f"DELETE FROM {table} WHERE batch = ?", (batch,))  # noqa: S608 - constants


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
