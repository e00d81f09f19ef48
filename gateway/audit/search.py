"""Finding entries: the search over the summaries of blocks (`gateway.audit.blocks`).

Conditions on terms are operations on whole numbers, exact to the entry; no entry is read that is not
found. The entries after the last full block are summed up when they are searched. Ten million entries
are 2,441 blocks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import Final, Protocol

from gateway.audit.blocks import (
    BLOCK_BYTES,
    BLOCK_ENTRIES,
    PLACES,
    WITHOUT_CONTRACT,
    IndexRow,
    bits_of,
    set_bits,
    term_of,
)
from gateway.audit.errors import LogMismatchError
from gateway.audit.filter import And, Before, Field, Filter, Has, Not, Or, Present
from gateway.model.entry import EntryKind

_FIRST_STRIDE: Final = 4
_MAX_STRIDE: Final = 1024
"""Blocks that are looked at together: few at first, as most pages are filled by the first ones."""

PAGE_LOOKUPS: Final = 20_000
"""After so many lookups of one term in one block a page ends, even if it is not full: about 25 ms. Eight
conditions on ten million entries stay below it."""
_CUT_BLOCK_LOOKUPS: Final = BLOCK_ENTRIES
"""What reading the times of a block's entries counts for: it takes as long."""
_READ_BLOCK_LOOKUPS: Final = 2 * BLOCK_ENTRIES
"""What reading the entries of a block counts for."""

_FULL: Final = b"\xff" * BLOCK_BYTES
_EMPTY: Final = bytes(BLOCK_BYTES)


class SearchIndex(Protocol):
    """What a search asks of one committed state of a store. Blocks here are full ones."""

    def times(self, first: int, end: int) -> Sequence[tuple[str, str]]:
        """Return (earliest, latest) time of the blocks from `first` to before `end`, in order."""
        ...

    def bits(self, term: str, first: int, end: int) -> Sequence[tuple[int, bytes]]:
        """Return (number, bits) of the blocks in that range whose summaries have `term`, in order.

        Blocks that follow one another may come together: the number of the first, and the bits of all.
        """
        ...

    def column(self, name: str, start: int, end: int) -> Sequence[str]:
        """Return a field of `IndexRow` of the entries from `start` to before `end`, in order."""
        ...

    def of_exchange(self, exchange: str) -> Sequence[int]:
        """Return the indices of the entries of an exchange."""
        ...


def search(
    index: SearchIndex, wanted: Filter, start: int, end: int, *, newest_first: bool, size: int
) -> Iterator[int]:
    """Yield the indices from `start` to before `end` of the entries of `wanted`.

    `size` is the number of entries that `index` holds; `end` must not exceed it.
    """
    wanted = _cheapest_first(wanted)
    earlier = _blocks_of_earlier_releases(index, wanted, size)
    for stretch in _stretches(index, start, end, newest_first=newest_first, size=size, earlier=earlier):
        found = stretch.evaluate(wanted)
        if found:
            yield from _indices(stretch, found, start, end, newest_first=newest_first)


def search_page(
    index: SearchIndex, wanted: Filter, end: int, *, page_size: int, size: int, lookups: int = PAGE_LOOKUPS
) -> tuple[Sequence[int], int | None]:
    """Return the indices of the newest entries of `wanted` below `end`, and where the next page goes on.

    That is the index below which it begins, None if nothing is left. A page has fewer than `page_size`
    entries, or none, when as many `lookups` were made: no filter takes much longer than another.
    """
    wanted = _cheapest_first(wanted)
    # A stretch is looked at as a whole: it must not be longer than what is left to do by far.
    longest = max(_FIRST_STRIDE, lookups // (4 * max(1, _conditions(wanted))))
    earlier = _blocks_of_earlier_releases(index, wanted, size)
    found: list[int] = []
    for stretch in _stretches(index, 0, end, newest_first=True, size=size, earlier=earlier, longest=longest):
        indices = _indices(stretch, stretch.evaluate(wanted), 0, end, newest_first=True)
        found += islice(indices, page_size - len(found))
        if len(found) == page_size:
            return found, found[-1] or None
        lookups -= stretch.lookups
        if lookups <= 0:
            return found, stretch.start or None
    return found, None


def _stretches(
    index: SearchIndex,
    start: int,
    end: int,
    *,
    newest_first: bool,
    size: int,
    earlier: Collection[int],
    longest: int = _MAX_STRIDE,
) -> Iterator[_Stretch]:
    """Yield the stretches, of at most `longest` blocks, with the entries from `start` to before `end`.

    Where there are blocks of which entries must be read, `earlier`, stretches stay short.
    """
    if start >= end:
        return
    short_below = max(earlier, default=-1) + 1
    summed_up = size - size % BLOCK_ENTRIES
    tail = [_Tail(index, max(start, summed_up), end)] if end > summed_up else []
    if newest_first:
        yield from tail
    first, last = start // BLOCK_ENTRIES, -(-min(end, summed_up) // BLOCK_ENTRIES)
    stride = _FIRST_STRIDE
    while first < last:
        if newest_first:
            lowest = short_below if last > short_below else last - _FIRST_STRIDE
            begin = max(first, last - stride, lowest)
            yield _Blocks(index, begin, last, earlier)
            last = begin
        else:
            finish = min(last, first + (_FIRST_STRIDE if first < short_below else stride))
            yield _Blocks(index, first, finish, earlier)
            first = finish
        stride = min(2 * stride, longest, _MAX_STRIDE)
    if not newest_first:
        yield from tail


class _Stretch(ABC):
    """Entries that follow each other, and the bits of those for which something holds, as one number."""

    def __init__(self, index: SearchIndex, start: int, end: int) -> None:
        self._index = index
        self.start = start
        self.end = end
        self._all = (1 << end - start) - 1
        self.lookups = 0
        """What it has taken so far, as lookups of one term in one block."""

    def evaluate(self, wanted: Filter) -> int:
        """Return the bits of the entries of `wanted`."""
        match wanted:
            case Has(Field.EXCHANGE, value):
                found = self._of_indices(self._index.of_exchange(value))
            case Has(field, value):
                found = self._any_of(_terms(field, value))
            case Present(Field.MEMBER):
                found = self._present(Field.CONSUMER) | self._present(Field.PROVIDER)
            case Present(field):
                found = self._present(field)
            case Before(time):
                found = self._before(time)
            case Not(operand):
                found = self._all ^ self.evaluate(operand)
            case And(operands):
                found = self._all_of(operands)
            case Or(operands):
                found = self._one_of(operands)
        return found

    def _present(self, field: Field) -> int:
        # An entry without a value has the term of the empty one.
        return self._all ^ self._bits(term_of(field, ""))

    def _all_of(self, operands: Sequence[Filter]) -> int:
        found = self._all
        for operand in operands:
            found &= self.evaluate(operand)
            if not found:
                break
        return found

    def _one_of(self, operands: Sequence[Filter]) -> int:
        found = 0
        for operand in operands:
            found |= self.evaluate(operand)
            if found == self._all:
                break
        return found

    def _any_of(self, terms: Sequence[str]) -> int:
        found = 0
        for term in terms:
            found |= self._bits(term)
        return found

    def _of_indices(self, indices: Sequence[int]) -> int:
        found = 0
        for index in indices:
            if self.start <= index < self.end:
                found |= 1 << index - self.start
        return found

    @abstractmethod
    def _bits(self, term: str) -> int:
        """Return the bits of the entries that have a term."""

    @abstractmethod
    def _before(self, time: str) -> int:
        """Return the bits of the entries before a time."""


class _Blocks(_Stretch):
    """Full blocks, known by their summaries."""

    def __init__(self, index: SearchIndex, first: int, end: int, earlier: Collection[int]) -> None:
        super().__init__(index, first * BLOCK_ENTRIES, end * BLOCK_ENTRIES)
        self._earlier = [number for number in range(first, end) if number in earlier] if earlier else []
        self._first = first
        self._last = end
        self._times: Sequence[tuple[str, str]] | None = None
        self._entry_times_read: dict[int, Sequence[str]] = {}
        self._contracts_read: dict[int, Sequence[str]] = {}

    def _bits(self, term: str) -> int:
        self.lookups += self._last - self._first
        found = self._index.bits(term, self._first, self._last)
        if self._earlier and term.startswith(WITHOUT_CONTRACT):
            found = [*found, *self._bits_of_contract(term.removeprefix(WITHOUT_CONTRACT))]
        if not found:
            return 0
        joined = bytearray((self._last - self._first) * BLOCK_BYTES)
        for number, bits in found:
            start = (number - self._first) * BLOCK_BYTES
            if len(bits) % BLOCK_BYTES or not 0 <= start < start + len(bits) <= len(joined):
                raise damaged_index()
            joined[start : start + len(bits)] = bits
        return int.from_bytes(joined, "little")

    def _bits_of_contract(self, wanted: str) -> Iterator[tuple[int, bytes]]:
        """Yield the bits of the blocks whose summaries know nothing of contracts."""
        for number in self._earlier:
            contracts = self._contracts_read.get(number)
            if contracts is None:
                self.lookups += _READ_BLOCK_LOOKUPS
                contracts = self._contracts_read[number] = self._entries_of(number, "contract")
            bits = bits_of([contract == wanted for contract in contracts])
            yield number, bits.to_bytes(BLOCK_BYTES, "little")

    def _before(self, time: str) -> int:
        if self._times is None:
            self.lookups += self._last - self._first
            self._times = self._index.times(self._first, self._last)
            if len(self._times) != self._last - self._first:
                raise damaged_index()
        pieces = []
        for number, (earliest, latest) in enumerate(self._times, start=self._first):
            if latest < time:
                pieces.append(_FULL)
            elif earliest >= time:
                pieces.append(_EMPTY)
            else:
                bits = bits_of([moment < time for moment in self._entry_times(number)])
                pieces.append(bits.to_bytes(BLOCK_BYTES, "little"))
        return int.from_bytes(b"".join(pieces), "little")

    def _entry_times(self, number: int) -> Sequence[str]:
        """Return the times of the entries of a block; both ends of a span of time may lie in one."""
        times = self._entry_times_read.get(number)
        if times is None:
            self.lookups += _CUT_BLOCK_LOOKUPS
            times = self._entry_times_read[number] = self._entries_of(number, "time")
        return times

    def _entries_of(self, number: int, name: str) -> Sequence[str]:
        column = self._index.column(name, number * BLOCK_ENTRIES, (number + 1) * BLOCK_ENTRIES)
        if len(column) != BLOCK_ENTRIES:
            raise damaged_index()
        return column


class _Tail(_Stretch):
    """Entries after the last full block: summed up now."""

    def __init__(self, index: SearchIndex, start: int, end: int) -> None:
        super().__init__(index, start, end)
        self._columns_read: dict[str, Sequence[str]] = {}

    def _bits(self, term: str) -> int:
        name, _, value = term.partition("=")
        field = Field(name)
        if field is Field.REASON:
            code = f" {value} "
            return bits_of([code in listed if value else not listed for listed in self._column("reasons")])
        if field is Field.EXCHANGE:
            return bits_of([not exchange for exchange in self._column("exchange")])
        return bits_of([listed == value for listed in self._column(IndexRow._fields[PLACES[field]])])

    def _before(self, time: str) -> int:
        return bits_of([moment < time for moment in self._column("time")])

    def _column(self, name: str) -> Sequence[str]:
        """Return a column; a search reads those that it asks for, and each once."""
        column = self._columns_read.get(name)
        if column is None:
            column = self._index.column(name, self.start, self.end)
            if len(column) != self.end - self.start:
                raise damaged_index()
            self._columns_read[name] = column
        return column


def damaged_index() -> LogMismatchError:
    """Return the error that tells of an index that is not what the writer left."""
    return LogMismatchError(
        "The index of the audit log is damaged; run `gateway audit fsck` and restore a sound copy."
    )


def _cheapest_first(wanted: Filter) -> Filter:
    """Return `wanted` with the operands of each AND in the order of what they cost to look up."""
    match wanted:
        case Not(operand):
            return Not(_cheapest_first(operand))
        case Or(operands):
            return Or(tuple(map(_cheapest_first, operands)))
        case And(operands):
            return And(tuple(sorted(map(_cheapest_first, operands), key=_cost)))
        case _:
            return wanted


def _conditions(wanted: Filter) -> int:
    """Return how many terms a filter looks up in a block, at most."""
    match wanted:
        case Has(field, value):
            return len(_terms(field, value))
        case Present(Field.MEMBER):
            return 2
        case Not(operand):
            return _conditions(operand)
        case And(operands) | Or(operands):
            return sum(map(_conditions, operands))
        case _:
            return 1


def _blocks_of_earlier_releases(index: SearchIndex, wanted: Filter, size: int) -> Collection[int]:
    """Return the full blocks summed up when an entry could not be found by its contract, if that is asked."""
    if not _asks_for_contracts(wanted):
        return ()
    blocks = size // BLOCK_ENTRIES
    earlier = set(range(blocks))
    for number, bits in index.bits(WITHOUT_CONTRACT, 0, blocks):
        earlier.difference_update(range(number, number + len(bits) // BLOCK_BYTES))
    return earlier


def _asks_for_contracts(wanted: Filter) -> bool:
    match wanted:
        case Has(field) | Present(field):
            return field is Field.CONTRACT
        case Not(operand):
            return _asks_for_contracts(operand)
        case And(operands) | Or(operands):
            return any(map(_asks_for_contracts, operands))
        case _:
            return False


def _cost(wanted: Filter) -> int:
    match wanted:
        case Has(Field.EXCHANGE):
            return 0
        case Before() | Not(Before()):
            return 1
        case _ if _asks_for_contracts(wanted):
            return 4
        case Has():
            return 2
        case _:
            return 3


def _indices(stretch: _Stretch, found: int, start: int, end: int, *, newest_first: bool) -> Iterator[int]:
    """Yield the indices of the bits in `found`, block by block, so that no long number is taken apart."""
    before = max(0, start - stretch.start)
    within = found >> before << before & (1 << max(0, min(end, stretch.end) - stretch.start)) - 1
    raw = within.to_bytes(-(-(stretch.end - stretch.start) // 8), "little")
    places: Sequence[int] = range(0, len(raw), BLOCK_BYTES)
    for place in reversed(places) if newest_first else places:
        base = stretch.start + place * 8
        bits = int.from_bytes(raw[place : place + BLOCK_BYTES], "little")
        for at in set_bits(bits, highest_first=newest_first):
            yield base + at


def _terms(field: Field, value: str) -> list[str]:
    """Return the terms of which an entry has one if the field has the value."""
    if field is Field.MEMBER:
        return [term_of(Field.CONSUMER, value), term_of(Field.PROVIDER, value)]
    if field is Field.KIND and value.endswith(".*"):
        return [term_of(field, kind.value) for kind in EntryKind if kind.value.startswith(value[:-1])]
    return [term_of(field, value)]
