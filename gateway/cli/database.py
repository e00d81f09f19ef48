"""`gateway database`: the PostgreSQL that several nodes share."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from gateway.cli.exits import Exit
from gateway.cli.failures import CommandError
from gateway.cli.output import counted, output_of
from gateway.cli.settings import GATEWAY_CONFIG, GatewayConfigOption, load_gateway_config
from gateway.config import GatewayConfig
from gateway.corrections.tokens import CorrectionKeys
from gateway.database import PostgresAddress
from gateway.database.agreement import Agreement
from gateway.database.migration import inspect_schema, migrate
from gateway.deployment.move import move_to_postgres
from gateway.deployment.policy import bundle_in_force
from gateway.errors import ConfigError
from gateway.pseudonym import Keyring
from gateway.recorded.deployment import common_ground

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Set up and look after the PostgreSQL database that several nodes share.",
)

_ADDRESS: Final = "postgresql://ROLE@HOST/NAME"

_TOLD: Final = (
    ("account", "account of the ledger", "accounts of the ledger"),
    ("debt", "duty owed", "duties owed"),
    ("policy_proposal", "approval of a policy", "approvals of policies"),
    ("vault_batch", "contributed batch", "contributed batches"),
    ("usage_notice", "notice", "notices"),
    ("usage_statement", "statement", "statements"),
    ("recipient", "page noted for corrections", "pages noted for corrections"),
    ("correction", "correction", "corrections"),
)
"""Of what else was moved, what people are told."""

DatabaseOption = Annotated[
    str | None,
    typer.Option("--database", metavar=_ADDRESS, help="The database, in place of the configuration's."),
]


@app.command("migrate")
def migrate_schema(
    context: typer.Context,
    owner: Annotated[
        str,
        typer.Option("--as", metavar=_ADDRESS, help="The same database, as the role that owns its schema."),
    ],
    config: GatewayConfigOption = GATEWAY_CONFIG,
    database: DatabaseOption = None,
) -> None:
    """Make the schema, or bring it to this release's version, and give the gateway's role its rights.

    The role that the configuration names must exist; it gets what it must have and loses the rest.
    """
    address = _address(config, database)
    if not address.user:
        raise CommandError("The database's address names no role; write postgresql://ROLE@HOST/NAME.")
    before, after = migrate(_parse("--as", owner), address.user)
    told = "was there already" if before == after else f"is in place (before: {before or 'none'})"
    output_of(context).facts(
        {"before": before, "revision": after, "role": address.user},
        [f"Schema {after} {told}; {address.user} may do what a gateway must, and no more."],
    )


@app.command("status")
def show_status(
    context: typer.Context, config: GatewayConfigOption = GATEWAY_CONFIG, database: DatabaseOption = None
) -> None:
    """Tell whether a gateway would serve with the database: server, schema, rights, guards.

    Exit code 2 if it would not.
    """
    status = inspect_schema(_address(config, database))
    output_of(context).facts(
        {
            "sound": status.sound,
            "revision": status.revision,
            "expected": status.expected,
            "surplus_rights": list(status.surplus),
            "missing_guards": list(status.missing_guards),
        }
    )
    if not status.sound:
        raise typer.Exit(Exit.USAGE)


@app.command("move")
def move(
    context: typer.Context,
    to: Annotated[str, typer.Option(metavar=_ADDRESS, help="The database to move to, after `migrate`.")],
    config: GatewayConfigOption = GATEWAY_CONFIG,
) -> None:
    """Move what a stopped gateway keeps in SQLite files to PostgreSQL.

    That is log, members, contracts, details, ledger, vault, usage, corrections, and bundles with their
    approvals. The log is examined before and after, and stays the same log: every receipt stays valid.
    The old files are renamed, so that nothing can append to them; those of which something is erased later
    (details, vault, corrections) are removed.
    """
    address = _parse("--to", to)
    output = output_of(context)
    settings = load_gateway_config(config)
    with output.progress("entries") as advance:
        moved = move_to_postgres(settings, address, advance, output.remark)
    files = [str(path) for path in moved.files]
    told = ", ".join(
        (
            counted(moved.entries, "entry", "entries"),
            counted(moved.checkpoints, "checkpoint"),
            counted(moved.members, "member"),
            *((f"contracts in {counted(moved.contracts, 'version')}",) if moved.contracts else ()),
            *(() if moved.details is None else (f"details of {counted(moved.details, 'entry', 'entries')}",)),
            *(
                counted(moved.rows[table], one, several)
                for table, one, several in _TOLD
                if moved.rows.get(table)
            ),
        )
    )
    named = ["[log]", "[members]"]
    named += ["[details]"] if settings.details is not None else []
    named += ["[vault]"] if settings.vault is not None else []
    sections = f"{', '.join(named[:-1])} and {named[-1]}"
    output.facts(
        {
            "entries": moved.entries,
            "checkpoints": moved.checkpoints,
            "members": moved.members,
            "contracts": moved.contracts,
            "details": moved.details,
            "rows": dict(moved.rows),
            "address": address.url,
            "retired": files,
        },
        [
            f"Moved {told}; examined before and after.",
            f"The old files are kept as {' and '.join(files)}.",
            f'Now set database = "{address.url}" under {sections} in {config}.',
        ],
    )


@app.command("adopt")
def adopt(context: typer.Context, config: GatewayConfigOption = GATEWAY_CONFIG) -> None:
    """Make this node's policy and keyring those of all nodes, after a change.

    Nodes with others serve nobody until they are restarted with the same files.
    """
    settings = load_gateway_config(config)
    bundle = bundle_in_force(settings)
    key = settings.corrections.key
    held = common_ground(
        settings,
        bundle,
        Keyring.load(settings.keys.keyring),
        CorrectionKeys.load(key).fingerprint if key.exists() else None,
    )
    agreement = Agreement(_of(settings), held)
    try:
        changed = agreement.adopt()
    finally:
        agreement.close()
    told = (
        f"New for all nodes: {', '.join(changed)}." if changed else "All nodes have agreed on these already."
    )
    output_of(context).facts({"changed": list(changed), **held}, [told])


def _address(config: GatewayConfigOption, database: str | None) -> PostgresAddress:
    return _parse("--database", database) if database is not None else _of(load_gateway_config(config))


def _of(settings: GatewayConfig) -> PostgresAddress:
    place = settings.log.database
    if not isinstance(place, PostgresAddress):
        raise CommandError(
            "This deployment keeps its log in a SQLite file; name the database with --database, or move "
            "there with `gateway database move`."
        )
    return place


def _parse(option: str, text: str) -> PostgresAddress:
    try:
        return PostgresAddress.parse(text)
    except ConfigError as error:
        raise CommandError(f"{option}: {error.message}") from error
