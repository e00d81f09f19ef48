import random
import shutil
import sqlite3

import msgspec
import pytest

from gateway.audit.errors import LogUnavailableError
from gateway.audit.fsck import MAX_FINDINGS, fsck
from gateway.audit.note import Ed25519Signer
from gateway.audit.sqlite_reader import SqliteReader
from gateway.model.entry import EntryKind

from .conftest import ORIGIN

COUNT = 4200
CONTRACT = f"sha256:{7:064x}"

APPENDED = """
INSERT INTO entry SELECT 4200, hash, time, kind, exchange, consumer, provider, dataset, reasons, tier,
purpose, data FROM entry WHERE idx = 4199
"""
MOVED = "UPDATE checkpoint SET note = (SELECT note FROM checkpoint WHERE size = 46) WHERE size = 23"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    """Where the log that the tests copy is kept, once the first of them has made it."""
    return tmp_path_factory.mktemp("pristine") / "audit.db"


@pytest.fixture
def log(path, pristine, fill, make_entry):
    def make(number):
        reasons = ("REPLAYED", "ROLE_MISSING") if number % 50 == 0 else ()
        contract = CONTRACT if number % 40 == 0 else ""
        return make_entry(number, reasons=reasons, tier="closed", purpose="credit-check", contract=contract)

    if not pristine.exists():
        fill(pristine, COUNT, batch=23, make=make)
    shutil.copy(pristine, path)
    return path


@pytest.fixture
def short_log(path, fill, make_entry):
    """A log without a full block, for tests that examine it hundreds of times."""
    fill(path, 600, batch=23, make=make_entry)
    return path


def places(path, identity):
    return {finding.place for finding in fsck(path, identity.verifier).findings}


def test_a_sound_log_has_no_findings(log, identity):
    seen = []
    report = fsck(log, identity.verifier, progress=lambda done, total: seen.append((done, total)))
    assert (report.entries, report.checkpoints, report.findings) == (COUNT, COUNT // 23 + 2, ())
    assert seen[0] == (0, COUNT)
    assert seen[-1] == (COUNT, COUNT)


def test_an_empty_log_has_no_findings(path, store, open_log, identity):
    open_log(store)
    assert fsck(path, identity.verifier).findings == ()


def test_a_copy_on_a_medium_that_cannot_be_written_is_examined(log, tmp_path, identity):
    copy = tmp_path / "evidence"
    copy.mkdir()
    shutil.copy(log, copy / "audit.db")
    (copy / "audit.db").chmod(0o400)
    copy.chmod(0o500)
    assert fsck(copy / "audit.db", identity.verifier).findings == ()
    copy.chmod(0o700)


def test_a_missing_file_is_an_error_and_not_a_sound_log(path, identity):
    with pytest.raises(LogUnavailableError):
        fsck(path, identity.verifier)


def test_a_log_signed_by_another_key_is_not_sound(log):
    stranger = Ed25519Signer.from_seed(ORIGIN, bytes(32))
    found = {finding.place for finding in fsck(log, stranger.verifier).findings}
    assert found == {"log", "checkpoint"}


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ("UPDATE entry SET data = CAST(replace(data, 'registry', 'x') AS BLOB) WHERE idx = 300", "entry"),
        ("UPDATE entry SET data = CAST(replace(data, ',', ', ') AS BLOB) WHERE idx = 300", "entry"),
        ("UPDATE entry SET hash = zeroblob(32) WHERE idx = 300", "entry"),
        ("UPDATE entry SET time = '2026-03-01T12:00:00.000000Z' WHERE idx = 300", "index"),
        ("UPDATE entry SET kind = 'exchange.denied' WHERE idx = 300", "index"),
        ("UPDATE entry SET exchange = '' WHERE idx = 300", "index"),
        ("UPDATE entry SET consumer = 'nobody' WHERE idx = 300", "index"),
        ("UPDATE entry SET provider = 'nobody' WHERE idx = 300", "index"),
        ("UPDATE entry SET dataset = '' WHERE idx = 300", "index"),
        ("UPDATE entry SET reasons = '' WHERE idx = 300", "index"),
        ("UPDATE entry SET tier = 'open' WHERE idx = 300", "index"),
        ("UPDATE entry SET purpose = '' WHERE idx = 300", "index"),
        ("DELETE FROM entry WHERE idx = 300", "entry"),
        ("DELETE FROM entry WHERE idx = 0", "entry"),
        ("DELETE FROM entry WHERE idx >= 300", "head"),
        (APPENDED, "head"),
        ("UPDATE tile SET hashes = zeroblob(8192) WHERE level = 0 AND number = 1", "tile"),
        ("UPDATE tile SET root = zeroblob(32) WHERE level = 0 AND number = 1", "tile"),
        ("DELETE FROM tile WHERE number = 0", "tile"),
        ("INSERT INTO tile VALUES (1, 0, zeroblob(32), zeroblob(8192))", "tile"),
        ("UPDATE block SET first_time = '2026' WHERE number = 0", "index"),
        ("UPDATE block SET last_time = '2027' WHERE number = 0", "index"),
        ("DELETE FROM block WHERE number = 0", "index"),
        ("INSERT INTO block VALUES (1, '', '')", "index"),
        ("DELETE FROM block_term WHERE number = 0 AND term = 'reason=REPLAYED'", "index"),
        ("UPDATE block_term SET bits = zeroblob(512) WHERE term = 'reason=REPLAYED'", "index"),
        ("UPDATE block_term SET bits = x'' WHERE term = 'consumer=bank-1'", "index"),
        ("INSERT INTO block_term VALUES ('consumer=nobody', 0, zeroblob(512))", "index"),
        (f"DELETE FROM block_term WHERE term = 'contract={CONTRACT}'", "index"),
        ("DELETE FROM block_term WHERE term = 'contract='", "index"),
        (f"UPDATE block_term SET bits = zeroblob(512) WHERE term = 'contract={CONTRACT}'", "index"),
        ("UPDATE block_term SET bits = zeroblob(512) WHERE term = 'contract='", "index"),
        ("UPDATE checkpoint SET note = replace(note, 'a', 'b') WHERE size = 23", "checkpoint"),
        (MOVED, "checkpoint"),
        ("DELETE FROM checkpoint WHERE size = 0", "checkpoint"),
        ("DELETE FROM checkpoint WHERE size = 4200", "head"),
        ("INSERT INTO checkpoint SELECT 5000, note FROM head", "checkpoint"),
        ("UPDATE head SET size = 4199", "head"),
        ("UPDATE head SET frontier = zeroblob(length(frontier))", "head"),
        ("UPDATE head SET note = replace(note, 'a', 'b')", "head"),
        ("DELETE FROM head", "head"),
        ("UPDATE log SET origin = 'other.example'", "log"),
        ("UPDATE log SET vkey = ''", "log"),
        ("DROP INDEX entry_exchange", "database"),
        ("CREATE TABLE extra (id INTEGER)", "database"),
    ],
)  # fmt: skip
def test_every_change_to_a_row_is_found(log, tamper, identity, change, place):
    assert places(log, identity) == set()  # the control: before the change there is nothing to find
    tamper(log, change)
    assert place in places(log, identity)


def test_a_dropped_trigger_is_found(log, identity):
    with sqlite3.connect(log) as connection:
        connection.execute("DROP TRIGGER entry_keeps_delete")
    connection.close()
    assert places(log, identity) == {"database"}


def test_two_swapped_entries_are_found(log, tamper, identity):
    tamper(
        log,
        "UPDATE entry SET idx = -1 WHERE idx = 100",
        "UPDATE entry SET idx = 100 WHERE idx = 101",
        "UPDATE entry SET idx = 101 WHERE idx = -1",
    )
    (finding,) = [item for item in fsck(log, identity.verifier).findings if item.place == "checkpoint"]
    assert finding.index == 115
    assert "between entry 92 and entry 114" in finding.what


def test_an_entry_rewritten_with_all_that_derives_from_it_is_found(log, tmp_path, fill, make_entry, identity):
    """Somebody rewrites one entry and everything computed from it, but has no key."""
    forged = tmp_path / "forged.db"
    fill(
        forged,
        COUNT,
        batch=23,
        make=lambda number: make_entry(number, records=7 if number == 300 else number),
    )
    # Made with the key, the forgery is a sound log: only what was signed before can tell.
    assert fsck(forged, identity.verifier).findings == ()
    with SqliteReader(log) as reader:
        old = reader.checkpoint_at(COUNT)
    with sqlite3.connect(forged) as connection:
        connection.execute("DROP TRIGGER checkpoint_keeps_update")
        connection.execute("UPDATE checkpoint SET note = ? WHERE size = ?", (old, COUNT))
    connection.close()
    assert "checkpoint" in places(forged, identity)


@pytest.mark.parametrize(
    ("members", "what"),
    [
        ({"time": "2026-02-30T12:00:00.000000Z"}, "does not exist"),
        ({"time": "2026-03-01T11:54:00.000000Z"}, "far before"),
        ({"time": "2026-03-01T11:59:00.000000Z"}, None),
    ],
)
def test_the_order_of_times_is_examined(path, fill, make_entry, identity, members, what):
    fill(path, 10, make=lambda number: make_entry(number, **(members if number == 5 else {})))
    found = [finding.what for finding in fsck(path, identity.verifier).findings]
    if what is None:
        assert found == []
    else:
        assert len(found) == 1
        assert what in found[0]


def test_entries_of_an_unknown_version_are_found(path, fill, make_entry, identity):
    fill(path, 3, make=lambda number: msgspec.structs.replace(make_entry(number), v=2))
    assert {(finding.place, finding.index) for finding in fsck(path, identity.verifier).findings} == {
        ("entry", 0),
        ("entry", 1),
        ("entry", 2),
    }


def test_a_hopeless_log_does_not_fill_the_memory(path, fill, tamper, identity):
    fill(path, MAX_FINDINGS + 200, batch=500)
    tamper(path, "UPDATE entry SET hash = zeroblob(32)")
    assert len(fsck(path, identity.verifier).findings) == MAX_FINDINGS


def evidence(path):
    """Yield (what, bytes as they stand in the file) of everything that is evidence."""
    connection = sqlite3.connect(path)
    yield from (("frontier", raw) for (raw,) in connection.execute("SELECT frontier FROM head"))
    yield from (("head", raw.encode()) for (raw,) in connection.execute("SELECT note FROM head"))
    sizes = "WHERE size IN (0, 23, 299)"
    yield from (
        ("note", raw.encode()) for (raw,) in connection.execute(f"SELECT note FROM checkpoint {sizes}")
    )
    yield from (("tile", raw) for (raw,) in connection.execute("SELECT root FROM tile"))
    yield from (("tile", raw[:512]) for (raw,) in connection.execute("SELECT hashes FROM tile"))
    rows = connection.execute(
        "SELECT data, hash, time, exchange, consumer, dataset FROM entry WHERE idx IN (0, 256, 599)"
    )
    for data, hashed, *columns in rows:
        yield "data", data
        yield "hash", hashed
        yield "columns", "".join([columns[0], EntryKind.EXCHANGE_RELEASED, columns[1], columns[2]]).encode()
    connection.close()


def test_one_flipped_bit_anywhere_in_the_evidence_is_found(short_log, tmp_path, identity):
    chance = random.Random(11)
    raw = short_log.read_bytes()
    damaged = tmp_path / "damaged.db"
    kinds = []
    for kind, value in evidence(short_log):
        start = raw.find(value[:200])
        assert start >= 0, f"{kind} is not found in the file"
        for _ in range(6):
            at = start + chance.randrange(min(len(value), 200))
            flipped = bytearray(raw)
            flipped[at] ^= 1 << chance.randrange(8)
            damaged.write_bytes(flipped)
            assert fsck(damaged, identity.verifier).findings, f"a flip in {kind} at {at} went unseen"
            kinds.append(kind)
    assert set(kinds) == {"frontier", "head", "note", "tile", "data", "hash", "columns"}
    damaged.write_bytes(raw)
    assert fsck(damaged, identity.verifier).findings == ()  # the control: the copy itself is sound


def test_a_page_of_garbage_anywhere_is_found_and_never_an_error(short_log, tmp_path, identity):
    chance = random.Random(5)
    raw = short_log.read_bytes()
    damaged = tmp_path / "damaged.db"
    for page in range(1, len(raw) // 4096, 5):
        spoilt = bytearray(raw)
        spoilt[page * 4096 : (page + 1) * 4096] = chance.randbytes(4096)
        damaged.write_bytes(spoilt)
        assert fsck(damaged, identity.verifier).findings, f"page {page} went unseen"


def test_a_truncated_file_is_found(short_log, tmp_path, identity):
    raw = short_log.read_bytes()
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(raw[: len(raw) // 2 // 4096 * 4096])
    assert fsck(damaged, identity.verifier).findings


def test_a_running_log_is_examined_without_stopping_it(path, store, open_log, make_entry, identity):
    log = open_log(store)
    for number in range(100):
        log.append_sync(make_entry(number))

    def progress(done, total):
        log.append_sync(make_entry(1000))

    report = fsck(path, identity.verifier, progress)
    assert (report.entries, report.findings) == (100, ())


def test_values_with_line_breaks_are_told_apart(path, fill, tamper, make_entry, identity):
    """The rows are looked at together, a line for each: moving a line break must not go unseen."""
    names = {3: "bank\none", 4: "bank"}
    fill(path, 10, make=lambda number: make_entry(number, consumer=names.get(number, "bank")))
    assert places(path, identity) == set()
    tamper(
        path,
        ("UPDATE entry SET consumer = ? WHERE idx = 3", "bank"),
        ("UPDATE entry SET consumer = ? WHERE idx = 4", "one\nbank"),
    )
    assert places(path, identity) == {"index"}


def test_hashes_whose_borders_were_moved_are_found(log, tamper, identity):
    with sqlite3.connect(log) as connection:
        first, second = (
            hashed
            for (hashed,) in connection.execute("SELECT hash FROM entry WHERE idx IN (7, 8) ORDER BY idx")
        )
    connection.close()
    tamper(
        log,
        ("UPDATE entry SET hash = ? WHERE idx = 7", first[:-1]),
        ("UPDATE entry SET hash = ? WHERE idx = 8", first[-1:] + second),
    )
    found = fsck(log, identity.verifier).findings
    assert {(finding.place, finding.index) for finding in found} == {("entry", 7), ("entry", 8)}


def test_what_is_found_in_one_chunk_does_not_spoil_the_others(path, fill, tamper, identity):
    fill(path, 2000, batch=500)
    tamper(path, "UPDATE entry SET kind = 'exchange.denied' WHERE idx IN (5, 1999)")
    found = fsck(path, identity.verifier).findings
    assert [(finding.place, finding.index) for finding in found] == [("index", 5), ("index", 1999)]


def test_damaged_text_is_a_finding(log, tamper, identity):
    tamper(log, "UPDATE entry SET consumer = CAST(x'ff' AS TEXT) WHERE idx = 3")
    assert places(log, identity) == {"index"}


def test_a_second_entry_hidden_in_the_bytes_of_one_is_found(log, tamper, identity):
    tamper(log, "UPDATE entry SET data = CAST(data || char(10) || data AS BLOB) WHERE idx = 300")
    found = fsck(log, identity.verifier).findings
    assert {("entry", 300)} <= {(finding.place, finding.index) for finding in found}
