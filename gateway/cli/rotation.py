"""`gateway audit rotate`: closing the log, and going on in the next one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.audit.stores import Place
from gateway.cli.failures import CommandError
from gateway.cli.output import counted, output_of
from gateway.cli.settings import GATEWAY_CONFIG, GatewayConfigOption, load_gateway_config
from gateway.cli.trust_file import renew_trust_file, replace_file
from gateway.database import PostgresAddress
from gateway.database.address import parse_place
from gateway.deployment.next_settings import settings_of_next
from gateway.deployment.rotation import close_and_go_on


def rotate(
    context: typer.Context,
    origin: Annotated[
        str,
        typer.Option(metavar="NAME", help="The next log's name, such as audit.example.org/log/2027."),
    ],
    into: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|ADDRESS",
            help="The next log's file, or its database in PostgreSQL, with the schema and nothing in it.  "
            "[default: the file audit-LAST_PART_OF_NAME.db beside the closed one]",
            show_default=False,
        ),
    ] = None,
    config: GatewayConfigOption = GATEWAY_CONFIG,
) -> None:
    """Close the log for ever and go on in the next one, which begins with the closed log's checkpoint.

    The gateway must be stopped, on every node. The configuration and the trust file beside it are changed;
    hand out the new trust file before the gateway starts again: it verifies receipts of both logs.
    """
    settings = load_gateway_config(config)
    rotation = close_and_go_on(settings, origin, _next_place(settings.log.database, origin, into))
    text = settings_of_next(config.read_text(), settings, rotation, config.parent)
    replace_file(config, text.encode())
    trust = renew_trust_file(load_gateway_config(config), config)
    output_of(context).facts(
        {
            "closed": rotation.closed,
            "entries": rotation.size,
            "opened": rotation.opened,
            "database": str(rotation.database),
            "trust": str(trust),
        },
        [
            f"Closed {rotation.closed}: {counted(rotation.size, 'entry', 'entries')}, and never one more.",
            f"Opened {rotation.opened} in {rotation.database}; the configuration names it now.",
            f"The trust file {trust} is renewed; hand it out before the gateway starts again.",
            "Keep the closed log: gateway audit fsck --chain examines both.",
        ],
    )


def _next_place(closed: Place, origin: str, into: str | None) -> Place:
    if into is not None:
        try:
            place = parse_place(into)
        except ValueError as error:
            raise CommandError(f"--into: {error}") from error
        return place.resolved(Path.cwd()) if isinstance(place, PostgresAddress) else Path(into)
    if isinstance(closed, PostgresAddress):
        raise CommandError(
            "This log is in PostgreSQL; name an empty database for the next one with --into, after `gateway "
            "database migrate` has made its schema."
        )
    return closed.with_name(f"audit-{origin.rpartition('/')[2]}.db")
