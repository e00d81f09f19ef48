"""`gateway vault`: what contributors have handed over, its keys, and what is due to go."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from gateway.cli.output import counted, output_of
from gateway.cli.settings import GATEWAY_CONFIG, GatewayConfigOption, load_gateway_config
from gateway.deployment.contracts import KeptContracts
from gateway.deployment.vault import (
    HoldingStatus,
    look_after,
    prepare_rotation,
    rotate_data_keys,
    rotate_vault_key,
    vault_config_of,
    vault_status,
    what_is_due,
)

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="See what contributors have put into the vault, rotate its keys, and purge what is due.",
)

_COLUMNS: Final = ("contract", "dataset", "state", "version", "records", "staged", "keys", "entry")


@app.command("status")
def status(context: typer.Context, config: GatewayConfigOption = GATEWAY_CONFIG) -> None:
    """List the datasets in the vault, by contract, and whose keys were destroyed.

    `entry` is the log's entry that says so; `gateway audit prove` shows to anybody that it stands there. A
    state `destroyed, not in the log` means that somebody destroyed keys behind the log's back.
    """
    found = vault_status(load_gateway_config(config))
    output = output_of(context)
    if found.rotating:
        output.remark("A next key-encryption key is prepared; `gateway vault rotate` puts it in its place.")
    output.list([_row(one) for one in found.holdings], _COLUMNS, nothing="Nothing was contributed yet.")


@app.command("rotate")
def rotate(
    context: typer.Context,
    prepare: Annotated[
        bool,
        typer.Option("--prepare", help="Only make the next key-encryption key, to be copied to other nodes."),
    ] = False,
    data_keys: Annotated[
        bool,
        typer.Option("--data-keys", help="Give each dataset a fresh data key, for what is contributed next."),
    ] = False,
    config: GatewayConfigOption = GATEWAY_CONFIG,
) -> None:
    """Wrap all data keys under a fresh key-encryption key; the old one is kept until that is done.

    It may be cut short and repeated, while gateways run. Nodes that share a vault need the next key first:
    see --prepare.
    """
    settings = load_gateway_config(config)
    output = output_of(context)
    if data_keys:
        count, entry = rotate_data_keys(settings)
        output.facts(
            {"data_keys": count, "entry": entry},
            [f"Made {counted(count, 'data key')}, for what is contributed next; entry {entry} says so."],
        )
        return
    kek = vault_config_of(settings).kek
    if prepare:
        made = prepare_rotation(settings)
        output.facts(
            {"key": made, "file": f"{kek}.next"},
            [
                f"The next key-encryption key is in {kek}.next; nothing uses it yet.",
                "Copy it to every node (mode 0600), then run `gateway vault rotate` on each.",
            ],
        )
        return
    key, wrapped, entry = rotate_vault_key(settings)
    output.facts(
        {"key": key, "wrapped": wrapped, "entry": entry},
        [
            f"Wrapped {counted(wrapped, 'data key')} anew; entry {entry} says so.",
            f"{kek} holds the new key-encryption key. Keep a copy of it where nobody else can read it.",
        ],
    )


@app.command("purge")
def purge(
    context: typer.Context,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what is due; nothing is removed.")
    ] = False,
    config: GatewayConfigOption = GATEWAY_CONFIG,
) -> None:
    """Remove now what a running gateway removes once a day.

    That is records past the retention of their dataset, the keys of contracts that ended and whose own
    retention is over, and uploads that nobody ended. Each removal stands in the log first.
    """
    settings = load_gateway_config(config)
    output = output_of(context)
    if dry_run:
        purges, ended = what_is_due(settings, KeptContracts(settings))
        rows: list[dict[str, Any]] = [
            *(
                {"due": "records", "contract": one.holding.contract, "dataset": one.holding.dataset}
                | {"records": one.records}
                for one in purges
            ),
            *({"due": "keys", "contract": one.name} for one in ended),
        ]
        output.list(rows, ("due", "contract", "dataset", "records"), nothing="Nothing is due.")
        return
    kept = look_after(settings, KeptContracts(settings))
    records = sum(one.records for one in kept.purged)
    output.facts(
        {
            "records": records,
            "entries": [one.entry for one in kept.purged],
            "destroyed": [f"{one.contract} {one.dataset}" for one in kept.destroyed],
            "uploads": kept.leftovers,
        },
        [
            f"Purged {counted(records, 'record')} of {counted(len(kept.purged), 'dataset')}.",
            f"Destroyed the keys of {counted(len(kept.destroyed), 'dataset')}.",
            f"Removed {counted(kept.leftovers, 'upload')} that nobody ended.",
        ],
    )


def _row(one: HoldingStatus) -> dict[str, Any]:
    holding = one.holding
    state = "held"
    if holding.destroyed is not None:
        state = "destroyed" if one.borne_out else "destroyed, not in the log"
    return {
        "contract": holding.contract,
        "dataset": holding.dataset,
        "state": state,
        "version": holding.version,
        "records": holding.alive,
        "staged": one.staged,
        "keys": one.keys,
        "entry": holding.destroyed,
        "time": holding.time,
    }
