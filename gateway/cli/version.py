"""`gateway version`."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed

import typer

from gateway import __version__
from gateway.cli.output import output_of

_PARTS = ("grpcio", "gordon-to-regorus", "cryptography", "pynacl")

app = typer.Typer(add_completion=False)


@app.command()
def version(context: typer.Context) -> None:
    """Show the versions of this product, of Python, and of the libraries that decide and sign."""
    parts = {name: _version(name) for name in _PARTS}
    facts = {"sluicegate": __version__, "python": platform.python_version(), **parts}
    output_of(context).facts(facts)


def _version(distribution: str) -> str:
    try:
        return installed(distribution)
    except PackageNotFoundError:
        return "not installed"
