"""Members in PostgreSQL, for several nodes: every node hears of a change at once.

A trigger raises the revision and notifies, so that a change counts whoever makes it. Who does not
hear the notice (a connection that is being opened anew) looks at the revision as often as ever.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg import errors as pg

from gateway.database.address import PostgresAddress
from gateway.database.errors import DatabaseRefusedError, DatabaseUnavailableError
from gateway.database.notices import Notices
from gateway.database.session import advice_for, connect
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

CHANNEL: Final = "sluicegate_members"

STATEMENT_TIMEOUT_S: Final = 0.8
"""Shorter than a directory stays fresh: what takes longer is as good as no answer."""

_CHANGE_LIMITS_S: Final = {"statement_timeout": 5.0, "idle_in_transaction_session_timeout": 30.0}
"""Limits while a member is changed: its entry is appended to the log meanwhile, which may have to wait for
other nodes. Nobody else waits for this, but who changes members, too."""

_ADD: Final = (
    "INSERT INTO members (id, title, member_class, roles, uri, endpoint, state)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s)"
)
_CHANGE: Final = (
    "UPDATE members SET title = %s, member_class = %s, roles = %s, uri = %s, endpoint = %s, state = %s"
    " WHERE id = %s"
)
_ADD_KEY: Final = "INSERT INTO signing_keys (key_id, member, public) VALUES (%s, %s, %s)"


class PostgresMemberStore:
    """Members in the shared database. Safe from any thread; one session, opened when it is needed."""

    def __init__(self, address: PostgresAddress) -> None:
        """Name the store; nothing is opened yet."""
        self._address = address
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[Any] | None = None
        self._notices = Notices(address, CHANNEL)

    def revision(self) -> int:
        """Return the number that every change raises; raise `MemberError` if the store is unusable."""
        with self._transaction() as connection:
            return _revision(connection)

    def members(self) -> tuple[int, list[Member]]:
        """Return (revision, every member), read in one transaction."""
        with self._transaction() as connection:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            return _revision(connection), _read_members(connection)

    def add(self, member: Member, record: Record = unrecorded) -> None:
        """Add `member`; raise `MemberError` if its id, URI or a key is already there.

        `record` is called with it before it counts; if that raises, nothing is added.
        """
        check_keys(member)
        with self._changing(already_registered(member.id)) as connection:
            connection.execute(_ADD, write_member(member))
            _add_keys(connection, member)
            record(member)

    def change(
        self, member_id: str, alter: Callable[[Member], Member], record: Record = unrecorded
    ) -> Member:
        """Put what `alter` makes of a member in its place, and return it; see `MemberStore.change`."""
        with self._changing(registered_for_another(member_id)) as connection:
            changed = altered(member_id, _read_members(connection), alter)
            connection.execute("DELETE FROM signing_keys WHERE member = %s", (member_id,))
            # The row stays: who refers to it must not find it gone, even for a moment.
            connection.execute(_CHANGE, (*write_member(changed)[1:], member_id))
            _add_keys(connection, changed)
            record(changed)
        return changed

    async def await_change(self, timeout_s: float) -> None:
        """Return at a notice of a change, at the latest after `timeout_s`."""
        await self._notices.wait(timeout_s)

    def close(self) -> None:
        """Close the sessions. May be called twice."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None
        self._notices.close()

    @contextmanager
    def _changing(self, conflict: MemberError) -> Iterator[psycopg.Connection[Any]]:
        """Hold one transaction beside which nobody changes a member, whoever it is and however.

        `conflict` is what to raise when a row contradicts one that is there.
        """
        with self._transaction(conflict) as connection:
            for setting, limit_s in _CHANGE_LIMITS_S.items():
                connection.execute("SELECT set_config(%s, %s, true)", (setting, f"{limit_s * 1000:.0f}"))
            connection.execute("LOCK TABLE members, signing_keys IN SHARE ROW EXCLUSIVE MODE")
            yield connection

    @contextmanager
    def _transaction(self, conflict: MemberError | None = None) -> Iterator[psycopg.Connection[Any]]:
        """Hold one transaction; nothing is kept if the block fails."""
        with self._lock:
            try:
                connection = self._open()
                with connection.transaction():
                    yield connection
            except (pg.UniqueViolation, pg.ForeignKeyViolation):
                raise conflict or MemberError("A member contradicts another.") from None
            except (DatabaseUnavailableError, DatabaseRefusedError) as error:
                raise MemberError(error.message) from error
            except psycopg.Error as error:
                if self._connection is not None:
                    self._connection.close()
                raise MemberError(f"The members cannot be read or changed: {advice_for(error)}.") from None

    def _open(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = connect(self._address, "members", statement_timeout_s=STATEMENT_TIMEOUT_S)
        return self._connection


def _read_members(connection: psycopg.Connection[Any]) -> list[Member]:
    keys: dict[str, dict[str, bytes]] = {}
    for member, key_id, public in connection.execute("SELECT member, key_id, public FROM signing_keys"):
        keys.setdefault(member, {})[key_id] = public
    rows = connection.execute(
        "SELECT id, title, member_class, roles, uri, endpoint, state FROM members ORDER BY id"
    ).fetchall()
    return [read_member(row, keys.get(row[0], {})) for row in rows]


def _add_keys(connection: psycopg.Connection[Any], member: Member) -> None:
    for key_id, public in member.signing_keys.items():
        connection.execute(_ADD_KEY, (key_id, member.id, public))


def _revision(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute("SELECT revision FROM registry").fetchone()
    if row is None:
        raise MemberError("The database has no registry of members; run `gateway database migrate`.")
    return int(row[0])
