import random
import sqlite3
import threading

import pytest

from gateway.audit.blocks import BLOCK_BYTES, BLOCK_ENTRIES
from gateway.audit.checkpoint import open_checkpoint
from gateway.audit.errors import EntryNotFoundError, LogMismatchError, LogUnavailableError
from gateway.audit.filter import EVERYTHING, And, Field, Has, Not, Present, until
from gateway.audit.fsck import fsck
from gateway.audit.proof import verify_consistency, verify_inclusion
from gateway.audit.sqlite import SqliteStore
from gateway.audit.sqlite_reader import SqliteIndex, SqliteReader
from gateway.audit.store import prepare_entry
from gateway.audit.tiles import tile_width
from gateway.audit.tree import EMPTY_ROOT, Frontier, append, leaf_hash
from gateway.model.entry import EntryKind

from .conftest import NOON

COUNT = 1400
KINDS = [kind for kind in EntryKind if kind is not EntryKind.LOG_CLOSED]


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


def test_a_search_ends_at_the_index_given(reader):
    assert [item.index for item in reader.find(EVERYTHING, 3, before=257)] == [256, 255, 254]
    assert reader.find(EVERYTHING, 3, before=0) == []
    assert reader.find(EVERYTHING, 1, before=10**9)[0].index == COUNT - 1


def test_entries_are_followed_from_the_oldest(reader):
    assert [item.index for item in reader.follow(EVERYTHING, 3, 255, COUNT)] == [255, 256, 257]
    assert [item.index for item in reader.follow(EVERYTHING, 3, COUNT - 2, 10**9)] == [COUNT - 2, COUNT - 1]
    assert reader.follow(EVERYTHING, 3, 7, 7) == []


@pytest.mark.parametrize("page_size", [0, -1, 1001])
def test_absurd_page_sizes_are_refused(reader, page_size):
    with pytest.raises(ValueError, match="page"):
        reader.find(EVERYTHING, page_size)
    with pytest.raises(ValueError, match="page"):
        reader.follow(EVERYTHING, page_size, 0, COUNT)


def test_what_is_looked_for_never_becomes_sql(reader):
    for text in ("' OR 1=1 --", "x') UNION SELECT 1,2 --", "%"):
        for field in Field:
            assert reader.find(Has(field, text), 10) == []


def test_a_damaged_index_is_a_mismatch_and_never_a_wrong_answer(tmp_path, fill, make_entry, tamper):
    damaged = tmp_path / "long.db"
    fill(damaged, 4100, batch=2050, make=make_entry)
    wanted = Has(Field.CONSUMER, "bank-1")
    with SqliteReader(damaged) as reader:
        assert len(reader.find(wanted, 1000)) == 1000
        tamper(damaged, "UPDATE block_term SET bits = x'ff' WHERE term = 'consumer=bank-1'")
        with pytest.raises(LogMismatchError):
            reader.find(wanted, 1000)
        tamper(damaged, "DELETE FROM block")
        with pytest.raises(LogMismatchError):
            reader.find(until(NOON), 10)


def test_entries_are_found_by_contract_also_where_an_earlier_release_summed_them_up(
    path, fill, make_entry, tamper, identity, sign
):
    """A log of three blocks, of which the first is as that release left it, and of which the last is open."""
    ids = [f"sha256:{number:064x}" for number in range(4)]

    def make(number):
        # Nested, where a text search would find another contract than the entry's own.
        asked = {"contract": {"id": ids[3]}}
        return make_entry(number, contract=ids[number % 7] if number % 7 < 3 else "", policy_input=asked)

    fill(path, BLOCK_ENTRIES, batch=1024, make=make)
    tamper(path, "DELETE FROM block_term WHERE term LIKE 'contract=%'")
    assert fsck(path, identity.verifier).findings == (), "it is a sound log"
    with SqliteStore(path) as store:
        store.open(identity, sign)
        for start in range(BLOCK_ENTRIES, 2 * BLOCK_ENTRIES + 500, 500):
            entries = [prepare_entry(make(number)) for number in range(start, start + 500)]
            store.append(entries, sign, NOON)
            store.maintain()
        size = start + 500
    with sqlite3.connect(path) as connection:
        summed_up = connection.execute("SELECT number FROM block_term WHERE term = 'contract='").fetchall()
    assert summed_up == [(1,)]
    assert fsck(path, identity.verifier).findings == ()
    with SqliteReader(path) as reader:
        for wanted, remainders in (
            (Has(Field.CONTRACT, ids[1]), {1}),
            (Has(Field.CONTRACT, ids[3]), set()),
            (Present(Field.CONTRACT), {0, 1, 2}),
            (Not(Has(Field.CONTRACT, ids[0])), {1, 2, 3, 4, 5, 6}),
            (And((Has(Field.CONTRACT, ids[2]), Has(Field.CONSUMER, "bank-1"))), {2}),
        ):
            held = [at for at in range(size) if at % 7 in remainders]
            if isinstance(wanted, And):
                held = [at for at in held if at % 3 == 1]
            assert _scanned(reader, wanted, size) == held
            page = reader.page(wanted, 1000)
            assert [entry.index for entry in page.entries] == held[:-1001:-1]
    # The control: what is summed up is taken from the summary.
    tamper(path, "UPDATE block_term SET bits = zeroblob(512) WHERE term LIKE 'contract=sha%'")
    with SqliteReader(path) as reader:
        found = _scanned(reader, Has(Field.CONTRACT, ids[1]), size)
    assert found == [at for at in range(size) if at % 7 == 1 and at // BLOCK_ENTRIES != 1]


def test_an_entry_that_only_its_index_has_is_a_mismatch(reader, path, tamper):
    tamper(path, ("DELETE FROM entry WHERE idx = ?", COUNT - 1))
    with pytest.raises(LogMismatchError):
        reader.follow(EVERYTHING, 1000, COUNT - 1, COUNT)


def test_the_bits_of_a_term_come_together_where_its_blocks_do(tmp_path, fill, make_entry):
    path = tmp_path / "blocks.db"
    fill(path, 1, batch=1, make=make_entry)
    blocks = {number: bytes([number]) * BLOCK_BYTES for number in (2, 3, 4, 7)}
    with sqlite3.connect(path) as connection:
        for number, bits in blocks.items():
            connection.execute("INSERT INTO block_term VALUES ('tier=open', ?, ?)", (number, bits))
    index = SqliteIndex(connection)
    assert index.bits("tier=open", 2, 5) == [(2, blocks[2] + blocks[3] + blocks[4])]
    assert index.bits("tier=open", 0, 9) == list(blocks.items())
    assert index.bits("tier=open", 5, 7) == []
    connection.execute("INSERT INTO block_term VALUES ('tier=open', 5, x'00')")
    with pytest.raises(LogMismatchError):
        index.bits("tier=open", 0, 9)
    connection.close()


def test_a_search_by_exchange_uses_its_index(reader, path):
    connection = sqlite3.connect(path)
    plan = connection.execute("EXPLAIN QUERY PLAN SELECT idx FROM entry WHERE exchange = 'x'").fetchall()
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


def _scanned(reader, wanted, size):
    return [index for found in reader.scan(wanted, 0, size) for index in found.indices]
