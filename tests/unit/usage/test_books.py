"""Books of a log that cannot be read at times, and the scans that they are counted from."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from gateway.audit import sqlite_reader
from gateway.audit.errors import LogUnavailableError
from gateway.audit.filter import EVERYTHING, Field, Has
from gateway.usage import books
from gateway.usage.books import LogBook
from tests.simulators import usage as made

EXCHANGES = [
    made.Exchange(made.AMBER, made.BANKS[number % 2], "credit-check", number * 7000, (3, 4), 0, end, 1)
    for number, end in enumerate(("released", "withdrawn", "cut", "withdrawn", "crashed") * 4)
]


@pytest.fixture
def reader(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite_reader, "SCANNED_AT_ONCE", 16)
    monkeypatch.setattr(books, "_READ_AT_ONCE", 64)
    with made.log_of(tmp_path / "audit.db", made.entries_of(EXCHANGES)) as opened:
        yield opened


class Failing:
    """A reader of which one method fails when it is called for the `at`th time."""

    def __init__(self, reader, method: str, at: int) -> None:
        self._reader = reader
        self._method = method
        self._left = at

    def __getattr__(self, name: str):
        found = getattr(self._reader, name)
        if name != self._method:
            return found

        def called(*values):
            self._left -= 1
            if not self._left:
                raise LogUnavailableError("The audit log cannot be read.")
            return found(*values)

        return called


def counted(reader) -> list[object]:
    book = LogBook(reader, made.AMBER)
    book.read(reader.size())
    return book.lines(made.YEAR)


@pytest.mark.parametrize("method", ["entry", "scan"])
@pytest.mark.parametrize("at", [1, 2])
def test_nothing_is_counted_twice_or_left_out_after_the_log_could_not_be_read(reader, method, at):
    book = LogBook(Failing(reader, method, at), made.AMBER)
    with pytest.raises(LogUnavailableError):
        book.read(reader.size())
    book.read(reader.size())
    assert book.lines(made.YEAR) == counted(reader)


def test_a_log_that_can_be_read_is_counted_at_the_first_try(reader):
    """The control: of these exchanges some are withdrawn, so that both ways of reading are needed."""
    for method in ("entry", "scan"):
        book = LogBook(Failing(reader, method, 10_000), made.AMBER)
        book.read(reader.size())
        assert book.lines(made.YEAR) == counted(reader)
    assert sum(line.records for line in counted(reader)) == sum(each.has_left for each in EXCHANGES)


def test_a_scan_finds_what_following_finds_a_bounded_number_together(reader):
    wanted, size = Has(Field.CONSUMER, made.BANKS[0]), reader.size()
    pages = list(reader.scan(wanted, 3, size - 2))
    assert [len(page.indices) for page in pages[:-1]] == [16] * (len(pages) - 1)
    found = [
        (index, data)
        for page in pages
        for index, data in zip(page.indices, page.lines.split(b"\n"), strict=True)
    ]
    followed = reader.follow(wanted, 1000, 3, size - 2)
    assert found == [(stored.index, stored.data) for stored in followed]
    assert list(reader.scan(Has(Field.CONSUMER, "nobody"), 0, size)) == []


def test_a_scan_lets_the_log_be_tidied_up_between_its_parts(reader):
    """A state of the log that is held keeps its write-ahead file from being emptied."""

    def tidied() -> bool:
        with closing(sqlite3.connect(reader.path, timeout=0)) as connection:
            connection.execute("PRAGMA wal_autocheckpoint = 0")
            connection.execute("UPDATE probe SET count = count + 1")
            connection.commit()
            busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy

    scan = reader.scan(EVERYTHING, 0, reader.size())
    next(scan)
    assert tidied()
    assert next(scan).indices == list(range(16, 32))
    with reader._snapshot() as control:
        assert control.execute("SELECT size FROM head").fetchone() == (reader.size(),)
        assert not tidied()
