"""Contracts in PostgreSQL, for several nodes: every node hears of a change at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import psycopg

from gateway.contracts.errors import ContractsUnavailableError
from gateway.contracts.store import ContractRow, Decide, Record, VersionReader, write_version
from gateway.contracts.version import Change, History, Version
from gateway.database.address import PostgresAddress
from gateway.database.errors import DatabaseRefusedError, DatabaseUnavailableError
from gateway.database.notices import Notices
from gateway.database.session import advice_for, connect

CHANNEL: Final = "sluicegate_contracts"

STATEMENT_TIMEOUT_S: Final = 0.8
"""Shorter than a register stays fresh: what takes longer is as good as no answer."""

_CHANGE_LIMITS_S: Final = {"statement_timeout": 5.0, "idle_in_transaction_session_timeout": 30.0}
"""Limits while a contract is changed: its entry is appended to the log meanwhile, which may have to wait for
other nodes. Nobody else waits for this, but who changes contracts, too."""

_ALL: Final = (
    "SELECT id, contract, version, terms, signatures, standing FROM contracts ORDER BY contract, version"
)
_HISTORY: Final = (
    "SELECT id, contract, version, terms, signatures, standing FROM contracts"
    " WHERE contract = %s ORDER BY version"
)
_PUT: Final = (
    "INSERT INTO contracts (id, contract, version, terms, signatures, standing)"
    " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (id)"
    " DO UPDATE SET signatures = excluded.signatures, standing = excluded.standing"
)


class PostgresContractStore:
    """See `gateway.contracts.store.ContractStore`. One session to read, one to change."""

    def __init__(self, address: PostgresAddress) -> None:
        """Name the store; nothing is opened yet."""
        self._reading = _Session(address)
        # Its own: while a change waits for the log, the register must go on reading.
        self._changing = _Session(address)
        self._notices = Notices(address, CHANNEL)
        self._reader = VersionReader()

    def revision(self) -> int:
        """Return the number that every change raises."""
        with self._reading.transaction() as connection:
            return _revision(connection)

    def versions(self) -> tuple[int, list[Version]]:
        """Return (revision, every version that verifies), read in one transaction."""
        with self._reading.transaction() as connection:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            rows = connection.execute(_ALL).fetchall()
            return _revision(connection), self._reader.readable(map(_row, rows))

    def change(self, contract: str, decide: Decide, record: Record) -> Sequence[Change]:
        """Make what `decide` returns of the versions of `contract`; see `ContractStore.change`."""
        with self._changing.transaction() as connection:
            for setting, limit_s in _CHANGE_LIMITS_S.items():
                connection.execute("SELECT set_config(%s, %s, true)", (setting, f"{limit_s * 1000:.0f}"))
            connection.execute("LOCK TABLE contracts IN SHARE ROW EXCLUSIVE MODE")
            changes = decide(self._history(connection, contract))
            for change in changes:
                connection.execute(_PUT, write_version(change.version))
            for change in changes:
                record(change)
        return changes

    async def await_change(self, timeout_s: float) -> None:
        """Return at a notice of a change, at the latest after `timeout_s`."""
        await self._notices.wait(timeout_s)

    def close(self) -> None:
        """Close the sessions. May be called twice."""
        self._reading.close()
        self._changing.close()
        self._notices.close()

    def _history(self, connection: psycopg.Connection[Any], contract: str) -> History:
        rows = connection.execute(
            _HISTORY,
            (contract,),
        ).fetchall()
        return tuple(self._reader.read(_row(row)) for row in rows)


class _Session:
    """A session that is opened when it is needed, for one thread at a time."""

    def __init__(self, address: PostgresAddress) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[Any] | None = None

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Connection[Any]]:
        """Hold one transaction; nothing is kept if the block fails."""
        with self._lock:
            try:
                connection = self._open()
                with connection.transaction():
                    yield connection
            except (DatabaseUnavailableError, DatabaseRefusedError) as error:
                raise ContractsUnavailableError(error.message) from error
            except psycopg.Error as error:
                if self._connection is not None:
                    self._connection.close()
                raise ContractsUnavailableError(
                    f"The contracts cannot be read or changed: {advice_for(error)}."
                ) from None

    def close(self) -> None:
        """Close the session. May be called twice."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def _open(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = connect(self._address, "contracts", statement_timeout_s=STATEMENT_TIMEOUT_S)
        return self._connection


def _row(row: tuple[Any, ...]) -> ContractRow:
    contract_id, contract, version, terms, signatures, standing = row
    return contract_id, contract, int(version), bytes(terms), signatures, standing


def _revision(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute("SELECT revision FROM contract_registry").fetchone()
    if row is None:
        raise ContractsUnavailableError("The database has no contracts; run `gateway database migrate`.")
    return int(row[0])
