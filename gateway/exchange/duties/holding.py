"""Delays: answers that are held. Nothing is fetched meanwhile, and not everybody can wait at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.errors import GatewayError, Reason

MAX_HELD: Final = 1000
"""Answers that one worker holds at a time; each is an open call and little else."""
MAX_HELD_OF_ONE: Final = 100
"""Of them for one consumer, so that no consumer can take the places of all others."""

Sleep = Callable[[float], Awaitable[None]]


class HeldAnswers:
    """The answers that a worker holds now."""

    def __init__(self, sleep: Sleep = asyncio.sleep) -> None:
        self._sleep = sleep
        self._by_consumer: Counter[str] = Counter()

    @property
    def count(self) -> int:
        """How many are held."""
        return self._by_consumer.total()

    async def hold(self, consumer: str, seconds: int) -> None:
        """Return after `seconds`; cancelled, the place is free at once. Raises `GatewayError`."""
        if self.count >= MAX_HELD or self._by_consumer[consumer] >= MAX_HELD_OF_ONE:
            raise GatewayError(
                "Too many answers are held already; wait for those that were asked for before.",
                reason=Reason.OVERLOADED,
            )
        self._by_consumer[consumer] += 1
        try:
            await self._sleep(seconds)
        finally:
            self._by_consumer[consumer] -= 1
            if not self._by_consumer[consumer]:
                del self._by_consumer[consumer]


def require_time(seconds: int, remaining_s: float) -> None:
    """Raise `GatewayError` unless a call with `remaining_s` left can wait for `seconds`."""
    if remaining_s <= seconds:
        raise GatewayError(
            f"Answers to this question are held for {seconds} seconds, and the call would end before. Ask "
            "again with a later deadline, as a stream if a single answer may not take so long.",
            reason=Reason.DEADLINE_INVALID,
            held_seconds=seconds,
        )
