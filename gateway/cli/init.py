"""`gateway init`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Final

import typer

from gateway.cli.output import output_of
from gateway.deployment import initialise

app = typer.Typer(add_completion=False)

_EXAMPLE_MEMBER: Final = (
    "gateway member add registry --title 'Company Registry' --class agency --role provider "
    "--endpoint registry.example.org:7500 --out registry"
)


@app.command()
def init(
    context: typer.Context,
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder that is empty or not there yet.")
    ],
    origin: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="The audit log's name for ever, such as audit.example.org/log/2026."
        ),
    ],
    host: Annotated[
        list[str] | None,
        typer.Option(
            help="A host name by which clients reach the gateway; may be repeated.  [default: localhost]"
        ),
    ] = None,
    address: Annotated[
        list[str] | None,
        typer.Option(help="An IP address by which clients reach it; may be repeated.  [default: 127.0.0.1]"),
    ] = None,
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where it listens.")] = "127.0.0.1:7443",
    metrics_port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="PORT", help="Port of the Prometheus endpoint.")
    ] = 9464,
    reflection: Annotated[
        bool, typer.Option("--reflection", help="Let tools such as grpcurl ask for the API's description.")
    ] = False,
) -> None:
    """Make a deployment: certificate authority, keys, policy, catalogue, member store and audit log.

    Nothing listens and nobody is a member yet; the next steps are printed.
    """
    deployment = initialise(
        directory,
        origin=origin,
        hosts=host or ["localhost"],
        addresses=address or ["127.0.0.1"],
        listen=listen,
        metrics_port=metrics_port,
        reflection=reflection,
    )
    config = deployment.config
    quoted = shlex.quote(str(config))
    steps = [
        f"gateway config check --config {quoted}",
        f"{_EXAMPLE_MEMBER} --config {quoted}",
        f"gateway serve --config {quoted}",
    ]
    made = {
        "settings": str(config),
        "public keys, for everybody who verifies": str(deployment.trust),
        "secrets, mode 0600": str(directory / "keys"),
        "certificates": str(directory / "tls"),
        "policy": str(directory / "policies"),
        "dataset descriptions": str(directory / "catalogue"),
        "audit log and members": str(directory / "data"),
    }
    width = max(map(len, made.values()))
    output_of(context).facts(
        {
            "directory": str(directory),
            "config": str(config),
            "trust": str(deployment.trust),
            "origin": origin,
            "next": steps,
        },
        [
            f"Made a deployment whose audit log is {origin}:",
            *(f"  {path:<{width}}  {what}" for what, path in made.items()),
            "",
            "Keep a copy of keys/ where nobody else can read it. Next:",
            *(f"  {step}" for step in steps),
        ],
    )
