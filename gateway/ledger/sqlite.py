"""The ledger in a SQLite file beside the log's, for the workers of one host.

Not in the log's own file: that has one writer, and holds evidence only.
"""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from gateway.clock import rfc3339
from gateway.errors import ConfigError
from gateway.ledger.accounts import (
    Account,
    AccountKind,
    Hold,
    Order,
    Reservation,
    Shortfall,
    Standing,
)
from gateway.ledger.book import Book, HoldKey, hold_key, touched
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

APPLICATION_ID: Final = 0x534C_4C45
"""`SLLE` in the file's header (`PRAGMA application_id`)."""

SCHEMA_VERSION: Final = 2
"""`PRAGMA user_version`. The first is brought up to date; others are refused, never guessed at."""

LOCK_TIMEOUT_S: Final = 2.0

_ACCOUNTS: Final = """
CREATE TABLE account (
    kind TEXT NOT NULL,
    owner TEXT NOT NULL,
    consumer TEXT NOT NULL,
    per TEXT NOT NULL,
    first TEXT NOT NULL,
    ends TEXT NOT NULL,
    records INTEGER NOT NULL CHECK (records >= 0),
    bound INTEGER,
    PRIMARY KEY (kind, owner, consumer, per, first)
) STRICT, WITHOUT ROWID;
CREATE INDEX account_ends ON account (ends);
CREATE TABLE hold (
    exchange TEXT NOT NULL,
    kind TEXT NOT NULL,
    owner TEXT NOT NULL,
    consumer TEXT NOT NULL,
    per TEXT NOT NULL,
    first TEXT NOT NULL,
    records INTEGER NOT NULL CHECK (records > 0),
    PRIMARY KEY (exchange, kind, owner, consumer, per, first)
) STRICT, WITHOUT ROWID;
"""

_BUDGETS_OF_VERSION_1: Final = """
INSERT INTO account (kind, owner, consumer, per, first, ends, records, bound)
    SELECT 'budget', purpose, consumer, 'day', day, date(day, '+1 day'), records, NULL FROM spent;
DROP TABLE spent;
"""

_FROM_VERSION_1: Final = "\n".join(
    (
        "BEGIN IMMEDIATE;",
        _ACCOUNTS,
        _BUDGETS_OF_VERSION_1,
        f"PRAGMA user_version = {SCHEMA_VERSION};",
        "COMMIT;",
    )
)

_TABLES: Final = f"""
BEGIN IMMEDIATE;
{_ACCOUNTS}CREATE TABLE debt (
    kind TEXT NOT NULL,
    exchange TEXT NOT NULL,
    consumer TEXT NOT NULL,
    provider TEXT NOT NULL,
    dataset TEXT NOT NULL,
    until TEXT NOT NULL,
    subject TEXT NOT NULL,
    PRIMARY KEY (kind, exchange)
) STRICT, WITHOUT ROWID;
CREATE INDEX debt_until ON debt (kind, until);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""


class SqliteLedger:
    """See `gateway.ledger.store.Ledger`. One connection, flushed at every commit."""

    def __init__(self, path: Path) -> None:
        """Open the ledger at `path`, or make one of mode 0600.

        Raises `LedgerUnavailableError`, and `ConfigError` if other users may read or write it.
        """
        self._lock = threading.Lock()
        _create_file(path)
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
        except sqlite3.Error as error:
            raise _unavailable() from error

    def carry_out(self, orders: Sequence[Order]) -> list[Shortfall | None]:
        """Carry out `orders` while the file is locked: nobody else counts in between."""
        with self._writing() as connection:
            holds = _holds_of(connection, sorted({order.exchange for order in orders}))
            accounts = {hold.account for hold in holds}
            for order in orders:
                if isinstance(order, Reservation):
                    accounts |= touched(order.charges)
            before = {hold_key(hold): hold.records for hold in holds}
            balances = _balances(connection, accounts)
            book = Book(balances, holds)
            outcomes = book.carry_out(orders)
            _write_balances(connection, book, balances)
            _write_holds(connection, book, before)
        return outcomes

    def credit(self, account: Account, records: int) -> None:
        """Count `records` on an account that has no bound."""
        with self._writing() as connection:
            connection.execute(_CREDIT, (*write_account(account), write_end(account), records))

    def balances(self, accounts: Collection[Account]) -> dict[Account, int]:
        """Return what stands on `accounts`; those that nothing stands on are left out."""
        with self._guarded() as connection:
            return _balances(connection, accounts)

    def standings(self, owner: str = "", open_at: datetime | None = None) -> list[Standing]:
        """Return the accounts, or of them those of `owner`, or those whose period has not ended, in order."""
        day = None if open_at is None else open_at.astimezone(UTC).date().isoformat()
        with self._guarded() as connection:
            rows = connection.execute(
                "SELECT kind, owner, consumer, per, first, records, bound FROM account"
                " WHERE (?1 = '' OR owner = ?1) AND (?2 IS NULL OR ends = '' OR ends > ?2)"
                " ORDER BY kind, owner, consumer, per, first",
                (owner, day),
            ).fetchall()
        return [Standing(read_account(row[:5]), row[5], row[6]) for row in rows]

    def holds(self) -> list[Hold]:
        """Return what is held for exchanges that are not settled."""
        with self._guarded() as connection:
            return _all_holds(connection)

    def restate(self, kinds: Collection[AccountKind], count: Count) -> None:
        """Replace the balances of `kinds` by what `count` makes of the holds; the file is locked."""
        with self._writing() as connection:
            counted = count(_all_holds(connection))
            for kind in kinds:
                connection.execute("DELETE FROM account WHERE kind = ?", (kind.value,))
            connection.executemany(
                _CREDIT,
                [
                    (*write_account(account), write_end(account), records)
                    for account, records in counted.items()
                    if account.kind in kinds and records > 0
                ],
            )

    def owe(self, debt: Debt) -> None:
        """Take note of `debt`; a second one of its kind for the exchange changes nothing."""
        with self._writing() as connection:
            connection.execute(
                "INSERT INTO debt (kind, exchange, consumer, provider, dataset, until, subject)"
                " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (kind, exchange) DO NOTHING",
                write_debt(debt),
            )

    def settle(self, kind: DebtKind, exchange: str) -> bool:
        """Forget a debt; return whether there was one."""
        with self._writing() as connection:
            done = connection.execute(
                "DELETE FROM debt WHERE kind = ? AND exchange = ?", (kind.value, exchange)
            )
            return done.rowcount == 1

    def debts(self, kind: DebtKind, before: datetime | None = None) -> list[Debt]:
        """Return what is owed, or of it what was due before a moment; the most urgent first."""
        with self._guarded() as connection:
            rows = connection.execute(
                "SELECT kind, exchange, consumer, provider, dataset, until, subject FROM debt"
                " WHERE kind = ?1 AND (?2 IS NULL OR until < ?2) ORDER BY until, exchange",
                (kind.value, None if before is None else rfc3339(before)),
            ).fetchall()
        return [read_debt(row) for row in rows]

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


def _create_file(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise ConfigError(f"The ledger {path} is open to others; run: chmod 600 {path}") from None
    except OSError as error:
        raise LedgerUnavailableError(f"The ledger {path} cannot be made ({error.strerror}).") from error


def _prepare(connection: sqlite3.Connection) -> None:
    if not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
        _run(connection, _TABLES)
    elif _versions(connection) == (APPLICATION_ID, 1):
        _run(connection, _FROM_VERSION_1)
    if _versions(connection) != (APPLICATION_ID, SCHEMA_VERSION):
        raise LedgerUnavailableError("The file beside the log is no ledger of the version known here.")


def _run(connection: sqlite3.Connection, script: str) -> None:
    try:
        connection.executescript(script)
    except sqlite3.OperationalError:
        # Another worker has done it in the same moment.
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _versions(connection: sqlite3.Connection) -> tuple[int, int]:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return application, version


_CREDIT: Final = (
    "INSERT INTO account (kind, owner, consumer, per, first, ends, records) VALUES (?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (kind, owner, consumer, per, first)"
    " DO UPDATE SET records = account.records + excluded.records"
)


def _balances(connection: sqlite3.Connection, accounts: Collection[Account]) -> dict[Account, int]:
    found = {}
    for account in accounts:
        row = connection.execute(
            "SELECT records FROM account"
            " WHERE kind = ? AND owner = ? AND consumer = ? AND per = ? AND first = ?",
            write_account(account),
        ).fetchone()
        if row is not None:
            found[account] = int(row[0])
    return found


def _write_balances(connection: sqlite3.Connection, book: Book, before: Mapping[Account, int]) -> None:
    changed = [account for account, records in book.balances.items() if before.get(account) != records]
    opened = [account.first for account in changed if account not in before]
    if opened:
        connection.execute("DELETE FROM account WHERE ends <> '' AND ends <= ?", (last_kept(max(opened)),))
    connection.executemany(
        "INSERT INTO account (kind, owner, consumer, per, first, ends, records, bound)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (kind, owner, consumer, per, first) DO UPDATE SET"
        " records = excluded.records, bound = coalesce(excluded.bound, account.bound)",
        [
            (*write_account(account), write_end(account), book.balances[account], book.limits.get(account))
            for account in changed
        ],
    )


def _write_holds(connection: sqlite3.Connection, book: Book, before: Mapping[HoldKey, int]) -> None:
    connection.executemany(
        "DELETE FROM hold WHERE exchange = ?",
        [(exchange,) for exchange in {exchange for exchange, _ in before} & book.settled],
    )
    connection.executemany(
        "INSERT INTO hold (exchange, kind, owner, consumer, per, first, records) VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (exchange, kind, owner, consumer, per, first) DO UPDATE SET records = excluded.records",
        [
            (hold.exchange, *write_account(hold.account), hold.records)
            for hold in book.holds()
            if before.get(hold_key(hold)) != hold.records
        ],
    )


def _holds_of(connection: sqlite3.Connection, exchanges: Sequence[str]) -> list[Hold]:
    rows = connection.execute(
        "SELECT exchange, kind, owner, consumer, per, first, records FROM json_each(?) AS wanted"
        " CROSS JOIN hold ON hold.exchange = wanted.value",
        (json.dumps(exchanges),),
    )
    return [Hold(row[0], read_account(row[1:6]), row[6]) for row in rows]


def _all_holds(connection: sqlite3.Connection) -> list[Hold]:
    rows = connection.execute(
        "SELECT exchange, kind, owner, consumer, per, first, records FROM hold"
        " ORDER BY exchange, kind, owner, consumer, per, first"
    )
    return [Hold(row[0], read_account(row[1:6]), row[6]) for row in rows]


def _unavailable() -> LedgerUnavailableError:
    return LedgerUnavailableError(
        "The ledger of budgets and debts cannot be used; the operator must see that its file exists, is "
        "writable and its disk has space."
    )
