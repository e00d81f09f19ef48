"""Listing the log through the gateway: one's own entries and no others, and every listing recorded."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import pytest

from gateway.api.v1 import audit_service_pb2 as api
from gateway.client import error_class
from gateway.demo.world import COMPANIES
from gateway.errors import Reason
from gateway.model import Entry, EntryKind, Role
from gateway.rpc import audit
from tests.simulators.log_faults import entries_refused
from tests.simulators.outcome import refused
from tests.simulators.world import SimulatedWorld

pytestmark = pytest.mark.asyncio(loop_scope="module")

METHOD = "/gateway.api.v1.AuditService/ListEntries"


async def entry_of(world: SimulatedWorld, member: str) -> int:
    page = await world.client(member).query(COMPANIES, purpose="public-lookup", filters={"kind": "none"})
    assert page.verified is not None
    return page.verified.index


async def listed(client, wanted: str = "", page_size: int = 0) -> dict[int, Entry]:
    return {
        index: msgspec.json.decode(data, type=Entry)
        async for index, data in client.entries(wanted, page_size=page_size)
    }


async def become_auditor(world: SimulatedWorld):
    """Return the client of an auditor that the gateway knows by now."""
    if "court-of-audit" not in world.members:
        world.add_member("court-of-audit", roles=frozenset({Role.AUDITOR}))
    auditor = world.client("court-of-audit")
    deadline = time.monotonic() + 5
    while True:
        try:
            await auditor.checkpoint()
        except error_class(Reason.MEMBER_UNKNOWN):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        else:
            return auditor


async def test_a_member_lists_its_own_entries_and_no_others(world: SimulatedWorld) -> None:
    for member in ("harbour-bank", "northern-bank", "harbour-bank"):
        await entry_of(world, member)
    log = world.log.entries()
    for member in ("harbour-bank", "northern-bank", "registry"):
        own = {index: entry for index, entry in enumerate(log) if member in {entry.consumer, entry.provider}}
        found = await listed(world.client(member), page_size=2)
        assert found == own
        assert list(found) == sorted(own, reverse=True)


@pytest.mark.parametrize(
    "wanted",
    [
        "member = harbour-bank",
        "consumer = harbour-bank",
        "NOT member = northern-bank",
        "member = northern-bank OR member = harbour-bank",
        "kind = gateway.started OR kind = member.*",
        "NOT (member = northern-bank AND member = northern-bank)",
        "kind = audit.read",
        "",
    ],
)
async def test_no_filter_shows_a_member_what_is_not_its_own(
    world: SimulatedWorld, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await entry_of(world, "harbour-bank")
    await entry_of(world, "northern-bank")
    other = world.client("northern-bank")

    def foreign(found: dict[int, Entry]) -> list[int]:
        return [
            index for index, entry in found.items() if "northern-bank" not in {entry.consumer, entry.provider}
        ]

    assert foreign(await listed(other, wanted)) == []
    # The control: without the restriction, the same filter shows them.
    monkeypatch.setattr(audit, "permitted", lambda asked, _member: asked)
    assert foreign(await listed(other, wanted)) != []


async def test_an_auditor_lists_every_entry(world: SimulatedWorld) -> None:
    await entry_of(world, "harbour-bank")
    auditor = await become_auditor(world)
    before = world.log.entries()
    found = await listed(auditor, page_size=3)
    assert list(found.values())[::-1][: len(before)] == before
    denied = await listed(auditor, "kind = exchange.released AND consumer = harbour-bank")
    assert denied
    assert {entry.consumer for entry in denied.values()} == {"harbour-bank"}


async def test_every_listing_stands_in_the_log_before_it_is_answered(world: SimulatedWorld) -> None:
    await entry_of(world, "harbour-bank")
    size = world.log.size()
    found = await listed(
        world.client("harbour-bank"), "member = harbour-bank AND purpose != '440301199001011234'"
    )
    [reading] = world.log.entries(size)
    assert (reading.kind, reading.subject) == (EntryKind.AUDIT_READ, "entries")
    assert reading.detail == {
        "by": "members/harbour-bank",
        "through": "ListEntries",
        "filter": 'member = "harbour-bank" AND purpose != "(unknown)"',
        "entries": str(len(found)),
    }
    assert reading.consumer == "", "a reading is nobody's own entry: to read is not to be read about"


async def test_an_auditor_who_reads_one_entry_is_recorded_and_a_party_is_not(world: SimulatedWorld) -> None:
    index = await entry_of(world, "harbour-bank")
    auditor = await become_auditor(world)
    size = world.log.size()
    await world.client("harbour-bank").entry(index)
    assert world.log.size() == size
    await auditor.entry(index)
    [reading] = world.log.entries(size)
    assert (reading.kind, reading.subject) == (EntryKind.AUDIT_READ, f"entries/{index}")
    assert reading.detail == {"by": "members/court-of-audit", "through": "GetEntry", "entries": "1"}


async def test_a_token_is_bound_to_filter_and_reader(world: SimulatedWorld) -> None:
    for _ in range(3):
        await entry_of(world, "harbour-bank")
    bank, registry = world.caller("harbour-bank"), world.caller("registry")

    async def page(caller, **fields):
        answer = await caller.unary(METHOD, api.ListEntriesRequest(**fields).SerializeToString())
        return api.ListEntriesResponse.FromString(answer)

    token = (await page(bank, page_size=1)).next_page_token
    assert (await page(bank, page_size=1, page_token=token)).entries
    for caller, fields in (
        (bank, {"filter": "kind = exchange.*", "page_token": token}),
        (registry, {"page_token": token}),
        (bank, {"page_token": "nonsense"}),
    ):
        refusal = await refused(
            caller.unary(METHOD, api.ListEntriesRequest(page_size=1, **fields).SerializeToString())
        )
        assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID")


@pytest.mark.parametrize(
    "fields", [{"filter": "colour = red"}, {"filter": "x" * 2001}, {"page_size": -1}, {"filter": "time"}]
)
async def test_a_listing_that_makes_no_sense_is_refused(
    world: SimulatedWorld, fields: dict[str, Any]
) -> None:
    size = world.log.size()
    caller = world.caller()
    body = api.ListEntriesRequest(**fields).SerializeToString()
    refusal = await refused(caller.unary(METHOD, body))
    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "REQUEST_MALFORMED")
    assert world.log.size() == size


async def test_a_page_is_bounded_in_bytes(world: SimulatedWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        await entry_of(world, "harbour-bank")
    client = world.client("harbour-bank")
    whole = await listed(client, page_size=1000)
    monkeypatch.setattr(audit, "MAX_PAGE_BYTES", 1)
    assert await listed(client, page_size=1000) == whole


async def test_nothing_is_shown_while_the_log_cannot_record_it(world: SimulatedWorld) -> None:
    await entry_of(world, "harbour-bank")
    client = world.client("harbour-bank")
    with (
        entries_refused(world.log.database, EntryKind.AUDIT_READ),
        pytest.raises(error_class(Reason.LOG_UNAVAILABLE)),
    ):
        await listed(client)
    assert await listed(client)
