"""The store of usage in PostgreSQL, and counting from a log there."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

from gateway.audit import postgres_reader, sqlite_reader
from gateway.audit.blocks import BLOCK_ENTRIES
from gateway.audit.filter import EVERYTHING
from gateway.audit.postgres_reader import PostgresReader
from gateway.audit.store import prepare_entry
from gateway.usage.books import LogBook
from gateway.usage.stores import open_usage_store
from tests.simulators import usage as made
from tests.simulators.usage_store import NOW, UsageStoreContract, finding

pytestmark = pytest.mark.postgres


@pytest.fixture
def store(address):
    with closing(open_usage_store(address)) as opened:
        yield opened


class TestPostgresUsageStore(UsageStoreContract):
    pass


def test_nodes_that_find_the_same_at_the_same_time_give_one_notice(address):
    stores = [open_usage_store(address) for _ in range(4)]
    found: list[object] = []
    barrier = threading.Barrier(len(stores))

    def look(store):
        barrier.wait(10)
        for number in range(20):
            found.extend(store.add("amber", [finding(str(number))], NOW))

    threads = [threading.Thread(target=look, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == 20
    for store in stores:
        store.close()


@pytest.mark.parametrize("at_once", [7, 4096])
def test_counting_from_a_log_in_postgresql_is_counting_from_a_file(
    address, open_store, sign, tmp_path, monkeypatch, at_once
):
    for module in (postgres_reader, sqlite_reader):
        monkeypatch.setattr(module, "SCANNED_AT_ONCE", at_once)
    exchanges = [
        made.Exchange(made.AMBER, made.BANKS[number % 2], "credit-check", number * 7000, pages, 5, end, 1)
        for number, (pages, end) in enumerate(
            [((), "released"), ((3, 4), "cut"), ((3, 4), "withdrawn"), ((), "denied"), ((9,), "crashed")] * 4
        )
    ]
    entries = made.entries_of(exchanges)
    open_store(address).append([prepare_entry(entry) for entry in entries], sign, NOW)
    with PostgresReader(address) as reader, made.log_of(tmp_path / "audit.db", entries) as file:
        scanned, other = (list(each.scan(EVERYTHING, 0, len(entries))) for each in (reader, file))
        assert scanned == other
        assert len(scanned) == -(-len(entries) // at_once)
        books = [LogBook(each, made.AMBER) for each in (reader, file)]
        for book in books:
            book.read(len(entries))
        first, second = (book.lines(made.YEAR) for book in books)
        assert first == second
        assert sum(line.records for line in first) == sum(exchange.has_left for exchange in exchanges)


def test_full_blocks_in_postgresql_are_counted_by_their_summaries(address, open_store, sign, tmp_path):
    entries = made.entries_of(made.many_exchanges(4500, seconds=80_000))
    assert len(entries) > 2 * BLOCK_ENTRIES
    store = open_store(address)
    for start in range(0, len(entries), 3000):
        store.append([prepare_entry(entry) for entry in entries[start : start + 3000]], sign, NOW)
    with PostgresReader(address) as reader, made.log_of(tmp_path / "audit.db", entries) as file:
        prefixes = ["provider=a", "consumer=", "use"]
        assert reader.summaries(prefixes, 0, 2) == file.summaries(prefixes, 0, 2)
        assert any(term.startswith("use.records.") for term in reader.summaries(prefixes, 0, 2)[1].bits)
        books = [LogBook(each, made.AMBER) for each in (reader, file)]
        for book in books:
            book.read(len(entries))
        first, second = (book.lines(made.YEAR) for book in books)
        assert first == second
        assert books[0].counted == books[1].counted
