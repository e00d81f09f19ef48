"""Carrying the details from a file to the shared database, so that they lie in one place only.

What is erased later must be gone: so the file does not stay behind as a copy.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

import psycopg

from gateway.details.errors import DetailsAlteredError, DetailsUnavailableError
from gateway.details.postgres import add_batch
from gateway.details.sqlite import BUSY_TIMEOUT_S
from gateway.details.sqlite_schema import connect, prepare, unavailable
from gateway.details.store import StoredDetails

_ROWS_AT_ONCE: Final = 500
_END: Final = object()

_IN_POSTGRES: Final = (
    "SELECT keys, exchange, kind, day, content, wraps,"
    " ARRAY(SELECT token FROM details_token WHERE details = details.number ORDER BY token)"
    " FROM details_batch JOIN details ON details_batch.number = batch ORDER BY details.number"
)
_IN_SQLITE: Final = (
    "SELECT keys, exchange, kind, day, content, wraps, details.number"
    " FROM details JOIN batch ON batch.number = batch ORDER BY batch.number, details.number"
)
_ERASURES: Final = "SELECT entry, time, salt FROM erasure ORDER BY entry"
_ERASED: Final = "SELECT exchange, kind, entry FROM erased ORDER BY exchange, kind, entry"

_Connection = psycopg.Connection[Any]


def copy_details(path: Path, origin: str, connection: _Connection) -> int:
    """Copy the store at `path` into the transaction of `connection`; return of how many entries.

    The caller has made sure that nobody writes to the file, and commits. Raises
    `DetailsUnavailableError`, `ConfigError` if it is another log's, and `psycopg.Error`.
    """
    count = 0
    with _opened(path, origin) as source:
        for keys, batch in _batches(source):
            add_batch(connection, keys, batch)
            count += len(batch)
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO erasure (entry, time, salt) VALUES (%s, %s, %s)", source.execute(_ERASURES)
            )
            cursor.executemany(
                "INSERT INTO erased (exchange, kind, entry) VALUES (%s, %s, %s)", source.execute(_ERASED)
            )
    return count


def verify_copy(path: Path, origin: str, connection: _Connection) -> None:
    """Raise `DetailsAlteredError` unless the database holds what the file does, row for row.

    A file that was emptied by `destroy` says nothing. Raises `DetailsUnavailableError` and `psycopg.Error`.
    """
    with _opened(path, origin) as source, connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        if source.execute("SELECT 1 FROM details UNION ALL SELECT 1 FROM erasure").fetchone() is None:
            return
        for ours, theirs in (
            (_rows_of_file(source), _rows(connection, _IN_POSTGRES)),
            (source.execute(_ERASURES), _rows(connection, _ERASURES)),
            (source.execute(_ERASED), _rows(connection, _ERASED)),
        ):
            if any(one != other for one, other in zip_longest(ours, theirs, fillvalue=_END)):
                raise DetailsAlteredError(
                    "The database holds other details than the file. Nothing was retired; go on with the "
                    "file."
                )


def destroy(path: Path, origin: str) -> None:
    """Overwrite all that the file holds, and remove it; raise `DetailsUnavailableError` if it cannot be."""
    try:
        with _opened(path, origin) as store:
            store.execute("BEGIN IMMEDIATE")
            for table in ("token", "details", "batch", "erased", "erasure"):
                store.execute(f"DELETE FROM {table}")  # noqa: S608 - names of our own
            store.execute("COMMIT")
            (busy, *_) = store.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise DetailsUnavailableError(
                "Another process reads the store of details, so that it cannot be removed. End it, and run "
                "the command again."
            )
        for suffix in ("-wal", "-shm", ""):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    except OSError as error:
        raise DetailsUnavailableError(
            f"The emptied store of details {path} cannot be removed; check the permissions of its folder."
        ) from error


@contextmanager
def _opened(path: Path, origin: str) -> Iterator[sqlite3.Connection]:
    try:
        with closing(connect(path, BUSY_TIMEOUT_S)) as connection:
            prepare(connection, origin)
            yield connection
    except sqlite3.Error as error:
        raise unavailable(error) from error


def _batches(source: sqlite3.Connection) -> Iterator[tuple[bytes, list[StoredDetails]]]:
    for number, keys in source.execute("SELECT number, keys FROM batch ORDER BY number"):
        rows = source.execute(
            "SELECT number, exchange, kind, day, content, wraps FROM details WHERE batch = ? ORDER BY number",
            (number,),
        ).fetchall()
        yield (
            keys,
            [
                StoredDetails(exchange, kind, day, content, wraps, _tokens(source, at))
                for at, exchange, kind, day, content, wraps in rows
            ],
        )


def _rows_of_file(source: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    for *row, number in source.execute(_IN_SQLITE):
        yield (*row, list(_tokens(source, number)))


def _tokens(source: sqlite3.Connection, number: int) -> tuple[bytes, ...]:
    found = source.execute("SELECT token FROM token WHERE details = ? ORDER BY token", (number,))
    return tuple(token for (token,) in found)


def _rows(connection: _Connection, statement: str) -> Iterator[tuple[Any, ...]]:
    with psycopg.ServerCursor(connection, "details") as cursor:
        cursor.itersize = _ROWS_AT_ONCE
        cursor.execute(statement, binary=True)
        yield from cursor
