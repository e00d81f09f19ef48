"""Decisions kept for a short while: the same facts under the same bundle need no second evaluation."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from gateway.clock import Clock, parse_rfc3339
from gateway.model import Decision
from gateway.policy.bundle import Bundle
from gateway.policy.engine import PolicyEngine
from gateway.policy.policy_input import PolicyInput, decision_id, encode_input

MAX_DENIAL_AGE_S: Final = 5.0
"""A denial is asked anew after this time, so that what was put right is noticed."""


@dataclass(frozen=True, slots=True)
class _Kept:
    decision: Decision
    since: datetime
    until: datetime


class CachedEngine:
    """A `PolicyEngine` that keeps the decisions of another one.

    The key is the decision's id, hence bundle digest and whole input. A decision is kept for `max_age_s`
    seconds, never beyond its `valid_until`; a denial for at most `MAX_DENIAL_AGE_S`; a decision at a tier
    that is not `cacheable`, and an error, never. At most `max_entries` are kept; the one unused for longest
    goes first. Callers who ask the same at the same time share one evaluation.
    """

    def __init__(self, engine: PolicyEngine, clock: Clock, max_entries: int, max_age_s: float) -> None:
        if max_entries < 1 or max_age_s <= 0:
            raise ValueError("max_entries and max_age_s must be positive")
        self._engine = engine
        self._clock = clock
        self._max_entries = max_entries
        self._max_age = timedelta(seconds=max_age_s)
        self._max_denial_age = min(self._max_age, timedelta(seconds=MAX_DENIAL_AGE_S))
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._under_way: dict[str, asyncio.Task[Decision]] = {}
        self.hits = 0
        self.misses = 0

    @property
    def name(self) -> str:
        """Name and version of the engine underneath."""
        return self._engine.name

    @property
    def bundle(self) -> Bundle:
        """The bundle of the engine underneath."""
        return self._engine.bundle

    async def start(self) -> None:
        """Start the engine underneath."""
        await self._engine.start()

    async def decide(self, policy_input: PolicyInput) -> Decision:
        """Return the decision on `policy_input`, kept or new; raise `PolicyError` if none can be had."""
        identifier = decision_id(self._engine.bundle.digest, encode_input(policy_input))
        kept = self._kept.get(identifier)
        if kept is not None:
            # Outside its span in either direction: a clock set back must not lengthen a life.
            if kept.since <= self._clock() < kept.until:
                self.hits += 1
                self._kept.move_to_end(identifier)
                return kept.decision
            del self._kept[identifier]
        self.misses += 1
        task = self._under_way.get(identifier)
        if task is None:
            task = asyncio.create_task(self._decide_and_keep(identifier, policy_input))
            self._under_way[identifier] = task
            task.add_done_callback(lambda done: self._forget_task(identifier, done))
        # Shielded: one caller who gives up must not take the decision from the others.
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Forget everything, give up what is under way, and close the engine underneath."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._kept.clear()
        await self._engine.close()

    async def _decide_and_keep(self, identifier: str, policy_input: PolicyInput) -> Decision:
        asked = self._clock()
        decision = await self._engine.decide(policy_input)
        until = self._keep_until(decision, asked)
        if until > asked:
            self._kept[identifier] = _Kept(decision, asked, until)
            if len(self._kept) > self._max_entries:
                self._kept.popitem(last=False)
        return decision

    def _keep_until(self, decision: Decision, asked: datetime) -> datetime:
        if not decision.allow:
            return asked + self._max_denial_age
        if self._engine.bundle.data["tiers"][decision.tier]["cacheable"] is not True:
            return asked
        until = asked + self._max_age
        return until if decision.valid_until is None else min(until, parse_rfc3339(decision.valid_until))

    def _forget_task(self, identifier: str, task: asyncio.Task[Decision]) -> None:
        del self._under_way[identifier]
        if not task.cancelled():
            # Seen here, in case no caller waits any more; those who wait get it all the same.
            task.exception()
