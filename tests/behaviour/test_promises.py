"""Promises of the design that no single fault covers: every attempt counted (P2), never more than
granted (P4), pseudonyms that do not join (P6)."""

from __future__ import annotations

import asyncio
import random

import grpc
import msgspec
import pytest

from gateway.client.statement import QUERY_TYPE
from gateway.demo.world import COMPANIES
from gateway.model import EntryKind, Operation, Subject
from tests.simulators.caller import QUERY
from tests.simulators.provider import Fault
from tests.simulators.world import CLOSING_KINDS, SimulatedWorld

pytestmark = pytest.mark.asyncio(loop_scope="module")

CREDIT = {"purpose": "credit-check", "legal_basis": "credit-reporting-act-14"}


async def test_every_attempt_leaves_exactly_one_closing_entry(world: SimulatedWorld) -> None:
    """P2, with 120 attempts of mixed kinds, many of them at once."""
    rng = random.Random(7)
    callers = [world.caller(member) for member in ("harbour-bank", "northern-bank", "tradeplatform")]
    stranger = world.caller(credentials=world.stranger())

    def good(caller):
        return caller.query(lookup(caller))

    def lookup(caller, purpose="public-lookup", **parts):
        return caller.statement(COMPANIES, purpose, **parts)

    async def streaming(caller):
        return [item async for item in caller.stream(lookup(caller, operation=Operation.STREAM))]

    kinds = [
        good,
        streaming,
        lambda caller: caller.query(lookup(caller, "curiosity")),
        lambda caller: caller.query(lookup(caller, fields=["phone"])),
        lambda caller: caller.query(caller.seal(b"{}")),
        lambda caller: caller.query(caller.seal(lookup(caller), "text/plain")),
        lambda caller: caller.unary(QUERY, b"\xff\xff"),
        lambda caller: caller.query(lookup(caller), timeout_s=None),
        lambda caller: caller.query(lookup(caller), page_size=-5),
        lambda caller: caller.query(lookup(caller), page_token="x"),
        lambda caller: caller.match(
            lookup(caller, operation=Operation.MATCH, subjects=[Subject("name", "x")], match={"name": "x"})
        ),
        lambda _: stranger.query(lookup(stranger)),
    ]
    first = world.log.size()
    attempts = [rng.choice(kinds)(rng.choice(callers)) for _ in range(120)]
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)
    assert all(
        isinstance(outcome, grpc.aio.AioRpcError) or not isinstance(outcome, BaseException)
        for outcome in outcomes
    )
    entries = world.log.entries(first)
    closing = [entry for entry in entries if entry.kind in CLOSING_KINDS]
    assert len(closing) == len(attempts)
    assert len({entry.exchange for entry in closing}) == len(attempts)
    answered = sum(not isinstance(outcome, BaseException) for outcome in outcomes)
    assert [entry.kind for entry in closing].count(EntryKind.EXCHANGE_RELEASED) == answered
    assert 0 < answered < len(attempts)


async def test_the_provider_is_asked_for_no_field_that_is_not_released(world: SimulatedWorld) -> None:
    """P4 begins before the transform: what is not granted does not even reach the gateway."""
    client = world.client()
    page = await client.query(COMPANIES, memorandum="registry-harbour-bank", **CREDIT)
    assert world.registry.orders[-1].fields == page.fields
    assert not {"phone", "representative_name"} & set(page.fields)


async def test_a_provider_that_sends_everything_releases_no_more(world: SimulatedWorld) -> None:
    world.registry.fault = Fault.UNKNOWN_FIELDS
    page = await world.client().query(COMPANIES, purpose="public-lookup", fields=["name"])
    assert {name for record in page for name in record} == {"name"}


async def test_banks_cannot_join_their_pseudonyms_of_a_thousand_subjects(tmp_path) -> None:
    """P6, with a thousand people; a join on anything that both hold of them finds no pair."""
    world = await SimulatedWorld(tmp_path / "world", company_count=1000).start()
    try:
        seen = {
            member: [
                await pseudonyms(world, member, **parts)
                for parts in (CREDIT, CREDIT, {"purpose": "statistics", "legal_basis": "statistics-act-9"})
            ]
            for member in ("harbour-bank", "northern-bank")
        }
        harbour, northern = seen["harbour-bank"], seen["northern-bank"]
        assert len(harbour[0]) == 1000
        # Stable for one recipient and purpose, else nobody could use them.
        assert harbour[0] == harbour[1]
        assert northern[0] == northern[1]
        # Different for the other recipient, and for another purpose.
        for one, other in ((harbour[0], northern[0]), (harbour[0], harbour[2]), (harbour[2], northern[2])):
            assert not set(one.values()) & set(other.values())
        # One subject one pseudonym, and no two subjects the same.
        assert len(set(harbour[0].values())) == len({item.representative_id for item in world.companies})
        real = {item.representative_id for item in world.companies}
        assert not any(real & set(found.values()) for found in (*harbour, *northern))
    finally:
        await world.stop()


async def pseudonyms(world: SimulatedWorld, member: str, **parts: str) -> dict[str, str]:
    """Return the pseudonym of each company's representative, by the company's public code."""
    client = world.client(member)
    found: dict[str, str] = {}
    async for page in client.pages(COMPANIES, memorandum=f"registry-{member}", page_size=1000, **parts):
        found |= {record["uscc"]: record["representative_id"] for record in page}
    return found


async def test_an_unsigned_statement_is_no_way_around_its_type(world: SimulatedWorld) -> None:
    caller = world.caller()
    caller.signing_key = None
    envelope = caller.seal(caller.statement(COMPANIES, "public-lookup"), QUERY_TYPE)
    assert (await caller.query(envelope)).page.record_count == len(world.companies)
    with pytest.raises(grpc.aio.AioRpcError):
        await caller.query(msgspec.structs.replace(envelope, payload_type="application/json"))
