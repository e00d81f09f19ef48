"""Counting what has left, from entries: pure, the same for the gateway and for whoever verifies it.

1. An entry counts for the member that it names as provider, and for nobody else.
2. An exchange ends with its last entry `exchange.released`, `exchange.failed` or `exchange.denied`; that says
   what has left, and its time says on which day it counts.
3. A release that a later failure `withdraws` is not counted: the failure says what had left all the same.
4. An exchange that has pages and no end yet (or never, after a crash) counts as open, with what its pages say
   at most has left, on the day of the last of them.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from gateway.usage.period import Period
from gateway.usage.seen import DENIED, FAILED, PAGE, RELEASED, Seen, names

EntryAt = Callable[[int], Seen | None]
"""Returns the entry at an index; None if it is not among those that are counted."""

FindRequest = Callable[[str], Seen | None]
"""Returns the entry with which an exchange began; None if there is none."""


class Outcome(StrEnum):
    """How an exchange ended."""

    RELEASED = "released"
    DENIED = "denied"
    FAILED = "failed"
    """Nothing left, or of a stream what its entry counts."""
    OPEN = "open"
    """Pages have left, and no end is in the log."""


Key = tuple[str, str, str, str, str, str, bytes, bytes]
"""A group with the kind of its entries for its outcome: plain values are found twice as fast."""

_OUTCOMES: Final = {RELEASED: Outcome.RELEASED, DENIED: Outcome.DENIED, FAILED: Outcome.FAILED}


class Group(NamedTuple):
    """What the exchanges of one line have in common."""

    day: str
    contract: str
    dataset: str
    consumer: str
    purpose: str
    outcome: Outcome
    fields: bytes
    """JSON list of the names of the fields released, as entries have it."""
    reasons: bytes
    """JSON list of the reason codes."""


class Sum(NamedTuple):
    """Entries of one group that were counted together, and what they add up to."""

    key: Key
    exchanges: int
    records: int
    pages: int
    entries: Sequence[int]
    """Their indices."""


class Tally:
    """The sums of a group, and the entries that they are of."""

    __slots__ = ("entries", "exchanges", "pages", "records")

    def __init__(self) -> None:
        self.exchanges = 0
        self.records = 0
        self.pages = 0
        self.entries = array("Q")


@dataclass(slots=True)
class _OpenStream:
    page: Seen
    """The last."""
    records: int = 0
    pages: int = 0
    entries: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Counted:
    """A group of exchanges and its sums."""

    group: Group
    exchanges: int
    records: int
    pages: int
    entries: tuple[int, ...]

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the fields released."""
        return names(self.group.fields)

    @property
    def reasons(self) -> tuple[str, ...]:
        """The reason codes."""
        return names(self.group.reasons)


class Book:
    """The usage of one member's records, entry by entry in the order of the log."""

    def __init__(self, member: str, entry_at: EntryAt, *, with_entries: bool = True) -> None:
        """Begin an empty book of the records that `member` provides.

        `entry_at` finds a release that was withdrawn; without `with_entries` sums alone are kept.
        """
        self.member = member
        self._entry_at = entry_at
        self._with_entries = with_entries
        self._groups: dict[Key, Tally] = {}
        self._open: dict[str, _OpenStream] = {}

    def add(self, entries: Iterable[tuple[int, Seen]]) -> None:
        """Count the next entries; those that are not this member's, or tell of no use, are passed over."""
        # A million times for one statement: what is done here for each entry is kept to little.
        member, groups, opened, keeps = self.member, self._groups, self._open, self._with_entries
        for index, entry in entries:
            if entry.provider != member:
                continue
            if entry.kind not in _OUTCOMES:
                if entry.kind == PAGE:
                    self._add_page(index, entry)
                continue
            if opened:
                opened.pop(entry.exchange, None)
            if entry.withdraws is not None:
                self._withdraw(entry.withdraws, entry.exchange, before=index)
            key = _key(entry)
            tally = groups.get(key)
            if tally is None:
                tally = groups[key] = Tally()
            tally.exchanges += 1
            tally.records += entry.records
            tally.pages += entry.pages
            if keeps:
                tally.entries.append(index)

    def add_sums(self, sums: Iterable[Sum]) -> None:
        """Count this member's closing entries that belong to no stream and withdraw nothing, added up.

        Among the other entries the order is that of the log; these may come before or after them.
        """
        for key, exchanges, records, pages, entries in sums:
            tally = self._groups.get(key)
            if tally is None:
                tally = self._groups[key] = Tally()
            tally.exchanges += exchanges
            tally.records += records
            tally.pages += pages
            if self._with_entries:
                tally.entries.extend(entries)

    def lines(self, period: Period, find_request: FindRequest) -> Iterator[Counted]:
        """Yield the groups of `period` in a stable order; of open exchanges, too."""
        groups = {_group(key): tally for key, tally in self._groups.items() if period.has(key[0])}
        for exchange, stream in self._open.items():
            if not period.has(stream.page.time[:10]):
                continue
            group = _open_group(stream.page, find_request(exchange))
            tally = groups.get(group)
            if tally is None:
                tally = groups[group] = Tally()
            tally.exchanges += 1
            tally.records += stream.records
            tally.pages += stream.pages
            if self._with_entries:
                tally.entries.extend(stream.entries)
        for group, tally in sorted(groups.items()):
            if tally.exchanges:
                entries = tuple(sorted(tally.entries))
                yield Counted(group, tally.exchanges, tally.records, tally.pages, entries)

    def _add_page(self, index: int, entry: Seen) -> None:
        stream = self._open.get(entry.exchange)
        if stream is None:
            stream = self._open[entry.exchange] = _OpenStream(entry)
        stream.page = entry
        stream.records += entry.records
        stream.pages += 1
        stream.entries.append(index)

    def _withdraw(self, index: int, exchange: str, *, before: int) -> None:
        """Take back the release at `index`, if it was counted here and stands before what withdraws it."""
        if index >= before:
            return
        release = self._entry_at(index)
        if release is None or release.kind != RELEASED or release.exchange != exchange:
            return
        if release.provider != self.member:
            return
        tally = self._groups.get(_key(release))
        if tally is None or (self._with_entries and index not in tally.entries):
            return
        tally.exchanges -= 1
        tally.records -= release.records
        tally.pages -= release.pages
        if self._with_entries:
            tally.entries.remove(index)


def _key(entry: Seen) -> Key:
    return (
        entry.time[:10],
        entry.contract,
        entry.dataset,
        entry.consumer,
        entry.purpose,
        entry.kind,
        bytes(entry.released),
        bytes(entry.reasons),
    )


def _group(key: Key) -> Group:
    day, contract, dataset, consumer, purpose, kind, fields, reasons = key
    return Group(day, contract, dataset, consumer, purpose, _OUTCOMES[kind], fields, reasons)


def _open_group(page: Seen, request: Seen | None) -> Group:
    """Return the group of an exchange without an end: its pages say less of it than what began it."""
    begun = request if request is not None and request.provider == page.provider else page
    return Group(
        page.time[:10],
        begun.contract,
        begun.dataset,
        page.consumer,
        begun.purpose,
        Outcome.OPEN,
        b"[]",
        b"[]",
    )
