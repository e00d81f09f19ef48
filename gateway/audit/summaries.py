"""Reading the summaries of full blocks, for whoever counts instead of searching."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gateway.audit.blocks import BLOCK_BYTES, BlockSummary
from gateway.audit.search import SearchIndex, damaged_index


class SummaryIndex(SearchIndex, Protocol):
    """What is asked of one committed state of a store: what a search asks, and which terms there are."""

    def terms(self, prefix: str) -> Sequence[str]:
        """Return the terms that begin with `prefix`, in whatever block."""
        ...


def read_summaries(
    index: SummaryIndex, prefixes: Sequence[str], first: int, end: int
) -> Sequence[BlockSummary]:
    """Return the summaries of the full blocks from `first` to before `end`, with the terms of `prefixes`."""
    times = index.times(first, end)
    if len(times) != end - first:
        raise damaged_index()
    found: list[dict[str, bytes]] = [{} for _ in times]
    for term in [term for prefix in prefixes for term in index.terms(prefix)]:
        for number, joined in index.bits(term, first, end):
            blocks = len(joined) // BLOCK_BYTES
            if len(joined) % BLOCK_BYTES or not first <= number <= number + blocks <= end:
                raise damaged_index()
            for at in range(blocks):
                found[number - first + at][term] = joined[at * BLOCK_BYTES : (at + 1) * BLOCK_BYTES]
    return [BlockSummary(*span, bits) for span, bits in zip(times, found, strict=True)]
