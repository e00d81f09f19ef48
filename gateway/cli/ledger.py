"""`gateway ledger`: how much of budgets and quotas is used, how give and take stand, and all of it anew."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated, Final

import typer

from gateway.cli.output import output_of
from gateway.cli.settings import GATEWAY_CONFIG, GatewayConfigOption, load_gateway_config
from gateway.clock import rfc3339, system_clock
from gateway.deployment.ledger import rebuild_ledger
from gateway.ledger import Standing, open_ledger

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="See how much of budgets and quotas is used, and how give and take stand under contracts.",
)

_COLUMNS: Final = ("kind", "of", "consumer", "per", "since", "records", "limit", "opens")


@app.callback()
def ledger() -> None:
    """See how much of budgets and quotas is used, and how give and take stand under contracts."""


@app.command("list")
def list_accounts(
    context: typer.Context,
    contract: Annotated[
        str,
        typer.Option("--contract", metavar="CONTRIBUTOR/NAME", help="Only the accounts of this contract."),
    ] = "",
    ended: Annotated[bool, typer.Option("--ended", help="Also those whose day or month is over.")] = False,
    config: GatewayConfigOption = GATEWAY_CONFIG,
) -> None:
    """List the accounts: what stands on each, over all nodes, and what may.

    Kinds: `budget` (records for one purpose, a duty of policy), `quota` (given out under a contract),
    `given` and `received` (by its contributor).
    """
    with closing(open_ledger(load_gateway_config(config).log.database)) as opened:
        standings = opened.standings(contract, None if ended else system_clock())
    output_of(context).list(
        [_row(standing) for standing in standings], _COLUMNS, nothing="Nothing is counted."
    )


@app.command("rebuild")
def rebuild(context: typer.Context, config: GatewayConfigOption = GATEWAY_CONFIG) -> None:
    """Make the ledger anew from the log: all that it says of contracts, over the closed logs too.

    For a ledger that was lost, or that came back from a backup. Gateways may serve meanwhile. Budgets, and
    what is owed after releases, stay as they are.
    """
    settings = load_gateway_config(config)
    output = output_of(context)
    with output.progress("entries") as advance:
        accounts = rebuild_ledger(settings, advance)
    output.facts({"accounts": accounts})
    output.remark("Quotas, and what was given and received, are as the log says.")


def _row(standing: Standing) -> dict[str, object]:
    account, ends = standing.account, standing.account.ends()
    return {
        "kind": account.kind.value,
        "of": account.owner,
        "consumer": account.consumer,
        "per": account.per.value,
        "since": account.first.isoformat() if ends is not None else "",
        "records": standing.records,
        "limit": standing.limit,
        "opens": rfc3339(ends) if ends is not None else "",
    }
