"""List questions: one bit about one subject, of one list or of several together."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway.client import Subject
from tests.simulators.lists import (
    DEFAULTERS,
    LISTS,
    RESTRICTION,
    SET,
    WARNING,
    merged,
    on,
    start_with_lists,
)
from tests.simulators.world import SimulatedWorld

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SimulatedWorld]:
    world = SimulatedWorld(tmp_path_factory.mktemp("world"))
    codes = [company.uscc for company in world.companies]
    entries = merged(
        on(LISTS[:2], codes[1]),
        on(LISTS[2:], codes[2]),
        on(LISTS, codes[3]),
        on([DEFAULTERS], codes[4], "luxury", "flights", "flights"),
    )
    try:
        yield await start_with_lists(world, entries)
        world.log.verify()
    finally:
        await world.stop()


@pytest.mark.parametrize(("at", "listed"), [(0, False), (1, False), (2, True), (3, True)])
async def test_a_company_on_three_of_five_lists_is_told_by_one_bit(world, at: int, listed: bool) -> None:
    client = world.client("inspectorate")
    answer = await client.ask_lists(
        SET, subject=Subject("uscc", world.companies[at].uscc), at_least=3, **WARNING
    )
    assert (answer.listed, bool(answer), answer.restrictions) == (listed, listed, ())
    assert answer.verified is not None


async def test_a_single_list_tells_the_classes_of_restriction_and_nothing_else(world) -> None:
    client = world.client("tradeplatform")
    answer = await client.ask_lists(
        DEFAULTERS, subject=Subject("uscc", world.companies[4].uscc), **RESTRICTION
    )
    assert answer.listed
    assert answer.restrictions == ("flights", "luxury")
    assert b"case" not in answer.line
    answer = await client.ask_lists(
        DEFAULTERS, subject=Subject("uscc", world.companies[0].uscc), **RESTRICTION
    )
    assert not answer.listed
    assert answer.restrictions == ()
