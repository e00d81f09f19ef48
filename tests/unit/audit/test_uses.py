"""What summaries have for counting: digits of numbers, and what of an entry may be counted by them."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.blocks import BLOCK_ENTRIES, BlockSummary, IndexRow, beside_columns, set_bits
from gateway.audit.store import prepare_entry
from gateway.audit.uses import PAGES, RECORDS, digits, places, uses_of, worth_summing
from gateway.model import Entry, EntryKind
from tests.simulators import usage as made

RELEASE = Entry(
    v=1,
    kind=EntryKind.EXCHANGE_RELEASED,
    time="2026-10-01T00:00:00.000000Z",
    operation="query",
    released=("amount", "due"),
    records=300,
    pages=1,
)


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=300))
def test_numbers_are_the_sum_of_their_digits(numbers):
    found = dict(digits(numbers))
    for at, number in enumerate(numbers):
        assert sum((bits >> at & 1) << place for place, bits in found.items()) == number
    assert len(found) == max(numbers).bit_length()


@given(st.sets(st.integers(0, BLOCK_ENTRIES - 1), max_size=600), st.booleans())
def test_places_of_bits_come_in_order(places_set, highest_first):
    bits = sum(1 << at for at in places_set)
    assert list(set_bits(bits, highest_first=highest_first)) == sorted(places_set, reverse=highest_first)


def test_a_release_says_what_has_left():
    assert uses_of([RELEASE]) == [("amount due", 300, 1)]


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": EntryKind.EXCHANGE_REQUESTED},
        {"kind": EntryKind.EXCHANGE_PAGE},
        {"operation": "stream"},
        {"kind": EntryKind.EXCHANGE_FAILED, "withdraws": 0},
        # Nobody writes this; an examination must get past it.
        {"records": -1},
        {"pages": -1},
        {"records": 2**200},
    ],
)
def test_what_has_to_be_read_beside_others_is_not_counted_by_a_summary(changes):
    assert uses_of([msgspec.structs.replace(RELEASE, **changes)]) == [None]


def test_a_stored_entry_is_summed_up_as_it_was_when_it_came():
    entries = made.entries_of(made.many_exchanges(300, seconds=86_400))
    stored = beside_columns(prepare_entry(entry).data for entry in entries)
    assert stored == [IndexRow.of(entry)[-2:] for entry in entries]
    assert beside_columns([b"no entry", b"{}"]) == [("", None), ("", None)]


def test_the_sums_of_a_block_are_those_of_its_rows():
    entries = made.entries_of(made.many_exchanges(2600, seconds=86_400))[:BLOCK_ENTRIES]
    rows = [IndexRow.of(entry) for entry in entries]
    bits = BlockSummary.of(rows).bits
    chosen = random.Random(1).getrandbits(BLOCK_ENTRIES)
    for at, prefix in ((1, RECORDS), (2, PAGES)):
        expected = sum(row.use[at] for number, row in enumerate(rows) if row.use and chosen >> number & 1)
        assert (
            sum((chosen & having).bit_count() << place for place, having in places(bits, prefix)) == expected
        )
        assert expected


def test_too_many_lists_are_not_worth_it():
    lists = [f"use.released=field_{number}" for number in range(65)]
    assert worth_summing(lists[:64])
    assert not worth_summing(lists)
