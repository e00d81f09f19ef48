"""What entries are found by, and the summary of many of them.

An index row for every entry and term would cost more than the rest of the append. Instead, entries
are summed up in blocks of 4,096: for each full block the times it spans, and for each term that
occurs in it one bit for each entry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from gateway.audit.filter import Field
from gateway.audit.uses import (
    COUNTABLE,
    PAGES,
    REASONS,
    RECORDS,
    RELEASED,
    BesideColumns,
    Use,
    digit_term,
    digits,
    is_term_of_use,
    uses_of,
    worth_summing,
)
from gateway.evidence.canonical import DECODE_ERRORS
from gateway.model.entry import Entry

BLOCK_ENTRIES: Final = 4096
BLOCK_BYTES: Final = BLOCK_ENTRIES // 8

WITHOUT_CONTRACT: Final = "contract="
"""The term of entries without a contract; those of contracts begin with it. Every summary has it, be it
without a bit: a block whose summary lacks it was summed up by a release that knew no such terms."""

_Value = TypeVar("_Value", str, str | None)

_NO_USE: Final = (None, 0, 0)
"""Stands for an entry that may not be counted, where numbers are summed up."""

_FEW_VALUES: Final = 32
"""Up to so many values of a column, a pass for each costs less than a look at each row."""


_FEW_BITS: Final = 256
"""Up to so many bits of a block, taking one after the other costs less than a look at each place."""
_FLAGS: Final = bytes.maketrans(b"01", b"\x00\x01")


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
    tier: str
    purpose: str
    contract: str
    """This and what follows are no columns of the table (`COLUMNS`)."""
    use: Use | None

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
            entry.tier,
            entry.purpose,
            entry.contract,
            *uses_of([entry]),
        )


COLUMNS: Final = IndexRow._fields[: IndexRow._fields.index("contract")]
"""What of a row is a column of a log's table, beside the entry. An entry's contract is not: it is the longest
of all values and seldom asked for, and stands in the entry for whoever asks (`beside_columns`); neither is
what it says of use."""
NOTHING_LISTED: Final = IndexRow._make([*[""] * (len(COLUMNS) + 1), None])
"""The row of what is no entry."""


class IndexColumns(NamedTuple):
    """The rows of many entries, column by column: the fields are those of `IndexRow`."""

    time: Sequence[str]
    kind: Sequence[str]
    exchange: Sequence[str]
    consumer: Sequence[str]
    provider: Sequence[str]
    dataset: Sequence[str]
    reasons: Sequence[str]
    tier: Sequence[str]
    purpose: Sequence[str]
    contract: Sequence[str]
    use: Sequence[Use | None]

    @classmethod
    def of(cls, entries: Sequence[Entry]) -> IndexColumns:
        """Return the rows of `entries`; for many this costs a third of what `IndexRow.of` of each does."""
        columns: list[Any] = [list(map(attrgetter(name), entries)) for name in cls._fields[:-1]]
        reasons = columns[_REASONS]
        if any(reasons):
            columns[_REASONS] = ["".join([f" {code} " for code in codes]) for codes in reasons]
        else:
            columns[_REASONS] = [""] * len(entries)
        return cls._make([*columns, uses_of(entries)])


_decode_beside_columns: Final = msgspec.json.Decoder(BesideColumns).decode


def beside_columns(leaves: Iterable[bytes]) -> list[tuple[str, Use | None]]:
    """Return contract and use of each entry. What is no entry has none; `fsck` finds it."""
    found = []
    for leaf in leaves:
        try:
            found.append(_decode_beside_columns(leaf))
        except DECODE_ERRORS:
            found.append(BesideColumns())
    return list(zip([read.contract for read in found], uses_of(found), strict=True))


PLACES: Final = {
    Field.KIND: 1,
    Field.CONSUMER: 3,
    Field.PROVIDER: 4,
    Field.DATASET: 5,
    Field.TIER: 7,
    Field.PURPOSE: 8,
    Field.CONTRACT: 9,
}
"""Where a row has the fields of one value."""
_EXCHANGE: Final = 2
_REASONS: Final = 6


@dataclass(frozen=True, slots=True)
class BlockSummary:
    """What is known of a full block without reading it."""

    first_time: str
    """The earliest time of its entries."""
    last_time: str
    """The latest."""
    bits: Mapping[str, bytes]
    """For each term, `BLOCK_BYTES` bytes: bit i (of byte i // 8, lowest first) is entry i of the block."""

    @classmethod
    def of(cls, rows: Sequence[IndexRow]) -> BlockSummary:
        """Sum up the rows of a block."""
        growing = GrowingSummary()
        growing.add(IndexColumns._make(zip(*rows, strict=True)))
        return growing.summary()


class GrowingSummary:
    """The summary of a block whose rows come some at a time, so that nobody has to hold all of them."""

    def __init__(self) -> None:
        self._times: list[str] = []
        self._bits: dict[str, int] = {WITHOUT_CONTRACT: 0, COUNTABLE: 0}
        self.entries = 0

    def add(self, columns: IndexColumns) -> None:
        """Add the next rows, at least one."""
        self._times += min(columns.time), max(columns.time)
        texts: tuple[Sequence[str], ...] = columns[:-1]
        for field, place in PLACES.items():
            for value, bits in _bits_by_value(texts[place]).items():
                self._set(term_of(field, value), bits)
        by_reasons = _bits_by_value(columns.reasons)
        for codes, bits in by_reasons.items():
            for code in codes.split() or [""]:
                self._set(term_of(Field.REASON, code), bits)
        if any(columns.use):
            self._add_uses(columns.use, by_reasons)
        if "" in columns.exchange:
            without = bits_of([not exchange for exchange in columns.exchange])
            self._set(term_of(Field.EXCHANGE, ""), without)
        self.entries += len(columns.time)

    def summary(self) -> BlockSummary:
        """Return the summary; raise `ValueError` unless the block is full."""
        if self.entries != BLOCK_ENTRIES:
            raise ValueError("only full blocks are summed up")
        counts = worth_summing(self._bits)
        bits = {
            term: bits.to_bytes(BLOCK_BYTES, "little")
            for term, bits in self._bits.items()
            if counts or not is_term_of_use(term)
        }
        return BlockSummary(min(self._times), max(self._times), bits)

    def _add_uses(self, uses: Sequence[Use | None], by_reasons: Mapping[str, int]) -> None:
        released, records, pages = zip(*[use or _NO_USE for use in uses], strict=True)
        by_released = _bits_by_value(released)
        countable = (1 << len(uses)) - 1 ^ by_released.pop(None, 0)
        self._set(COUNTABLE, countable)
        for names, bits in by_released.items():
            self._set(f"{RELEASED}{names}", bits)
        for listed, bits in by_reasons.items():
            if bits & countable:
                self._set(REASONS + listed, bits & countable)
        for prefix, numbers in ((RECORDS, records), (PAGES, pages)):
            for place, bits in digits(numbers):
                self._set(digit_term(prefix, place), bits)

    def _set(self, term: str, bits: int) -> None:
        self._bits[term] = self._bits.get(term, 0) | bits << self.entries


def completed_blocks(first: int, size: int) -> range:
    """Return the numbers of the blocks that become full as a log grows from `first` to `size` entries."""
    return range(first // BLOCK_ENTRIES, size // BLOCK_ENTRIES)


def term_of(field: Field, value: str) -> str:
    """Return the term of the entries that have this value of a field."""
    return f"{field}={value}"


def bits_of(flags: Sequence[bool]) -> int:
    """Return the number whose bit i is flag i."""
    return int("".join(["1" if flag else "0" for flag in reversed(flags)]) or "0", 2)


def set_bits(bits: int, *, highest_first: bool = False) -> Iterator[int]:
    """Yield the places of the bits that are set, in a number of one block."""
    if bits.bit_count() > _FEW_BITS:
        # All at once: a flag of one byte for each entry, the newest first.
        flags = f"{bits:0{BLOCK_ENTRIES}b}".encode().translate(_FLAGS)
        block = range(BLOCK_ENTRIES)
        yield from compress(block[::-1], flags) if highest_first else compress(block, flags[::-1])
        return
    while bits:
        at = (bits if highest_first else bits & -bits).bit_length() - 1
        bits ^= 1 << at
        yield at


def _bits_by_value(column: Sequence[_Value]) -> dict[_Value, int]:
    """Return for each value of the column the number whose bit i says that row i has it."""
    codes = {value: code for code, value in enumerate(dict.fromkeys(column))}
    if len(codes) == 1:
        return dict.fromkeys(codes, (1 << len(column)) - 1)
    if len(codes) <= _FEW_VALUES:
        # The column as one text of a character for each row, and from it for each value one of binary digits.
        coded = bytes(map(codes.__getitem__, reversed(column)))
        return {
            value: int(coded.translate(b"0" * code + b"1" + b"0" * (255 - code)), 2)
            for value, code in codes.items()
        }
    found = {value: bytearray(-(-len(column) // 8)) for value in codes}
    for at, value in enumerate(column):
        found[value][at >> 3] |= 1 << (at & 7)
    return {value: int.from_bytes(raw, "little") for value, raw in found.items()}
