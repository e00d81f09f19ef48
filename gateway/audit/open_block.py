"""The block of the search that is not full yet, as the one who appends knows it.

Summing up 4,096 entries in the transaction that makes a block full would keep every entry of that
transaction waiting. So a writer sums up while nobody waits, some hundreds of entries at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from gateway.audit.blocks import (
    BLOCK_ENTRIES,
    BlockSummary,
    GrowingSummary,
    IndexColumns,
    IndexRow,
    completed_blocks,
)
from gateway.audit.store import PendingEntry
from gateway.audit.tree import Batch

ReadRows = Callable[[int, int], Sequence[IndexRow]]
"""Takes indices from, to before; returns the rows of the entries stored there, in order."""

SUMMED_AT_ONCE: Final = 256
"""So many entries are waited for: fewer at a time cost more each."""


class OpenBlock:
    """What a writer has appended to the block since it began, if nobody else has appended to it."""

    def __init__(self) -> None:
        self._size: int | None = None
        """The log's size that the rest is in step with; None while that is not known."""
        self._growing = GrowingSummary()
        self._rows: list[IndexRow] = []

    def summaries(
        self, batch: Batch, added: Sequence[PendingEntry], stored_rows: ReadRows
    ) -> Iterator[tuple[int, BlockSummary]]:
        """Yield (number, summary) of the blocks that `batch` makes full.

        `added` are its entries; what stood before is read with `stored_rows` where it is not known here.
        """
        for number in completed_blocks(batch.first, batch.frontier.size):
            start, end = number * BLOCK_ENTRIES, (number + 1) * BLOCK_ENTRIES
            rows = [item.row for item in added[max(start - batch.first, 0) : end - batch.first]]
            growing = GrowingSummary()
            if start < batch.first == self._size:
                growing, rows = self._growing, self._rows + rows
                # Spent: should the transaction fail, the rows are read.
                self._size = None
            elif start < batch.first:
                rows = [*stored_rows(start, batch.first), *rows]
            growing.add(_columns(rows))
            yield number, growing.summary()

    def follow(self, batch: Batch, added: Sequence[PendingEntry]) -> None:
        """Take note that `batch`, whose entries are `added`, is committed."""
        size = batch.frontier.size
        start = size - size % BLOCK_ENTRIES
        if start >= batch.first:
            self._growing = GrowingSummary()
            self._rows = [item.row for item in added[start - batch.first :]]
        elif batch.first == self._size:
            self._rows += [item.row for item in added]
        else:
            self._size = None
            return
        self._size = size

    def sum_up(self) -> None:
        """Sum up what has come together, if it is worth it."""
        if self._size is not None and len(self._rows) >= SUMMED_AT_ONCE:
            self._growing.add(_columns(self._rows))
            self._rows = []


def _columns(rows: Sequence[IndexRow]) -> IndexColumns:
    return IndexColumns._make(zip(*rows, strict=True))
