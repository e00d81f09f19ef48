"""What the gateway's role may do in the database, and that it may do nothing else.

The log's rows are made by INSERT and never changed. What moves is the head, the probe's counter and
the claims of once-keys. Members, contracts, the ledger and the nodes' agreement change. Details of entries
come and go, and are never changed. Everything else, above all owning the tables, belongs to another role,
which only migrations use.
"""

from __future__ import annotations

from typing import Any, Final

import psycopg
from psycopg import sql

from gateway.database.errors import DatabaseRefusedError
from gateway.database.session import SCHEMA

APPEND_ONLY: Final = (
    *("log", "checkpoint", "entry", "block", "block_term", "tile", "published"),
    *("erasure", "erased"),
    *("policy_file", "policy_proposal"),
)
"""Tables whose rows are never changed nor deleted; triggers refuse it even to their owner."""

PRIVILEGES: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(APPEND_ONLY, ("SELECT", "INSERT")),
    "head": ("SELECT", "INSERT", "UPDATE"),
    "pair": ("SELECT", "INSERT", "UPDATE"),
    "probe": ("SELECT", "UPDATE"),
    # Expired claims go; a claim that could not be deleted could be made void by an UPDATE just as well.
    "once": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "registry": ("SELECT", "UPDATE"),
    "members": ("SELECT", "INSERT", "UPDATE"),
    "signing_keys": ("SELECT", "INSERT", "DELETE"),
    "shared_state": ("SELECT", "INSERT", "UPDATE"),
    "details": ("SELECT", "INSERT", "DELETE"),
    "details_batch": ("SELECT", "INSERT", "DELETE"),
    # Tokens go with their details, by a foreign key.
    "details_token": ("SELECT", "INSERT"),
    "details_state": ("SELECT", "UPDATE"),
    "account": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "hold": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "debt": ("SELECT", "INSERT", "DELETE"),
    "usage_webhook": ("SELECT", "INSERT", "UPDATE"),
    "usage_notice": ("SELECT", "INSERT", "DELETE"),
    "usage_delivery": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "usage_statement": ("SELECT", "INSERT"),
    "recipient": ("SELECT", "INSERT", "DELETE"),
    "correction": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "correction_notice": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "correction_head": ("SELECT", "UPDATE"),
    "contract_registry": ("SELECT", "UPDATE"),
    "contracts": ("SELECT", "INSERT", "UPDATE"),
    "contribution_batch": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "contribution_claim": ("SELECT", "INSERT", "DELETE"),
    **dict.fromkeys(
        (
            *("vault_holding", "vault_key", "vault_batch", "vault_run", "vault_page"),
            *("vault_token", "vault_keyed", "vault_live", "vault_dead"),
        ),
        ("SELECT", "INSERT", "UPDATE", "DELETE"),
    ),
    "alembic_version": ("SELECT",),
}
"""The rights of the gateway's role, by table."""

FUNCTIONS: Final = ("scrub_details(bigint)", "scrub_vault_keys()")
"""What the gateway's role may have done with the owner's rights: it changes no row."""

_TABLE_RIGHTS: Final = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
_TOO_MIGHTY: Final = (
    "pg_write_all_data",
    "pg_write_server_files",
    "pg_read_server_files",
    "pg_execute_server_program",
    "pg_database_owner",
)
"""Predefined roles that reach around the rights on tables."""

GUARDS: Final = frozenset(
    {
        *((table, f"{table}_is_append_only") for table in APPEND_ONLY),
        *((table, f"{table}_is_not_truncated") for table in (*APPEND_ONLY, "head", "pair")),
        ("head", "head_is_not_deleted"),
        ("pair", "pair_is_not_deleted"),
        ("pair", "pair_counts_up"),
        ("head", "head_grows"),
        ("head", "head_is_kept"),
    }
)
"""(table, trigger) of the guards that must stand and fire always."""


def grant(connection: psycopg.Connection[Any], role: str) -> None:
    """Give `role` its rights, and take every other from it; raise `psycopg.Error`. For the owner."""
    name, schema = sql.Identifier(role), sql.Identifier(SCHEMA)
    with connection.transaction():
        for statement in (
            "REVOKE ALL ON SCHEMA {schema} FROM PUBLIC, {role}",
            "REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM PUBLIC, {role}",
            "REVOKE ALL ON ALL FUNCTIONS IN SCHEMA {schema} FROM PUBLIC, {role}",
            "GRANT USAGE ON SCHEMA {schema} TO {role}",
        ):
            connection.execute(sql.SQL(statement).format(schema=schema, role=name))
        for table, rights in PRIVILEGES.items():
            connection.execute(
                sql.SQL("GRANT {rights} ON {schema}.{table} TO {role}").format(
                    rights=sql.SQL(", ").join(map(sql.SQL, rights)),
                    schema=schema,
                    table=sql.Identifier(table),
                    role=name,
                )
            )
        for function in FUNCTIONS:
            connection.execute(
                sql.SQL("GRANT EXECUTE ON FUNCTION {schema}.{function} TO {role}").format(
                    schema=schema, function=sql.SQL(function), role=name
                )
            )


def require_modest_role(connection: psycopg.Connection[Any]) -> None:
    """Raise `DatabaseRefusedError` if the session's role may do more than the gateway must.

    The role that logged in counts, not one that was set afterwards. Raises `psycopg.Error`.
    """
    excess = surplus_rights(connection)
    if excess:
        raise DatabaseRefusedError(
            "The role that the gateway opens its database with may do more than it must "
            f"({'; '.join(excess[:5])}). Use a role of its own that owns nothing, and give it its rights "
            "with `gateway database migrate`."
        )


def require_guards(connection: psycopg.Connection[Any]) -> None:
    """Raise `DatabaseRefusedError` unless every guard of the log's tables stands and fires always."""
    missing = missing_guards(connection)
    if missing:
        raise DatabaseRefusedError(
            f"Guards of the log's tables are missing or switched off ({', '.join(missing[:5])}): somebody "
            "who owns the tables changed them. Run `gateway audit fsck`, find out who, and set up the schema "
            "again."
        )


def surplus_rights(connection: psycopg.Connection[Any]) -> list[str]:
    """Return what the session's role may do beyond its rights, for people."""
    row = connection.execute(
        "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls"
        " FROM pg_roles WHERE rolname = session_user"
    ).fetchone()
    flags = (
        "superuser",
        "may create roles",
        "may create databases",
        "may replicate",
        "bypasses row security",
    )
    excess = [flag for flag, is_set in zip(flags, row or (), strict=False) if is_set]
    if excess[:1] == ["superuser"]:
        # Everything below would be true as well.
        return excess
    excess += [
        f"is a member of {name}"
        for (name,) in connection.execute(
            "SELECT rolname FROM pg_roles"
            " WHERE rolname = ANY(%s) AND pg_has_role(session_user, oid, 'MEMBER')",
            (list(_TOO_MIGHTY),),
        )
    ]
    if _has(connection, "SELECT has_schema_privilege(session_user, %s, 'CREATE')", SCHEMA):
        excess.append("may create objects in the schema")
    for table, owner, rights in connection.execute(
        "SELECT relname, pg_has_role(session_user, relowner, 'MEMBER'), ARRAY("
        "  SELECT r FROM unnest(%s::text[]) AS r WHERE has_table_privilege(session_user, c.oid, r)"
        "  OR (r IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')"
        "      AND has_any_column_privilege(session_user, c.oid, r)))"
        " FROM pg_class AS c WHERE relnamespace = %s::regnamespace AND relkind IN ('r', 'p', 'v')"
        " ORDER BY relname",
        (list(_TABLE_RIGHTS), SCHEMA),
    ):
        if owner:
            excess.append(f"owns table {table}")
            continue
        beyond = [right for right in rights if right not in PRIVILEGES.get(table, ())]
        if beyond:
            excess.append(f"{', '.join(beyond)} on {table}")
    return excess


def missing_guards(connection: psycopg.Connection[Any]) -> list[str]:
    """Return the guards that do not stand, or do not fire in every session."""
    standing = set(
        connection.execute(
            "SELECT c.relname::text, t.tgname::text"
            " FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid"
            " WHERE c.relnamespace = %s::regnamespace AND NOT t.tgisinternal AND t.tgenabled = 'A'",
            (SCHEMA,),
        ).fetchall()
    )
    return sorted(trigger for table, trigger in GUARDS if (table, trigger) not in standing)


def _has(connection: psycopg.Connection[Any], question: str, *values: object) -> bool:
    row = connection.execute(question, values).fetchone()
    return bool(row and row[0])
