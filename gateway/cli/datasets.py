"""`gateway datasets`: whether datasets are as new as their holders promised."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Final

import typer

from gateway.audit.stores import open_reader
from gateway.catalogue import Catalogue
from gateway.cli.output import output_of
from gateway.cli.settings import GATEWAY_CONFIG, GatewayConfigOption, load_gateway_config
from gateway.deployment.freshness import lateness
from gateway.deployment.policy import bundle_in_force

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="See whether datasets are as new as their holders promised.",
)

_COLUMNS: Final = ("dataset", "promised_days", "days_late", "measured", "entry")


@app.callback()
def datasets() -> None:
    """See whether datasets are as new as their holders promised."""


@app.command("late")
def late(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="Also those that are in time.")] = False,
    config: GatewayConfigOption = GATEWAY_CONFIG,
) -> None:
    """List the datasets that are later than their holders promised, or were not measured yet.

    Each is measured whenever all of it is released (streamed, no subjects, no filters); the entry of that
    release says so.
    """
    settings = load_gateway_config(config)
    catalogue = Catalogue.read(settings.catalogue, list(bundle_in_force(settings).data["tiers"]))
    with open_reader(settings.log.database) as reader:
        found = lateness(catalogue, reader)
    rows = [asdict(one) for one in found if everything or one.days_late != 0]
    output_of(context).list(rows, _COLUMNS, nothing="Every dataset is as new as promised.")
