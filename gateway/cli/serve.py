"""`gateway serve`."""

from __future__ import annotations

import asyncio
import sys
from typing import Final

import typer
import uvloop

from gateway.cli.operators_log import operators_log
from gateway.cli.settings import GATEWAY_CONFIG, GatewayConfigOption, load_gateway_config
from gateway.node import Node

app = typer.Typer(add_completion=False)

SWITCH_INTERVAL_S: Final = 0.003
"""How long a busy event loop may keep the writer of the audit log waiting for the interpreter. Below
Python's own 5 ms, which a commit would pay several times; not far below, for each switch costs."""


@app.command()
def serve(config: GatewayConfigOption = GATEWAY_CONFIG) -> None:
    """Run the gateway until SIGTERM or SIGINT; calls under way may finish.

    Standard output carries the operators' log, one line an event.
    """
    settings = load_gateway_config(config)
    with (
        operators_log(settings.logging) as losses,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        runner.run(Node(settings, losses=losses).run_until_stopped())
