"""A candidate beside the policy in force: counted, never obeyed, never waited for."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections import Counter

import pytest

from gateway.policy import EmbeddedEngine, PolicyError, load_bundle
from gateway.policy.comparison import ChangeKind
from gateway.policy.shadow import Shadow, ShadowedEngine
from tests.simulators.waiting import until


class Told:
    """Keeps what an observer is told; `gate` holds the shadow's thread."""

    def __init__(self) -> None:
        self.results: Counter[str] = Counter()
        self.kinds: list[tuple[ChangeKind, bool]] = []
        self.gate = threading.Event()
        self.gate.set()

    def count_shadow(self, result):
        if result != "dropped":
            assert self.gate.wait(10)
        self.results[result] += 1

    def tell_divergence(self, asked, decision, divergence, *, is_new):
        self.kinds.append((divergence.kind, is_new))

    async def until(self, count: int) -> None:
        await until(lambda: self.results.total() >= count)


@pytest.fixture
def exact_bundle(bundle_copy):
    """A candidate that coarsens nothing."""
    path = bundle_copy / "data/member_classes.yaml"
    assert "coarse: true" in path.read_text()
    path.write_text(path.read_text().replace("coarse: true", "coarse: false"))
    return load_bundle(bundle_copy)


async def shadowed(bundle, candidate, told, waiting=100) -> ShadowedEngine:
    engine = ShadowedEngine(EmbeddedEngine(bundle), Shadow(candidate, told, waiting))
    await engine.start()
    return engine


async def test_a_difference_is_counted_and_the_policy_in_force_is_obeyed(
    bundle, exact_bundle, allowed_input, denied_input, embedded
):
    told = Told()
    engine = await shadowed(bundle, exact_bundle, told)
    try:
        given = [await engine.decide(each) for each in (allowed_input, allowed_input, denied_input)]
        assert given[0] == given[1] == await embedded.decide(allowed_input)
        await told.until(3)
    finally:
        await engine.close()
    assert told.results == {"differs": 2, "same": 1}
    assert told.kinds == [(ChangeKind.WEAKENED, True), (ChangeKind.WEAKENED, False)]


async def test_the_same_policy_differs_in_nothing(bundle, allowed_input):
    told = Told()
    engine = await shadowed(bundle, bundle, told)
    try:
        await engine.decide(allowed_input)
        await told.until(1)
    finally:
        await engine.close()
    assert told.results == {"same": 1}


async def test_a_candidate_that_hangs_keeps_nobody_waiting_and_what_does_not_fit_is_dropped(
    bundle, exact_bundle, allowed_input
):
    told = Told()
    engine = await shadowed(bundle, exact_bundle, told, waiting=2)
    try:
        told.gate.clear()
        async with asyncio.timeout(5):
            for _ in range(10):
                await engine.decide(allowed_input)
        assert told.results["dropped"] >= 10 - 2 - 1
        told.gate.set()
    finally:
        await engine.close()


async def test_a_candidate_that_cannot_decide_is_refused_at_the_start(bundle, exact_bundle):
    unusable = dataclasses.replace(exact_bundle, modules={"a/b.rego": "package a.b\n\nx := 1\n"})
    engine = ShadowedEngine(EmbeddedEngine(bundle), Shadow(unusable, Told(), 10))
    with pytest.raises(PolicyError):
        await engine.start()
    await engine.close()
