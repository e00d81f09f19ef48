"""Running the log's site from the command line."""

from __future__ import annotations

import asyncio

import uvloop
from pydantic import ValidationError

from gateway.cli.failures import CommandError
from gateway.cli.operators_log import operators_log
from gateway.config import GatewayConfig, TilesConfig
from gateway.tilesite import TileSite


def serve_tiles(settings: GatewayConfig, listen: str | None, entries: bool | None) -> None:
    """Serve until SIGTERM or SIGINT; what is not None stands over the settings. Raise `ConfigError`."""
    changes = {"listen": listen, "entries": entries}
    wanted = {name: value for name, value in changes.items() if value is not None}
    try:
        tiles = TilesConfig.model_validate(settings.tiles.model_dump() | wanted)
    except ValidationError as error:
        raise CommandError("--listen takes HOST:PORT, such as 127.0.0.1:7480.") from error
    with operators_log(settings.logging), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        site = TileSite(settings.model_copy(update={"tiles": tiles}))
        runner.run(site.run_until_stopped())
