"""Where members are kept: a small database beside the audit log.

Every change raises one revision number, by which running gateways notice it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from gateway.errors import ConfigError
from gateway.evidence.keys import VerifyKey
from gateway.model import Member, MemberState, Role

SCHEMA_VERSION: Final = 1

_metadata: Final = sa.MetaData()

_revision: Final = sa.Table(
    "registry",
    _metadata,
    sa.Column("id", sa.Integer, sa.CheckConstraint("id = 1"), primary_key=True),
    sa.Column("schema_version", sa.Integer, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
)
_members: Final = sa.Table(
    "members",
    _metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("title", sa.String(200), nullable=False),
    sa.Column("member_class", sa.String(40), nullable=False),
    sa.Column("roles", sa.String(200), nullable=False),
    sa.Column("uri", sa.String(300), nullable=False, unique=True),
    sa.Column("endpoint", sa.String(300)),
    sa.Column("state", sa.String(20), nullable=False),
)
_keys: Final = sa.Table(
    "signing_keys",
    _metadata,
    sa.Column("key_id", sa.String(64), primary_key=True),
    sa.Column("member", sa.ForeignKey("members.id"), nullable=False),
    sa.Column("public", sa.LargeBinary(32), nullable=False),
)


class MemberError(ConfigError):
    """A change to the members cannot be made."""


class MemberStore:
    """Members in a database. Every method is one transaction; all of it blocks."""

    def __init__(self, path: Path) -> None:
        """Open the store at `path`, made by `create`."""
        self._path = path
        self._engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(path)), connect_args={"timeout": 5}
        )
        sa.event.listen(self._engine, "connect", _prepare_connection)

    @classmethod
    def create(cls, path: Path) -> MemberStore:
        """Make an empty store of mode 0600; raise `MemberError` if the file exists."""
        try:
            path.touch(mode=0o600, exist_ok=False)
        except OSError as error:
            raise MemberError(f"{path} cannot be created ({error.strerror}).") from error
        store = cls(path)
        with store._transaction() as connection:
            _metadata.create_all(connection)
            connection.execute(_revision.insert().values(id=1, schema_version=SCHEMA_VERSION, revision=0))
        return store

    def close(self) -> None:
        self._engine.dispose()

    def revision(self) -> int:
        """Return the number that every change raises; raise `ConfigError` if the store is unusable."""
        with self._transaction() as connection:
            row = connection.execute(sa.select(_revision.c.schema_version, _revision.c.revision)).one()
        if row.schema_version != SCHEMA_VERSION:
            raise MemberError(
                f"{self._path} has schema version {row.schema_version}; this release knows {SCHEMA_VERSION}."
            )
        return int(row.revision)

    def members(self) -> tuple[int, list[Member]]:
        """Return (revision, every member), read in one transaction."""
        with self._transaction() as connection:
            revision = connection.execute(sa.select(_revision.c.revision)).scalar_one()
            keys: dict[str, dict[str, bytes]] = {}
            for row in connection.execute(sa.select(_keys.c.member, _keys.c.key_id, _keys.c.public)):
                keys.setdefault(row.member, {})[row.key_id] = row.public
            columns = (column for column in _members.c)
            rows = connection.execute(sa.select(*columns).order_by(_members.c.id)).all()
        return int(revision), [_member(row, keys.get(row.id, {})) for row in rows]

    def add(self, member: Member) -> None:
        """Add `member`; raise `MemberError` if its id, URI or a key is already there."""
        for key_id, public in member.signing_keys.items():
            if VerifyKey(public).key_id != key_id:
                raise MemberError("A signing key does not have the id it is given under.")
        try:
            with self._transaction() as connection:
                connection.execute(
                    _members.insert().values(
                        id=member.id,
                        title=member.title,
                        member_class=member.member_class,
                        roles=",".join(sorted(member.roles)),
                        uri=member.uri,
                        endpoint=member.endpoint,
                        state=member.state.value,
                    )
                )
                for key_id, public in member.signing_keys.items():
                    connection.execute(_keys.insert().values(key_id=key_id, member=member.id, public=public))
                _raise_revision(connection)
        except IntegrityError as error:
            raise MemberError(
                f"The member {member.id}, its URI or its signing key is already registered."
            ) from error

    def set_state(self, member_id: str, state: MemberState) -> None:
        """Suspend or resume a member; raise `MemberError` if there is none of this id."""
        with self._transaction() as connection:
            changed = connection.execute(
                _members.update().where(_members.c.id == member_id).values(state=state.value)
            ).rowcount
            if changed != 1:
                raise MemberError(f"There is no member {member_id}; see `gateway member list`.")
            _raise_revision(connection)

    def add_key(self, member_id: str, key: VerifyKey) -> None:
        """Register one more signing key of a member."""
        try:
            with self._transaction() as connection:
                connection.execute(
                    _keys.insert().values(key_id=key.key_id, member=member_id, public=key.public)
                )
                _raise_revision(connection)
        except IntegrityError as error:
            raise MemberError(
                f"There is no member {member_id}, or this key is already registered."
            ) from error

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except IntegrityError:
            raise
        except SQLAlchemyError as error:
            raise MemberError(
                f"The member store {self._path} cannot be used ({type(error).__name__}); "
                "check that it exists and that this user may write it."
            ) from error


def _prepare_connection(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _raise_revision(connection: sa.Connection) -> None:
    connection.execute(_revision.update().values(revision=_revision.c.revision + 1))


def _member(row: sa.Row[Any], keys: dict[str, bytes]) -> Member:
    return Member(
        id=row.id,
        title=row.title,
        member_class=row.member_class,
        roles=frozenset(Role(role) for role in row.roles.split(",") if role),
        uri=row.uri,
        signing_keys=keys,
        state=MemberState(row.state),
        endpoint=row.endpoint,
    )
