"""The vault in the PostgreSQL that holds the log, for several nodes."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final

import psycopg
from psycopg import sql

from gateway.database.address import PostgresAddress
from gateway.database.errors import DatabaseRefusedError, DatabaseUnavailableError
from gateway.database.session import advice_for, connect
from gateway.vault.engine import Row
from gateway.vault.errors import VaultUnavailableError

WRITE_TIMEOUT_S: Final = 3600.0
"""One statement: a commit goes through every key of its batch."""
READ_TIMEOUT_S: Final = 30.0
LOCK_TIMEOUT_S: Final = 60.0
SCRUB_TIMEOUT_S: Final = 10.0
"""How long a scrub waits for transactions that began before."""

_SCRUB_POLL_S: Final = 0.02
_PARAMETER: Final = re.compile(r"(?<!:):([a-z_]+)")
_BYTES: Final = {("vault_keyed", "token")}
"""Columns of bytes, of the tables to which many rows are added at once; the others are numbers."""


class PostgresEngine:
    """See `gateway.vault.engine.Engine`. One session that writes and one that reads, opened when needed."""

    def __init__(self, address: PostgresAddress) -> None:
        """Name the vault; nothing is opened yet."""
        self._writer = _Line(address, "vault", WRITE_TIMEOUT_S)
        self._reader = _Line(address, "vault reading", READ_TIMEOUT_S)

    @contextmanager
    def writing(self) -> Iterator[_PostgresSession]:
        """See `Engine`."""
        with self._writer.connection() as connection, connection.transaction():
            yield _PostgresSession(connection)

    @contextmanager
    def reading(self) -> Iterator[_PostgresSession]:
        """See `Engine`."""
        with self._reader.connection() as connection:
            yield _PostgresSession(connection)

    def scrub(self) -> bool:
        """See `Engine`: the table of data keys is written anew, by a function of the schema's owner."""
        deadline_s = time.monotonic() + SCRUB_TIMEOUT_S
        while True:
            with self._writer.connection() as connection:
                row = connection.execute("SELECT scrub_vault_keys()").fetchone()
            if row == (True,) or time.monotonic() > deadline_s:
                return row == (True,)
            time.sleep(_SCRUB_POLL_S)

    def close(self) -> None:
        """See `Engine`."""
        self._reader.close()
        self._writer.close()


class _Line:
    """A session, opened when it is needed and again after a fault."""

    def __init__(self, address: PostgresAddress, purpose: str, timeout_s: float) -> None:
        self._address, self._purpose, self._timeout_s = address, purpose, timeout_s
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[Any] | None = None

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection[Any]]:
        with self._lock:
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = connect(
                        self._address, self._purpose, statement_timeout_s=self._timeout_s
                    )
                    self._connection.execute(f"SET lock_timeout = '{LOCK_TIMEOUT_S:.0f}s'")
                    # What was staged is sealed before it is sent: a slow disk elsewhere is no dead node.
                    self._connection.execute("SET idle_in_transaction_session_timeout = '60s'")
                yield self._connection
            except (DatabaseUnavailableError, DatabaseRefusedError) as error:
                raise VaultUnavailableError(error.message) from error
            except psycopg.Error as error:
                if self._connection is not None:
                    self._connection.close()
                raise VaultUnavailableError(
                    f"The vault cannot be used, and nothing was changed: {advice_for(error)}."
                ) from None

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None


class _PostgresSession:
    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def rows(self, statement: str, values: Mapping[str, Any]) -> list[Row]:
        return self._connection.execute(_translated(statement), values).fetchall()

    def change(self, statement: str, values: Mapping[str, Any]) -> int:
        return self._connection.execute(_translated(statement), values).rowcount

    def insert(self, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        copy = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
            sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))
        )
        with self._connection.cursor() as cursor, cursor.copy(copy) as lines:
            lines.set_types(["bytea" if (table, name) in _BYTES else "bigint" for name in columns])
            for row in rows:
                lines.write_row(row)


@lru_cache(maxsize=256)
def _translated(statement: str) -> str:
    return _PARAMETER.sub(r"%(\1)s", statement)
