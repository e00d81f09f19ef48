"""Carrying tables from a SQLite file into the shared database: the same rows, under the same numbers.

What a table's rows mean is not looked at: what is sealed in the file is sealed in the database.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql

from gateway.database.errors import CopyMismatchError, DatabaseUnavailableError
from gateway.errors import ConfigError

_BUSY_TIMEOUT_S: Final = 2.0
_ROWS_AT_ONCE: Final = 2000
_EMPTIED: Final = 0
"""`PRAGMA user_version` of a file that was emptied after its rows had been carried and compared."""
_END: Final = object()

_Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriedTable:
    """A table that has one name, and these columns, in the file and in the database."""

    name: str
    columns: tuple[str, ...]
    order: tuple[str, ...]
    """Columns that put its rows into one order; the database gives numbers of its own in that order if it has
    a column beside `columns`."""
    condition: str = "true"
    """SQL that is true of the rows to be carried."""
    taken: str = "true"
    """SQL that is true of a row in the database that stands in the way."""
    spend: str = ""
    """SQL that adds `count` rows to the database, which numbers them: for a table whose first column is a
    number that must neither change nor be given again."""
    put: str = ""
    """SQL that puts one row into the database, where a row stands already. Without it, rows are added."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriedFile:
    """A SQLite file whose tables are carried, and what it is told by."""

    path: Path
    application: int
    """`PRAGMA application_id`."""
    version: int
    """`PRAGMA user_version`."""
    tables: tuple[CarriedTable, ...]
    """In the order in which their rows refer to each other."""
    erased: tuple[str, ...] = ()
    """The tables to overwrite before the file is removed, so that nothing that is erased later is left in it.
    If there are none, the file may be kept."""

    def copy(self, connection: _Connection) -> None:
        """Copy all rows into the transaction of `connection`, whose tables must be empty.

        The caller has made sure that nobody writes to the file, and commits. Raises `ConfigError` if there
        are rows already, `DatabaseUnavailableError` if the file cannot be read, and `psycopg.Error`.
        """
        with self._opened() as source:
            source.execute("BEGIN")
            for table in self.tables:
                if _count(connection, table, table.taken):
                    raise ConfigError(
                        f"The database holds rows of {table.name} already; name an empty one, and nothing is "
                        "changed."
                    )
                if table.spend:
                    _spend_numbers(source, connection, table)
                _copy(source, connection, table)

    def verify(self, connection: _Connection) -> Mapping[str, int]:
        """Return how many rows of each table the database holds, once it holds what the file does.

        Of a file that `destroy` has emptied nothing is compared any more. Raises `CopyMismatchError`,
        `DatabaseUnavailableError` and `psycopg.Error`.
        """
        with self._opened() as source, connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            if _version(source) != _EMPTIED:
                source.execute("BEGIN")
                for table in self.tables:
                    pairs = zip_longest(_ours(source, table), _theirs(connection, table), fillvalue=_END)
                    if any(one != other for one, other in pairs):
                        raise CopyMismatchError(
                            f"The database holds other rows of {table.name} than {self.path.name}. Nothing "
                            "was retired; go on with the files."
                        )
            return {table.name: _count(connection, table) for table in self.tables}

    def destroy(self) -> None:
        """Overwrite what is erased later, and remove the file.

        Raises `DatabaseUnavailableError` if it cannot be; then it may be called again.
        """
        try:
            with self._opened() as store:
                store.execute("PRAGMA secure_delete = ON")
                store.execute("BEGIN IMMEDIATE")
                for table in self.erased:
                    store.execute(f"DELETE FROM {table}")  # noqa: S608 - names of our own
                store.execute(f"PRAGMA user_version = {_EMPTIED}")
                store.execute("COMMIT")
                (busy, *_) = store.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if busy:
                raise DatabaseUnavailableError(
                    f"Another process reads {self.path.name}, so that it cannot be removed. End it, and run "
                    "the command again."
                )
            for suffix in ("-wal", "-shm", ""):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        except OSError as error:
            raise DatabaseUnavailableError(
                f"The emptied file {self.path} cannot be removed; check the permissions of its folder."
            ) from error

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        try:
            place = f"{self.path.absolute().as_uri()}?mode=rw"
            with closing(
                sqlite3.connect(place, uri=True, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
            ) as connection:
                connection.execute("PRAGMA trusted_schema = OFF")
                (application,) = connection.execute("PRAGMA application_id").fetchone()
                if application != self.application or _version(connection) not in {self.version, _EMPTIED}:
                    raise ConfigError(
                        f"{self.path} is not the file that it should be, of the version known here; correct "
                        "the path."
                    )
                yield connection
        except sqlite3.Error as error:
            raise DatabaseUnavailableError(
                f"The file {self.path} cannot be read, or is in use; see that nothing has it open, and "
                "restore it if it is damaged."
            ) from error


def _version(source: sqlite3.Connection) -> int:
    (version,) = source.execute("PRAGMA user_version").fetchone()
    return int(version)


def _count(connection: _Connection, table: CarriedTable, condition: str = "true") -> int:
    statement = sql.SQL("SELECT count(*) FROM {} WHERE ").format(sql.Identifier(table.name))
    (count,) = connection.execute(statement + sql.SQL(condition)).fetchone() or (0,)
    return int(count)


def _spend_numbers(source: sqlite3.Connection, connection: _Connection, table: CarriedTable) -> None:
    """Have the database give away the numbers that were given in the file, also those of rows that are gone.

    The gateway's role may not set a sequence, but no rollback takes a number back.
    """
    number = table.columns[0]
    (highest,) = source.execute(f"SELECT coalesce(max({number}), 0) FROM {table.name}").fetchone()  # noqa: S608
    if source.execute("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'").fetchone():
        (given,) = source.execute(
            "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = ?", (table.name,)
        ).fetchone()
        highest = max(highest, given)
    if highest:
        with connection.transaction(force_rollback=True):
            connection.execute(table.spend, {"count": highest})


def _copy(source: sqlite3.Connection, connection: _Connection, table: CarriedTable) -> None:
    rows = _ours(source, table)
    if table.put:
        for row in rows:
            connection.execute(table.put, row)
        return
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(table.name), sql.SQL(", ").join(map(sql.Identifier, table.columns))
    )
    with connection.cursor().copy(statement) as copy:
        for row in rows:
            copy.write_row(row)


def _select(table: CarriedTable) -> str:
    columns, order = ", ".join(table.columns), ", ".join(table.order)
    return f"SELECT {columns} FROM {table.name} WHERE {table.condition} ORDER BY {order}"  # noqa: S608


def _ours(source: sqlite3.Connection, table: CarriedTable) -> Iterator[tuple[Any, ...]]:
    return source.execute(_select(table))


def _theirs(connection: _Connection, table: CarriedTable) -> Iterator[tuple[Any, ...]]:
    with psycopg.ServerCursor(connection, "carried") as cursor:
        cursor.itersize = _ROWS_AT_ONCE
        cursor.execute(_select(table), binary=True)
        yield from cursor
