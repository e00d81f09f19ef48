"""Where members are kept: a small database beside the audit log.

Every change raises one revision number, by which running gateways notice it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, Protocol

from gateway.errors import ConfigError
from gateway.evidence.keys import VerifyKey
from gateway.model import Member, MemberState, Role

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


class MemberError(ConfigError):
    """A change to the members cannot be made, or they cannot be read."""


Record = Callable[[Member], object]
"""Hears of a member as it is about to be, before that counts; the change is undone if it raises."""


def _unrecorded(_: Member) -> None:
    """Tell nobody: for stores that no gateway serves from."""


class MemberSource(Protocol):
    """Where members are read from. Every method blocks and raises `MemberError`."""

    def revision(self) -> int:
        """Return the number that every change raises."""
        ...

    def members(self) -> tuple[int, list[Member]]:
        """Return (revision, every member), of one moment."""
        ...


class MemberStore:
    """Members in a SQLite file. Every method is one transaction on a connection of its own; all block."""

    def __init__(self, path: Path) -> None:
        """Name the store at `path`, made by `create`."""
        self._path = path

    @classmethod
    def create(cls, path: Path) -> MemberStore:
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

    def add(self, member: Member, record: Record = _unrecorded) -> None:
        """Add `member`; raise `MemberError` if its id, URI or a key is already there.

        `record` is called with it before it counts; if that raises, nothing is added.
        """
        try:
            with self._transaction(write=True) as connection:
                _insert(connection, member)
                record(member)
        except sqlite3.IntegrityError as error:
            raise MemberError(
                f"The member {member.id}, its URI or its signing key is already registered."
            ) from error

    def change(
        self, member_id: str, alter: Callable[[Member], Member], record: Record = _unrecorded
    ) -> Member:
        """Put what `alter` makes of a member in its place, and return it.

        `record` is called with it before it counts. All in one transaction, so that nobody else changes
        a member meanwhile, and nothing is changed if either raises. Raises `MemberError` if there is no
        such member, or if a key or the URI is another's.
        """
        try:
            with self._transaction(write=True) as connection:
                known = next((each for each in _read_members(connection) if each.id == member_id), None)
                if known is None:
                    raise MemberError(f"There is no member {member_id}; see `gateway member list`.")
                changed = alter(known)
                if changed.id != member_id:
                    raise MemberError("A member keeps its id; add a new member instead.")
                connection.execute("DELETE FROM signing_keys WHERE member = ?", (member_id,))
                connection.execute("DELETE FROM members WHERE id = ?", (member_id,))
                _insert(connection, changed)
                record(changed)
        except sqlite3.IntegrityError as error:
            raise MemberError(
                f"The URI or a signing key of {member_id} is registered for another member already."
            ) from error
        return changed

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
    return [_member(row, keys.get(row[0], {})) for row in rows]


def _insert(connection: sqlite3.Connection, member: Member) -> None:
    for key_id, public in member.signing_keys.items():
        if VerifyKey(public).key_id != key_id:
            raise MemberError("A signing key does not have the id it is given under.")
    connection.execute(
        "INSERT INTO members (id, title, member_class, roles, uri, endpoint, state)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            member.id,
            member.title,
            member.member_class,
            ",".join(sorted(member.roles)),
            member.uri,
            member.endpoint,
            member.state.value,
        ),
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


def _member(row: tuple[str, str, str, str, str, str | None, str], keys: dict[str, bytes]) -> Member:
    member_id, title, member_class, roles, uri, endpoint, state = row
    try:
        return Member(
            id=member_id,
            title=title,
            member_class=member_class,
            roles=frozenset(Role(role) for role in roles.split(",") if role),
            uri=uri,
            signing_keys=keys,
            state=MemberState(state),
            endpoint=endpoint,
        )
    except ValueError as error:
        raise MemberError(
            f"The member store says of {member_id} what no command writes (an unknown role or state); "
            "restore the store."
        ) from error
