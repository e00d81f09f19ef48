"""The block that is not full yet: summed up while it grows, and read where a writer does not know it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.blocks import BLOCK_ENTRIES, BlockSummary, IndexRow
from gateway.audit.open_block import OpenBlock
from gateway.audit.store import PendingEntry, prepare_entry
from gateway.audit.tree import Frontier, append
from gateway.model import Entry, EntryKind

ENTRIES = [
    prepare_entry(
        Entry(
            v=1,
            kind=EntryKind.EXCHANGE_DENIED if number % 5 == 0 else EntryKind.EXCHANGE_RELEASED,
            time=f"2026-11-22T10:{number // 60 % 60:02}:{number % 60:02}.000000Z",
            exchange="" if number % 97 == 0 else f"exchange-{number}",
            consumer=f"bank-{number % 7}",
            reasons=("PURPOSE_UNKNOWN", "TIER_UNKNOWN") if number % 5 == 0 else (),
        )
    )
    for number in range(2 * BLOCK_ENTRIES + 100)
]
ROWS = [item.row for item in ENTRIES]


class Writer:
    """Appends as a store does, and knows which rows were read back."""

    def __init__(self) -> None:
        self.block = OpenBlock()
        self.frontier = Frontier()
        self.read: list[tuple[int, int]] = []
        self.summaries: dict[int, BlockSummary] = {}

    def append(self, count: int, *, fails: bool = False, foreign: bool = False) -> None:
        added: Sequence[PendingEntry] = ENTRIES[self.frontier.size : self.frontier.size + count]
        batch = append(self.frontier, [item.leaf_hash for item in added])
        found = {} if foreign else dict(self.block.summaries(batch, added, self._read))
        if fails:
            return
        self.frontier = batch.frontier
        if not foreign:
            self.block.follow(batch, added)
            self.block.sum_up()
        self.summaries |= found

    def _read(self, first: int, end: int) -> Sequence[IndexRow]:
        self.read.append((first, end))
        return ROWS[first:end]


def whole(number: int) -> BlockSummary:
    return BlockSummary.of(ROWS[number * BLOCK_ENTRIES : (number + 1) * BLOCK_ENTRIES])


def test_who_appends_everything_reads_nothing_back():
    writer = Writer()
    for size in (1, 7, 300, 2000, 5, 3000, 2879):
        writer.append(size)
    assert writer.frontier.size == 2 * BLOCK_ENTRIES
    assert writer.summaries == {0: whole(0), 1: whole(1)}
    assert writer.read == []


def test_what_was_there_before_is_read_once():
    writer = Writer()
    writer.append(1000, foreign=True)
    writer.append(BLOCK_ENTRIES - 1000)
    writer.append(BLOCK_ENTRIES)
    assert writer.summaries == {0: whole(0), 1: whole(1)}
    assert writer.read == [(0, 1000)]


@pytest.mark.parametrize("what", ["fails", "foreign"])
def test_after_a_failure_or_another_writer_the_rows_are_read(what):
    writer = Writer()
    writer.append(BLOCK_ENTRIES - 10)
    if what == "fails":
        writer.append(10, fails=True)
    else:
        writer.append(3, foreign=True)
    writer.append(BLOCK_ENTRIES - writer.frontier.size + 1)
    assert writer.summaries == {0: whole(0)}
    assert len(writer.read) == 1


@given(
    st.lists(
        st.tuples(st.integers(1, 1500), st.sampled_from(["commits", "commits", "fails", "foreign"])),
        max_size=12,
    )
)
def test_however_a_block_came_about_its_summary_is_that_of_its_rows(steps: list[tuple[int, str]]) -> None:
    writer = Writer()
    for count, how in steps:
        room = len(ENTRIES) - writer.frontier.size
        if count <= room:
            writer.append(count, fails=how == "fails", foreign=how == "foreign")
    for number, summary in writer.summaries.items():
        assert summary == whole(number)
