"""What policy lays on the answer to a list question as a whole is done, as for every other answer.

Every duty has its control: without it, the same question is answered as before.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from gateway.client import ClientError, Listed, Subject
from gateway.model import Entry, EntryKind
from tests.simulators.lists import DEFAULTERS, LISTS, RESTRICTION, SET, WARNING, merged, on, start_with_lists
from tests.simulators.world import SimulatedWorld

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SimulatedWorld]:
    world = SimulatedWorld(tmp_path_factory.mktemp("world"))
    codes = [company.uscc for company in world.companies]
    entries = merged(on(LISTS, codes[3]), on([DEFAULTERS], codes[4], "luxury"))
    try:
        yield await start_with_lists(world, entries, again_after_s=0, answer_after_ms=50)
        world.log.verify()
    finally:
        await world.stop()


@pytest.fixture(params=["a set", "a single list"])
def is_set(request: pytest.FixtureRequest) -> bool:
    return request.param == "a set"


@pytest.fixture
def lay(world: SimulatedWorld):
    """Lay duties on every decision from now on; after the test there are none."""

    def lay(**duties: dict[str, Any]) -> None:
        world.node.scripted.duties = duties

    yield lay
    world.node.scripted.duties = None


async def ask(world: SimulatedWorld, is_set: bool, number: int = 3, **options: Any) -> Listed:
    subject = Subject("uscc", world.companies[number].uscc)
    if is_set:
        return await world.client("inspectorate").ask_lists(
            SET, subject=subject, at_least=3, **WARNING, **options
        )
    return await world.client("tradeplatform").ask_lists(
        DEFAULTERS, subject=subject, **RESTRICTION, **options
    )


async def refusal(world: SimulatedWorld, is_set: bool, number: int = 3) -> str:
    with pytest.raises(ClientError) as caught:
        await ask(world, is_set, number)
    return caught.value.reason


def entry_of(answer: Listed) -> Entry:
    assert answer.verified is not None
    return answer.verified.entry


async def test_a_budget_counts_answers_yes_and_no_alike(world: SimulatedWorld, is_set: bool, lay) -> None:
    lay(limit_volume={"records": 2, "per": "day"})
    for number in (3, 5):
        await ask(world, is_set, number)
    assert await refusal(world, is_set, 6) == "BUDGET_EXHAUSTED"
    lay()
    await ask(world, is_set, 6)


async def test_an_answer_that_must_be_acknowledged_says_by_when(
    world: SimulatedWorld, is_set: bool, lay
) -> None:
    lay(acknowledge={"within_hours": 24}, notify_subject={"within_days": 30})
    told = entry_of(await ask(world, is_set, acknowledge=True)).duties
    assert told["acknowledge"]["within_hours"] == 24
    assert "until" in told["acknowledge"]
    assert "until" in told["notify_subject"]
    lay()
    assert entry_of(await ask(world, is_set)).duties == {}


async def test_an_answer_is_about_one_subject_and_no_cohort(world: SimulatedWorld, is_set: bool, lay) -> None:
    lay(smallest_cohort={"records": 2})
    assert await refusal(world, is_set) == "COHORT_TOO_SMALL"
    lay(smallest_cohort={"records": 1})
    await ask(world, is_set)


async def test_a_duty_that_nobody_knows_denies(world: SimulatedWorld, is_set: bool, lay) -> None:
    lay(sing={"songs": 3})
    assert await refusal(world, is_set) == "OBLIGATION_UNSUPPORTED"


async def test_entries_of_a_yes_and_a_no_say_the_same_under_duties(
    world: SimulatedWorld, is_set: bool, lay
) -> None:
    lay(one_bit={}, limit_volume={"records": 1000, "per": "day"})
    yes, no = [entry_of(await ask(world, is_set, number)) for number in (3 if is_set else 4, 7)]
    assert yes.kind is no.kind is EntryKind.EXCHANGE_RELEASED
    for name in ("released", "records", "bytes", "duration_ms", "duties", "obligations", "withheld"):
        assert getattr(yes, name) == getattr(no, name), name
