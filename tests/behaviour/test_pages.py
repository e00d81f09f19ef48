"""Answers in pages: tokens, sizes, and streams whose entries say exactly what left."""

from __future__ import annotations

import base64
from datetime import timedelta

import msgspec
import pytest

from gateway.demo.world import COMPANIES
from gateway.model import Actor, EntryKind, Operation, Subject
from tests.simulators.outcome import refused
from tests.simulators.world import SimulatedWorld

pytestmark = pytest.mark.asyncio(loop_scope="module")

INVALID = "INVALID_ARGUMENT"


def lookup(caller, **parts):
    return caller.statement(COMPANIES, "public-lookup", **parts)


async def first_token(caller, **parts) -> str:
    answer = await caller.query(lookup(caller, **parts), page_size=10)
    assert answer.next_page_token
    return answer.next_page_token


async def test_pages_join_to_the_whole_answer(world: SimulatedWorld) -> None:
    client = world.client()
    pages = [page async for page in client.pages(COMPANIES, purpose="public-lookup", page_size=25)]
    assert [len(page) for page in pages] == [25, 25, 10]
    assert [record["uscc"] for page in pages for record in page] == [item.uscc for item in world.companies]
    assert len({page.verified.entry.exchange for page in pages}) == 3


async def test_the_actor_may_change_between_pages_and_nothing_else(world: SimulatedWorld) -> None:
    caller = world.caller()
    token = await first_token(caller)
    answer = await caller.query(lookup(caller, actor=Actor("night shift")), page_token=token, page_size=10)
    assert answer.page.record_count == 10
    for change in ({"filters": {"kind": "x"}}, {"fields": ["name"]}, {"subjects": [Subject("name", "x")]}):
        refusal = await refused(caller.query(lookup(caller, **change), page_token=token))
        world.assert_recorded(refusal, INVALID, "PAGE_TOKEN_INVALID")


async def test_a_token_of_another_member_is_refused(world: SimulatedWorld) -> None:
    token = await first_token(world.caller("harbour-bank"))
    other = world.caller("northern-bank")
    refusal = await refused(other.query(lookup(other), page_token=token))
    world.assert_recorded(refusal, INVALID, "PAGE_TOKEN_INVALID")


async def test_a_token_changed_anywhere_is_refused(world: SimulatedWorld) -> None:
    caller = world.caller()
    raw = base64.urlsafe_b64decode(await first_token(caller))
    for position in range(0, len(raw), 7):
        changed = raw[:position] + bytes([raw[position] ^ 1]) + raw[position + 1 :]
        token = base64.urlsafe_b64encode(changed).decode()
        refusal = await refused(caller.query(lookup(caller), page_token=token))
        world.assert_recorded(refusal, INVALID, "PAGE_TOKEN_INVALID")


@pytest.mark.parametrize(
    "token", ["x", "AAAA", "ä" * 20, "A" * 2050, "=" * 40, base64.b64encode(b"\0" * 12).decode()]
)
async def test_a_token_that_is_none_is_refused(world: SimulatedWorld, token: str) -> None:
    caller = world.caller()
    refusal = await refused(caller.query(lookup(caller), page_token=token))
    world.assert_recorded(refusal, INVALID, "PAGE_TOKEN_INVALID")


async def test_a_negative_page_size_is_refused(world: SimulatedWorld) -> None:
    caller = world.caller()
    refusal = await refused(caller.query(lookup(caller), page_size=-1))
    world.assert_recorded(refusal, INVALID, "REQUEST_MALFORMED")


@pytest.mark.parametrize(("asked", "size"), [(0, 100), (1, 1), (1000, 1000), (1001, 1000), (2**31 - 1, 1000)])
async def test_a_page_size_beyond_the_largest_is_taken_as_the_largest(
    world: SimulatedWorld, asked: int, size: int
) -> None:
    caller = world.caller()
    answer = await caller.query(lookup(caller), page_size=asked)
    assert answer.page.record_count == min(size, len(world.companies))


# -- streams ----------------------------------------------------------------------------------------


async def test_a_stream_gives_every_record_and_a_receipt_over_all_pages(world: SimulatedWorld) -> None:
    client = world.client()
    *pages, summary = [item async for item in client.stream(COMPANIES, purpose="public-lookup", page_size=7)]
    assert [page.number for page in pages] == list(range(9))
    assert [record["uscc"] for page in pages for record in page] == [item.uscc for item in world.companies]
    assert (summary.pages, summary.records) == (9, len(world.companies))
    for page in pages:
        summary.verified.verify_page(page.number, page.text, page.seed)
    entries = world.log.of_exchange(summary.verified.entry.exchange)
    assert [entry.kind for entry in entries] == [
        EntryKind.EXCHANGE_REQUESTED,
        *[EntryKind.EXCHANGE_PAGE] * 9,
        EntryKind.EXCHANGE_RELEASED,
    ]
    assert sum(entry.records for entry in entries if entry.kind is EntryKind.EXCHANGE_PAGE) == 60


async def test_a_stream_of_nothing_is_one_empty_page(world: SimulatedWorld) -> None:
    client = world.client()
    *pages, summary = [
        item
        async for item in client.stream(COMPANIES, purpose="public-lookup", filters={"kind": "none such"})
    ]
    assert [len(page) for page in pages] == [0]
    assert (summary.pages, summary.records) == (1, 0)


async def test_each_page_is_committed_before_it_is_handed_out(world: SimulatedWorld) -> None:
    caller = world.caller()
    statement = lookup(caller)
    statement = msgspec.structs.replace(statement, operation=Operation.STREAM)
    async for message in caller.stream(statement, page_size=20):
        if message.HasField("receipt"):
            continue
        [entry] = world.log.entries(message.entry_index)[:1]
        assert (entry.kind, entry.page) == (EntryKind.EXCHANGE_PAGE, message.page_number)


async def test_a_token_is_good_for_fifteen_minutes(world: SimulatedWorld) -> None:
    """The last test of the module: it moves the clock."""
    caller = world.caller()
    token = await first_token(caller)
    world.clock.advance(timedelta(minutes=14))
    await caller.query(lookup(caller), page_token=token)
    world.clock.advance(timedelta(minutes=2))
    refusal = await refused(caller.query(lookup(caller), page_token=token))
    world.assert_recorded(refusal, INVALID, "PAGE_TOKEN_INVALID")
