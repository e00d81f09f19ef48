"""Finding entries: what they are found by, and the summary that tells where to look.

An index row for every entry and term would cost more than the rest of the append. Instead, entries
are summed up in blocks of 256: for each full block, the times it spans and the terms that occur in
it. A search reads only the blocks in which every term of the filter occurs, and, for the entries
after the last full block, each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from gateway.clock import rfc3339
from gateway.model.entry import Entry, EntryKind

BLOCK_ENTRIES: Final = 256


class IndexRow(NamedTuple):
    """What an entry is listed and found by. Everything in it stands in the entry too."""

    time: str
    kind: str
    exchange: str
    consumer: str
    provider: str
    dataset: str
    reasons: str
    """The reason codes, each between two spaces of its own: empty, or such as ` A  B `."""

    @classmethod
    def of(cls, entry: Entry) -> IndexRow:
        """Return the row of `entry`."""
        return cls(
            entry.time,
            entry.kind.value,
            entry.exchange,
            entry.consumer,
            entry.provider,
            entry.dataset,
            "".join([f" {reason} " for reason in entry.reasons]),
        )


@dataclass(frozen=True, slots=True)
class BlockSummary:
    """What is known of a full block without reading it."""

    first_time: str
    """The earliest time of its entries."""
    last_time: str
    """The latest."""
    terms: frozenset[str]

    @classmethod
    def of(cls, rows: Sequence[IndexRow]) -> BlockSummary:
        """Sum up the rows of a block."""
        times, kinds, _, consumers, providers, datasets, reasons = map(set, zip(*rows, strict=True))
        terms = {_kind(kind) for kind in kinds}
        terms.update(_member(member) for member in consumers | providers if member)
        terms.update(_dataset(dataset) for dataset in datasets if dataset)
        terms.update(_reason(reason) for codes in reasons for reason in codes.split())
        return cls(min(times), max(times), frozenset(terms))


@dataclass(frozen=True, slots=True)
class EntryFilter:
    """Which entries to list: those for which everything given holds."""

    kind: EntryKind | None = None
    member: str | None = None
    """The id of a member that is the entry's consumer or provider."""
    dataset: str | None = None
    exchange: str | None = None
    reason: str | None = None
    since: datetime | None = None
    """Not before this time."""
    until: datetime | None = None
    """Before this time."""

    def terms(self) -> list[str]:
        """Return the terms that a block must have to hold a match."""
        terms = []
        if self.member is not None:
            terms.append(_member(self.member))
        if self.dataset is not None:
            terms.append(_dataset(self.dataset))
        if self.reason is not None:
            terms.append(_reason(self.reason))
        if self.kind is not None:
            terms.append(_kind(self.kind.value))
        return terms

    def conditions(self) -> dict[str, tuple[str, str]]:
        """Return the SQL conditions on the columns of `entry`: parameter name to (condition, value)."""
        wanted = {
            "kind": ("kind = :kind", None if self.kind is None else self.kind.value),
            "member": (":member IN (consumer, provider)", self.member),
            "dataset": ("dataset = :dataset", self.dataset),
            "exchange": ("exchange = :exchange", self.exchange),
            "reason": ("instr(reasons, :reason) > 0", None if self.reason is None else f" {self.reason} "),
            "since": ("time >= :since", None if self.since is None else rfc3339(self.since)),
            "until": ("time < :until", None if self.until is None else rfc3339(self.until)),
        }
        return {name: (term, value) for name, (term, value) in wanted.items() if value is not None}


def _kind(kind: str) -> str:
    return f"kind:{kind}"


def _member(member: str) -> str:
    return f"member:{member}"


def _dataset(dataset: str) -> str:
    return f"dataset:{dataset}"


def _reason(reason: str) -> str:
    return f"reason:{reason}"
