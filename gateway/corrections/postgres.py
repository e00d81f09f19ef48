"""The tables of corrections in the PostgreSQL that holds the log, for several nodes."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from typing import Any, Final

import psycopg

from gateway.corrections.database import CHANNEL
from gateway.corrections.errors import CorrectionsUnavailableError
from gateway.database.address import PostgresAddress
from gateway.database.errors import DatabaseRefusedError, DatabaseUnavailableError
from gateway.database.notices import Notices
from gateway.database.session import advice_for, connect

STATEMENT_TIMEOUT_S: Final = 30.0
"""Looking for who received a record goes through years of releases."""
_CURSOR_ROWS: Final = 200
_VALUE: Final = re.compile(r":([a-z_]+)")


class _Transaction:
    """See `gateway.corrections.database.Statements`."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def execute(self, statement: str, values: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Run `statement`; return its rows."""
        cursor = self._connection.execute(_for_psycopg(statement), values or {})
        return cursor.fetchall() if cursor.description is not None else []

    def execute_many(self, statement: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run `statement` once for each of `rows`, in few round trips."""
        with self._connection.cursor() as cursor:
            cursor.executemany(_for_psycopg(statement), rows)

    def iterate(self, statement: str, values: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query, some hundred at a time."""
        with self._connection.cursor(name="corrections") as cursor:
            cursor.itersize = _CURSOR_ROWS
            cursor.execute(_for_psycopg(statement), values, binary=True)
            yield from cursor

    def contains(self, column: str, value: str) -> str:
        """Return the condition that `column` holds a value."""
        return f"position(:{value} IN {column}) > 0"

    def announce_change(self) -> None:
        """Notify every node, once this is committed."""
        self._connection.execute("SELECT pg_notify(%s, '')", (CHANNEL,))


class PostgresTables:
    """See `gateway.corrections.database.Tables`. One session, opened when it is needed and after a fault."""

    def __init__(self, address: PostgresAddress, purpose: str) -> None:
        """Name the database; nothing is opened yet."""
        self._address = address
        self._purpose = purpose
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[Any] | None = None
        self._notices = Notices(address, CHANNEL)

    @contextmanager
    def transaction(self) -> Iterator[_Transaction]:
        """Hold one transaction; nothing is kept if the block fails."""
        with self._lock:
            try:
                connection = self._open()
                with connection.transaction():
                    yield _Transaction(connection)
            except (DatabaseUnavailableError, DatabaseRefusedError) as error:
                raise CorrectionsUnavailableError(error.message) from error
            except psycopg.Error as error:
                if self._connection is not None:
                    self._connection.close()
                raise CorrectionsUnavailableError(
                    f"The register of recipients cannot be used: {advice_for(error)}."
                ) from None

    def reading(self) -> AbstractContextManager[_Transaction]:
        """Hold one transaction; in PostgreSQL readers keep nobody from writing."""
        return self.transaction()

    def overwrite_erased(self) -> None:
        """Do nothing: the server's own cleaning removes old rows. What stood in them is encrypted."""

    async def await_change(self, timeout_s: float) -> None:
        """Return at a notice, at the latest after `timeout_s`."""
        await self._notices.wait(timeout_s)

    def close(self) -> None:
        """Close the sessions. May be called twice."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None
        self._notices.close()

    def _open(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = connect(self._address, self._purpose, statement_timeout_s=STATEMENT_TIMEOUT_S)
        return self._connection


@lru_cache(maxsize=64)
def _for_psycopg(statement: str) -> str:
    return _VALUE.sub(r"%(\1)s", statement)
