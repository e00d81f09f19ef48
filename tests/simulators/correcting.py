"""What tests of corrections have in common: a registry that announces, members that ask and are told."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

from gateway.api.v1 import correction_service_pb2 as api
from gateway.client import AsyncClient
from gateway.client.corrections import ReceivedNotice
from gateway.corrections.database import corrections_file
from gateway.demo.world import COMPANIES
from gateway.evidence.canonical import encode_canonical
from gateway.evidence.correction import (
    CorrectionKind,
    CorrectionReason,
)
from gateway.model import EntryKind
from tests.simulators.world import SimulatedWorld

ANNOUNCE = "/gateway.api.v1.CorrectionService/AnnounceCorrection"
ACKNOWLEDGE = "/gateway.api.v1.CorrectionService/AcknowledgeCorrection"
CREDIT = {"purpose": "credit-check", "legal_basis": "credit-reporting-act-14"}
WITHDRAWN = CorrectionKind.WITHDRAWN, CorrectionReason.COURT_ORDER


def describe(world: SimulatedWorld, fields: str = "uscc,representative_id") -> None:
    """Have the registry's companies ask for corrections."""
    path = world.config.catalogue / "registry-companies.yaml"
    text = path.read_text()
    asked = f'  - {{property: corrections, value: "{fields}"}}\n'
    path.write_text(text.replace("  - {property: tier", f"{asked}  - {{property: tier", 1))


@asynccontextmanager
async def correcting_world(directory: Path) -> AsyncIterator[SimulatedWorld]:
    """Yield a world whose registry asks for corrections; in the end nothing in its log names a company."""
    world = SimulatedWorld(directory)
    describe(world)
    await world.start()
    try:
        yield world
        world.log.verify()
        told = "\n".join(encode_canonical(entry).decode() for entry in world.log.entries())
        told += world.output.getvalue() + world.metrics_text()
        for company in world.companies:
            assert company.uscc not in told
            assert company.representative_id not in told
    finally:
        await world.stop()


async def ask(world: SimulatedWorld, member: str, number: int, **parts: str) -> Any:
    """Ask for one company: publicly, or for credit, where the representative comes as a pseudonym."""
    if parts:
        parts["memorandum"] = f"registry-{member}"
    return await world.client(member).query(
        COMPANIES,
        **{"purpose": "public-lookup", **parts},
        filters={"uscc": world.companies[number].uscc},
    )


def key(world: SimulatedWorld, number: int) -> dict[str, str]:
    company = world.companies[number]
    return {"uscc": company.uscc, "representative_id": company.representative_id}


async def announce(world: SimulatedWorld, *numbers: int) -> api.Correction:
    records = [key(world, number) for number in numbers]
    return await world.client("registry").corrections.announce(COMPANIES, *WITHDRAWN, records)


async def waiting(client: AsyncClient, after: int = 0) -> list[ReceivedNotice]:
    return [item async for item in client.corrections.waiting(after)]


def recipients(correction: api.Correction) -> list[str]:
    return [item.member for item in correction.recipients]


def kinds(world: SimulatedWorld, correction: api.Correction) -> list[EntryKind]:
    return [entry.kind for entry in world.log.entries() if entry.subject == correction.name]


def stored(world: SimulatedWorld, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(corrections_file(world.config.log.database))) as database:
        return database.execute(query).fetchall()


def change(world: SimulatedWorld, statement: str) -> None:
    path = corrections_file(world.config.log.database)
    with closing(sqlite3.connect(path, timeout=5)) as database, database:
        database.execute(statement)


@contextmanager
def unwritable(world: SimulatedWorld) -> Iterator[None]:
    """Make the register refuse every row while the block runs."""
    change(world, "CREATE TRIGGER refused BEFORE INSERT ON recipient BEGIN SELECT RAISE(ABORT, 'no'); END")
    try:
        yield
    finally:
        change(world, "DROP TRIGGER refused")
