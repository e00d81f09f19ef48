"""An engine whose bundle changes while it decides."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from gateway.activation.active import ActivePolicy, NamesInForce
from gateway.activation.candidate import Standing
from gateway.activation.errors import NotInForceError
from gateway.clock import FixedClock
from gateway.errors import Reason
from gateway.policy import CachedEngine, EmbeddedEngine
from gateway.policy.golden import load_cases
from tests.unit.activation.conftest import POLICIES

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
STANDING = Standing(NOON, NOON + timedelta(days=90))


class SlowEngine:
    """Decides when it is let, and remembers being closed."""

    def __init__(self, engine: EmbeddedEngine) -> None:
        self._engine = engine
        self.bundle, self.name = engine.bundle, engine.name
        self.released = asyncio.Event()
        self.is_closed = False

    async def start(self) -> None:
        await self._engine.start()

    async def decide(self, policy_input):
        await self.released.wait()
        assert not self.is_closed
        return await self._engine.decide(policy_input)

    async def close(self) -> None:
        self.is_closed = True
        await self._engine.close()


async def started(packed) -> EmbeddedEngine:
    engine = EmbeddedEngine(packed.bundle)
    await engine.start()
    return engine


@pytest.fixture
def question(bundles):
    cases = load_cases(bundles[1].bundle, POLICIES / "cases")
    return next(case.policy_input for case in cases if case.expect.allow)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(NOON)


@pytest.fixture
async def active(clock):
    active = ActivePolicy(clock)
    yield active
    await active.close()


async def test_nothing_is_decided_before_something_is_in_force(active, bundles, question):
    with pytest.raises(NotInForceError) as caught:
        await active.decide(question)
    assert caught.value.reason is Reason.POLICY_STALE
    assert active.age_s == float("inf")
    await active.install(await started(bundles[1]), STANDING)
    assert (await active.decide(question)).bundle_digest == bundles[1].bundle.digest


async def test_a_question_under_way_ends_with_the_bundle_that_began_it(active, bundles, question):
    slow = SlowEngine(EmbeddedEngine(bundles[1].bundle))
    await slow.start()
    await active.install(slow, STANDING)
    under_way = asyncio.create_task(active.decide(question))
    await asyncio.sleep(0)
    await active.install(await started(bundles[2]), STANDING)
    assert not slow.is_closed
    assert (await active.decide(question)).bundle_digest == bundles[2].bundle.digest
    slow.released.set()
    assert (await under_way).bundle_digest == bundles[1].bundle.digest
    assert slow.is_closed
    assert set(active.known) == {bundles[1].bundle.digest, bundles[2].bundle.digest}


async def test_a_stale_bundle_denies_until_it_is_confirmed(active, bundles, question, clock):
    await active.install(await started(bundles[1]), STANDING)
    clock.advance(timedelta(days=89))
    await active.decide(question)
    assert active.age_s == timedelta(days=89).total_seconds()
    clock.advance(timedelta(days=1))
    with pytest.raises(NotInForceError, match="stale"):
        await active.decide(question)
    active.confirm(Standing(clock(), clock() + timedelta(days=90)))
    await active.decide(question)
    clock.advance(timedelta(days=-1))
    with pytest.raises(NotInForceError, match="not begun"):
        await active.decide(question)


async def test_what_is_refused_denies_also_what_was_decided_before(active, bundles, question, clock):
    cached = CachedEngine(EmbeddedEngine(bundles[1].bundle), clock, max_entries=10, max_age_s=60)
    await cached.start()
    await active.install(cached, STANDING)
    await active.decide(question)
    await active.decide(question)
    active.refuse("The bundle in force cannot be loaded.")
    with pytest.raises(NotInForceError, match="cannot be loaded"):
        await active.decide(question)
    before = active.lookups
    await active.install(await started(bundles[2]), STANDING)
    assert active.lookups == before, "what the old cache counted stays counted"
    assert sum(before) == 2


async def test_names_follow_the_bundle(active, bundles):
    names = NamesInForce(lambda: active.bundle, lambda bundle: frozenset({f"revision-{bundle.revision}"}))
    await active.install(await started(bundles[1]), STANDING)
    assert "revision-1" in names
    await active.install(await started(bundles[2]), STANDING)
    assert "revision-1" not in names
    assert list(names) == ["revision-2"]
    assert len(names) == 1
