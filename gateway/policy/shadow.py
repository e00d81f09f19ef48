"""A candidate policy beside the one in force: asked the same questions, told apart, never obeyed.

The answer to a caller never waits for the candidate. Questions go into a bounded queue, from which a thread
of its own takes them; when the queue is full they are dropped and counted. What the candidate would decide
differently is counted by kind and rule.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import Final, Literal, Protocol

from gateway.errors import GatewayError
from gateway.model import Decision
from gateway.policy.bundle import Bundle
from gateway.policy.comparison import Divergence, compare
from gateway.policy.embedded import EmbeddedEngine
from gateway.policy.engine import PolicyEngine
from gateway.policy.errors import PolicyError
from gateway.policy.policy_input import PolicyInput, encode_input
from gateway.recent import Recent

ShadowResult = Literal["same", "differs", "failed", "dropped"]
"""What came of one question: `failed` if the candidate has no answer, `dropped` if it was not asked."""

_KEPT: Final = 8192
"""Comparisons remembered: the same facts under the same bundles compare alike."""

_STOP_TIMEOUT_S: Final = 5.0


class ShadowObserver(Protocol):
    """Is told what came of each question; from the shadow's thread, or for `dropped` from the caller's."""

    def count_shadow(self, result: ShadowResult) -> None:
        """Count one question."""

    def tell_divergence(
        self, asked: PolicyInput, decision: Decision, divergence: Divergence, *, is_new: bool
    ) -> None:
        """Take note of a difference; `is_new` unless the same facts have differed lately."""


@dataclass(frozen=True, slots=True)
class _Question:
    asked: PolicyInput
    decision: Decision


class Shadow:
    """Asks a candidate on a thread of its own."""

    def __init__(self, candidate: Bundle, observer: ShadowObserver, max_waiting: int) -> None:
        if max_waiting < 1:
            raise ValueError("max_waiting must be positive")
        self.candidate = candidate
        self._observer = observer
        self._waiting: Queue[_Question | None] = Queue(max_waiting)
        self._known: Recent[str, tuple[Divergence, ...]] = Recent(_KEPT)
        self._started = threading.Event()
        self._fault: GatewayError | None = None
        self._thread = threading.Thread(target=self._run, name="policy-shadow", daemon=True)

    async def start(self) -> None:
        """Start the thread and its engine; raise `PolicyError` if the candidate cannot decide."""
        self._thread.start()
        await asyncio.to_thread(self._started.wait)
        if self._fault is not None:
            raise self._fault

    def observe(self, asked: PolicyInput, decision: Decision) -> None:
        """Have `asked`, on which the policy in force gave `decision`, compared; returns at once."""
        try:
            self._waiting.put_nowait(_Question(asked, decision))
        except Full:
            self._observer.count_shadow("dropped")

    def close(self) -> None:
        """Give up what is waiting and end the thread."""
        while True:
            try:
                self._waiting.get_nowait()
            except Empty:
                break
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join(_STOP_TIMEOUT_S)

    def _run(self) -> None:
        # The engine lives and dies on this thread, as it must.
        engine = EmbeddedEngine(self.candidate)
        try:
            asyncio.run(engine.start())
        except GatewayError as error:
            # A new one, without a traceback: that would hold the engine beyond this thread.
            self._fault = PolicyError(error.message, reason=error.reason)
            return
        finally:
            self._started.set()
        while (question := self._waiting.get()) is not None:
            self._compare(engine, question)
        asyncio.run(engine.close())

    def _compare(self, engine: EmbeddedEngine, question: _Question) -> None:
        divergences = self._known.get(question.decision.id)
        is_new = divergences is None
        if divergences is None:
            try:
                candidate = engine.judge(encode_input(question.asked))
            except PolicyError:
                self._observer.count_shadow("failed")
                return
            divergences = compare(question.decision, candidate)
            self._known.put(question.decision.id, divergences)
        self._observer.count_shadow("differs" if divergences else "same")
        for divergence in divergences:
            self._observer.tell_divergence(question.asked, question.decision, divergence, is_new=is_new)


class ShadowedEngine:
    """A `PolicyEngine` that decides as another one does, and lets a shadow see."""

    def __init__(self, engine: PolicyEngine, shadow: Shadow) -> None:
        self._engine = engine
        self._shadow = shadow

    @property
    def name(self) -> str:
        """Name and version of the engine that decides."""
        return self._engine.name

    @property
    def bundle(self) -> Bundle:
        """The bundle that decides."""
        return self._engine.bundle

    async def start(self) -> None:
        """Start both; raise `PolicyError` if one cannot decide."""
        await self._engine.start()
        await self._shadow.start()

    async def decide(self, policy_input: PolicyInput) -> Decision:
        """Return the decision of the policy in force; raise `PolicyError` if none can be had."""
        decision = await self._engine.decide(policy_input)
        self._shadow.observe(policy_input, decision)
        return decision

    async def close(self) -> None:
        """End both."""
        await asyncio.to_thread(self._shadow.close)
        await self._engine.close()
