"""Counting by the summaries of full blocks: what reading every entry says, and less to read."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from gateway.audit.blocks import BLOCK_ENTRIES
from gateway.audit.errors import LogMismatchError
from gateway.audit.fsck import fsck
from gateway.audit.uses import COUNTABLE, RECORDS, digit_term
from gateway.usage.book import Book
from gateway.usage.books import LogBook
from gateway.usage.seen import see
from tests.simulators import usage as made


class Counting:
    """A reader that tells how many entries were read."""

    def __init__(self, reader) -> None:
        self._reader = reader
        self.read = 0

    def __getattr__(self, name: str):
        return getattr(self._reader, name)

    def scan(self, *values):
        return self._told(self._reader.scan(*values))

    def gather(self, *values):
        return self._told(self._reader.gather(*values))

    def _told(self, many):
        for found in many:
            self.read += len(found.indices)
            yield found


def read_all(reader, begins: datetime | None = None, ends: datetime | None = None):
    """Count every entry by itself: the other way to count."""
    book = Book(made.AMBER, lambda index: see(reader.entry(index).data))
    entries = [(index, see(reader.entry(index).data)) for index in range(reader.size())]
    lower, upper = (None if each is None else each.strftime("%Y-%m-%dT%H:%M:%S") for each in (begins, ends))
    book.add(
        (index, entry)
        for index, entry in entries
        if (lower is None or entry.time >= lower) and (upper is None or entry.time < upper)
    )
    requests = {entry.exchange: entry for _, entry in entries if entry.kind == "exchange.requested"}
    return list(book.lines(made.YEAR, requests.get))


def counted(reader, begins: datetime | None = None, ends: datetime | None = None):
    counting = Counting(reader)
    book = LogBook(counting, made.AMBER, begins, ends)
    book.read(reader.size())
    return book.lines(made.YEAR), counting.read, book.counted


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("summed") / "audit.db"
    entries = made.entries_of(made.many_exchanges(7000, seconds=2 * 86400))
    assert len(entries) > 3 * BLOCK_ENTRIES
    # In several commits: the summary of a block grows as they come.
    for start in range(0, len(entries), 1500):
        made.append_to(path, entries[start : start + 1500])
    return path


@pytest.fixture
def copy(path, tmp_path):
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(tmp_path / "copy.db")) as target:
        source.backup(target)
    return tmp_path / "copy.db"


def altered(path, statement: str, *values: object) -> None:
    """Change a table that only grows, behind the gateway's back."""
    with closing(sqlite3.connect(path)) as connection:
        triggers = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        assert connection.execute(statement, values).rowcount
        for _, sql in triggers:
            connection.execute(sql)
        connection.commit()


def test_the_summaries_say_what_the_entries_say_and_few_are_read(path):
    with made.SqliteReader(path) as reader:
        lines, read, _ = counted(reader)
        assert lines == read_all(reader)
        # Half of the entries are requests, pages or somebody else's; of the rest the summaries tell most.
        assert read < reader.size() / 3
    assert fsck(path, made.SIGNER.verifier).findings == ()


@pytest.mark.parametrize("hours", [0, 7, 31])
def test_a_span_of_time_may_cut_blocks(path, hours):
    begins = datetime(2026, 9, 20, tzinfo=UTC) + timedelta(hours=hours)
    with made.SqliteReader(path) as reader:
        lines, _, _ = counted(reader, begins, begins + timedelta(hours=15))
        assert lines == read_all(reader, begins, begins + timedelta(hours=15))
        assert lines


def test_blocks_over_several_days_are_read(tmp_path):
    entries = made.entries_of(made.many_exchanges(2600, seconds=30 * 86400))
    with made.log_of(tmp_path / "audit.db", entries) as reader:
        assert reader.size() > BLOCK_ENTRIES
        lines, read, told = counted(reader)
        assert lines == read_all(reader)
        assert read == told


def test_a_block_with_too_many_lists_of_fields_is_read(tmp_path):
    entries = [
        msgspec.structs.replace(entry, released=(f"field_{number % 65}",)) if entry.released else entry
        for number, entry in enumerate(made.entries_of(made.many_exchanges(2600, seconds=80_000)))
    ]
    with made.log_of(tmp_path / "audit.db", entries) as reader:
        [summary] = reader.summaries(["use"], 0, 1)
        assert summary.bits == {}
        lines, _, _ = counted(reader)
        assert lines == read_all(reader)
    assert fsck(tmp_path / "audit.db", made.SIGNER.verifier).findings == ()


@pytest.mark.parametrize("records", [-5, 2**50])
def test_numbers_that_no_gateway_writes_are_read(tmp_path, records):
    entries = made.entries_of(made.many_exchanges(2600, seconds=80_000))
    at = next(
        number for number, entry in enumerate(entries) if entry.provider == made.AMBER and entry.records
    )
    entries[at] = msgspec.structs.replace(entries[at], records=records)
    with made.log_of(tmp_path / "audit.db", entries) as reader:
        assert counted(reader)[0] == read_all(reader)
    assert fsck(tmp_path / "audit.db", made.SIGNER.verifier).findings == ()


def test_a_block_summed_up_by_an_earlier_release_is_read(copy):
    altered(copy, "DELETE FROM block_term WHERE number = 2 AND term >= 'use' AND term < 'usf'")
    assert fsck(copy, made.SIGNER.verifier).findings == ()
    with made.SqliteReader(copy) as reader:
        lines, read, _ = counted(reader)
        assert lines == read_all(reader)
        assert read > BLOCK_ENTRIES / 4


def test_a_summary_that_was_changed_is_found(copy):
    """The control of the comparison, too: a summary is what is counted by."""
    altered(
        copy,
        "UPDATE block_term SET bits = zeroblob(512) WHERE number = 2 AND term = ?",
        digit_term(RECORDS, 3),
    )
    with made.SqliteReader(copy) as reader:
        assert counted(reader)[0] != read_all(reader)
    [finding] = fsck(copy, made.SIGNER.verifier).findings
    assert finding.what == "the summary of this block of entries is wrong"


@pytest.mark.parametrize(
    "statement",
    [
        # No entry can be countable that says nothing of use.
        f"UPDATE block_term SET bits = x'{'ff' * 512}' WHERE number = 2 AND term = '{COUNTABLE}'",
        "DELETE FROM block_term WHERE number = 2 AND term LIKE 'use.released=_%'",
        "UPDATE block_term SET bits = x'00' WHERE number = 2 AND term = 'purpose=credit-check'",
        "DELETE FROM block WHERE number = 2",
    ],
)
def test_a_summary_that_contradicts_itself_is_not_counted_by(copy, statement):
    altered(copy, statement)
    with made.SqliteReader(copy) as reader, pytest.raises(LogMismatchError, match="gateway audit fsck"):
        counted(reader)
    assert fsck(copy, made.SIGNER.verifier).findings != ()


def test_a_book_goes_on_where_it_ended(path):
    with made.SqliteReader(path) as reader:
        at_once, _, told = counted(reader)
        book = LogBook(reader, made.AMBER)
        for size in (10, BLOCK_ENTRIES, BLOCK_ENTRIES + 1, 3 * BLOCK_ENTRIES - 1, reader.size()):
            book.read(size)
        assert book.lines(made.YEAR) == at_once
        assert (book.size, book.counted) == (reader.size(), told)
