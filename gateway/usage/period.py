"""The spans of time that usage is told for. All are in UTC."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from gateway.clock import rfc3339
from gateway.errors import GatewayError, Reason

CLOSING_TIME: Final = timedelta(hours=1)
"""An exchange has ended by then: bulk answers, the longest, are cut after a quarter of an hour. A statement
of a month is made no sooner after it."""

MAX_DAYS: Final = 400
"""The longest span that usage is told for."""

_MONTH: Final = re.compile(r"(2\d{3})-(0[1-9]|1[0-2])", re.ASCII)


@dataclass(frozen=True, slots=True)
class Period:
    """The days from `first` to `last`, both included."""

    first: date
    last: date

    @property
    def begins(self) -> datetime:
        """The moment at which it begins."""
        return datetime(self.first.year, self.first.month, self.first.day, tzinfo=UTC)

    @property
    def ends(self) -> datetime:
        """The moment after its last."""
        return datetime(self.last.year, self.last.month, self.last.day, tzinfo=UTC) + timedelta(days=1)

    def has(self, day: str) -> bool:
        """Whether `day`, such as `2026-11-22`, is one of its days."""
        return self.first.isoformat() <= day <= self.last.isoformat()


def month_of(text: str) -> Period:
    """Return the month that `text` names, such as `2026-10`; raise `GatewayError`."""
    match = _MONTH.fullmatch(text)
    if match is None:
        raise GatewayError(
            "A month is written as year and number, such as 2026-10.", reason=Reason.REQUEST_MALFORMED
        )
    first = date(int(match[1]), int(match[2]), 1)
    following = (first + timedelta(days=31)).replace(day=1)
    return Period(first, following - timedelta(days=1))


def period_of(first: str, last: str) -> Period:
    """Return the days from `first` to `last`, such as `2026-11-22`; raise `GatewayError`."""
    try:
        period = Period(date.fromisoformat(first), date.fromisoformat(last))
    except ValueError as error:
        raise GatewayError(
            "A day is written as year, month and day, such as 2026-11-22.", reason=Reason.REQUEST_MALFORMED
        ) from error
    if not timedelta(0) <= period.last - period.first < timedelta(days=MAX_DAYS):
        raise GatewayError(
            f"A period begins before it ends, and has at most {MAX_DAYS} days.",
            reason=Reason.REQUEST_MALFORMED,
            limit=MAX_DAYS,
        )
    return period


def today(now: datetime) -> str:
    """Return the day (UTC) of `now` as entries' times begin with it."""
    return rfc3339(now)[:10]
