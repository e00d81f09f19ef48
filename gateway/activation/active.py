"""The engine of a deployment whose policy changes while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from gateway.activation.candidate import Standing
from gateway.activation.errors import NotInForceError
from gateway.clock import Clock
from gateway.model import Decision
from gateway.policy.bundle import Bundle
from gateway.policy.cache import CachedEngine
from gateway.policy.engine import PolicyEngine
from gateway.policy.policy_input import PolicyInput

_NOTHING: Final = "No policy is in force yet: two people must activate one, see `gateway policy activate`."


@dataclass(slots=True)
class _Generation:
    engine: PolicyEngine
    deciding: int = 0
    retired: bool = False


class ActivePolicy:
    """A `PolicyEngine` that decides by the bundle in force, or denies with `POLICY_STALE`.

    Lives on one event loop. An installed engine decides every question that comes from then on; questions
    under way end with the engine that began them, which is closed after the last.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._generation: _Generation | None = None
        self._standing: Standing | None = None
        self._refusal = _NOTHING
        self._known: dict[str, Bundle] = {}
        self._closed_lookups = (0, 0)
        self._conditions: list[Callable[[], None]] = []

    @property
    def name(self) -> str:
        """Name and version of what evaluates."""
        return self._current.engine.name

    @property
    def bundle(self) -> Bundle:
        """The bundle that decides, or that did until it was refused."""
        return self._current.engine.bundle

    @property
    def known(self) -> dict[str, Bundle]:
        """Every bundle that has decided in this process, by digest; it grows with each that is installed."""
        return self._known

    @property
    def age_s(self) -> float:
        """Seconds since the approval of the bundle in force began; infinite if none is."""
        if self._standing is None:
            return float("inf")
        return (self._clock() - self._standing.starts).total_seconds()

    @property
    def lookups(self) -> tuple[int, int]:
        """Hits and misses of the decision cache, over all bundles."""
        hits, misses = self._closed_lookups
        if self._generation is not None and isinstance(self._generation.engine, CachedEngine):
            return hits + self._generation.engine.hits, misses + self._generation.engine.misses
        return hits, misses

    def deny_unless(self, condition: Callable[[], None]) -> None:
        """Ask `condition` with every decision; it raises `NotInForceError` while nothing may be decided."""
        self._conditions.append(condition)

    async def install(self, engine: PolicyEngine, standing: Standing) -> None:
        """Decide by `engine`, which is started, from now on."""
        before, self._generation = self._generation, _Generation(engine)
        self._known[engine.bundle.digest] = engine.bundle
        self._standing, self._refusal = standing, ""
        if before is not None:
            self._closed_lookups = self._add_lookups(before.engine)
            before.retired = True
            await self._close_if_idle(before)

    def confirm(self, standing: Standing) -> None:
        """Let the same engine decide for another span."""
        self._standing, self._refusal = standing, ""

    def refuse(self, message: str) -> None:
        """Deny everything for the reason that `message` tells, until something is installed or confirmed."""
        self._refusal = message

    async def start(self) -> None:
        """Do nothing: engines are started before they are installed."""

    async def decide(self, policy_input: PolicyInput) -> Decision:
        """Return the decision by the bundle in force; raise `NotInForceError` or `PolicyError`."""
        self.require()
        generation = self._current
        generation.deciding += 1
        try:
            return await generation.engine.decide(policy_input)
        finally:
            generation.deciding -= 1
            await self._close_if_idle(generation)

    def require(self) -> None:
        """Raise `NotInForceError` unless a bundle is in force now, as of a moment ago."""
        if self._refusal:
            raise NotInForceError(self._refusal)
        for condition in self._conditions:
            condition()
        now, standing = self._clock(), self._standing
        if standing is None or now < standing.starts:
            raise NotInForceError("The approval of the policy in force has not begun; check the clocks.")
        if now >= standing.ends:
            raise NotInForceError(
                "The policy in force is stale: its approval has ended, or nobody has confirmed it in time. "
                "Two people must confirm it, or activate another (`gateway policy activate`)."
            )

    async def close(self) -> None:
        """Close the engine."""
        generation, self._generation = self._generation, None
        if generation is not None:
            await generation.engine.close()

    @property
    def _current(self) -> _Generation:
        if self._generation is None:
            raise NotInForceError(self._refusal or _NOTHING)
        return self._generation

    def _add_lookups(self, engine: PolicyEngine) -> tuple[int, int]:
        hits, misses = self._closed_lookups
        if isinstance(engine, CachedEngine):
            return hits + engine.hits, misses + engine.misses
        return hits, misses

    async def _close_if_idle(self, generation: _Generation) -> None:
        if generation.retired and not generation.deciding:
            generation.retired = False
            await generation.engine.close()


class NamesInForce(AbstractSet[str]):
    """Names of the bundle in force, as they are at the moment they are asked for."""

    def __init__(self, bundle: Callable[[], Bundle], names: Callable[[Bundle], frozenset[str]]) -> None:
        """Take where the bundle is got from, and what its names are."""
        self._bundle = bundle
        self._read = names
        self._of: Bundle | None = None
        self._names: frozenset[str] = frozenset()

    def __contains__(self, name: object) -> bool:
        """Whether `name` is one of them."""
        return name in self._current()

    def __iter__(self) -> Iterator[str]:
        """Yield them."""
        return iter(self._current())

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._current())

    def _current(self) -> frozenset[str]:
        bundle = self._bundle()
        if bundle is not self._of:
            self._names, self._of = self._read(bundle), bundle
        return self._names
