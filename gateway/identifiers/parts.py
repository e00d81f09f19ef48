"""Parts of identifiers that come from a small known set: dates, areas, provinces."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from typing import Final

from stdnum import numdb

from gateway.identifiers.errors import Problem

_FIRST_YEAR: Final = 1800
_LAST_YEAR: Final = 2099

_RESIDENCE_PERMIT_AREAS: Final = frozenset({"830000"})
"""Address codes of the citizen numbers on residence permits that GB/T 2260 does not list (the other
two of the kind, 810000 and 820000, it does)."""


@dataclass(frozen=True, slots=True)
class Part:
    """The characters [start, stop) of an identifier, which must be known.

    Values found to be known are remembered. The set is bounded by the number of values that are
    known at all (110,000 dates, 6,900 areas, 34 provinces); what is not known is never stored.
    """

    start: int
    stop: int
    problem: Problem
    explanation: str
    is_known: Callable[[str], bool]
    _remembered: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    def unknown(self, texts: Iterable[str]) -> set[str]:
        """Return the distinct values of this part in `texts` that are not known."""
        start, stop = self.start, self.stop
        fresh = {text[start:stop] for text in texts} - self._remembered
        unknown = {value for value in fresh if not self.is_known(value)}
        self._remembered.update(fresh - unknown)
        return unknown


def is_date(digits: str) -> bool:
    """Whether eight digits are a calendar date `YYYYMMDD` from 1800 to 2099.

    The bounds catch slips of the keyboard; the day of today plays no part, so that a value is valid
    or not whenever it is looked at.
    """
    year, month, day = int(digits[:4]), int(digits[4:6]), int(digits[6:])
    if not _FIRST_YEAR <= year <= _LAST_YEAR:
        return False
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True


def is_area(digits: str) -> bool:
    """Whether six digits are, or ever were, the code of a county, city or province (GB/T 2260).

    Codes that have been withdrawn stay known: people keep the number they were given.
    """
    return digits in _RESIDENCE_PERMIT_AREAS or any("county" in properties for properties in _levels(digits))


def is_province(digits: str) -> bool:
    """Whether two digits are the code of a province (GB/T 2260)."""
    return any("province" in properties for properties in _levels(digits))


def _levels(digits: str) -> list[dict[str, str]]:
    return [properties for _, properties in _area_table().info(digits)]


@cache
def _area_table() -> numdb.NumDB:
    return numdb.get("cn/loc")


def load_area_table() -> None:
    """Read the table of areas, some 30 ms, which the first check of an area would otherwise do.

    For services to call at start, so that no exchange waits for it.
    """
    _area_table()
