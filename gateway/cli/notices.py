"""`gateway notices`: whose subjects must still be told that something was released about them."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.debts import COLUMNS, ByOption, ExchangeArgument, OverdueOption, rows_of, who
from gateway.cli.output import output_of
from gateway.cli.settings import GATEWAY_CONFIG, GatewayConfigOption, load_gateway_config
from gateway.deployment.debts import owed, settle
from gateway.ledger import DebtKind

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="List the releases whose subjects must be told, and record that they were.",
)


@app.command("list")
def list_notices(
    context: typer.Context, overdue: OverdueOption = False, config: GatewayConfigOption = GATEWAY_CONFIG
) -> None:
    """List the releases whose subjects are still to be told, the most urgent first.

    Whom a release was about is shown by `gateway audit open`, with two custodians; `subject` is the
    commitment to it.
    """
    debts = owed(load_gateway_config(config), DebtKind.NOTICE, overdue=overdue)
    output_of(context).list(rows_of(debts), COLUMNS, nothing="Nobody is still to be told.")


@app.command("done")
def done(
    context: typer.Context,
    exchange: ExchangeArgument,
    how: Annotated[
        str, typer.Option(metavar="TEXT", help="How they were told, naming nobody; it stands in the log.")
    ],
    by: ByOption = None,
    config: GatewayConfigOption = GATEWAY_CONFIG,
) -> None:
    """Record in the log that the subjects of a release were told."""
    index = settle(load_gateway_config(config), DebtKind.NOTICE, exchange, reason=how, by=who(by))
    output_of(context).facts(
        {"exchange": exchange, "entry": index}, [f"The subjects were told; entry {index} says so."]
    )
