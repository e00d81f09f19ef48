"""What is told of an exchange under its duties: in its entry, and so in its receipt, and beside its pages.

The recipient holds the entry as its leaf, verbatim, and others can be shown it: what must not be told to
them cannot stand in it. See docs/adr/0035.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import msgspec

from gateway.clock import rfc3339
from gateway.exchange.transform import ReleasedPage
from gateway.ledger import DebtKind
from gateway.model import DUTY_NAMES, Duties

_OWED: Final = {DebtKind.NOTICE: "notify_subject", DebtKind.ACKNOWLEDGEMENT: "acknowledge"}
_COUNTS: Final = ("records", "unknown_fields", "invalid_identifiers")
_HIDDEN_SIZES: Final = {"bytes": 0}
"""The bytes of an answer tell the number of its records as well as the number itself."""
_NOTHING_BUT_A_BIT: Final[Mapping[str, Any]] = {
    "released": (),
    "obligations": {},
    "unknown_fields": 0,
    "invalid_identifiers": 0,
    "bytes": 0,
    "duration_ms": 0,
}


def rounded(number: int, duties: Duties) -> int:
    """Return `number` as it may be told: the nearest multiple, upwards from the middle."""
    if duties.round_counts is None:
        return number
    to = duties.round_counts.to
    return (number + to // 2) // to * to


def told_outcome(outcome: Mapping[str, Any], duties: Duties) -> dict[str, Any]:
    """Return what an entry says of an outcome; `outcome` holds its members by name."""
    if duties.one_bit is not None:
        return {**outcome, **_NOTHING_BUT_A_BIT}
    if duties.round_counts is None:
        return dict(outcome)
    return {
        **outcome,
        **{name: rounded(outcome[name], duties) for name in _COUNTS},
        **_HIDDEN_SIZES,
    }


def told_page(page: ReleasedPage, duties: Duties) -> ReleasedPage:
    """Return `page` with the count that is told of it."""
    if duties.round_counts is None or duties.one_bit is not None:
        return page
    return replace(page, told=rounded(page.count, duties))


def told_size(page: ReleasedPage, duties: Duties) -> tuple[int, int]:
    """Return the records and bytes that the entry of a page of a stream tells."""
    if duties.one_bit is not None or duties.round_counts is not None:
        return rounded(page.count, duties), 0
    return page.count, len(page.records)


def told_duties(
    duties: Duties, expired: int, until: Mapping[DebtKind, datetime]
) -> dict[str, dict[str, str | int]]:
    """Return what an entry says of its duties: their parameters, and what was done.

    `expired` is how many records were withheld for their age, `until` by when what is owed is due.
    """
    told: dict[str, dict[str, str | int]] = {
        name: msgspec.to_builtins(duty) for name in DUTY_NAMES if (duty := getattr(duties, name)) is not None
    }
    for kind, name in _OWED.items():
        if kind in until:
            told[name]["until"] = rfc3339(until[kind])
    if duties.retention is not None and duties.one_bit is None:
        told["retention"]["withheld"] = rounded(expired, duties)
    return told
