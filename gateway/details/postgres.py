"""The erasable store in PostgreSQL, beside the audit log: for several nodes.

A DELETE leaves the row's bytes in the table's file, and VACUUM does, too. So after an erasing the
tables are written anew without them (`sluicegate.scrub_details`, which the schema's owner provides),
once nobody can see the state before any more. What the server keeps elsewhere, its write-ahead log
above all, is out of a gateway's reach; docs/privacy.md says for how long.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Self

import psycopg
from psycopg import sql

from gateway.database.address import PostgresAddress
from gateway.database.errors import DatabaseRefusedError, DatabaseUnavailableError
from gateway.database.session import advice_for, connect
from gateway.details.errors import DetailsUnavailableError
from gateway.details.sealing import BatchKeys
from gateway.details.store import (
    SALT_BYTES,
    Erased,
    Record,
    Selection,
    StoredDetails,
    check_days,
    commit_erasure,
    read_keys,
)
from gateway.errors import ConfigError
from gateway.evidence.canonical import encode_canonical

SCRUB_TIMEOUT_S: Final = 10.0
"""How long a scrub waits for transactions that began before the erasing."""

_SCRUB_POLL_S: Final = 0.02
_ROWS_AT_ONCE: Final = 2000

_ERASE_LIMITS_S: Final = {
    "lock_timeout": 30.0,
    "statement_timeout": 3600.0,
    "idle_in_transaction_session_timeout": 60.0,
}
"""Limits of an erasing: its entry is appended to the log meanwhile. Nobody waits for it but others that
erase."""
_SCRUB_LIMITS_S: Final = {"statement_timeout": 3600.0, "lock_timeout": 10.0}
"""Limits of a scrub, while which nobody reads or writes details; what is written waits in memory."""

_ADD: Final = (
    "INSERT INTO details (exchange, kind, day, batch, content, wraps) VALUES (%s, %s, %s, %s, %s, %s)"
    " RETURNING number"
)
_ADD_TOKENS: Final = (
    "INSERT INTO details_token (token, details)"
    " SELECT token, details FROM unnest(%s::bytea[], %s::bigint[]) AS added (token, details)"
)
_OLDER_TRANSACTIONS: Final = (
    "SELECT virtualxid FROM pg_locks JOIN pg_stat_activity USING (pid)"
    " WHERE locktype = 'virtualxid' AND granted AND pid <> pg_backend_pid()"
    " AND (datname = current_database() OR datname IS NULL)"
)
"""Every transaction holds the lock on its own number, until it ends."""

_Connection = psycopg.Connection[Any]

# Everybody locks, and so reads, in one order: details_batch, details, details_token.


class PostgresDetailsStore:
    """Details in the shared database. One session; after a fault it is opened anew."""

    def __init__(
        self, address: PostgresAddress, origin: str, *, scrub_timeout_s: float = SCRUB_TIMEOUT_S
    ) -> None:
        """Open the store of the log `origin`; raise `ConfigError` if the database is another log's."""
        self._address = address
        self._scrub_timeout_s = scrub_timeout_s
        self._lock = threading.Lock()
        self._connection: _Connection | None = None
        self._closed = False
        with self._session() as connection:
            row = connection.execute("SELECT origin FROM log").fetchone()
        if row != (origin,):
            self.close()
            raise ConfigError("The database named in [details] holds another log; correct the address.")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the session. May be called twice."""
        with self._lock:
            self._closed = True
            self._give_up()

    def add(self, keys: BatchKeys, batch: Iterable[StoredDetails]) -> None:
        """Write a batch; when this returns, it is durable."""
        with self._transaction() as connection:
            add_batch(connection, encode_canonical(keys), batch)

    def of_exchange(self, exchange: str) -> list[tuple[StoredDetails, BatchKeys]]:
        """Return what is kept of an exchange, in the order in which it was written."""
        with self._session() as connection:
            rows = connection.execute(
                "SELECT exchange, kind, day, content, wraps, keys FROM details_batch JOIN details"
                " ON details_batch.number = details.batch WHERE exchange = %s ORDER BY details.number",
                (exchange,),
            ).fetchall()
        return [(StoredDetails(*row), read_keys(keys)) for *row, keys in rows]

    def erased_of(self, exchange: str) -> list[Erased]:
        """Return what was erased of an exchange, the newest erasing first."""
        with self._session() as connection:
            rows = connection.execute(
                "SELECT DISTINCT entry, time FROM erased JOIN erasure USING (entry)"
                " WHERE exchange = %s ORDER BY entry DESC",
                (exchange,),
            ).fetchall()
        return [Erased(*row) for row in rows]

    def erasure(self, entry: int) -> tuple[int, str] | None:
        """Return (count, commitment) of what entry `entry` says was erased; see `DetailsStore.erasure`."""
        with self._session() as connection:
            row = connection.execute("SELECT salt FROM erasure WHERE entry = %s", (entry,)).fetchone()
            if row is None:
                return None
            lines = connection.execute(
                "SELECT exchange, kind FROM erased WHERE entry = %s ORDER BY exchange, kind", (entry,)
            )
            return commit_erasure(row[0], lines)

    def days(self) -> tuple[str, str] | None:
        """Return the first and the last day of which anything is kept; None if nothing is."""
        with self._session() as connection:
            first, last = _row(connection, "SELECT min(day), max(day) FROM details")
        return None if first is None else check_days(first, last)

    def exchanges_with(self, tokens: Sequence[bytes]) -> list[tuple[str, str]]:
        """Return (exchange, kind) of the entries that any of `tokens` stands for, oldest first."""
        with self._session() as connection:
            found = connection.execute(
                "SELECT exchange, kind FROM details WHERE number = ANY(%s) ORDER BY number",
                (_numbers_with(connection, tokens),),
            ).fetchall()
        # Of a write whose success was not heard of, and which was repeated, there are two.
        return list(dict.fromkeys(found))

    def count(self) -> int:
        """Return of how many entries details are kept."""
        with self._session() as connection:
            return int(_row(connection, "SELECT count(*) FROM details")[0])

    def erase(self, selection: Selection, record: Record) -> int:
        """Erase what is selected, once `record` has told the log; return how many.

        When this returns, no file of the tables holds a byte of it. Nothing is recorded when nothing is
        selected. What is written meanwhile, by any node, is not selected.
        """
        with self._transaction(_ERASE_LIMITS_S) as connection:
            # Only others that erase wait. Taken before the snapshot in which everything below looks.
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            connection.execute("LOCK TABLE details_batch, details IN SHARE UPDATE EXCLUSIVE MODE")
            count = _erase(connection, selection, record)
        self.scrub()
        return count

    @property
    def scrub_pending(self) -> bool:
        """Whether an erasing was cut short before its traces were removed."""
        with self._session() as connection:
            erased, scrubbed = _row(connection, "SELECT erased, scrubbed FROM details_state")
        return bool(erased > scrubbed)

    def scrub(self) -> None:
        """Write the tables anew, without what is left of deleted rows.

        Waits for every transaction that began before; meanwhile nobody else is kept from anything.
        Raises `DetailsUnavailableError` if one lasts; it may be called again.
        """
        with self._session() as connection:
            erased, scrubbed = _row(connection, "SELECT erased, scrubbed FROM details_state")
            if erased <= scrubbed:
                return
            if self._await_older_transactions(connection):
                with connection.transaction():
                    _limit(connection, _SCRUB_LIMITS_S)
                    (clean,) = _row(connection, "SELECT scrub_details(%s)", erased)
                if clean:
                    return
        raise DetailsUnavailableError(
            "The details are erased, but somebody still reads an older state of the database (a dump, an "
            "examination, a standby) and keeps traces of them in its files. Let it end and run the command "
            "again."
        )

    def _await_older_transactions(self, connection: _Connection) -> bool:
        """Wait until no transaction runs that runs now; return whether that came about in time."""
        deadline = time.monotonic() + self._scrub_timeout_s
        older = set(connection.execute(_OLDER_TRANSACTIONS).fetchall())
        while older:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_SCRUB_POLL_S)
            older &= set(connection.execute(_OLDER_TRANSACTIONS).fetchall())
        return True

    @contextmanager
    def _transaction(self, limits_s: Mapping[str, float] | None = None) -> Iterator[_Connection]:
        """Hold one transaction; nothing is kept if the block fails."""
        with self._session() as connection, connection.transaction():
            if limits_s:
                _limit(connection, limits_s)
            yield connection

    @contextmanager
    def _session(self) -> Iterator[_Connection]:
        """Hold the session, for one thread; its faults become ours, and it is given up with them."""
        with self._lock:
            try:
                yield self._open()
            except psycopg.Error as error:
                self._give_up()
                raise DetailsUnavailableError(
                    f"The store of details cannot be used: {advice_for(error)}."
                ) from None
            except DatabaseUnavailableError as error:
                raise DetailsUnavailableError(error.message) from error

    def _open(self) -> _Connection:
        if self._closed:
            raise DetailsUnavailableError("The store of details is closed.")
        if self._connection is None or self._connection.closed:
            try:
                self._connection = connect(self._address, "details")
            except DatabaseRefusedError as error:
                raise DetailsUnavailableError(error.message) from error
        return self._connection

    def _give_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def add_batch(connection: _Connection, keys: bytes, batch: Iterable[StoredDetails]) -> None:
    """Write a batch within the caller's transaction; raise `psycopg.Error`."""
    items = list(batch)
    (number,) = _row(connection, "INSERT INTO details_batch (keys) VALUES (%s) RETURNING number", keys)
    with connection.cursor() as cursor:
        cursor.executemany(
            _ADD,
            [(item.exchange, item.kind, item.day, number, item.content, item.wraps) for item in items],
            returning=True,
        )
        tokens: list[bytes] = []
        numbers: list[int] = []
        for item in items:
            row = cursor.fetchone()
            assert row is not None, "each INSERT returns its row"
            unique = set(item.tokens)
            tokens += unique
            numbers += [row[0]] * len(unique)
            cursor.nextset()
    connection.execute(_ADD_TOKENS, (tokens, numbers))


def _erase(connection: _Connection, selection: Selection, record: Record) -> int:
    chosen, values = _choose(connection, selection)
    salt = os.urandom(SALT_BYTES)
    with psycopg.ServerCursor(connection, "erased") as cursor:
        cursor.itersize = _ROWS_AT_ONCE
        cursor.execute(
            sql.SQL("SELECT DISTINCT exchange, kind FROM details WHERE {} ORDER BY exchange, kind").format(
                chosen
            ),
            values,
        )
        count, commitment = commit_erasure(salt, cursor)
    if not count:
        return 0
    entry, at = record(count, commitment)
    connection.execute("INSERT INTO erasure (entry, time, salt) VALUES (%s, %s, %s)", (entry, at, salt))
    connection.execute(
        sql.SQL(
            "INSERT INTO erased (exchange, kind, entry)"
            " SELECT DISTINCT exchange, kind, %s::bigint FROM details WHERE {}"
        ).format(chosen),
        (entry, *values),
    )
    connection.execute(sql.SQL("DELETE FROM details WHERE {}").format(chosen), values)
    connection.execute(
        "DELETE FROM details_batch AS b WHERE NOT EXISTS (SELECT FROM details WHERE batch = b.number)"
    )
    connection.execute("UPDATE details_state SET erased = erased + 1")
    return count


def _choose(connection: _Connection, selection: Selection) -> tuple[sql.SQL, tuple[Any, ...]]:
    """Return the condition on rows of `details`, and its values."""
    if selection.exchange is not None:
        return sql.SQL("exchange = %s"), (selection.exchange,)
    if selection.before is not None:
        return sql.SQL("day < %s"), (selection.before.isoformat(),)
    return sql.SQL("number = ANY(%s)"), (_numbers_with(connection, selection.tokens or ()),)


def _numbers_with(connection: _Connection, tokens: Sequence[bytes]) -> list[int]:
    # By itself: as there are no statistics of tokens, a join would read the tables whole.
    found = connection.execute(
        "SELECT DISTINCT details FROM details_token WHERE token = ANY(%s)", (list(tokens),)
    )
    return [number for (number,) in found]


def _limit(connection: _Connection, limits_s: Mapping[str, float]) -> None:
    # Not by a SELECT: that would take the transaction's snapshot before its locks.
    for setting, limit_s in limits_s.items():
        connection.execute(
            sql.SQL("SET LOCAL {} = {}").format(sql.Identifier(setting), sql.Literal(round(limit_s * 1000)))
        )


def _row(connection: _Connection, statement: str, *values: object) -> tuple[Any, ...]:
    row = connection.execute(statement, values or None).fetchone()
    if row is None:
        raise DetailsUnavailableError(
            "The store of details lacks a row that every database has; run `gateway database migrate`."
        )
    return tuple(row)
