import random
import sqlite3
import threading
from datetime import timedelta

import msgspec
import pytest

from gateway.audit.checkpoint import open_checkpoint
from gateway.audit.errors import EntryNotFoundError, LogMismatchError, LogUnavailableError
from gateway.audit.proof import verify_consistency, verify_inclusion
from gateway.audit.search import EntryFilter
from gateway.audit.sqlite_reader import SqliteReader
from gateway.audit.tiles import tile_width
from gateway.audit.tree import EMPTY_ROOT, Frontier, append, leaf_hash
from gateway.clock import parse_rfc3339
from gateway.model.entry import Entry, EntryKind

from .conftest import NOON

COUNT = 1400
KINDS = list(EntryKind)


def varied(make_entry):
    """Entries of every kind; some members and reasons only in some stretches of the log."""
    chance = random.Random(7)

    def make(number):
        denied = chance.random() < 0.1
        return make_entry(
            number,
            kind=EntryKind.EXCHANGE_DENIED if denied else chance.choice(KINDS),
            consumer=f"bank-{number // 500}" if number % 3 else "",
            provider=chance.choice(["registry", "tax", ""]),
            exchange=f"exchange-{number // 2}",
            reasons=tuple(chance.sample(["REPLAYED", "FIELD_ABOVE_TIER", "ROLE_MISSING"], 2))
            if denied
            else (),
            dataset="members/tax/datasets/rare" if number == 700 else "members/registry/datasets/common",
        )

    return make


@pytest.fixture
def reader(path, fill, make_entry):
    fill(path, COUNT, batch=37, make=varied(make_entry))
    with SqliteReader(path) as reader:
        yield reader


def all_entries(reader):
    return [msgspec.json.decode(reader.entry(index).data, type=Entry) for index in range(COUNT)]


def is_wanted(entry, wanted):
    time = parse_rfc3339(entry.time)
    return (
        wanted.kind in {None, entry.kind}
        and wanted.member in {None, entry.consumer, entry.provider}
        and wanted.dataset in {None, entry.dataset}
        and wanted.exchange in {None, entry.exchange}
        and (wanted.reason is None or wanted.reason in entry.reasons)
        and (wanted.since is None or time >= wanted.since)
        and (wanted.until is None or time < wanted.until)
    )


@pytest.mark.parametrize(
    "wanted",
    [
        EntryFilter(),
        EntryFilter(kind=EntryKind.EXCHANGE_DENIED),
        EntryFilter(kind=EntryKind.KEY_ADDED, member="bank-1"),
        EntryFilter(member="bank-1"),
        EntryFilter(member="tax"),
        EntryFilter(member="nobody"),
        EntryFilter(dataset="members/tax/datasets/rare"),
        EntryFilter(exchange="exchange-400"),
        EntryFilter(exchange="exchange-400", kind=EntryKind.EXCHANGE_PAGE),
        EntryFilter(reason="REPLAYED"),
        EntryFilter(reason="REPLAY"),
        EntryFilter(reason="ROLE_MISSING", member="bank-2"),
        EntryFilter(since=NOON + timedelta(milliseconds=1000)),
        EntryFilter(until=NOON + timedelta(milliseconds=300)),
        EntryFilter(since=NOON + timedelta(milliseconds=500), until=NOON + timedelta(milliseconds=510)),
        EntryFilter(since=NOON + timedelta(days=1)),
    ],
)
@pytest.mark.parametrize("page_size", [1000, 64])
def test_pages_of_a_search_together_hold_what_a_full_scan_finds(reader, wanted, page_size):
    expected = [index for index, entry in enumerate(all_entries(reader)) if is_wanted(entry, wanted)]
    found, before = [], None
    while page := reader.find(wanted, page_size, before):
        assert len(page) <= page_size
        found.extend(item.index for item in page)
        before = page[-1].index
    assert found == expected[::-1]


def test_a_search_ends_at_the_index_given(reader):
    assert [item.index for item in reader.find(EntryFilter(), 3, before=257)] == [256, 255, 254]
    assert reader.find(EntryFilter(), 3, before=0) == []
    assert reader.find(EntryFilter(), 1, before=10**9)[0].index == COUNT - 1


@pytest.mark.parametrize("page_size", [0, -1, 1001])
def test_absurd_page_sizes_are_refused(reader, page_size):
    with pytest.raises(ValueError, match="page"):
        reader.find(EntryFilter(), page_size)


def test_what_is_looked_for_never_becomes_sql(reader):
    for text in ("' OR 1=1 --", "x') UNION SELECT 1,2 --", "%"):
        for wanted in (EntryFilter(member=text), EntryFilter(exchange=text), EntryFilter(reason=text)):
            assert reader.find(wanted, 10) == []


def test_a_search_by_exchange_uses_its_index(reader, path):
    connection = sqlite3.connect(path)
    plan = connection.execute(
        "EXPLAIN QUERY PLAN SELECT idx, data FROM entry WHERE idx >= 0 AND idx < 9999 AND exchange = 'x' "
        "ORDER BY idx DESC LIMIT 5"
    ).fetchall()
    connection.close()
    assert "entry_exchange" in plan[0][3]


def test_every_entry_is_proven_in_the_trees_of_several_sizes(reader, identity):
    note = reader.checkpoint()
    checkpoint = open_checkpoint(note, [identity.verifier])
    assert checkpoint.size == COUNT == reader.size()
    for index in range(COUNT):
        leaf = leaf_hash(reader.entry(index).data)
        proof = reader.inclusion_proof(index, COUNT)
        verify_inclusion(leaf, index, COUNT, proof, checkpoint.root)
    for size in (37, 259, 518, 1036):
        older = open_checkpoint(reader.checkpoint_at(size), [identity.verifier])
        for index in (0, size // 2, size - 1):
            leaf = leaf_hash(reader.entry(index).data)
            verify_inclusion(leaf, index, size, reader.inclusion_proof(index, size), older.root)
        proof = reader.consistency_proof(size, COUNT)
        verify_consistency(size, older.root, COUNT, checkpoint.root, proof)
    verify_consistency(0, EMPTY_ROOT, COUNT, checkpoint.root, reader.consistency_proof(0, COUNT))


def test_tiles_of_any_width_hold_the_hashes_of_the_tree(reader):
    leaves = [leaf_hash(reader.entry(index).data) for index in range(COUNT)]
    for number, width in ((0, 256), (0, 1), (3, 100), (5, tile_width(0, 5, COUNT))):
        expected = b"".join(leaves[number * 256 : number * 256 + width])
        assert reader.tile(0, number, width) == expected
    roots = [append(Frontier(), leaves[at * 256 : (at + 1) * 256]).root for at in range(5)]
    assert reader.tile(1, 0, 5) == b"".join(roots)
    assert reader.tile(1, 0, 2) == b"".join(roots[:2])


@pytest.mark.parametrize(
    ("level", "number", "width"),
    [
        (0, 5, 121),
        (0, 6, 1),
        (1, 0, 6),
        (2, 0, 1),
        (-1, 0, 1),
        (0, -1, 1),
        (0, 0, 0),
        (0, 0, 257),
        (63, 0, 1),
    ],
)
def test_tiles_that_are_not_there_are_not_found(reader, level, number, width):
    with pytest.raises(EntryNotFoundError):
        reader.tile(level, number, width)


def test_what_is_not_in_the_log_is_not_found(reader):
    for read in (
        lambda: reader.entry(COUNT),
        lambda: reader.entry(-1),
        lambda: reader.checkpoint_at(38),
        lambda: reader.inclusion_proof(COUNT, COUNT),
        lambda: reader.inclusion_proof(-1, COUNT),
        lambda: reader.inclusion_proof(0, COUNT + 1),
        lambda: reader.consistency_proof(5, 4),
        lambda: reader.consistency_proof(0, COUNT + 1),
    ):
        with pytest.raises(EntryNotFoundError):
            read()
    assert reader.entry(0).index == 0  # and the reader is still of use


def test_a_reader_cannot_write(reader):
    with reader._snapshot() as connection, pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("UPDATE probe SET count = 0")


def test_a_missing_file_cannot_be_read(path):
    with pytest.raises(LogUnavailableError):
        SqliteReader(path)
    assert not path.exists()


def test_another_database_is_refused(path):
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE notes (text)")
    connection.close()
    with pytest.raises(LogMismatchError):
        SqliteReader(path)


def test_a_closed_reader_refuses(reader):
    reader.close()
    with pytest.raises(LogUnavailableError):
        reader.size()


def test_many_threads_read_while_the_log_grows(path, store, open_log, make_entry, identity):
    log = open_log(store)
    log.append_sync(make_entry(0))
    stop = threading.Event()
    faults = []

    def read(reader):
        try:
            while not stop.is_set():
                checkpoint = open_checkpoint(reader.checkpoint(), [identity.verifier])
                index = random.randrange(checkpoint.size)
                leaf = leaf_hash(reader.entry(index).data)
                proof = reader.inclusion_proof(index, checkpoint.size)
                verify_inclusion(leaf, index, checkpoint.size, proof, checkpoint.root)
        except Exception as error:  # noqa: BLE001
            faults.append(error)

    with SqliteReader(path) as reader:
        threads = [threading.Thread(target=read, args=(reader,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for number in range(1, 300):
            log.append_sync(make_entry(number))
        stop.set()
        for thread in threads:
            thread.join()
    assert faults == []
