"""Opening the shared database: sessions that are durable, bounded in time, and of the right schema.

What PostgreSQL acknowledges must be on its disk, or the log would say less than was released. So a
server with `fsync`, `full_page_writes` or `synchronous_commit` off is refused, at the connection and
again with every append.
"""

from __future__ import annotations

from typing import Any, Final

import psycopg

from gateway.database.address import PostgresAddress
from gateway.database.errors import DatabaseRefusedError, DatabaseUnavailableError

SCHEMA: Final = "sluicegate"
SCHEMA_REVISION: Final = "0011"
"""The schema this release knows: the newest in `gateway.database.migrations`. Others are refused."""

MIN_SERVER_VERSION: Final = 140000

LOCK_TIMEOUT_S: Final = 2.0
"""How long an append waits for another node's."""
STATEMENT_TIMEOUT_S: Final = 5.0
IDLE_IN_TRANSACTION_TIMEOUT_S: Final = 3.0
"""After so long the server ends a session that holds the head and says nothing: a node that died
without its connection being closed frees the log by this."""
CONNECT_TIMEOUT_S: Final = 3

DURABLE_COMMITS: Final = ("on", "remote_apply")
DURABILITY: Final = (
    "current_setting('fsync') = 'on' AND current_setting('full_page_writes') = 'on'"
    " AND current_setting('synchronous_commit') IN ('on', 'remote_apply')"
)
"""SQL that is true while what the server acknowledges is on its disk."""

_NETWORK: Final[dict[str, Any]] = {
    "connect_timeout": CONNECT_TIMEOUT_S,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 5000,
    "client_encoding": "UTF8",
}

_ADVICE: Final = {
    "53100": "its disk is full; free some space, and the gateway goes on by itself",
    "53200": "it is out of memory; give it more, and the gateway goes on by itself",
    "53300": "it has no connection free; raise max_connections or end other programs",
    "55P03": "another node holds the log; if that lasts, end it, and the gateway goes on by itself",
    "57014": "a statement took too long; look at what else the server does",
    "25006": "it is read-only, such as a standby; connect to the primary",
    "28000": "it refuses this role; correct the address or its pg_hba.conf",
    "28P01": "it refuses the password; correct the password file",
    "3D000": "there is no such database; correct the address",
    "3F000": "it has no schema of ours; run `gateway database migrate`",
    "42P01": "a table is missing; run `gateway database migrate`",
    "42501": "the role lacks a right that it needs; run `gateway database migrate`",
    "58030": "its disk reports an error; look at the server's own log",
}


def connect(
    address: PostgresAddress, purpose: str, *, statement_timeout_s: float = STATEMENT_TIMEOUT_S
) -> psycopg.Connection[Any]:
    """Open a session for a gateway; raise `DatabaseUnavailableError` or `DatabaseRefusedError`.

    It does not begin transactions by itself. `purpose` shows in the server's list of sessions.
    """
    connection = open_session(address, purpose, statement_timeout_s=statement_timeout_s)
    try:
        require_durable(connection)
        require_schema(connection)
    except psycopg.Error as error:
        connection.close()
        raise unavailable(error) from None
    except BaseException:
        connection.close()
        raise
    return connection


def open_session(
    address: PostgresAddress, purpose: str, *, statement_timeout_s: float = STATEMENT_TIMEOUT_S
) -> psycopg.Connection[Any]:
    """Open a bounded session without asking anything of server or schema; as `connect` otherwise."""
    try:
        return psycopg.connect(**session_parameters(address, purpose, statement_timeout_s), autocommit=True)
    except psycopg.Error as error:
        raise unavailable(error) from None


def session_parameters(
    address: PostgresAddress, purpose: str, statement_timeout_s: float = STATEMENT_TIMEOUT_S
) -> dict[str, Any]:
    """Return what libpq connects with; raise `ConfigError` if a secret file is open to others."""
    settings = {
        "search_path": f"{SCHEMA},pg_temp",
        "lock_timeout": f"{LOCK_TIMEOUT_S * 1000:.0f}",
        "statement_timeout": f"{statement_timeout_s * 1000:.0f}",
        "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_TIMEOUT_S * 1000:.0f}",
        "tcp_keepalives_idle": "5",
        "tcp_keepalives_interval": "1",
        "tcp_keepalives_count": "3",
        "jit": "off",
        # Every statement has an index to go by; a plan made while the tables were empty must not read
        # them whole once they are large.
        "enable_seqscan": "off",
        "enable_bitmapscan": "off",
        "TimeZone": "UTC",
    }
    return {
        **address.parameters(),
        **_NETWORK,
        "application_name": f"sluicegate {purpose}",
        "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
    }


def require_durable(connection: psycopg.Connection[Any]) -> None:
    """Raise `DatabaseRefusedError` if the server may lose what it acknowledges, or is not a primary.

    A session whose `synchronous_commit` is below `on` is raised to it.
    """
    if connection.info.server_version < MIN_SERVER_VERSION:
        raise DatabaseRefusedError("The shared database needs PostgreSQL 14 or newer; update the server.")
    settings = dict(
        connection.execute(
            "SELECT name, setting FROM pg_settings WHERE name IN"
            " ('fsync', 'full_page_writes', 'synchronous_commit', 'server_encoding')"
            " UNION ALL SELECT 'standby', pg_is_in_recovery()::text"
        ).fetchall()
    )
    for name in ("fsync", "full_page_writes"):
        if settings[name] != "on":
            raise DatabaseRefusedError(
                f"The database server runs with {name} off: a power failure would lose entries that were "
                f"acknowledged. Set {name} = on in postgresql.conf and reload it."
            )
    if settings["server_encoding"] != "UTF8":
        raise DatabaseRefusedError("The shared database is not encoded in UTF-8; make one that is.")
    if settings["standby"] != "false":
        raise DatabaseRefusedError("This database server is a standby; name the primary in the address.")
    if settings["synchronous_commit"] not in DURABLE_COMMITS:
        connection.execute("SET synchronous_commit = on")


def require_schema(connection: psycopg.Connection[Any]) -> None:
    """Raise `DatabaseRefusedError` unless the schema is of the version known here."""
    found = schema_revision(connection)
    if found is None:
        raise DatabaseRefusedError("The database has no schema yet; run `gateway database migrate`.")
    if found != SCHEMA_REVISION:
        raise DatabaseRefusedError(
            f"The database has schema {found}; this release knows {SCHEMA_REVISION}. Run "
            "`gateway database migrate` of the newer release on every node's behalf.",
            found=found,
        )


def schema_revision(connection: psycopg.Connection[Any]) -> str | None:
    """Return the revision of the schema; None if there is none."""
    (there,) = connection.execute("SELECT to_regclass('sluicegate.alembic_version')").fetchone() or (None,)
    if there is None:
        return None
    row = connection.execute("SELECT version_num FROM sluicegate.alembic_version").fetchone()
    return None if row is None else str(row[0])


def unavailable(error: psycopg.Error) -> DatabaseUnavailableError:
    """Return our error for one of the driver's, whose text may quote what must not be told."""
    return DatabaseUnavailableError(f"The database cannot be used: {advice_for(error)}.")


def advice_for(error: psycopg.Error) -> str:
    """Return what is wrong and what to do, without a text of the server's."""
    code = error.sqlstate
    if code is None or code.startswith(("08", "57P")):
        return "it cannot be reached, or broke off; check server, network and address"
    return _ADVICE.get(code, f"it refused (SQLSTATE {code}); look at the server's own log")
