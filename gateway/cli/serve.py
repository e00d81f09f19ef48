"""`gateway serve`."""

from __future__ import annotations

import asyncio
import sys

import typer
import uvloop

from gateway.cli.settings import GATEWAY_CONFIG, GatewayConfigOption, load_gateway_config
from gateway.config import LoggingConfig
from gateway.node import Node
from gateway.telemetry.logs import Level, configure_logging

app = typer.Typer(add_completion=False)


@app.command()
def serve(config: GatewayConfigOption = GATEWAY_CONFIG) -> None:
    """Run the gateway until SIGTERM or SIGINT; calls under way may finish.

    Standard output carries the operators' log, one line an event.
    """
    settings = load_gateway_config(config)
    start_logging(settings.logging)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(Node(settings).run_until_stopped())


def start_logging(config: LoggingConfig) -> None:
    """Send the operators' log to standard output as `config` says."""
    configure_logging(sys.stdout, Level[config.level.upper()], json=config.format == "json")
