"""Time as a collaborator, so that tests move it and nothing else does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], datetime]
"""Returns the current time as an aware UTC `datetime`."""


def system_clock() -> datetime:
    """Return the machine's time, aware, in UTC."""
    return datetime.now(UTC)


def rfc3339(moment: datetime) -> str:
    """Return `moment` (aware) as RFC 3339 text in UTC with microseconds and a `Z`.

    The fixed width makes the text sort as the time does.
    """
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="microseconds")[: -len("+00:00")] + "Z"


def parse_rfc3339(text: str) -> datetime:
    """Return the aware UTC time that `text` names; raise `ValueError` if it has no offset."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("time without an offset")
    return moment.astimezone(UTC)


class FixedClock:
    """A clock that stands still until a test moves it."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        """Return the time last set."""
        return self.now

    def advance(self, delta: timedelta) -> None:
        """Move the time by `delta`, backwards if it is negative."""
        self.now += delta
