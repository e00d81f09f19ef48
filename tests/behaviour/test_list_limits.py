"""How often lists may be asked: by the day, and about the same subject; over restarts and workers."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from gateway.demo.world import ARREARS
from gateway.model import EntryKind
from tests.simulators.lists import (
    DEFAULTERS,
    RESTRICTION,
    defaulter,
    describe_lists,
    fill_lists,
    start_with_lists,
    warning,
    with_numbers,
)
from tests.simulators.outcome import reason_of, refused
from tests.simulators.world import SimulatedWorld

EXHAUSTED = "RESOURCE_EXHAUSTED"


@pytest.fixture
async def world(tmp_path):
    world = SimulatedWorld(tmp_path / "world")
    yield world
    await world.stop()


async def test_the_same_is_answered_again_only_after_a_while(world: SimulatedWorld) -> None:
    await start_with_lists(world, again_after_s=3600)
    caller = world.caller("inspectorate")
    code = world.companies[0].uscc
    await caller.ask_lists(warning(caller, code))
    refusal = await refused(caller.ask_lists(warning(caller, code)))
    entry = world.assert_recorded(refusal, EXHAUSTED, "ASKED_RECENTLY")
    assert entry.kind is EntryKind.EXCHANGE_FAILED
    assert (entry.records, entry.pages, entry.bytes) == (0, 0, 0)
    assert not await reason_of(caller.ask_lists(warning(caller, world.companies[1].uscc)))
    world.clock.advance(timedelta(hours=1, seconds=1))
    assert not await reason_of(caller.ask_lists(warning(caller, code)))
    world.log.verify()


async def test_two_that_ask_the_same_at_once_get_one_answer(world: SimulatedWorld) -> None:
    await start_with_lists(world, again_after_s=3600)
    caller = world.caller("inspectorate")
    code = world.companies[0].uscc
    reasons = await asyncio.gather(*(reason_of(caller.ask_lists(warning(caller, code))) for _ in range(4)))
    assert sorted(reasons) == ["", "ASKED_RECENTLY", "ASKED_RECENTLY", "ASKED_RECENTLY"]


async def test_a_question_that_failed_may_be_asked_again_at_once(world: SimulatedWorld) -> None:
    await start_with_lists(world, again_after_s=3600)
    caller = world.caller("inspectorate")
    code = world.companies[0].uscc
    world.registry.says_size = False
    assert await reason_of(caller.ask_lists(warning(caller, code))) == "LIST_UNAVAILABLE"
    world.registry.says_size = True
    assert not await reason_of(caller.ask_lists(warning(caller, code)))


async def test_the_subject_of_an_answer_is_not_found_in_what_the_limit_remembers(world) -> None:
    """Whoever has the database alone cannot try all codes against it: the digest is under a key."""
    await start_with_lists(world, again_after_s=3600)
    caller = world.caller("inspectorate")
    asked = [world.companies[at].uscc for at in range(3)]
    for code in asked:
        await caller.ask_lists(warning(caller, code))
    kept = b"".join(path.read_bytes() for path in world.config.log.database.parent.iterdir())
    assert not any(code.encode() in kept for code in asked)


async def test_a_day_has_so_many_questions_and_a_restart_gives_no_more(world: SimulatedWorld) -> None:
    await start_with_lists(world, questions_a_day=3)
    midnight = world.clock().replace(hour=0, minute=0, second=0) + timedelta(days=1)
    world.clock.advance(midnight - world.clock())
    caller = world.caller("inspectorate")
    for at in range(2):
        await caller.ask_lists(warning(caller, world.companies[at].uscc))
    await world.stop_node()
    await world.start_node(with_numbers(questions_a_day=3))
    caller = world.caller("inspectorate")
    await caller.ask_lists(warning(caller, world.companies[2].uscc))
    asked = len(world.registry.orders)
    refusal = await refused(caller.ask_lists(warning(caller, world.companies[3].uscc)))
    world.assert_recorded(refusal, EXHAUSTED, "BUDGET_EXHAUSTED")
    assert len(world.registry.orders) == asked, "the lists were asked all the same"
    # Another's questions, and those to another list, are counted apart.
    other = world.caller("tradeplatform")
    assert not await reason_of(other.ask_lists(defaulter(other, world.companies[3].uscc)))
    world.clock.advance(timedelta(days=1))
    assert not await reason_of(caller.ask_lists(warning(caller, world.companies[3].uscc)))
    world.log.verify()


async def test_of_many_at_once_no_more_are_answered_than_the_day_has(world: SimulatedWorld) -> None:
    """Two nodes on one log: neither knows what the other has been asked but by the log."""
    await start_with_lists(world, questions_a_day=5)
    callers = [world.caller("inspectorate")]
    await world.start_node(with_numbers(questions_a_day=5))
    callers.append(world.caller("inspectorate"))
    reasons = await asyncio.gather(
        *(
            reason_of(caller.ask_lists(warning(caller, world.companies[at].uscc)))
            for at in range(10)
            for caller in callers
        )
    )
    assert reasons.count("BUDGET_EXHAUSTED") >= 15
    assert reasons.count("") + reasons.count("BUDGET_EXHAUSTED") == 20
    world.log.verify()


async def test_denied_questions_are_not_counted(world: SimulatedWorld) -> None:
    await start_with_lists(world, questions_a_day=1)
    caller = world.caller("tradeplatform")
    for _ in range(3):
        asked = defaulter(caller, world.companies[0].uscc, purpose="tender-check")
        assert await reason_of(caller.ask_lists(asked)) not in {"", "BUDGET_EXHAUSTED"}
    assert not await reason_of(caller.ask_lists(defaulter(caller, world.companies[0].uscc)))


async def test_a_world_with_the_numbers_of_the_product_answers(world: SimulatedWorld) -> None:
    describe_lists(world)
    await world.start()
    fill_lists(world)
    subject = defaulter(world.caller("tradeplatform"), world.companies[-1].uscc).subjects[0]
    answer = await world.client("tradeplatform").ask_lists(DEFAULTERS, subject=subject, **RESTRICTION)
    assert answer.listed
    assert answer.restrictions == ("flights",)


async def test_a_provider_keeps_no_delivery_that_the_log_does_not_name_it_for(world) -> None:
    """Else reconciling would tell of exchanges that the log dropped. The control: a query."""
    folder = world.members["tax"].directory
    config = folder / "provider.toml"
    config.write_text('deliveries = "deliveries.jsonl"\n' + config.read_text())
    await start_with_lists(world)
    kept = folder / "deliveries.jsonl"
    caller = world.caller("inspectorate")
    await caller.ask_lists(warning(caller, world.companies[0].uscc))
    assert kept.read_bytes() == b""
    await world.client().query(
        ARREARS,
        purpose="credit-check",
        legal_basis="credit-reporting-act-14",
        memorandum="tax-harbour-bank",
        filters={"uscc": world.companies[0].uscc},
    )
    assert kept.read_bytes().count(b"\n") == 1
