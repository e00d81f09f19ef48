"""What of a full block can be counted without reading its entries.

An entry that closes an exchange says how many records have left, and which fields. The summary of a block has
the bits of the entries that may be counted by it, of each list of fields and of reasons, and of the numbers
one row of bits for each binary digit (a bit-sliced index; O'Neil and Quass, SIGMOD 1997): the sum over any
set of entries is a few counts of bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Final

import msgspec

from gateway.model.entry import Entry, EntryKind
from gateway.model.query import Operation

COUNTABLE: Final = "use="
"""The term of the entries that may be counted by the summary. Every summary has it, be it without a bit, but
one by a release that knew no such terms, and one of a block with more lists of fields than are worth it."""
RELEASED: Final = "use.released="
"""Begins the terms of these entries for the fields released: their names, with a space between."""
REASONS: Final = "use.reasons="
"""Begins those for the reasons, as a row of the index has them."""
RECORDS: Final = "use.records."
"""Begins those of the digits of the number of records; the digit's place follows, from 0, and `=`."""
PAGES: Final = "use.pages."
"""Begins those of the digits of the number of pages."""

USE: Final = "use"
"""Begins all of these terms, and no other."""
_MAX_LISTS: Final = 64
"""With more lists of fields, or of reasons, in one block its rows would take more than its entries."""

_CLOSING: Final = frozenset(
    {EntryKind.EXCHANGE_RELEASED, EntryKind.EXCHANGE_FAILED, EntryKind.EXCHANGE_DENIED}
)
_STREAM: Final = Operation.STREAM.value
_TOO_MANY: Final = 1 << 40
_BYTE: Final = 8
_DIGITS: Final = tuple(bytes(b"01"[value >> place & 1] for value in range(256)) for place in range(8))
"""For each place of a byte: the table from a byte to the digit it has there."""


Use = tuple[str, int, int]
"""What an entry that may be counted says: the names of the fields with a space between, records, and pages.
A plain tuple, as one is made of every second entry."""


class BesideColumns(msgspec.Struct):
    """What is read of a stored entry for what is no column of the table."""

    contract: str = ""
    kind: str = ""
    operation: str = ""
    withdraws: int | None = None
    released: list[str] = []
    records: int = 0
    pages: int = 0


_members: Final = attrgetter("kind", "operation", "withdraws", "released", "records", "pages")


def uses_of(entries: Iterable[Entry | BesideColumns]) -> list[Use | None]:
    """Return what each entry says, None for one that has to be read beside others to be counted.

    Streams do: they have entries for pages. So does what takes a release back. Numbers that no gateway
    writes, but an examined log may hold, are left to whoever reads the entry too.
    """
    return [
        (" ".join(released), records, pages)
        if kind in _CLOSING
        and withdraws is None
        and operation != _STREAM
        and 0 <= records < _TOO_MANY
        and 0 <= pages < _TOO_MANY
        else None
        for kind, operation, withdraws, released, records, pages in map(_members, entries)
    ]


def digits(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield (place, bits) for each binary place up to the highest: bit i is that of number i."""
    length = max(numbers).bit_length()
    backwards = numbers[::-1]
    for lowest in range(0, length, _BYTE):
        plane = bytes(backwards if length <= _BYTE else [number >> lowest & 255 for number in backwards])
        for place in range(min(_BYTE, length - lowest)):
            yield lowest + place, int(plane.translate(_DIGITS[place]), 2)


def digit_term(prefix: str, place: int) -> str:
    """Return the term of the digit at `place`."""
    return f"{prefix}{place}="


def is_term_of_use(term: str) -> bool:
    """Whether a term is one of those here."""
    return term.startswith(USE)


def worth_summing(terms: Iterable[str]) -> bool:
    """Whether a block with these terms is to be counted by them."""
    terms = list(terms)
    return all(sum(term.startswith(prefix) for term in terms) <= _MAX_LISTS for prefix in (RELEASED, REASONS))


def places(bits: Mapping[str, bytes], prefix: str) -> list[tuple[int, int]]:
    """Return (place, bits as a number) of the digits under `prefix` in a block's summary."""
    return [
        (int(term[len(prefix) : -1]), int.from_bytes(raw, "little"))
        for term, raw in bits.items()
        if term.startswith(prefix)
    ]
