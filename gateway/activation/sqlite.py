"""Bundle files and approvals in a SQLite file beside the audit log: for one host."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from gateway.activation.errors import ShelfError
from gateway.activation.shelf import Proposal

SCHEMA_VERSION: Final = 1
"""`PRAGMA user_version`. Other versions are refused, never guessed at."""

_LOCK_TIMEOUT_S: Final = 5.0

_SCHEMA: Final = f"""
PRAGMA journal_mode = WAL;
BEGIN;
CREATE TABLE policy_file (
    digest TEXT PRIMARY KEY,
    bundle TEXT NOT NULL,
    content BLOB NOT NULL
) STRICT;
CREATE TABLE policy_proposal (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    statement TEXT NOT NULL,
    file TEXT NOT NULL REFERENCES policy_file (digest),
    envelope BLOB NOT NULL
) STRICT;
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""


class SqliteShelf:
    """A shelf in a SQLite file, made when something is first put there. Safe from any thread."""

    def __init__(self, path: Path) -> None:
        """Name the shelf at `path`."""
        self._path = path

    def latest(self) -> tuple[int, str]:
        """Return (number, digest of the statement) of the newest proposal; (0, "") without any."""
        if not self._path.exists():
            return 0, ""
        with self._transaction() as connection:
            row = connection.execute(
                "SELECT sequence, statement FROM policy_proposal ORDER BY sequence DESC LIMIT 1"
            ).fetchone()
        return (0, "") if row is None else (int(row[0]), str(row[1]))

    def put(self, statement: str, envelope: bytes, bundle: str, file_digest: str, file: bytes) -> None:
        """Keep an approval and its bundle file; see `Shelf.put`."""
        if not self._path.exists():
            self._create()
        with self._transaction(write=True) as connection:
            connection.execute(
                "INSERT INTO policy_file (digest, bundle, content) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                (file_digest, bundle, file),
            )
            connection.execute(
                "INSERT INTO policy_proposal (statement, file, envelope) VALUES (?, ?, ?)",
                (statement, file_digest, envelope),
            )

    def find(self, statement: str) -> Proposal | None:
        """Return the newest proposal with the statement of this digest."""
        if not self._path.exists():
            return None
        with self._transaction() as connection:
            row = connection.execute(
                "SELECT sequence, envelope, content FROM policy_proposal"
                " JOIN policy_file ON policy_file.digest = policy_proposal.file"
                " WHERE statement = ? ORDER BY sequence DESC LIMIT 1",
                (statement,),
            ).fetchone()
        return None if row is None else Proposal(int(row[0]), statement, bytes(row[1]), bytes(row[2]))

    def file_of(self, bundle: str) -> bytes | None:
        """Return the newest bundle file whose bundle has this digest, unverified."""
        if not self._path.exists():
            return None
        with self._transaction() as connection:
            row = connection.execute(
                "SELECT content FROM policy_file WHERE bundle = ? ORDER BY rowid DESC LIMIT 1", (bundle,)
            ).fetchone()
        return None if row is None else bytes(row[0])

    async def await_change(self, timeout_s: float) -> None:
        """Wait `timeout_s`: a file tells nobody that it has changed."""
        await asyncio.sleep(timeout_s)

    def close(self) -> None:
        """Do nothing: no connection outlives its call."""

    def _create(self) -> None:
        try:
            self._path.touch(mode=0o600, exist_ok=False)
            with closing(sqlite3.connect(self._path)) as connection:
                connection.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from error

    @contextmanager
    def _transaction(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        try:
            with closing(self._connect()) as connection:
                connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                yield connection
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=_LOCK_TIMEOUT_S,
            isolation_level=None,
        )
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version != SCHEMA_VERSION:
            connection.close()
            raise ShelfError(
                f"{self._path} has schema version {version}; this release knows {SCHEMA_VERSION}."
            )
        return connection

    def _unusable(self, error: OSError | sqlite3.Error) -> ShelfError:
        why = error.strerror if isinstance(error, OSError) else type(error).__name__
        return ShelfError(
            f"The policy store {self._path} cannot be used ({why}); check that its folder exists and that "
            "this user may write there."
        )
