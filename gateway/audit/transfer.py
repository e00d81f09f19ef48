"""Carrying a whole log between engines, row for row: nothing is computed, so that nothing can change.

A log in PostgreSQL is examined on a copy in a SQLite file, by the same `fsck` as every other; and a
log that began in SQLite goes on in PostgreSQL with every entry, checkpoint and receipt valid.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql

from gateway.audit.errors import LogMismatchError, LogUnavailableError
from gateway.audit.sqlite_schema import check_schema, connect_for_reading, schema_script
from gateway.database.address import PostgresAddress
from gateway.database.session import SCHEMA, advice_for, open_session, require_schema

Progress = Callable[[int, int], None]
"""Takes entries copied and entries in all."""

LOG_TABLES: Final = ("log", "head", "checkpoint", "entry", "tile", "block", "block_term", "published", "pair")
"""The tables that make up a log, and what was published of it."""
SPENT_KEYS: Final = ("once",)
"""What a log that goes on elsewhere takes along: else each query could be replayed once."""

_KEY_COLUMNS: Final = {"tile": 2, "block_term": 2, "pair": 2}
"""How many columns the key of a table has, where it is not one."""

_ROWS_AT_ONCE: Final = 2000


def copy_to_file(address: PostgresAddress, path: Path, progress: Progress) -> None:
    """Copy one committed state of the log to a new SQLite file of mode 0600.

    Raises `LogMismatchError` if the rows are not such as a log can have, and `LogUnavailableError`.
    """
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as target, _snapshot(address) as source:
            target.execute("PRAGMA synchronous = OFF")
            target.executescript(schema_script())
            target.execute("BEGIN")
            row = source.execute("SELECT count(*) FROM entry").fetchone()
            total, done = (row[0] if row else 0), 0
            for table in LOG_TABLES:
                columns = _columns(target, table)
                statement = f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})"  # noqa: S608
                for rows in _read(source, table, columns):
                    target.executemany(statement, rows)
                    if table == "entry":
                        done += len(rows)
                        progress(done, total)
            target.execute("COMMIT")
    except sqlite3.IntegrityError as error:
        raise LogMismatchError(
            "The rows of the audit log contradict each other: the database's own constraints are gone."
        ) from error
    except sqlite3.Error as error:
        raise LogUnavailableError(
            "The copy of the audit log cannot be written; check space and permissions of the folder."
        ) from error


def copy_to_database(path: Path, connection: psycopg.Connection[Any], progress: Progress) -> None:
    """Copy the log at `path` into the transaction of `connection`; the database must hold none.

    The caller has made sure that nobody appends to the file, and commits. Raises `LogMismatchError` if
    there is a log already, `LogUnavailableError` if the file cannot be read, and `psycopg.Error`.
    """
    if connection.execute("SELECT 1 FROM log UNION ALL SELECT 1 FROM entry").fetchone() is not None:
        raise LogMismatchError("The database holds an audit log already; name an empty one.")
    try:
        with closing(connect_for_reading(path)) as source:
            check_schema(source)
            source.execute("BEGIN")
            (total,) = source.execute("SELECT count(*) FROM entry").fetchone()
            for table in (*LOG_TABLES, *SPENT_KEYS):
                columns = _columns(source, table)
                names = sql.SQL(", ").join(map(sql.Identifier, columns))
                rows = source.execute(f"SELECT {', '.join(columns)} FROM {table}")  # noqa: S608
                statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table), names)
                with connection.cursor().copy(statement) as copy:
                    for done, row in enumerate(rows, start=1):
                        copy.write_row(row)
                        if table == "entry" and (done % _ROWS_AT_ONCE == 0 or done == total):
                            progress(done, total)
    except sqlite3.Error as error:
        raise LogUnavailableError("The audit log cannot be read; run `gateway audit fsck` on it.") from error


@contextmanager
def _snapshot(address: PostgresAddress) -> Iterator[psycopg.Connection[Any]]:
    """Give a session that sees one state, and may read it for hours."""
    with open_session(address, "copy the log", statement_timeout_s=0) as connection:
        try:
            require_schema(connection)
            connection.execute("SET idle_in_transaction_session_timeout = 0")
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield connection
        except psycopg.Error as error:
            raise LogUnavailableError(f"The audit log cannot be read: {advice_for(error)}.") from None


def _read(
    connection: psycopg.Connection[Any], table: str, columns: list[str]
) -> Iterator[list[tuple[Any, ...]]]:
    # The first columns of every table are its key, whose index gives the order without sorting.
    statement = sql.SQL("SELECT {} FROM {}.{} ORDER BY {}").format(
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        sql.Identifier(SCHEMA),
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, columns[: _KEY_COLUMNS.get(table, 1)])),
    )
    with psycopg.ServerCursor(connection, "copy") as cursor:
        cursor.execute(statement, binary=True)
        while rows := cursor.fetchmany(_ROWS_AT_ONCE):
            yield rows


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")]
