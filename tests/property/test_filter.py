"""Filters: their text comes back as the same filter; a search finds what a look at each entry finds."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.audit import search as searching
from gateway.audit.blocks import BLOCK_ENTRIES, BlockSummary, GrowingSummary, IndexColumns, IndexRow
from gateway.audit.filter import And, Before, Field, Filter, Has, Not, Or, Present, format_filter
from gateway.audit.filter_parser import FilterError, parse_filter
from gateway.audit.search import search, search_page
from gateway.clock import rfc3339
from gateway.model import Entry, EntryKind

START = datetime(2026, 3, 1, tzinfo=UTC)
MEMBERS = ["bank-a", "bank-b", "registry"]
DATASETS = ["members/registry/datasets/companies", "members/tax/datasets/arrears"]
NAMES = ["open", "closed", 'with "quotes" and \\', "AND", "(unknown)"]
REASONS = ["REPLAYED", "FIELD_ABOVE_TIER", "FIELD"]
EXCHANGES = [f"0195512e-0000-7000-8000-{number:012x}" for number in range(3)]
CONTRACTS = [f"sha256:{number:064x}" for number in range(3)]
KINDS = [kind.value for kind in EntryKind]

values = {
    Field.KIND: [*KINDS, "exchange.*", "member.*"],
    Field.MEMBER: MEMBERS,
    Field.CONSUMER: MEMBERS,
    Field.PROVIDER: MEMBERS,
    Field.DATASET: DATASETS,
    Field.TIER: NAMES,
    Field.PURPOSE: NAMES,
    Field.REASON: REASONS,
    Field.EXCHANGE: EXCHANGES,
    Field.CONTRACT: CONTRACTS,
}
restrictions = st.one_of(
    *(st.builds(Has, st.just(field), st.sampled_from(known)) for field, known in values.items()),
    st.builds(Present, st.sampled_from(Field)),
    st.builds(Before, st.integers(-10, 200).map(lambda minutes: rfc3339(START + timedelta(minutes=minutes)))),
)
filters = st.recursive(
    restrictions,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=8,
)
entries = st.builds(
    Entry,
    v=st.just(1),
    kind=st.sampled_from(EntryKind),
    time=st.integers(0, 180).map(lambda minutes: rfc3339(START + timedelta(minutes=minutes))),
    exchange=st.sampled_from(["", *EXCHANGES]),
    consumer=st.sampled_from(["", *MEMBERS]),
    provider=st.sampled_from(["", *MEMBERS]),
    dataset=st.sampled_from(["", *DATASETS]),
    tier=st.sampled_from(["", *NAMES]),
    purpose=st.sampled_from(["", *NAMES]),
    reasons=st.lists(st.sampled_from(REASONS), unique=True, max_size=2).map(tuple),
    contract=st.sampled_from(["", *CONTRACTS]),
)


def texts(field: Field, entry: Entry) -> set[str]:
    """Return the values that an entry has for a field."""
    by_field = {
        Field.KIND: {entry.kind.value, entry.kind.value.split(".")[0] + ".*"},
        Field.MEMBER: {entry.consumer, entry.provider},
        Field.REASON: set(entry.reasons),
    }
    return by_field.get(field) or {getattr(entry, field.value, "")}


def holds(wanted: Filter, entry: Entry) -> bool:
    """Say the same of one entry, in the plainest way."""
    match wanted:
        case Has(field, value):
            found = value in texts(field, entry)
        case Present(field):
            found = bool(texts(field, entry) - {""})
        case Before(time):
            found = entry.time < time
        case Not(operand):
            found = not holds(operand, entry)
        case And(operands):
            found = all(holds(operand, entry) for operand in operands)
        case Or(operands):
            found = any(holds(operand, entry) for operand in operands)
    return found


class Rows:
    """A search index over rows in memory; full blocks are known by their summaries alone.

    Of the first `earlier` of them, the summary is that of a release that found nothing by its contract.
    """

    def __init__(self, log: Sequence[Entry], earlier: int = 0) -> None:
        self.read = 0
        self._rows = [IndexRow.of(entry) for entry in log]
        full = len(log) // BLOCK_ENTRIES
        self._blocks = [
            BlockSummary.of(self._rows[at * BLOCK_ENTRIES : (at + 1) * BLOCK_ENTRIES]) for at in range(full)
        ]
        for at in range(min(earlier, full)):
            block = self._blocks[at]
            bits = {term: one for term, one in block.bits.items() if not term.startswith("contract=")}
            self._blocks[at] = BlockSummary(block.first_time, block.last_time, bits)

    def times(self, first, end):
        return [(block.first_time, block.last_time) for block in self._blocks[first:end]]

    def bits(self, term, first, end):
        return [
            (number, self._blocks[number].bits[term])
            for number in range(first, end)
            if term in self._blocks[number].bits
        ]

    def column(self, name, start, end):
        self.read += end - start
        return [getattr(row, name) for row in self._rows[start:end]]

    def of_exchange(self, exchange):
        return [at for at, row in enumerate(self._rows) if row.exchange == exchange]


@given(filters)
def test_the_text_of_a_filter_is_read_back_as_the_same_filter(wanted):
    assert parse_filter(format_filter(wanted)) == wanted


@given(st.text(st.sampled_from("abtime ANDORNOT()-=!<>:*\"'\\.2026-11T\n"), max_size=60))
def test_any_text_is_a_filter_or_an_error_with_its_place(text):
    try:
        wanted = parse_filter(text)
    except FilterError as error:
        place = int(error.details["position"])
    else:
        place = 1
        assert parse_filter(format_filter(wanted)) == wanted
    assert 1 <= place <= len(text) + 1


@settings(max_examples=25)
@given(st.lists(entries, min_size=1, max_size=40), filters, st.integers(0, 2**32), st.booleans(), st.data())
def test_a_search_finds_what_a_look_at_each_entry_finds(few, wanted, seed, newest_first, data):
    # Two blocks and a tail, made of few different entries in an order without a pattern.
    log = [few[(at * 2654435761 + seed) % 2**32 % len(few)] for at in range(2 * BLOCK_ENTRIES + 100)]
    start = data.draw(st.integers(0, len(log)))
    end = data.draw(st.integers(0, len(log)))
    held = {id(entry): holds(wanted, entry) for entry in few}
    expected = [at for at in range(start, end) if held[id(log[at])]]
    index = Rows(log, earlier=data.draw(st.integers(0, 2)))
    found = search(index, wanted, start, end, newest_first=newest_first, size=len(log))
    assert list(found) == (expected[::-1] if newest_first else expected)


@settings(max_examples=25)
@given(
    st.lists(entries, min_size=1, max_size=40),
    filters,
    st.integers(0, 2**32),
    st.sampled_from([1, 8, 1000, 10**6]),
    st.sampled_from([40, 1000]),
    st.integers(0, 2),
)
def test_pages_of_bounded_work_hold_together_what_a_search_finds(
    few, wanted, seed, lookups, page_size, earlier
):
    log = [few[(at * 2654435761 + seed) % 2**32 % len(few)] for at in range(2 * BLOCK_ENTRIES + 100)]
    index, found, before = Rows(log, earlier), [], len(log)
    for _ in range(len(log) // page_size + 4):
        page, further = search_page(
            index, wanted, before, page_size=page_size, size=len(log), lookups=lookups
        )
        found += page
        if further is None:
            break
        assert further < before  # each page goes on, also one without entries
        before = further
    assert further is None
    assert found == list(search(index, wanted, 0, len(log), newest_first=True, size=len(log)))


def test_a_page_ends_when_it_has_taken_its_work(monkeypatch):
    log = [Entry(v=1, kind=EntryKind.EXCHANGE_PAGE, time=rfc3339(START))] * (12 * BLOCK_ENTRIES)
    index, asked = Rows(log), []
    bits = index.bits
    monkeypatch.setattr(
        index, "bits", lambda term, first, end: asked.append(end - first) or bits(term, first, end)
    )
    absent = And((Has(Field.CONSUMER, ""), Has(Field.PROVIDER, "nobody")))
    assert search_page(index, absent, len(log), page_size=5, size=len(log), lookups=8) == (
        [],
        8 * BLOCK_ENTRIES,
    )
    assert sum(asked) == 8
    # The control: without the bound, the whole log is looked through.
    asked.clear()
    assert search_page(index, absent, len(log), page_size=5, size=len(log), lookups=10**6) == ([], None)
    assert sum(asked) == 24


@pytest.mark.parametrize("earlier", [12, 0])
def test_a_page_reads_few_blocks_that_an_earlier_release_has_summed_up(earlier):
    entry = Entry(v=1, kind=EntryKind.EXCHANGE_PAGE, time=rfc3339(START), contract=CONTRACTS[0])
    log = [entry] * (12 * BLOCK_ENTRIES)
    index = Rows(log, earlier)
    found, before = search_page(
        index, Has(Field.CONTRACT, CONTRACTS[1]), len(log), page_size=5, size=len(log)
    )
    assert found == []
    if earlier:
        assert before is not None
        assert 0 < index.read == len(log) - before <= 4 * BLOCK_ENTRIES
        return
    # The control: nothing is read of what is summed up.
    assert before is None
    assert index.read == 0


@given(st.lists(st.integers(0, 300), min_size=1, max_size=BLOCK_ENTRIES), st.integers(1, 300))
def test_the_summary_of_a_block_is_the_same_however_its_rows_come(numbers, kinds):
    """From few values of a column to many, which are told apart in different ways."""
    log = [
        Entry(
            v=1,
            kind=EntryKind.EXCHANGE_PAGE,
            time=rfc3339(START),
            consumer=f"bank-{numbers[at % len(numbers)] % kinds}",
            reasons=("A", "B")[: at % 3],
        )
        for at in range(BLOCK_ENTRIES)
    ]
    whole, growing = BlockSummary.of([IndexRow.of(entry) for entry in log]), GrowingSummary()
    for start in range(0, BLOCK_ENTRIES, 512):
        growing.add(IndexColumns.of(log[start : start + 512]))
    assert growing.summary() == whole
    for value in {entry.consumer for entry in log}:
        expected = sum(1 << at for at, entry in enumerate(log) if entry.consumer == value)
        assert int.from_bytes(whole.bits[f"consumer={value}"], "little") == expected


def test_only_a_full_block_is_summed_up():
    growing = GrowingSummary()
    growing.add(IndexColumns.of([Entry(v=1, kind=EntryKind.EXCHANGE_PAGE, time=rfc3339(START))]))
    with pytest.raises(ValueError, match="full"):
        growing.summary()


def test_a_search_of_many_blocks_takes_them_in_growing_strides(monkeypatch):
    monkeypatch.setattr(searching, "_FIRST_STRIDE", 1)
    log = [
        Entry(
            v=1,
            kind=EntryKind.EXCHANGE_PAGE,
            time=rfc3339(START),
            consumer="bank-a" if at % 5000 == 3 else "",
        )
        for at in range(12 * BLOCK_ENTRIES)
    ]
    wanted = Has(Field.CONSUMER, "bank-a")
    expected = list(range(3, len(log), 5000))
    for newest_first in (True, False):
        found = list(search(Rows(log), wanted, 0, len(log), newest_first=newest_first, size=len(log)))
        assert found == (expected[::-1] if newest_first else expected)
