"""Comparing what two sides hold of the same exchanges, and one side's numbers with themselves.

Pure. What only one of them knows of an exchange is not compared. See docs/formats/holdings.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gateway.audit.holdings import Holding, Holdings, HoldingsError, Outcome, Side
from gateway.audit.numbering import Pair

MAX_NAMED: Final = 1000
"""Numbers of one pair that are named as skipped; more than these say that a file is not the whole."""


class Kind(StrEnum):
    """How two sides differ about an exchange."""

    MISSING = "missing"
    """The other side has it and this one has not: a receipt that was withheld, or lost."""
    EXTRA = "extra"
    """This side has it and the other has not: an exchange that was dropped from the log."""
    DIFFERING = "differing"
    """Both have it, and say different things of it."""
    OUT_OF_SEQUENCE = "out-of-sequence"
    """A number is skipped, given twice, or out of order."""
    UNACKNOWLEDGED = "unacknowledged"
    """The recipient holds it, and the log has no word of the recipient. No difference, but worth knowing."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it must be, or worth knowing."""

    kind: Kind
    what: str
    """For people. Never a value of a record."""
    consumer: str
    provider: str
    exchange: str = ""
    index: int | None = None
    sequence: int | None = None

    @classmethod
    def of(cls, kind: Kind, what: str, item: Holding) -> Difference:
        """Return a difference about `item`."""
        return cls(kind, what, item.consumer, item.provider, item.exchange, item.index, item.sequence)


def reconcile(held: Holdings, other: Holdings, *, first_number: int | None = 1) -> list[Difference]:
    """Return in what `held` differs from `other`: by pair, then by number or time.

    `first_number` is the number with which each pair begins, None if that is not known, as where only
    a part of the time is compared. Raises `HoldingsError` if the two sides are of different logs.
    """
    if held.origin and other.origin and held.origin != other.origin:
        raise HoldingsError("The two sides are of different logs; compare what is of one.")
    found: list[Difference] = []
    ours, repeated = _by_exchange(held.about(other))
    theirs, _ = _by_exchange(other.about(held))
    found += repeated
    for exchange, item in ours.items():
        found += _compare(item, theirs.get(exchange), other.side)
    for exchange, item in theirs.items():
        if exchange not in ours and item.outcome in {Outcome.RELEASED, Outcome.DELIVERED}:
            found.append(Difference.of(Kind.MISSING, _missing(held.side, other.side), item))
    explained = _numbers(item for exchange, item in theirs.items() if exchange not in ours)
    for pair, fault in find_faults(ours.values(), first_number=first_number):
        # What is skipped here and stands there is missing, or was withdrawn, and told as such.
        if fault.sequence not in explained[pair]:
            found.append(fault)
    if other.side is Side.LOG:
        found += [fault for _, fault in find_faults(theirs.values(), first_number=first_number)]
    return sorted(dict.fromkeys(found), key=_order)


def examine(held: Holdings, *, first_number: int | None = 1) -> list[Difference]:
    """Return what is wrong with one side's holdings by themselves: all that can be known without another."""
    ours, repeated = _by_exchange(held.items)
    faults = [fault for _, fault in find_faults(ours.values(), first_number=first_number)]
    return sorted([*repeated, *faults], key=_order)


def find_faults(items: Iterable[Holding], *, first_number: int | None) -> Iterator[tuple[Pair, Difference]]:
    """Yield each number of a pair that is skipped, given twice, or out of the order of the log."""
    numbered: dict[Pair, list[Holding]] = defaultdict(list)
    for item in items:
        if item.sequence is not None:
            numbered[item.pair].append(item)
    for pair, found in numbered.items():
        found.sort(key=lambda item: (item.sequence or 0, item.index or 0))
        expected = first_number if first_number is not None else found[0].sequence or 0
        index = -1
        for item in found:
            number = item.sequence or 0
            for skipped in range(expected, min(number, expected + MAX_NAMED)):
                yield pair, _skipped(pair, skipped)
            if number < expected:
                what = "this number was given to another release of the same two members"
                yield pair, Difference.of(Kind.OUT_OF_SEQUENCE, what, item)
            elif item.index is not None and item.index < index:
                what = "this release has a higher number than one that stands after it in the log"
                yield pair, Difference.of(Kind.OUT_OF_SEQUENCE, what, item)
            index = max(index, -1 if item.index is None else item.index)
            expected = max(expected, number + 1)


def differ(found: Sequence[Difference]) -> bool:
    """Return whether there is more among these than what is merely worth knowing."""
    return any(item.kind is not Kind.UNACKNOWLEDGED for item in found)


def _by_exchange(items: Iterable[Holding]) -> tuple[dict[str, Holding], list[Difference]]:
    """Return the items by exchange, and a difference for each exchange of which there are two versions."""
    known: dict[str, Holding] = {}
    found: list[Difference] = []
    for item in items:
        first = known.setdefault(item.exchange, item)
        if _told(first) != _told(item):
            what = "there are two receipts of this exchange, for different entries of the log"
            found.append(Difference.of(Kind.DIFFERING, what, item))
    return known, found


def _told(item: Holding) -> tuple[object, ...]:
    return item.index, item.leaf_hash, item.sequence, item.pages


def _compare(item: Holding, other: Holding | None, side: Side) -> Iterator[Difference]:
    if other is None:
        yield Difference.of(Kind.EXTRA, f"held, but {_NOT_THERE[side]}", item)
        return
    names = ("consumer", "provider", "index", "leaf_hash", "sequence", "pages")
    differing = [
        name.replace("_", " ")
        for name in names
        if None not in (values := (getattr(item, name), getattr(other, name))) and values[0] != values[1]
    ]
    if item.outcome is Outcome.RELEASED and other.outcome in {Outcome.WITHDRAWN, Outcome.FAILED}:
        differing.append("outcome")
    # A failed exchange may have been given up before the last page.
    if other.outcome is Outcome.FAILED and "pages" in differing:
        differing.remove("pages")
    if differing:
        yield Difference.of(Kind.DIFFERING, f"the other side has another {', '.join(differing)}", item)
    elif side is Side.LOG and item.outcome is Outcome.RELEASED and other.acknowledged is None:
        yield Difference.of(Kind.UNACKNOWLEDGED, "received, but not acknowledged in the log", item)


_NOT_THERE: Final[Mapping[Side, str]] = {
    Side.LOG: "the log has no such exchange",
    Side.CONSUMER: "the consumer has no receipt of it",
    Side.PROVIDER: "the provider did not deliver it",
}


def _missing(held: Side, other: Side) -> str:
    ours = {
        Side.LOG: "the log has it not",
        Side.CONSUMER: "there is no receipt",
        Side.PROVIDER: "not delivered",
    }
    theirs = {
        Side.LOG: "released according to the log",
        Side.CONSUMER: "the consumer has a receipt",
        Side.PROVIDER: "delivered by the provider",
    }
    return f"{theirs[other]}, but {ours[held]}"


def _numbers(items: Iterable[Holding]) -> Mapping[Pair, set[int | None]]:
    numbers: dict[Pair, set[int | None]] = defaultdict(set)
    for item in items:
        numbers[item.pair].add(item.sequence)
    return numbers


def _skipped(pair: Pair, number: int) -> Difference:
    what = "there is no release with this number, though there are later ones"
    return Difference(Kind.OUT_OF_SEQUENCE, what, *pair, sequence=number)


def _order(found: Difference) -> tuple[str, str, int, str, str]:
    return found.consumer, found.provider, found.sequence or 0, found.exchange, found.kind.value
