"""The register of batches in the PostgreSQL that holds the log, for several nodes."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from hashlib import sha256
from typing import Any, Final, LiteralString

import psycopg
from psycopg.rows import dict_row

from gateway.clock import rfc3339
from gateway.contributions.register import Batch, BatchBusyError, BatchState, RegisterUnavailableError
from gateway.database.address import PostgresAddress
from gateway.database.errors import DatabaseRefusedError, DatabaseUnavailableError
from gateway.database.session import advice_for, connect

STATEMENT_TIMEOUT_S: Final = 600.0
"""One statement: the end of a batch lets its claims go, and there may be millions."""

_FIND: Final = (
    "SELECT contributor, name, exchange, contract, dataset, choice, seed, state, outcome, touched"
    " FROM contribution_batch"
)
_ADD: Final = (
    "INSERT INTO contribution_batch"
    " (contributor, name, exchange, contract, dataset, choice, seed, state, outcome, touched)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"
)
_CLAIM: Final = (
    "INSERT INTO contribution_claim (batch, token, place)"
    " SELECT %s, token, place FROM unnest(%b::bytea[], %s::bigint[]) AS wanted (token, place) ORDER BY place"
    " ON CONFLICT DO NOTHING"
)
_CLAIMED_BEFORE: Final = (
    "SELECT wanted.place FROM unnest(%b::bytea[], %s::bigint[]) AS wanted (token, place)"
    " JOIN contribution_claim AS claim ON claim.batch = %s AND claim.token = wanted.token"
    " WHERE claim.place <> wanted.place"
)


class PostgresRegister:
    """See `gateway.contributions.register.BatchRegister`. One session, opened when it is needed.

    `exclusively` holds advisory locks of that session, and a batch is written in no other: who has lost
    the session has lost its batches, and can no longer write to them, whoever has taken them up meanwhile.
    """

    def __init__(self, address: PostgresAddress) -> None:
        """Name the register; nothing is opened yet."""
        self._address = address
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[Any] | None = None
        self._held: set[tuple[str, str]] = set()
        """(contributor, name) of the batches that the session keeps others out of."""

    def find(self, contributor: str, name: str) -> Batch | None:
        """Return the batch that a company calls `name`."""
        with self._transaction() as connection:
            found = _batches(connection, f"{_FIND} WHERE contributor = %s AND name = %s", contributor, name)
        return found[0] if found else None

    def add(self, batch: Batch) -> None:
        """Take note of a new batch."""
        with self._transaction() as connection:
            self._require_held(batch.contributor, batch.name)
            values = (
                *(batch.contributor, batch.name, batch.exchange, batch.contract, batch.dataset),
                *(batch.choice, batch.seed, batch.state.value, batch.outcome, batch.touched),
            )
            if connection.execute(_ADD, values).rowcount != 1:
                raise BatchBusyError

    def claim(self, exchange: str, claims: Sequence[tuple[int, bytes]], now: datetime) -> set[int]:
        """Insert all at once; only if that made fewer rows than claims are those of before looked for."""
        with self._transaction() as connection:
            number = self._number(connection, exchange)
            connection.execute(
                "UPDATE contribution_batch SET touched = %s WHERE number = %s", (rfc3339(now), number)
            )
            places, tokens = [row for row, _ in claims], [token for _, token in claims]
            if connection.execute(_CLAIM, (number, tokens, places)).rowcount == len(claims):
                return set()
            return {row for (row,) in connection.execute(_CLAIMED_BEFORE, (tokens, places, number))}

    def release(self, exchange: str, row: int) -> None:
        """Forget the claims from `row` on."""
        with self._transaction() as connection:
            number = self._number(connection, exchange)
            connection.execute(
                "DELETE FROM contribution_claim WHERE batch = %s AND place >= %s", (number, row)
            )

    def settle(self, exchange: str, state: BatchState, outcome: bytes) -> None:
        """Take note of how far the end of a batch has come."""
        with self._transaction() as connection:
            number = self._number(connection, exchange)
            connection.execute(
                "UPDATE contribution_batch SET state = %s, outcome = %s WHERE number = %s",
                (state.value, outcome, number),
            )
            if state is BatchState.DONE:
                connection.execute("DELETE FROM contribution_claim WHERE batch = %s", (number,))

    def forget(self, exchange: str) -> None:
        """Forget a batch and all its claims."""
        with self._transaction() as connection:
            number = self._number(connection, exchange)
            connection.execute("DELETE FROM contribution_claim WHERE batch = %s", (number,))
            connection.execute("DELETE FROM contribution_batch WHERE number = %s", (number,))

    def unfinished(self) -> list[Batch]:
        """Return the batches that are not done, the one that lies longest first."""
        with self._transaction() as connection:
            return _batches(connection, f"{_FIND} WHERE state <> 'done' ORDER BY touched")

    @contextmanager
    def exclusively(self, contributor: str, name: str) -> Iterator[None]:
        """Hold an advisory lock of the session; it ends with the session at the latest."""
        key = _lock_key(contributor, name)
        with self._transaction() as connection:
            if (contributor, name) in self._held:
                raise BatchBusyError
            row = connection.execute("SELECT pg_try_advisory_lock(%s)", (key,)).fetchone()
            if row != (True,):
                raise BatchBusyError
            self._held.add((contributor, name))
            mine = connection
        try:
            yield
        finally:
            # A session that cannot be told to let go has ended, and let go by that.
            with suppress(RegisterUnavailableError), self._lock:
                if self._connection is mine and not mine.closed:
                    self._held.discard((contributor, name))
                    with self._translated():
                        mine.execute("SELECT pg_advisory_unlock(%s)", (key,))

    def close(self) -> None:
        """Close the session. May be called twice."""
        with self._lock:
            self._end()

    @contextmanager
    def _transaction(self) -> Iterator[psycopg.Connection[Any]]:
        """Hold one transaction; nothing is kept if the block fails."""
        with self._lock, self._translated():
            if self._connection is None or self._connection.closed:
                self._held.clear()
                self._connection = connect(
                    self._address, "contributions", statement_timeout_s=STATEMENT_TIMEOUT_S
                )
            with self._connection.transaction():
                yield self._connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (DatabaseUnavailableError, DatabaseRefusedError) as error:
            raise RegisterUnavailableError(error.message) from error
        except psycopg.Error as error:
            self._end()
            raise RegisterUnavailableError(
                f"The register of contributions cannot be used, and nothing was changed: {advice_for(error)}."
            ) from None

    def _end(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._held.clear()

    def _number(self, connection: psycopg.Connection[Any], exchange: str) -> int:
        """Return the number of a batch that this register keeps others out of; raise `BatchBusyError`."""
        row = connection.execute(
            "SELECT number, contributor, name FROM contribution_batch WHERE exchange = %s FOR UPDATE",
            (exchange,),
        ).fetchone()
        if row is None:
            raise BatchBusyError
        number, contributor, name = row
        self._require_held(contributor, name)
        return int(number)

    def _require_held(self, contributor: str, name: str) -> None:
        if (contributor, name) not in self._held:
            raise BatchBusyError


def _batches(connection: psycopg.Connection[Any], statement: LiteralString, *values: str) -> list[Batch]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return [
            Batch(**{**row, "state": BatchState(row["state"])})
            for row in cursor.execute(statement, values).fetchall()
        ]


def _lock_key(contributor: str, name: str) -> int:
    digest = sha256(f"sluicegate contribution {contributor}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
