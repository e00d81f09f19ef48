"""`gateway acknowledgements`: which releases must still be acknowledged by those who received them."""

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
    help="List the releases that must be acknowledged, and waive what nobody can acknowledge any more.",
)


@app.command("list")
def list_acknowledgements(
    context: typer.Context, overdue: OverdueOption = False, config: GatewayConfigOption = GATEWAY_CONFIG
) -> None:
    """List the releases that their consumers must still acknowledge, the most urgent first."""
    debts = owed(load_gateway_config(config), DebtKind.ACKNOWLEDGEMENT, overdue=overdue)
    output_of(context).list(rows_of(debts), COLUMNS, nothing="Every release that must be is acknowledged.")


@app.command("waive")
def waive(
    context: typer.Context,
    exchange: ExchangeArgument,
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="Why, without naming a person; it stands in the log.")
    ],
    by: ByOption = None,
    config: GatewayConfigOption = GATEWAY_CONFIG,
) -> None:
    """Do without the acknowledgement of a release, such as one that is older than seven days.

    The log says so, and its consumer is served again within a second or two.
    """
    index = settle(load_gateway_config(config), DebtKind.ACKNOWLEDGEMENT, exchange, reason=reason, by=who(by))
    output_of(context).facts(
        {"exchange": exchange, "entry": index}, [f"The acknowledgement is waived; entry {index} says so."]
    )
