"""Counting the entries of a full block by its summary, without reading them (`gateway.audit.uses`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Final

from gateway.audit.blocks import BLOCK_ENTRIES, BlockSummary, set_bits, term_of
from gateway.audit.filter import Field
from gateway.audit.search import damaged_index
from gateway.audit.uses import COUNTABLE, PAGES, REASONS, RECORDS, RELEASED, USE, places
from gateway.evidence.canonical import encode_canonical
from gateway.usage.book import Key, Sum
from gateway.usage.seen import CLOSING, COUNTED

_SPLIT: Final = (
    term_of(Field.CONTRACT, ""),
    term_of(Field.DATASET, ""),
    term_of(Field.CONSUMER, ""),
    term_of(Field.PURPOSE, ""),
    term_of(Field.KIND, ""),
    RELEASED,
    REASONS,
)
"""What begins the terms that tell the groups of a book apart, in the order of its keys."""

PREFIXES: Final = (*_SPLIT[:5], USE)
"""What begins the terms that are needed, but that of the member."""


class SummedBlock:
    """What the summary of a block says of the use of one member's records."""

    def __init__(self, number: int, summary: BlockSummary, member: str) -> None:
        self._start = number * BLOCK_ENTRIES
        self.end = self._start + BLOCK_ENTRIES
        """The index after its last entry."""
        self._summary = summary
        self._bits = {term: int.from_bytes(raw, "little") for term, raw in summary.bits.items()}
        self._own = self._bits.get(term_of(Field.PROVIDER, member), 0)
        self._countable = self._own & self._bits.get(COUNTABLE, 0)
        self._told = self._own & self._of_kinds(COUNTED)

    @property
    def told(self) -> int:
        """How many entries tell of this member's records."""
        return self._told.bit_count()

    def suffices(self, begins: str, ends: str) -> bool:
        """Whether it can be counted by: it is of one day, and the whole block lies between the times."""
        first, last = self._summary.first_time, self._summary.last_time
        return COUNTABLE in self._bits and begins <= first and last < ends and first[:10] == last[:10]

    def rest(self) -> Iterator[int]:
        """Yield the indices of the entries that have to be read all the same."""
        for at in set_bits(self._told & ~self._countable):
            yield self._start + at

    def sums(self) -> Iterator[Sum]:
        """Yield the sums of the entries that need not be read."""
        records, pages = (places(self._summary.bits, prefix) for prefix in (RECORDS, PAGES))
        for values, bits in self._groups():
            yield Sum(
                self._key(values),
                bits.bit_count(),
                _sum(bits, records),
                _sum(bits, pages),
                [self._start + at for at in set_bits(bits)],
            )

    def _groups(self) -> Iterator[tuple[dict[str, str], int]]:
        """Yield the values that entries have in common, by what begins their terms, and the entries' bits."""
        if self._countable & ~self._of_kinds(CLOSING):
            raise damaged_index()
        if not self._countable:
            return
        splits = [(prefix, self._values(prefix)) for prefix in _SPLIT]
        # The fewest first: fewer parts to take apart again.
        splits.sort(key=lambda split: len(split[1]))
        groups: list[tuple[dict[str, str], int]] = [({}, self._countable)]
        for prefix, values in splits:
            parts = []
            for common, bits in groups:
                left = bits
                for value, having in values:
                    if part := left & having:
                        parts.append(({**common, prefix: value}, part))
                        left ^= part
                        if not left:
                            break
                else:
                    # Each entry has a value of everything, be it the empty one.
                    raise damaged_index()
            groups = parts
        yield from groups

    def _of_kinds(self, kinds: Sequence[str]) -> int:
        found = 0
        for kind in kinds:
            found |= self._bits.get(term_of(Field.KIND, kind), 0)
        return found

    def _values(self, prefix: str) -> list[tuple[str, int]]:
        return [
            (term.removeprefix(prefix), bits & self._countable)
            for term, bits in self._bits.items()
            if term.startswith(prefix) and bits & self._countable
        ]

    def _key(self, values: Mapping[str, str]) -> Key:
        contract, dataset, consumer, purpose, kind, released, reasons = (values[prefix] for prefix in _SPLIT)
        day = self._summary.first_time[:10]
        return day, contract, dataset, consumer, purpose, kind, _listed(released), _listed(reasons)


def _sum(bits: int, digits: Sequence[tuple[int, int]]) -> int:
    return sum((bits & having).bit_count() << place for place, having in digits)


@lru_cache(maxsize=4096)
def _listed(names: str) -> bytes:
    """Return the names as an entry lists them."""
    return encode_canonical(names.split())
