"""The ledger in a SQLite file beside the log's, for the workers of one host.

Not in the log's own file: that has one writer, and holds evidence only.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from gateway.clock import rfc3339
from gateway.errors import ConfigError
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

APPLICATION_ID: Final = 0x534C_4C45
"""`SLLE` in the file's header (`PRAGMA application_id`)."""

SCHEMA_VERSION: Final = 1
"""`PRAGMA user_version`. Other versions are refused, never guessed at."""

LOCK_TIMEOUT_S: Final = 2.0

_TABLES: Final = f"""
BEGIN IMMEDIATE;
CREATE TABLE spent (
    consumer TEXT NOT NULL,
    purpose TEXT NOT NULL,
    day TEXT NOT NULL,
    records INTEGER NOT NULL CHECK (records >= 0),
    PRIMARY KEY (consumer, purpose, day)
) STRICT, WITHOUT ROWID;
CREATE INDEX spent_day ON spent (day);
CREATE TABLE debt (
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

    def reserve(self, account: Account, records: int, limit: int) -> None:
        """Spend `records`, in one statement that holds the lock: nobody else spends in between."""
        with self._writing() as connection:
            connection.execute("DELETE FROM spent WHERE day < ?", (last_kept(account.day),))
            done = connection.execute(
                "INSERT INTO spent (consumer, purpose, day, records) SELECT ?1, ?2, ?3, ?4 WHERE ?4 <= ?5"
                " ON CONFLICT (consumer, purpose, day)"
                " DO UPDATE SET records = spent.records + excluded.records"
                " WHERE spent.records + excluded.records <= ?5",
                (*_key(account), records, limit),
            )
            if done.rowcount != 1:
                raise BudgetExhaustedError(account, limit)

    def give_back(self, account: Account, records: int) -> None:
        """Undo a reservation of which nothing has left."""
        with self._writing() as connection:
            connection.execute(
                "UPDATE spent SET records = max(records - ?, 0)"
                " WHERE consumer = ? AND purpose = ? AND day = ?",
                (records, *_key(account)),
            )

    def spent(self, account: Account) -> int:
        """Return how much of `account` is spent."""
        with self._guarded() as connection:
            row = connection.execute(
                "SELECT records FROM spent WHERE consumer = ? AND purpose = ? AND day = ?", _key(account)
            ).fetchone()
        return 0 if row is None else int(row[0])

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
        try:
            connection.executescript(_TABLES)
        except sqlite3.OperationalError:
            # Another worker made them in the same moment.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if (application, version) != (APPLICATION_ID, SCHEMA_VERSION):
        raise LedgerUnavailableError("The file beside the log is no ledger of the version known here.")


def _key(account: Account) -> tuple[str, str, str]:
    return account.consumer, account.purpose, account.day.isoformat()


def _unavailable() -> LedgerUnavailableError:
    return LedgerUnavailableError(
        "The ledger of budgets and debts cannot be used; the operator must see that its file exists, is "
        "writable and its disk has space."
    )
