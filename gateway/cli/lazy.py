"""The root command: knows every command by name, and imports one only when it is called."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command as to_command

from gateway.cli.failures import describe_failure, tell_failure
from gateway.cli.output import Output, output_of
from gateway.pki.tls13 import require_tls13

GLOBAL_OPTIONS: Final = ("--output",)
GLOBAL_FLAGS: Final = ("--no-color",)


@dataclass(frozen=True, slots=True)
class Listed:
    """A command as the help lists it."""

    module: str
    help: str
    panel: str


def root_of(commands: Mapping[str, Listed]) -> type[TyperGroup]:
    """Return the root's class for `commands`, by name in the order of the help."""

    class Root(LazyRoot):
        listed = commands

    return Root


class LazyRoot(TyperGroup):
    """A group whose help is made from the list, so that it costs no import of the commands.

    Global options may stand anywhere on the line. Every error of a command ends here.
    """

    listed: Mapping[str, Listed] = {}

    def list_commands(self, _ctx: Any) -> list[str]:
        """Return the commands' names in the order of the help."""
        return list(self.listed)

    def get_command(self, _ctx: Any, name: str) -> Any:
        """Return what the help shows of a command; None if there is none of this name."""
        found = self.listed.get(name)
        if found is None:
            return None
        return TyperCommand(name, help=found.help, rich_help_panel=found.panel)

    def load(self, name: str) -> Any:
        """Import and return the command itself; what gRPC reads from the environment is set before."""
        require_tls13()
        # It writes about every lost connection and failed handshake; we tell of them ourselves.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        module = importlib.import_module(self.listed[name].module)
        command = to_command(module.app)
        command.name = name
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return (name, command, its arguments); a misspelt name gets a suggestion."""
        self.commands = {name: self.get_command(ctx, name) for name in self.listed}
        name, _, rest = super().resolve_command(ctx, args)
        assert name is not None
        return name, self.load(name), rest

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the global options from wherever they stand before `--`."""
        return super().parse_args(ctx, hoist_global_options(args))

    def invoke(self, ctx: Any) -> Any:
        """Run the command; tell its error once, in one form, with the documented exit code."""
        try:
            return super().invoke(ctx)
        except (typer.TyperException, typer.Exit, typer.Abort, EOFError, BrokenPipeError):
            raise
        except Exception as error:
            failure = describe_failure(error)
            output: Output = output_of(ctx)
            tell_failure(failure, output.error_form, no_colour=output.no_colour)
            raise typer.Exit(failure.code) from error


def hoist_global_options(args: list[str]) -> list[str]:
    """Return `args` with the global options, and their values, first."""
    hoisted: list[str] = []
    rest: list[str] = []
    at = 0
    while at < len(args):
        argument = args[at]
        if argument == "--":
            rest += args[at:]
            break
        if argument in GLOBAL_OPTIONS:
            hoisted += args[at : at + 2]
            at += 1
        elif argument in GLOBAL_FLAGS or argument.startswith(tuple(f"{name}=" for name in GLOBAL_OPTIONS)):
            hoisted.append(argument)
        else:
            rest.append(argument)
        at += 1
    return hoisted + rest
