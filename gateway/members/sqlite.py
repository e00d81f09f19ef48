"""Members in a SQLite file beside the audit log: for one host."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from gateway.members.store import (
    MemberError,
    Record,
    already_registered,
    altered,
    check_keys,
    read_member,
    registered_for_another,
    unrecorded,
    write_member,
)
from gateway.model import Member

SCHEMA_VERSION: Final = 1
"""`PRAGMA user_version`. Other versions are refused, never guessed at."""

_LOCK_TIMEOUT_S: Final = 5.0

_SCHEMA: Final = f"""
PRAGMA journal_mode = WAL;
BEGIN;
CREATE TABLE registry (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    revision INTEGER NOT NULL
) STRICT;
INSERT INTO registry VALUES (1, 0);
CREATE TABLE members (
    id TEXT PRIMARY KEY,
    title TEXT NOT NULL,
    member_class TEXT NOT NULL,
    roles TEXT NOT NULL,
    uri TEXT NOT NULL UNIQUE,
    endpoint TEXT,
    state TEXT NOT NULL
) STRICT;
CREATE TABLE signing_keys (
    key_id TEXT PRIMARY KEY,
    member TEXT NOT NULL REFERENCES members (id),
    public BLOB NOT NULL
) STRICT;
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""  # noqa: S608 - a number of our own; a PRAGMA takes no parameters


class SqliteMemberStore:
    """Members in a SQLite file. Every method is one transaction on a connection of its own; all block."""

    def __init__(self, path: Path) -> None:
        """Name the store at `path`, made by `create`."""
        self._path = path

    @classmethod
    def create(cls, path: Path) -> SqliteMemberStore:
        """Make an empty store of mode 0600; raise `MemberError` if the file exists."""
        try:
            path.touch(mode=0o600, exist_ok=False)
            with closing(sqlite3.connect(path)) as connection:
                connection.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise MemberError(f"The member store {path} cannot be created ({_reason(error)}).") from error
        return cls(path)

    def revision(self) -> int:
        """Return the number that every change raises; raise `MemberError` if the store is unusable."""
        with self._transaction() as connection:
            return _revision(connection)

    def members(self) -> tuple[int, list[Member]]:
        """Return (revision, every member), read in one transaction."""
        with self._transaction() as connection:
            return _revision(connection), _read_members(connection)

    def add(self, member: Member, record: Record = unrecorded) -> None:
        """Add `member`; raise `MemberError` if its id, URI or a key is already there.

        `record` is called with it before it counts; if that raises, nothing is added.
        """
        check_keys(member)
        try:
            with self._transaction(write=True) as connection:
                _insert(connection, member)
                record(member)
        except sqlite3.IntegrityError as error:
            raise already_registered(member.id) from error

    def change(
        self, member_id: str, alter: Callable[[Member], Member], record: Record = unrecorded
    ) -> Member:
        """Put what `alter` makes of a member in its place, and return it; see `MemberStore.change`."""
        try:
            with self._transaction(write=True) as connection:
                changed = altered(member_id, _read_members(connection), alter)
                connection.execute("DELETE FROM signing_keys WHERE member = ?", (member_id,))
                connection.execute("DELETE FROM members WHERE id = ?", (member_id,))
                _insert(connection, changed)
                record(changed)
        except sqlite3.IntegrityError as error:
            raise registered_for_another(member_id) from error
        return changed

    async def await_change(self, timeout_s: float) -> None:
        """Wait `timeout_s`: a file tells nobody that it has changed."""
        await asyncio.sleep(timeout_s)

    def close(self) -> None:
        """Do nothing: no connection outlives its call."""

    @contextmanager
    def _transaction(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        """Hold one transaction; a writing one raises the revision. Nothing is kept if the block fails."""
        try:
            with closing(self._connect()) as connection:
                connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                yield connection
                if write:
                    connection.execute("UPDATE registry SET revision = revision + 1")
                connection.execute("COMMIT")
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            raise MemberError(
                f"The member store {self._path} cannot be used ({_reason(error)}); "
                "check that it exists and that this user may write it."
            ) from error

    def _connect(self) -> sqlite3.Connection:
        # `mode=rw`: a store that is missing is an error, never a new and empty one.
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
            raise MemberError(
                f"{self._path} has schema version {version}; this release knows {SCHEMA_VERSION}."
            )
        return connection


def _read_members(connection: sqlite3.Connection) -> list[Member]:
    keys: dict[str, dict[str, bytes]] = {}
    for member, key_id, public in connection.execute("SELECT member, key_id, public FROM signing_keys"):
        keys.setdefault(member, {})[key_id] = public
    rows = connection.execute(
        "SELECT id, title, member_class, roles, uri, endpoint, state FROM members ORDER BY id"
    )
    return [read_member(row, keys.get(row[0], {})) for row in rows]


def _insert(connection: sqlite3.Connection, member: Member) -> None:
    connection.execute(
        "INSERT INTO members (id, title, member_class, roles, uri, endpoint, state)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        write_member(member),
    )
    connection.executemany(
        "INSERT INTO signing_keys (key_id, member, public) VALUES (?, ?, ?)",
        [(key_id, member.id, public) for key_id, public in member.signing_keys.items()],
    )


def _revision(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT revision FROM registry").fetchone()[0])


def _reason(error: OSError | sqlite3.Error) -> str:
    """Return what the system says, without paths or statements."""
    return error.strerror or "" if isinstance(error, OSError) else type(error).__name__
