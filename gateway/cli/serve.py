"""`gateway serve`."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated

import typer

from gateway.cli.exits import Exit
from gateway.cli.failures import describe_failure, tell_failure
from gateway.cli.operators_log import operators_log, supervisors_log
from gateway.cli.output import Output, output_of
from gateway.cli.settings import GATEWAY_CONFIG, GatewayConfigOption, load_gateway_config
from gateway.config import GatewayConfig, TimestampsConfig
from gateway.local_socket import listen_locally
from gateway.process import reserve_port
from gateway.recorded.starts import Instance, new_run, node_name
from gateway.supervisor import Role, SharedMark, Supervisor
from gateway.telemetry.siblings import Siblings, make_siblings

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
    settings = load_gateway_config(config)
    count = _worker_count(settings.server.workers if workers is None else workers)
    supervisors_log(settings.logging)
    listener, log_address = listen_locally()
    held: list[socket.socket] = []
    places: Sequence[Siblings | None] = [None]
    node = node_name(settings)
    if count > 1:
        settings = _hold_ports(settings, held)
        places = make_siblings(count)
    told, served = partial(_told, output_of(context)), SharedMark()
    run = new_run()
    asked = [listener, *(place.listener for place in places if place is not None)]
    code = Supervisor(
        [
            [Role("log", partial(told, partial(_write_log, settings, listener, asked)))],
            [
                Role(
                    f"worker {number}",
                    partial(
                        told,
                        partial(
                            _work,
                            settings,
                            log_address,
                            place,
                            Instance(run, str(number), node),
                            asked,
                            served,
                        ),
                    ),
                )
                for number, place in enumerate(places, 1)
            ],
            *_stamping(settings, told),
        ],
        served,
    ).run()
    for holder in held:
        holder.close()
    raise typer.Exit(code)


def _hold_ports(settings: GatewayConfig, held: list[socket.socket]) -> GatewayConfig:
    """Reserve every port on which all workers listen; return the settings that name them."""
    server, metrics = settings.server, settings.metrics
    holder, listen = reserve_port(server.listen)
    held.append(holder)
    server = server.model_copy(update={"listen": listen})
    if metrics.enabled:
        host = f"[{metrics.host}]" if ":" in metrics.host else metrics.host
        holder, listen = reserve_port(f"{host}:{metrics.port}")
        held.append(holder)
        metrics = metrics.model_copy(update={"port": int(listen.rpartition(":")[2])})
    return settings.model_copy(update={"server": server, "metrics": metrics})


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


def _keep_only(own: socket.socket | None, asked: Sequence[socket.socket]) -> None:
    """Close the sockets at which others are asked: no process may answer in another's place."""
    for listener in asked:
        if listener is not own:
            listener.close()


def _write_log(settings: GatewayConfig, listener: socket.socket, asked: Sequence[socket.socket]) -> None:
    _keep_only(listener, asked)
    from gateway.log_node import LogNode  # noqa: PLC0415

    with operators_log(settings.logging), _runner() as runner:
        runner.run(LogNode(settings, listener).run_until_stopped())


def _stamping(settings: GatewayConfig, told: Callable[[Callable[[], None]], int]) -> list[list[Role]]:
    """Return the stage that has checkpoints stamped, if that is configured."""
    if settings.log.timestamps is None:
        return []
    return [[Role("timestamps", partial(told, partial(_stamp, settings, settings.log.timestamps)))]]


def _stamp(settings: GatewayConfig, timestamps: TimestampsConfig) -> None:
    from gateway.timestamps.node import TimestampNode  # noqa: PLC0415

    with operators_log(settings.logging), _runner() as runner:
        runner.run(TimestampNode(settings, timestamps).run_until_stopped())


def _work(
    settings: GatewayConfig,
    log_address: bytes,
    siblings: Siblings | None,
    instance: Instance,
    asked: Sequence[socket.socket],
    served: SharedMark,
) -> None:
    _keep_only(None if siblings is None else siblings.listener, asked)
    from gateway.node import Node  # noqa: PLC0415

    with operators_log(settings.logging) as losses, _runner() as runner:
        node = Node(settings, losses=losses, log_address=log_address, siblings=siblings, instance=instance)
        runner.run(node.run_until_stopped(served.set))


def _runner() -> asyncio.Runner:
    import uvloop  # noqa: PLC0415

    return asyncio.Runner(loop_factory=uvloop.new_event_loop)
