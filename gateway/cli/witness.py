"""`gateway witness`: cosigning the checkpoints of other gateways' logs."""

from __future__ import annotations

import asyncio
import shlex
from pathlib import Path
from typing import Annotated, Final

import typer
import uvloop

from gateway.cli.operators_log import operators_log
from gateway.cli.output import output_of
from gateway.cli.settings import load_config
from gateway.clock import rfc3339
from gateway.config import WitnessConfig
from gateway.witness.deployment import WitnessFolder, add_log, initialise, signers_of
from gateway.witness.node import WitnessNode
from gateway.witness.state import WitnessedLog, WitnessState

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Cosign the checkpoints of other gateways' logs, so that no operator can rewrite one unseen.",
)

WITNESS_CONFIG: Final = Path("witness.toml")
_COLUMNS: Final = ("log", "keys", "size", "cosigned")

ConfigOption = Annotated[
    Path,
    typer.Option(
        "--config",
        metavar="FILE",
        envvar="SLUICEGATE_WITNESS_CONFIG",
        help="The witness's configuration, made by `gateway witness init`.",
    ),
]


@app.command("init")
def init(
    context: typer.Context,
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder that is empty or not there yet.")
    ],
    name: Annotated[
        str, typer.Option(metavar="NAME", help="Its name for ever, such as witness.example.org/w1.")
    ],
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where it listens.")] = "127.0.0.1:7480",
) -> None:
    """Make a witness: keys, an empty state, and its configuration."""
    config = initialise(directory, name=name, listen=listen)
    vkeys = [signer.verifier.vkey() for signer in signers_of(config)]
    path = WitnessFolder(directory).config
    quoted = shlex.quote(str(path))
    steps = [
        f"gateway witness add-log LOG_VKEY --config {quoted}",
        f"gateway witness serve --config {quoted}",
    ]
    output_of(context).facts(
        {"directory": str(directory), "config": str(path), "name": name, "vkeys": vkeys, "next": steps},
        [
            f"Made the witness {name} in {directory}.",
            "Its public keys, for the witness policies of the logs it is to cosign:",
            *(f"  {vkey}" for vkey in vkeys),
            "",
            f"Never restore {WitnessFolder(directory).state} from a copy. Next:",
            *(f"  {step}" for step in steps),
        ],
    )


@app.command("serve")
def serve(config: ConfigOption = WITNESS_CONFIG) -> None:
    """Run the witness until SIGTERM or SIGINT.

    Standard output carries the operators' log, one line an event.
    """
    settings = _load(config)
    with operators_log(settings.logging), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(WitnessNode(settings).run_until_stopped())


@app.command("show")
def show(context: typer.Context, config: ConfigOption = WITNESS_CONFIG) -> None:
    """List the logs it knows, and what it cosigned last of each."""
    with WitnessState(_load(config).state) as state:
        logs = state.logs()
    output_of(context).list(
        [_row(log) for log in logs],
        _COLUMNS,
        nothing="It knows no log; add one with `gateway witness add-log`.",
    )


@app.command("add-log")
def add_log_command(
    context: typer.Context,
    vkey: Annotated[
        str, typer.Argument(metavar="VKEY", help="The log's verifier key, got by a way you trust.")
    ],
    origin: Annotated[
        str | None, typer.Option(metavar="NAME", help="The log's origin, if its key has another name.")
    ] = None,
    config: ConfigOption = WITNESS_CONFIG,
) -> None:
    """Let it cosign a log from now on, also while it runs."""
    known = add_log(_load(config), vkey, origin)
    output_of(context).facts({"log": known, "vkey": vkey}, [f"The witness cosigns {known} from now on."])


def _load(path: Path) -> WitnessConfig:
    return load_config(
        WitnessConfig, path, "name it with --config, or make one with `gateway witness init DIR`"
    )


def _row(log: WitnessedLog) -> dict[str, object]:
    latest = log.latest
    return {
        "log": log.origin,
        "keys": list(log.vkeys),
        "size": latest.head.size if latest.moment else None,
        "root": latest.head.root.hex() if latest.moment else None,
        "cosigned": rfc3339(latest.moment) if latest.moment else None,
    }
