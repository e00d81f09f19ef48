"""`gateway serve`."""

from __future__ import annotations

import asyncio
import socket

import typer

from gateway.cli.operators_log import operators_log, supervisors_log
from gateway.cli.settings import GATEWAY_CONFIG, GatewayConfigOption, load_gateway_config
from gateway.config import GatewayConfig
from gateway.supervisor import Role, Supervisor

app = typer.Typer(add_completion=False)

# Each process imports what it runs, and no other: the one that holds the log's key does not even
# load what faces the network.


@app.command()
def serve(
    config: GatewayConfigOption = GATEWAY_CONFIG,
) -> None:
    """Run the gateway until SIGTERM or SIGINT; calls under way may finish.

    Standard output carries the operators' log, one line an event.
    """
    from gateway.log_node import listen_locally  # noqa: PLC0415

    settings = load_gateway_config(config)
    supervisors_log(settings.logging)
    listener, address = listen_locally()
    code = Supervisor(
        [
            [Role("log", lambda: _write_log(settings, listener))],
            [Role("worker", lambda: _work(settings, address))],
        ]
    ).run()
    raise typer.Exit(code)


def _write_log(settings: GatewayConfig, listener: socket.socket) -> None:
    from gateway.log_node import LogNode  # noqa: PLC0415

    with operators_log(settings.logging), _runner() as runner:
        runner.run(LogNode(settings, listener).run_until_stopped())


def _work(settings: GatewayConfig, log_address: bytes) -> None:
    from gateway.node import Node  # noqa: PLC0415

    with operators_log(settings.logging) as losses, _runner() as runner:
        runner.run(Node(settings, losses=losses, log_address=log_address).run_until_stopped())


def _runner() -> asyncio.Runner:
    import uvloop  # noqa: PLC0415

    return asyncio.Runner(loop_factory=uvloop.new_event_loop)
