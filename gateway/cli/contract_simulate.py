"""`gateway contract simulate`: who could see what under a draft, before anybody signs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from gateway.cli.contract_draft import load_terms
from gateway.cli.output import counted, output_of
from gateway.cli.settings import GATEWAY_CONFIG, GatewayConfigOption, load_gateway_config
from gateway.clock import system_clock
from gateway.deployment.policy import bundle_in_force
from gateway.exchange.simulation import Cell, simulate
from gateway.identifiers import load_area_table
from gateway.members import open_member_store
from gateway.model import Member, Terms
from gateway.policy import EmbeddedEngine
from gateway.policy.bundle import Bundle

_COLUMNS: Final = ("member", "dataset", "purpose", "under", "sees", "not_seen")
_ALL_COLUMNS: Final = (*_COLUMNS, "reasons")


def simulate_contract(
    context: typer.Context,
    draft: Annotated[
        Path, typer.Argument(metavar="DRAFT", help="The terms of the contract, as YAML or JSON.")
    ],
    all_cells: Annotated[
        bool, typer.Option("--all", help="Show who would see nothing as well, and why.")
    ] = False,
    config: GatewayConfigOption = GATEWAY_CONFIG,
) -> None:
    """Show who could see what under a draft: what becomes of each field, by member, dataset and purpose.

    Policy itself is asked, as if the draft were in force. Nothing is sent, signed or recorded.
    """
    terms = load_terms(draft)
    settings = load_gateway_config(config)
    bundle = bundle_in_force(settings)
    load_area_table()
    with closing(open_member_store(settings.members.database)) as store:
        _, members = store.members()
    cells = asyncio.run(_ask(terms, members, bundle))
    output = output_of(context)
    rows = [_row(cell) for cell in cells if cell.allowed or all_cells]
    nothing = "Nobody would see anything under this draft; --all says why."
    output.list(rows, _ALL_COLUMNS if all_cells else _COLUMNS, nothing=nothing)
    seeing = {cell.member for cell in cells if cell.allowed}
    output.remark(
        f"{counted(len(seeing), 'member')} of {len({cell.member for cell in cells})} would see something."
    )


async def _ask(terms: Terms, members: Sequence[Member], bundle: Bundle) -> list[Cell]:
    engine = EmbeddedEngine(bundle)
    await engine.start()
    try:
        return await simulate(terms, members, engine, system_clock())
    finally:
        await engine.close()


def _row(cell: Cell) -> dict[str, Any]:
    seen = {name: told for name, told in cell.treatments.items() if told != "drop"}
    under = [name for name in (cell.legal_basis, cell.memorandum) if name]
    return {
        "member": cell.member,
        "dataset": cell.dataset,
        "purpose": cell.purpose,
        "allowed": cell.allowed,
        "under": ", ".join(under),
        "tier": cell.tier,
        "sees": [name if told == "release" else f"{name} ({told})" for name, told in seen.items()],
        "not_seen": sorted(cell.treatments.keys() - seen.keys()),
        "treatments": dict(cell.treatments),
        "reasons": list(cell.reasons),
        "valid_until": cell.valid_until,
    }
