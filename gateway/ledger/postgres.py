"""The ledger in the PostgreSQL that holds the log, for several nodes."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import psycopg

from gateway.clock import rfc3339
from gateway.database.address import PostgresAddress
from gateway.database.errors import DatabaseRefusedError, DatabaseUnavailableError
from gateway.database.roundtrip import RoundTrips, prepare_statements
from gateway.database.session import advice_for, connect
from gateway.ledger.accounts import (
    Account,
    AccountKind,
    Hold,
    Order,
    Reservation,
    Settlement,
    Shortfall,
    Standing,
)
from gateway.ledger.book import Book, touched
from gateway.ledger.postgres_rows import (
    HOLD,
    KEEP,
    STATEMENTS,
    TAKE,
    held_columns,
    kept_columns,
    read_taken,
    taken_columns,
)
from gateway.ledger.store import (
    Count,
    Debt,
    DebtKind,
    LedgerUnavailableError,
    last_kept,
    read_account,
    read_debt,
    write_account,
    write_debt,
    write_end,
)

STATEMENT_TIMEOUT_S: Final = 2.0

_IDLE: Final = psycopg.pq.TransactionStatus.IDLE

_BY_INDEX: Final = "SET enable_hashjoin = off; SET enable_mergejoin = off"
"""Accounts are looked up one by one: a batch names few of many, and its plan lives on while they grow."""

_ATTEMPTS: Final = 5
"""How often accounts are opened that were forgotten meanwhile."""

_OPEN: Final = (
    "INSERT INTO account (kind, owner, consumer, per, first, ends, records)"
    " SELECT kind, owner, consumer, per, first, ends, 0 FROM unnest("
    "  %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[]"
    " ) AS wanted (kind, owner, consumer, per, first, ends)"
    " ORDER BY kind, owner, consumer, per, first ON CONFLICT (kind, owner, consumer, per, first) DO NOTHING"
)
"""In one order, so that two nodes that open the same accounts do not wait for each other in a circle."""

_READ: Final = (
    "SELECT a.kind, a.owner, a.consumer, a.per, a.first, a.records FROM unnest("
    "  %s::text[], %s::text[], %s::text[], %s::text[], %s::text[]"
    " ) AS wanted (kind, owner, consumer, per, first)"
    " JOIN account AS a USING (kind, owner, consumer, per, first)"
    " ORDER BY 1, 2, 3, 4, 5"
)

_CREDIT: Final = (
    "INSERT INTO account (kind, owner, consumer, per, first, ends, records)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s)"
    " ON CONFLICT (kind, owner, consumer, per, first)"
    " DO UPDATE SET records = account.records + excluded.records"
)

_HOLDS: Final = (
    "SELECT exchange, kind, owner, consumer, per, first, records FROM hold"
    " ORDER BY exchange, kind, owner, consumer, per, first"
)


class PostgresLedger:
    """See `gateway.ledger.store.Ledger`. One session, opened when it is needed and again after a fault."""

    def __init__(self, address: PostgresAddress) -> None:
        """Name the ledger; nothing is opened yet."""
        self._address = address
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[Any] | None = None

    def carry_out(self, orders: Sequence[Order]) -> list[Shortfall | None]:
        """Carry out `orders` while their accounts are locked: nobody else counts in between.

        In two round trips: what is needed is read and locked, and what came of it is written and committed.
        """
        ended = sorted({order.exchange for order in orders if isinstance(order, Settlement)})
        asked: set[Account] = set()
        for order in orders:
            if isinstance(order, Reservation):
                asked |= touched(order.charges)
        for _ in range(_ATTEMPTS):
            with self._session() as connection:
                balances, holds = _take(connection, ended, asked)
                missing = sorted((asked | {hold.account for hold in holds}) - balances.keys())
                if not missing:
                    book = Book(balances, holds)
                    outcomes = book.carry_out(orders)
                    _write(connection, book, balances)
                    return outcomes
            # What is not there cannot be locked; and opened with others locked, two could wait in a circle.
            with self._transaction() as connection:
                _open_accounts(connection, missing)
        raise LedgerUnavailableError("The ledger's accounts are being rebuilt; try again in a moment.")

    def credit(self, account: Account, records: int) -> None:
        """Count `records` on an account that has no bound."""
        with self._transaction() as connection:
            connection.execute(_CREDIT, (*write_account(account), write_end(account), records))

    def balances(self, accounts: Collection[Account]) -> dict[Account, int]:
        """Return what stands on `accounts`; those that nothing stands on are left out."""
        if not accounts:
            return {}
        columns = [list(column) for column in zip(*map(write_account, accounts), strict=True)]
        with self._transaction() as connection:
            return {read_account(row[:5]): row[5] for row in connection.execute(_READ, columns)}

    def standings(self, owner: str = "", open_at: datetime | None = None) -> list[Standing]:
        """Return the accounts, or of them those of `owner`, or those whose period has not ended, in order."""
        day = None if open_at is None else open_at.astimezone(UTC).date().isoformat()
        with self._transaction() as connection:
            rows = connection.execute(
                "SELECT kind, owner, consumer, per, first, records, bound FROM account"
                " WHERE (%(owner)s = '' OR owner = %(owner)s)"
                " AND (%(day)s::text IS NULL OR ends = '' OR ends > %(day)s)"
                " ORDER BY kind, owner, consumer, per, first",
                {"owner": owner, "day": day},
            ).fetchall()
        return [Standing(read_account(row[:5]), row[5], row[6]) for row in rows]

    def holds(self) -> list[Hold]:
        """Return what is held for exchanges that are not settled."""
        with self._transaction() as connection:
            return _read_holds(connection)

    def restate(self, kinds: Collection[AccountKind], count: Count) -> None:
        """Replace all balances of `kinds` by what `count` makes of the holds; nobody writes meanwhile."""
        with self._transaction() as connection:
            connection.execute("SET LOCAL statement_timeout = 0")
            connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            connection.execute("LOCK TABLE account IN EXCLUSIVE MODE")
            counted = count(_read_holds(connection))
            connection.execute("DELETE FROM account WHERE kind = ANY(%s)", ([kind.value for kind in kinds],))
            with connection.cursor() as cursor:
                cursor.executemany(
                    _CREDIT,
                    [
                        (*write_account(account), write_end(account), records)
                        for account, records in counted.items()
                        if account.kind in kinds and records > 0
                    ],
                )

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
        with self._session() as connection, connection.transaction():
            yield connection

    @contextmanager
    def _session(self) -> Iterator[psycopg.Connection[Any]]:
        """Give a session that can begin a transaction; roll back unless the block commits."""
        with self._lock:
            try:
                connection = self._open()
                try:
                    yield connection
                finally:
                    if not connection.closed and connection.info.transaction_status != _IDLE:
                        connection.execute("ROLLBACK")
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
            self._connection.execute(_BY_INDEX)
            prepare_statements(self._connection, STATEMENTS)
        return self._connection


def _take(
    connection: psycopg.Connection[Any], exchanges: Sequence[str], accounts: Collection[Account]
) -> tuple[dict[Account, int], list[Hold]]:
    """Begin; take what is held for `exchanges`, lock its accounts and `accounts`, and return both."""
    with RoundTrips(connection) as trips:
        trips.command(b"BEGIN")
        trips.send(TAKE, *taken_columns(exchanges, accounts))
        _, taken = trips.receive()
    return read_taken(taken)


def _write(connection: psycopg.Connection[Any], book: Book, before: Mapping[Account, int]) -> None:
    """Write what changed since `before`, and what is held now of what was taken or is new; commit."""
    changed = {account: records for account, records in book.balances.items() if before[account] != records}
    holds = list(book.holds())
    with RoundTrips(connection) as trips:
        if changed:
            trips.send(KEEP, *kept_columns(changed, book.limits))
        if holds:
            trips.send(HOLD, *held_columns(holds))
        trips.command(b"COMMIT")
        trips.receive()


def _open_accounts(connection: psycopg.Connection[Any], accounts: Sequence[Account]) -> None:
    rows = [(*write_account(account), write_end(account)) for account in accounts]
    connection.execute(_OPEN, [list(column) for column in zip(*rows, strict=True)])
    connection.execute(
        "DELETE FROM account WHERE ends <> '' AND ends <= %s",
        (last_kept(max(account.first for account in accounts)),),
    )


def _read_holds(connection: psycopg.Connection[Any]) -> list[Hold]:
    return [Hold(row[0], read_account(row[1:6]), row[6]) for row in connection.execute(_HOLDS)]
