"""`gateway policy`: building, signing and activating policies."""

from __future__ import annotations

import typer

from gateway.cli import policy_activation

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Build a policy into one file, have two people sign it, and put it into force.",
)

policy_activation.register(app)
