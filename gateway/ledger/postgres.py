"""The ledger in the PostgreSQL that holds the log, for several nodes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

import psycopg

from gateway.clock import rfc3339
from gateway.database.address import PostgresAddress
from gateway.database.errors import DatabaseRefusedError, DatabaseUnavailableError
from gateway.database.session import advice_for, connect
from gateway.ledger.store import (
    Account,
    BudgetExhaustedError,
    Debt,
    DebtKind,
    LedgerUnavailableError,
    last_kept,
    read_debt,
    write_debt,
)

STATEMENT_TIMEOUT_S: Final = 2.0

_RESERVE: Final = (
    "INSERT INTO spent (consumer, purpose, day, records)"
    " SELECT %(consumer)s, %(purpose)s, %(day)s, %(records)s::bigint"
    " WHERE %(records)s::bigint <= %(limit)s::bigint"
    " ON CONFLICT (consumer, purpose, day) DO UPDATE SET records = spent.records + excluded.records"
    " WHERE spent.records + excluded.records <= %(limit)s::bigint"
)


class PostgresLedger:
    """See `gateway.ledger.store.Ledger`. One session, opened when it is needed and again after a fault."""

    def __init__(self, address: PostgresAddress) -> None:
        """Name the ledger; nothing is opened yet."""
        self._address = address
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[Any] | None = None

    def reserve(self, account: Account, records: int, limit: int) -> None:
        """Spend `records`, in one statement that locks the account's row: nobody else spends in between."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM spent WHERE day < %s", (last_kept(account.day),))
            values = {**_key(account), "records": records, "limit": limit}
            if connection.execute(_RESERVE, values).rowcount != 1:
                raise BudgetExhaustedError(account, limit)

    def give_back(self, account: Account, records: int) -> None:
        """Undo a reservation of which nothing has left."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE spent SET records = greatest(records - %(records)s, 0)"
                " WHERE consumer = %(consumer)s AND purpose = %(purpose)s AND day = %(day)s",
                {**_key(account), "records": records},
            )

    def spent(self, account: Account) -> int:
        """Return how much of `account` is spent."""
        with self._transaction() as connection:
            row = connection.execute(
                "SELECT records FROM spent"
                " WHERE consumer = %(consumer)s AND purpose = %(purpose)s AND day = %(day)s",
                _key(account),
            ).fetchone()
        return 0 if row is None else int(row[0])

    def owe(self, debt: Debt) -> None:
        """Take note of `debt`; a second one of its kind for the exchange changes nothing."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO debt (kind, exchange, consumer, provider, dataset, until, subject)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (kind, exchange) DO NOTHING",
                write_debt(debt),
            )

    def settle(self, kind: DebtKind, exchange: str) -> bool:
        """Forget a debt; return whether there was one."""
        with self._transaction() as connection:
            done = connection.execute(
                "DELETE FROM debt WHERE kind = %s AND exchange = %s", (kind.value, exchange)
            )
            return done.rowcount == 1

    def debts(self, kind: DebtKind, before: datetime | None = None) -> list[Debt]:
        """Return what is owed, or of it what was due before a moment; the most urgent first."""
        with self._transaction() as connection:
            rows = connection.execute(
                "SELECT kind, exchange, consumer, provider, dataset, until, subject FROM debt"
                " WHERE kind = %(kind)s AND (%(before)s::text IS NULL OR until < %(before)s)"
                " ORDER BY until, exchange",
                {"kind": kind.value, "before": None if before is None else rfc3339(before)},
            ).fetchall()
        return [read_debt(row) for row in rows]

    def close(self) -> None:
        """Close the session. May be called twice."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    @contextmanager
    def _transaction(self) -> Iterator[psycopg.Connection[Any]]:
        """Hold one transaction; nothing is kept if the block fails."""
        with self._lock:
            try:
                connection = self._open()
                with connection.transaction():
                    yield connection
            except (DatabaseUnavailableError, DatabaseRefusedError) as error:
                raise LedgerUnavailableError(error.message) from error
            except psycopg.Error as error:
                if self._connection is not None:
                    self._connection.close()
                raise LedgerUnavailableError(
                    f"The ledger of budgets and debts cannot be used: {advice_for(error)}."
                ) from None

    def _open(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = connect(self._address, "ledger", statement_timeout_s=STATEMENT_TIMEOUT_S)
        return self._connection


def _key(account: Account) -> dict[str, Any]:
    return {"consumer": account.consumer, "purpose": account.purpose, "day": account.day.isoformat()}
