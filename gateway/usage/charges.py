"""What use comes to: money by the price of a contract, and how much of its quotas is used.

Amounts are whole minor units. They are rounded once: the records that one recipient got under one contract in
the period, times the price of a thousand, to the nearest whole unit, halves upwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from gateway.model.contract import Per, Price, Quota
from gateway.usage.book import Counted
from gateway.usage.period import Period


class Use(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How much of a quota one span of it has used."""

    consumer: str = ""
    """To whom; left out where the quota is for all together."""
    span: str
    """The day (`2026-10-14`), the month (`2026-10`), or `term`."""
    records: int


class QuotaUse(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A quota, and its fullest spans in the period."""

    records: int
    per: Per
    each: Literal["consumer", "contract"]
    uses: tuple[Use, ...]
    """Of each consumer (or of all) the span with most records, the earliest of several; none if none left."""


class Amount(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one recipient owes under one contract."""

    contract: str
    consumer: str
    records: int
    currency: str
    minor_units: int


def amount_of(records: int, price: Price) -> int:
    """Return what `records` cost, in whole minor units; halves are rounded upwards."""
    return (records * price.minor_units_per_thousand + 500) // 1000


def amounts(lines: Iterable[Counted], prices: Mapping[str, Price]) -> tuple[Amount, ...]:
    """Return what each recipient owes under each contract that has a price, sorted."""
    records: dict[tuple[str, str], int] = {}
    for line in lines:
        key = line.group.contract, line.group.consumer
        if key[0] in prices and line.records:
            records[key] = records.get(key, 0) + line.records
    return tuple(
        Amount(
            contract=contract,
            consumer=consumer,
            records=count,
            currency=prices[contract].currency,
            minor_units=amount_of(count, prices[contract]),
        )
        for (contract, consumer), count in sorted(records.items())
    )


def quota_uses(lines: Sequence[Counted], quota: Quota, contract: str, period: Period) -> QuotaUse:
    """Return how much of `quota` was used in `period`.

    `lines` are those since the beginning of the contract's term, if the quota is for that.
    """
    spans: dict[tuple[str, str], int] = {}
    for line in lines:
        group = line.group
        if group.contract != contract or not line.records or group.day > period.last.isoformat():
            continue
        if quota.per is not Per.TERM and not period.has(group.day):
            continue
        key = (group.consumer if quota.each == "consumer" else ""), span_of(group.day, quota.per)
        spans[key] = spans.get(key, 0) + line.records
    fullest: dict[str, tuple[str, int]] = {}
    for (consumer, span), records in sorted(spans.items()):
        if records > fullest.get(consumer, ("", 0))[1]:
            fullest[consumer] = span, records
    return QuotaUse(
        records=quota.records,
        per=quota.per,
        each=quota.each,
        uses=tuple(
            Use(consumer=consumer, span=span, records=records)
            for consumer, (span, records) in sorted(fullest.items())
        ),
    )


def span_of(day: str, per: Per) -> str:
    """Return the name of the span of a quota in which `day` lies."""
    match per:
        case Per.DAY:
            return day
        case Per.MONTH:
            return day[:7]
        case Per.TERM:
            return "term"
