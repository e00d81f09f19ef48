"""`gateway serve`."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from functools import partial
from typing import Annotated

import typer

from gateway.cli.exits import Exit
from gateway.cli.failures import describe_failure, tell_failure
from gateway.cli.operators_log import operators_log, supervisors_log
from gateway.cli.output import Output, output_of
from gateway.cli.settings import GATEWAY_CONFIG, GatewayConfigOption, load_gateway_config
from gateway.config import GatewayConfig
from gateway.process import reserve_port
from gateway.recorded.starts import Instance, new_run
from gateway.supervisor import Role, Supervisor

app = typer.Typer(add_completion=False)

# Each process imports what it runs, and no other: the one that holds the log's key does not even
# load what faces the network.


@app.command()
def serve(
    context: typer.Context,
    config: GatewayConfigOption = GATEWAY_CONFIG,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=256,
            help="Processes that answer calls, on one port; 0 means one for each core. "
            "Takes the place of `server.workers`.",
        ),
    ] = None,
) -> None:
    """Run the gateway until SIGTERM or SIGINT; calls under way may finish.

    One process writes the audit log, one or more answer calls, one watches over them: a process that
    dies is started anew. Standard output carries the operators' log, one line an event.
    """
    from gateway.log_node import listen_locally  # noqa: PLC0415

    settings = load_gateway_config(config)
    count = _worker_count(settings.server.workers if workers is None else workers)
    supervisors_log(settings.logging)
    listener, log_address = listen_locally()
    held = None
    if count > 1:
        held, listen = reserve_port(settings.server.listen)
        server = settings.server.model_copy(update={"listen": listen})
        settings = settings.model_copy(update={"server": server})
    output = output_of(context)
    write_log = partial(_told, output, partial(_write_log, settings, listener))
    run = new_run()

    def worker(number: int) -> Role:
        work = partial(
            _work, settings, log_address, instance=Instance(run, str(number)), shares_port=count > 1
        )
        return Role(f"worker {number}", partial(_told, output, work))

    code = Supervisor(
        [
            [Role("log", write_log)],
            [worker(number) for number in range(1, count + 1)],
        ]
    ).run()
    if held is not None:
        held.close()
    raise typer.Exit(code)


def _worker_count(wanted: int) -> int:
    return wanted or len(os.sched_getaffinity(0))


def _told(output: Output, run: Callable[[], None]) -> int:
    """Run one process's part; tell its error as commands do, and return the exit code."""
    try:
        run()
    except Exception as error:  # noqa: BLE001 - as for every command, whatever it is
        failure = describe_failure(error)
        tell_failure(failure, output.error_form, no_colour=output.no_colour)
        return failure.code
    return Exit.OK


def _write_log(settings: GatewayConfig, listener: socket.socket) -> None:
    from gateway.log_node import LogNode  # noqa: PLC0415

    with operators_log(settings.logging), _runner() as runner:
        runner.run(LogNode(settings, listener).run_until_stopped())


def _work(settings: GatewayConfig, log_address: bytes, *, instance: Instance, shares_port: bool) -> None:
    from gateway.node import Node  # noqa: PLC0415

    with operators_log(settings.logging) as losses, _runner() as runner:
        node = Node(
            settings, losses=losses, log_address=log_address, shares_port=shares_port, instance=instance
        )
        runner.run(node.run_until_stopped())


def _runner() -> asyncio.Runner:
    import uvloop  # noqa: PLC0415

    return asyncio.Runner(loop_factory=uvloop.new_event_loop)
