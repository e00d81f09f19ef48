from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from gateway.clock import FixedClock
from gateway.errors import Reason
from gateway.policy import Bundle, CachedEngine, EmbeddedEngine, PolicyError, PolicyInput
from gateway.policy.cache import MAX_DENIAL_AGE_S

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


class GatedEngine:
    """The embedded engine behind a gate that a test may shut, counting, and failing on demand."""

    def __init__(self, engine: EmbeddedEngine) -> None:
        self._engine = engine
        self.bundle: Bundle = engine.bundle
        self.name = engine.name
        self.asked = 0
        self.failing = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.closed = False

    async def start(self) -> None: ...

    async def decide(self, policy_input: PolicyInput):
        self.asked += 1
        await self.gate.wait()
        if self.failing:
            raise PolicyError("It failed.", reason=Reason.POLICY_TIMEOUT)
        return await self._engine.decide(policy_input)

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(NOON)


@pytest.fixture
def gated(embedded) -> GatedEngine:
    return GatedEngine(embedded)


@pytest.fixture
def cached(gated, clock) -> CachedEngine:
    return CachedEngine(gated, clock, max_entries=3, max_age_s=60)


def at_minute(policy_input: PolicyInput, minute: int) -> PolicyInput:
    return msgspec.structs.replace(policy_input, time=f"2026-11-21T12:{minute:02}:00Z")


async def test_the_same_question_is_evaluated_once(cached, gated, allowed_input):
    first = await cached.decide(allowed_input)
    second = await cached.decide(msgspec.convert(msgspec.to_builtins(allowed_input), PolicyInput))
    assert first is second
    assert (gated.asked, cached.hits, cached.misses) == (1, 1, 1)


async def test_another_question_is_evaluated_anew(cached, gated, allowed_input):
    await cached.decide(allowed_input)
    await cached.decide(msgspec.structs.replace(allowed_input, signed=False))
    assert gated.asked == 2


async def test_a_decision_is_kept_for_max_age_and_no_longer(cached, gated, clock, allowed_input):
    await cached.decide(allowed_input)
    clock.advance(timedelta(seconds=59.9))
    await cached.decide(allowed_input)
    assert gated.asked == 1
    clock.advance(timedelta(seconds=0.1))
    await cached.decide(allowed_input)
    assert gated.asked == 2


async def test_a_clock_set_back_does_not_lengthen_a_life(cached, gated, clock, allowed_input):
    await cached.decide(allowed_input)
    clock.advance(timedelta(seconds=-1))
    await cached.decide(allowed_input)
    assert gated.asked == 2


async def test_a_decision_is_not_kept_beyond_its_valid_until(cached, gated, clock, allowed_input):
    clock.now = datetime(2036, 12, 31, 23, 59, 30, tzinfo=UTC)
    late = msgspec.structs.replace(allowed_input, time="2036-12-31T23:59:00Z")
    decision = await cached.decide(late)
    assert decision.valid_until == "2037-01-01T00:00:00Z"
    clock.advance(timedelta(seconds=29))
    await cached.decide(late)
    assert gated.asked == 1
    clock.advance(timedelta(seconds=1))
    await cached.decide(late)
    assert gated.asked == 2


async def test_a_denial_is_kept_for_seconds_only(cached, gated, clock, denied_input):
    assert not (await cached.decide(denied_input)).allow
    clock.advance(timedelta(seconds=MAX_DENIAL_AGE_S - 0.1))
    await cached.decide(denied_input)
    assert gated.asked == 1
    clock.advance(timedelta(seconds=0.1))
    await cached.decide(denied_input)
    assert gated.asked == 2


async def test_a_decision_at_a_tier_that_is_not_cacheable_is_never_kept(cached, gated, restricted_input):
    assert (await cached.decide(restricted_input)).tier == "restricted"
    await cached.decide(restricted_input)
    assert (gated.asked, cached.hits) == (2, 0)


async def test_an_error_is_never_kept(cached, gated, allowed_input):
    gated.failing = True
    for _ in range(2):
        with pytest.raises(PolicyError) as caught:
            await cached.decide(allowed_input)
        assert caught.value.reason is Reason.POLICY_TIMEOUT
    assert gated.asked == 2
    gated.failing = False
    assert (await cached.decide(allowed_input)).allow


async def test_the_one_unused_for_longest_goes_first(cached, gated, allowed_input):
    inputs = [at_minute(allowed_input, minute) for minute in range(4)]
    for policy_input in inputs[:3]:
        await cached.decide(policy_input)
    await cached.decide(inputs[0])
    await cached.decide(inputs[3])
    asked = gated.asked
    await cached.decide(inputs[0])
    assert gated.asked == asked
    await cached.decide(inputs[1])
    assert gated.asked == asked + 1


async def test_those_who_ask_together_share_one_evaluation(cached, gated, allowed_input):
    gated.gate.clear()
    callers = [asyncio.create_task(cached.decide(allowed_input)) for _ in range(50)]
    await asyncio.wait(callers, timeout=0.01)
    gated.gate.set()
    decisions = await asyncio.gather(*callers)
    assert gated.asked == 1
    assert all(decision is decisions[0] for decision in decisions)


async def test_those_who_ask_together_share_one_error(cached, gated, allowed_input):
    gated.failing = True
    outcomes = await asyncio.gather(*(cached.decide(allowed_input) for _ in range(5)), return_exceptions=True)
    assert gated.asked == 1
    assert all(isinstance(outcome, PolicyError) for outcome in outcomes)


async def test_one_who_gives_up_does_not_take_the_decision_from_the_others(cached, gated, allowed_input):
    gated.gate.clear()
    leader, follower = (asyncio.create_task(cached.decide(allowed_input)) for _ in range(2))
    await asyncio.wait([leader, follower], timeout=0.01)
    leader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leader
    gated.gate.set()
    assert (await follower).allow
    assert gated.asked == 1


async def test_closing_gives_up_what_is_under_way_and_closes_the_engine(cached, gated, allowed_input):
    gated.gate.clear()
    caller = asyncio.create_task(cached.decide(allowed_input))
    await asyncio.wait([caller], timeout=0.01)
    await cached.close()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert gated.closed


async def test_a_hit_is_much_cheaper_than_an_evaluation(cached, embedded, allowed_input):
    await cached.decide(allowed_input)

    async def least_s(engine) -> float:
        times = []
        for _ in range(200):
            begun = time.thread_time()
            await engine.decide(allowed_input)
            times.append(time.thread_time() - begun)
        return min(times)

    assert await least_s(cached) < await least_s(embedded) / 5


@pytest.mark.parametrize(("max_entries", "max_age_s"), [(0, 60), (1, 0)])
def test_a_cache_that_keeps_nothing_is_refused(gated, clock, max_entries, max_age_s):
    with pytest.raises(ValueError, match="positive"):
        CachedEngine(gated, clock, max_entries, max_age_s)
