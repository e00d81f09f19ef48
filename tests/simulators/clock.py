"""A clock that runs with the machine's, and that a test can move."""

from __future__ import annotations

from datetime import datetime, timedelta

from gateway.clock import system_clock


class MovableClock:
    """The machine's time plus an offset.

    Only ever moved forward in a world: a log whose entries go back in time is one that `fsck` reports.
    """

    def __init__(self) -> None:
        self.offset = timedelta()

    def __call__(self) -> datetime:
        return system_clock() + self.offset

    def advance(self, delta: timedelta) -> None:
        self.offset += delta
