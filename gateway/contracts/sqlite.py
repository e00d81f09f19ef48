"""Contracts in a SQLite file beside the audit log: for one host."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from gateway.contracts.errors import ContractsUnavailableError
from gateway.contracts.store import Decide, Record, VersionReader, write_version
from gateway.contracts.version import Change, History, Version
from gateway.errors import ConfigError

APPLICATION_ID: Final = 0x534C_4354
"""`SLCT` in the file's header (`PRAGMA application_id`)."""

SCHEMA_VERSION: Final = 1
"""`PRAGMA user_version`. Other versions are refused, never guessed at."""

_LOCK_TIMEOUT_S: Final = 5.0

_SCHEMA: Final = f"""
BEGIN IMMEDIATE;
CREATE TABLE registry (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    revision INTEGER NOT NULL
) STRICT;
INSERT INTO registry VALUES (1, 0);
CREATE TABLE contracts (
    id TEXT PRIMARY KEY,
    contract TEXT NOT NULL,
    version INTEGER NOT NULL,
    terms BLOB NOT NULL,
    signatures TEXT NOT NULL,
    standing TEXT NOT NULL,
    UNIQUE (contract, version)
) STRICT;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""  # noqa: S608 - numbers of our own; a PRAGMA takes no parameters

_ALL: Final = (
    "SELECT id, contract, version, terms, signatures, standing FROM contracts ORDER BY contract, version"
)
_HISTORY: Final = (
    "SELECT id, contract, version, terms, signatures, standing FROM contracts"
    " WHERE contract = ? ORDER BY version"
)
_PUT: Final = (
    "INSERT INTO contracts (id, contract, version, terms, signatures, standing)"
    " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id)"
    " DO UPDATE SET signatures = excluded.signatures, standing = excluded.standing"
)


class SqliteContractStore:
    """See `gateway.contracts.store.ContractStore`. Every method opens a connection of its own."""

    def __init__(self, path: Path) -> None:
        """Open the store at `path`, or make one of mode 0600.

        Raises `ContractsUnavailableError`, and `ConfigError` if other users may read or write it.
        """
        self._path = path
        self._reader = VersionReader()
        _create_file(path)
        try:
            with closing(self._open()) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
                _prepare(connection)
        except sqlite3.Error as error:
            raise _unavailable() from error

    def revision(self) -> int:
        """Return the number that every change raises."""
        with self._transaction() as connection:
            return _revision(connection)

    def versions(self) -> tuple[int, list[Version]]:
        """Return (revision, every version that verifies), read in one transaction."""
        with self._transaction() as connection:
            rows = connection.execute(_ALL)
            return _revision(connection), self._reader.readable(rows)

    def all_versions(self) -> list[Version]:
        """Return every version; raise `ContractsUnavailableError` if one does not verify."""
        with self._transaction() as connection:
            return [self._reader.read(row) for row in connection.execute(_ALL)]

    def change(self, contract: str, decide: Decide, record: Record) -> Sequence[Change]:
        """Make what `decide` returns of the versions of `contract`; see `ContractStore.change`."""
        with self._transaction(write=True) as connection:
            changes = decide(self._history(connection, contract))
            connection.executemany(_PUT, [write_version(change.version) for change in changes])
            if changes:
                connection.execute("UPDATE registry SET revision = revision + 1")
            for change in changes:
                record(change)
        return changes

    async def await_change(self, timeout_s: float) -> None:
        """Wait `timeout_s`: a file tells nobody that it has changed."""
        await asyncio.sleep(timeout_s)

    def close(self) -> None:
        """Do nothing: no connection outlives its call."""

    def _history(self, connection: sqlite3.Connection, contract: str) -> History:
        rows = connection.execute(
            _HISTORY,
            (contract,),
        )
        return tuple(self._reader.read(row) for row in rows)

    @contextmanager
    def _transaction(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        """Hold one transaction; nothing is kept if the block fails."""
        try:
            with closing(self._open()) as connection:
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                if version != SCHEMA_VERSION:
                    raise _unavailable()
                connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                yield connection
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise _unavailable() from error

    def _open(self) -> sqlite3.Connection:
        # `mode=rw`: a store that is missing is an error, never a new and empty one.
        connection = sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=_LOCK_TIMEOUT_S,
            isolation_level=None,
        )
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA trusted_schema = OFF")
        return connection


def _create_file(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise ConfigError(f"The contract store {path} is open to others; run: chmod 600 {path}") from None
    except OSError as error:
        raise ContractsUnavailableError(
            f"The contract store {path} cannot be made ({error.strerror})."
        ) from error


def _prepare(connection: sqlite3.Connection) -> None:
    if not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
        try:
            connection.executescript(_SCHEMA)
        except sqlite3.OperationalError:
            # Another worker made them in the same moment.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if (application, version) != (APPLICATION_ID, SCHEMA_VERSION):
        raise ContractsUnavailableError("The file is no contract store of the version known here.")


def _revision(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT revision FROM registry").fetchone()[0])


def _unavailable() -> ContractsUnavailableError:
    return ContractsUnavailableError(
        "The contracts cannot be read or changed now; the operator must see that their file exists, is "
        "writable and its disk has space."
    )
