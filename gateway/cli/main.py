"""The entry point `gateway` and the list of its commands."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Final

import typer

from gateway.cli.lazy import Listed, root_of
from gateway.cli.output import Format, Output

_SET_UP: Final = "Set up and run"
_ASK: Final = "Ask for records"
_GIVE: Final = "Give records"
_PROVE: Final = "Look back and verify"
_MORE: Final = "More"

COMMANDS: Final = {
    "init": Listed("gateway.cli.init", "Make a deployment: keys, certificates, policy, audit log.", _SET_UP),
    "config": Listed("gateway.cli.config", "Check and show a deployment's configuration.", _SET_UP),
    "serve": Listed("gateway.cli.serve", "Run the gateway.", _SET_UP),
    "provider": Listed("gateway.cli.provider", "Run a provider in front of a holder's own data.", _SET_UP),
    "policy": Listed(
        "gateway.cli.policy", "Check, explain and compare policies; sign, activate, roll back.", _SET_UP
    ),
    "member": Listed("gateway.cli.member", "Add, suspend, resume, change and list members.", _SET_UP),
    "database": Listed(
        "gateway.cli.database", "Set up the PostgreSQL that several nodes share, and move there.", _SET_UP
    ),
    "keys": Listed("gateway.cli.keys", "Show, rotate, generate, register and revoke keys.", _SET_UP),
    "vault": Listed("gateway.cli.vault", "See and look after the vault of contributed records.", _SET_UP),
    "catalog": Listed("gateway.cli.catalog", "See which datasets there are, and what you would get.", _ASK),
    "query": Listed("gateway.cli.query", "Ask for records, or whether a record matches.", _ASK),
    "list-check": Listed(
        "gateway.cli.list_check", "Ask whether somebody is on a list, or on enough of several.", _ASK
    ),
    "usage": Listed(
        "gateway.cli.usage", "See the use of your own records; verify statements of it; notices.", _PROVE
    ),
    "corrections": Listed(
        "gateway.cli.corrections", "Announce corrected records, hear of them, answer, see what is open.", _ASK
    ),
    "contract": Listed(
        "gateway.cli.contract", "Draft, simulate, propose, sign, compare, suspend and end contracts.", _ASK
    ),
    "contribute": Listed(
        "gateway.cli.contribute", "Give the records of a file under a contract, or take some back.", _GIVE
    ),
    "receipt": Listed("gateway.cli.receipt", "Verify a receipt, with no network and no gateway.", _PROVE),
    "audit": Listed("gateway.cli.audit", "Search, show, prove and examine the entries of the log.", _PROVE),
    "witness": Listed("gateway.cli.witness", "Cosign the checkpoints of other gateways' logs.", _PROVE),
    "custodian": Listed(
        "gateway.cli.custodian", "Make a custodian's keys, approve the opening of details.", _PROVE
    ),
    "timestamps": Listed(
        "gateway.cli.timestamps", "List, verify and export time-stamps of the log's checkpoints.", _PROVE
    ),
    "notices": Listed(
        "gateway.cli.notices", "List whose subjects must be told of a release; record that they were.", _PROVE
    ),
    "acknowledgements": Listed(
        "gateway.cli.acknowledgements", "List the releases that must still be acknowledged.", _PROVE
    ),
    "datasets": Listed("gateway.cli.datasets", "See whether datasets are as new as promised.", _PROVE),
    "ledger": Listed(
        "gateway.cli.ledger",
        "See how much of budgets and quotas is used, and how give and take stand.",
        _PROVE,
    ),
    "doctor": Listed("gateway.cli.doctor", "Look for changes made behind the gateway's back.", _PROVE),
    "demo": Listed("gateway.cli.demo", "Run the whole story in a temporary deployment.", _MORE),
    "version": Listed("gateway.cli.version", "Show the versions of this product and its parts.", _MORE),
}

app = typer.Typer(
    name="gateway",
    cls=root_of(COMMANDS),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with [bold]gateway demo[/], or with [bold]gateway init DIR --origin NAME[/].\n\n"
    "Exit codes: 0 done, 1 the answer is no, 2 usage or configuration, 3 does not verify, "
    "4 not reached, 5 internal fault.",
)


@app.callback()
def gateway(
    context: typer.Context,
    output: Annotated[
        Format | None,
        typer.Option(help="How to print results; by default a table on a terminal, JSON Lines on a pipe."),
    ] = None,
    no_color: Annotated[bool, typer.Option("--no-color", help="Print without colours.")] = False,
) -> None:
    """Share records across an organisational border: policy decides, a log remembers, anyone can verify.

    The options below may stand anywhere on the line.
    """
    context.obj = Output(output, no_colour=no_color)


def run() -> None:
    """Run the command line; never returns."""
    if "--no-color" in sys.argv:
        # The help and usage errors are printed before any option is parsed.
        os.environ["NO_COLOR"] = "1"
    app(prog_name="gateway")
