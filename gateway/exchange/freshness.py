"""Freshness: whether a whole dataset, as it was released, is as new as its holder has promised.

A promise names a date field and a number of days: a record is to be had so many days after its date. What
is late cannot be seen in the records that are there, but a dataset can: its newest record is older than the
promise. That takes an answer with all records, so nothing is said of any other.
"""

from __future__ import annotations

from datetime import date

from gateway.exchange.state import Exchange
from gateway.model import Operation


def days_late(exchange: Exchange, today: date) -> int | None:
    """Return by how many days the newest record of a whole dataset lies beyond the promise, 0 if within.

    None where that cannot be told: no promise, not all records, or none with a date that policy released.
    """
    resolved, newest = exchange.resolved, exchange.newest
    if exchange.operation is not Operation.STREAM or resolved is None or newest is None:
        return None
    promise = resolved.dataset.freshness
    if promise is None or resolved.subjects or resolved.filters:
        return None
    return max(0, (today - newest).days - promise.days)
