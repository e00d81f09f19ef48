"""Members in PostgreSQL, for several nodes: every node hears of a change at once.

A trigger raises the revision and notifies, so that a change counts whoever makes it. Who does not
hear the notice (a connection that is being opened anew) looks at the revision as often as ever.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg import errors as pg

from gateway.database.address import PostgresAddress
from gateway.database.errors import DatabaseRefusedError, DatabaseUnavailableError
from gateway.database.notices import Notices
from gateway.database.session import advice_for, connect
from gateway.evidence.keys import VerifyKey
from gateway.members.store import MemberError, check_keys, read_member, write_member
from gateway.model import Member, MemberState

CHANNEL: Final = "sluicegate_members"

STATEMENT_TIMEOUT_S: Final = 0.8
"""Shorter than a directory stays fresh: what takes longer is as good as no answer."""

_ADD: Final = (
    "INSERT INTO members (id, title, member_class, roles, uri, endpoint, state)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s)"
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
            keys: dict[str, dict[str, bytes]] = {}
            for member, key_id, public in connection.execute(
                "SELECT member, key_id, public FROM signing_keys"
            ):
                keys.setdefault(member, {})[key_id] = public
            rows = connection.execute(
                "SELECT id, title, member_class, roles, uri, endpoint, state FROM members ORDER BY id"
            ).fetchall()
            return _revision(connection), [read_member(row, keys.get(row[0], {})) for row in rows]

    def add(self, member: Member) -> None:
        """Add `member`; raise `MemberError` if its id, URI or a key is already there."""
        check_keys(member)
        with self._transaction(f"The member {member.id}, its URI or its signing key is already registered."):
            connection = self._connection
            assert connection is not None
            connection.execute(_ADD, write_member(member))
            for key_id, public in member.signing_keys.items():
                connection.execute(_ADD_KEY, (key_id, member.id, public))

    def set_state(self, member_id: str, state: MemberState) -> None:
        """Suspend or resume a member; raise `MemberError` if there is none of this id."""
        with self._transaction() as connection:
            changed = connection.execute(
                "UPDATE members SET state = %s WHERE id = %s", (state.value, member_id)
            ).rowcount
            if changed != 1:
                raise MemberError(f"There is no member {member_id}; see `gateway member list`.")

    def add_key(self, member_id: str, key: VerifyKey) -> None:
        """Register one more signing key of a member."""
        refusal = f"There is no member {member_id}, or this key is already registered."
        with self._transaction(refusal) as connection:
            connection.execute(_ADD_KEY, (key.key_id, member_id, key.public))

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
    def _transaction(self, conflict: str = "") -> Iterator[psycopg.Connection[Any]]:
        """Hold one transaction; nothing is kept if the block fails.

        `conflict` is what to tell when a row contradicts one that is there.
        """
        with self._lock:
            try:
                connection = self._open()
                with connection.transaction():
                    yield connection
            except (pg.UniqueViolation, pg.ForeignKeyViolation):
                raise MemberError(conflict or "A member contradicts another.") from None
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


def _revision(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute("SELECT revision FROM registry").fetchone()
    if row is None:
        raise MemberError("The database has no registry of members; run `gateway database migrate`.")
    return int(row[0])
