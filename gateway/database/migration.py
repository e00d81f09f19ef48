"""Bringing the shared database to the schema of this release, as the role that owns it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from psycopg import sql
from sqlalchemy.exc import SQLAlchemyError

from gateway.database.address import PostgresAddress
from gateway.database.errors import DatabaseRefusedError, DatabaseUnavailableError
from gateway.database.privileges import grant, missing_guards, surplus_rights
from gateway.database.session import (
    SCHEMA,
    SCHEMA_REVISION,
    open_session,
    require_durable,
    schema_revision,
    unavailable,
)

_SCRIPTS: Final = Path(__file__).parent / "migrations"
_STATEMENT_TIMEOUT_S: Final = 3600.0
"""Long: a migration may rewrite a table of a large log."""

_MIGRATION_LOCK: Final = 0x534C_5547
"""Advisory lock (`SLUG`): two migrations do not run at the same time."""


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """How a database stands, as the gateway's role sees it."""

    revision: str | None
    """The schema's revision; None without one."""
    expected: str
    surplus: tuple[str, ...]
    """What the role may do beyond what it must."""
    missing_guards: tuple[str, ...]

    @property
    def sound(self) -> bool:
        """Whether a gateway would serve with it."""
        return self.revision == self.expected and not self.surplus and not self.missing_guards


def migrate(owner: PostgresAddress, role: str) -> tuple[str | None, str]:
    """Bring the schema to this release's revision and give `role` its rights; return (before, after).

    `owner` is the address under which the owning role connects; it must not be `role`. All or
    nothing. Raises `DatabaseRefusedError` and `DatabaseUnavailableError`.
    """
    connection = open_session(owner, "migrate", statement_timeout_s=_STATEMENT_TIMEOUT_S)
    with connection:
        try:
            require_durable(connection)
            _prepare(connection, role)
            before = schema_revision(connection)
            _upgrade(connection)
            grant(connection, role)
        except psycopg.errors.InsufficientPrivilege as error:
            raise DatabaseRefusedError(
                "The role of --as may not change the schema; use the role that owns the database."
            ) from error
        except psycopg.Error as error:
            raise unavailable(error) from None
    return before, SCHEMA_REVISION


def inspect_schema(address: PostgresAddress) -> SchemaStatus:
    """Look at the database as the gateway's role; raise `DatabaseUnavailableError` and refusals."""
    with open_session(address, "status") as connection:
        try:
            require_durable(connection)
            revision = schema_revision(connection)
            if revision is None:
                return SchemaStatus(None, SCHEMA_REVISION, (), ())
            surplus = tuple(surplus_rights(connection))
            return SchemaStatus(revision, SCHEMA_REVISION, surplus, tuple(missing_guards(connection)))
        except psycopg.Error as error:
            raise unavailable(error) from None


def newest_revision() -> str | None:
    """Return the newest revision among the versions."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def _prepare(connection: psycopg.Connection[Any], role: str) -> None:
    (me,) = connection.execute("SELECT current_user").fetchone() or ("",)
    if me == role:
        raise DatabaseRefusedError(
            "The schema must belong to another role than the gateway's own, or the gateway could change "
            "the log; name the owner with --as."
        )
    if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone() is None:
        raise DatabaseRefusedError(
            f"There is no role {role} on the server; make it: CREATE ROLE {role} LOGIN (and a password)."
        )
    connection.execute("SELECT pg_advisory_lock(%s)", (_MIGRATION_LOCK,))
    # Alembic's own table stands in the schema, so that this comes before all versions.
    connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(SCHEMA)))


def _upgrade(connection: psycopg.Connection[Any]) -> None:
    # SQLAlchemy borrows the session, and must not give it back to a pool that would close it.
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=lambda: connection, poolclass=sqlalchemy.StaticPool
    )
    config = _config()
    connection.autocommit = False
    try:
        with engine.begin() as borrowed:
            config.attributes["connection"] = borrowed
            command.upgrade(config, "head")
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None)
        if isinstance(cause, psycopg.Error):
            raise cause from None
        raise DatabaseUnavailableError("The migration failed; look at the server's own log.") from error
    except CommandError as error:
        raise DatabaseRefusedError(
            "The database has a schema that this release does not know; use the release that made it."
        ) from error
    finally:
        if not connection.closed:
            connection.rollback()
            connection.autocommit = True


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.set_main_option("version_locations", str(_SCRIPTS / "versions").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
