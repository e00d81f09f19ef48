"""A provider and a consumer of a running gateway compare what they hold with its log."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.audit.holdings import Holdings, Side, decode_deliveries, holding_of_receipt, of_period
from gateway.audit.log_holdings import read_holdings
from gateway.audit.reconciliation import Kind, differ, examine, reconcile
from gateway.audit.sqlite_reader import SqliteReader
from gateway.client import StreamSummary
from gateway.demo.world import ARREARS, COMPANIES
from gateway.errors import Reason
from gateway.model import EntryKind, Subject
from tests.simulators.log_faults import entries_refused
from tests.simulators.outcome import reason_of
from tests.simulators.world import SimulatedWorld

pytestmark = pytest.mark.asyncio(loop_scope="module")

ARREARS_OF = {
    "purpose": "credit-check",
    "legal_basis": "credit-reporting-act-14",
    "memorandum": "tax-harbour-bank",
}


def logged(world: SimulatedWorld, member: str) -> Holdings:
    with SqliteReader(world.config.log.database) as reader:
        return read_holdings(reader, member, world.trust.origin)


async def test_a_consumer_that_keeps_its_receipts_agrees_with_the_log(world: SimulatedWorld) -> None:
    member = "northern-bank"
    client = world.client(member)
    proofs = [
        (await client.query(COMPANIES, purpose="public-lookup", filters={"kind": "none"})).verified
        for _ in range(3)
    ]
    summary = [item async for item in client.stream(COMPANIES, purpose="public-lookup", page_size=25)][-1]
    assert isinstance(summary, StreamSummary)
    items = [holding_of_receipt(proof) for proof in (*proofs, summary.verified)]
    first = items[0].sequence
    assert [item.sequence for item in items] == [first, first + 1, first + 2, first + 3]
    theirs = logged(world, member)
    theirs = Holdings(theirs.side, member, of_period(theirs.items, items[0].time, None), theirs.origin)
    held = Holdings(Side.CONSUMER, member, tuple(items), world.trust.origin)
    assert not differ(reconcile(held, theirs, first_number=first))
    less = _without_first(held)
    assert [found.sequence for found in examine(less, first_number=first)] == [first]
    missing = [item for item in reconcile(less, theirs, first_number=first) if item.kind is Kind.MISSING]
    assert [found.exchange for found in missing] == [items[0].exchange]


async def test_an_exchange_that_failed_takes_no_number(world: SimulatedWorld) -> None:
    client = world.client("northern-bank")
    before = await client.query(COMPANIES, purpose="public-lookup", filters={"kind": "none"})
    with entries_refused(world.config.log.database, EntryKind.EXCHANGE_RELEASED):
        caller = world.caller("northern-bank")
        reason = await reason_of(caller.query(caller.statement(COMPANIES, "public-lookup")))
    assert reason == Reason.LOG_UNAVAILABLE
    await world.works()
    after = await client.query(COMPANIES, purpose="public-lookup", filters={"kind": "none"})
    assert after.verified.entry.sequence == before.verified.entry.sequence + 1


async def test_a_providers_deliveries_agree_with_the_log(tmp_path: Path) -> None:
    """Control: a delivery that is not in its file is named, and so is one that is not in the log."""
    world = SimulatedWorld(tmp_path / "world")
    settings = world.members["tax"].directory / "provider.toml"
    settings.write_text('deliveries = "deliveries.jsonl"\n' + settings.read_text())
    await world.start()
    try:
        for company in world.companies[:4]:
            await world.client().query(ARREARS, **ARREARS_OF, subjects=[Subject("uscc", company.uscc)])
        text = (settings.parent / "deliveries.jsonl").read_bytes()
        assert world.companies[0].uscc.encode() not in text
        held = decode_deliveries(text.splitlines(), "tax", world.trust)
        theirs = logged(world, "tax")
        assert len(held.items) == 4
        assert reconcile(held, theirs) == []
        for ours, other, kind in (
            (_without_first(held), theirs, Kind.MISSING),
            (held, _without_first(theirs), Kind.EXTRA),
        ):
            assert kind in {found.kind for found in reconcile(ours, other)}
    finally:
        await world.stop()


def _without_first(holdings: Holdings) -> Holdings:
    return Holdings(holdings.side, holdings.member, holdings.items[1:], holdings.origin)
