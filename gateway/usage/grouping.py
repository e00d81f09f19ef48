"""Usage summed up by what a contributor wants to see."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from gateway.usage.book import Counted, Outcome


class Dimension(StrEnum):
    """What usage can be summed up by."""

    DAY = "day"
    CONTRACT = "contract"
    DATASET = "dataset"
    CONSUMER = "consumer"
    PURPOSE = "purpose"
    FIELDS = "fields"
    REASONS = "reasons"


@dataclass(slots=True)
class Summed:
    """The sums over exchanges that have the values of `by` in common."""

    by: dict[Dimension, str]
    """Value by dimension; of fields and reasons, the names with commas between."""
    exchanges: int = 0
    released: int = 0
    denied: int = 0
    failed: int = 0
    open: int = 0
    records: int = 0


def sum_up(lines: Iterable[Counted], by: Sequence[Dimension]) -> list[Summed]:
    """Return the sums of `lines` by the dimensions, in the order of their values."""
    found: dict[tuple[str, ...], Summed] = {}
    for line in lines:
        key = tuple(_value(line, dimension) for dimension in by)
        summed = found.get(key)
        if summed is None:
            summed = found[key] = Summed(dict(zip(by, key, strict=True)))
        summed.exchanges += line.exchanges
        summed.records += line.records
        match line.group.outcome:
            case Outcome.RELEASED:
                summed.released += line.exchanges
            case Outcome.DENIED:
                summed.denied += line.exchanges
            case Outcome.FAILED:
                summed.failed += line.exchanges
            case Outcome.OPEN:
                summed.open += line.exchanges
    return [found[key] for key in sorted(found)]


def _value(line: Counted, dimension: Dimension) -> str:
    if dimension is Dimension.FIELDS:
        return ",".join(line.fields)
    if dimension is Dimension.REASONS:
        return ",".join(line.reasons)
    return str(getattr(line.group, dimension.value))
