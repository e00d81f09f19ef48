import shutil
import sqlite3
from datetime import timedelta

import pytest

from gateway.audit.checkpoint import open_checkpoint
from gateway.audit.errors import EntryTooLargeError, LogMismatchError, LogUnavailableError
from gateway.audit.fsck import fsck
from gateway.audit.note import Ed25519Signer
from gateway.audit.proof import verify_inclusion
from gateway.audit.sqlite import SqliteStore
from gateway.audit.sqlite_reader import SqliteReader
from gateway.audit.store import MAX_ENTRY_BYTES, LogIdentity, Once, prepare_entry
from gateway.audit.tree import leaf_hash
from gateway.errors import ConfigError, GatewayError

from .conftest import NOON, ORIGIN


@pytest.fixture
def pending(make_entry):
    def pending(*numbers, once=None):
        return [prepare_entry(make_entry(number), once) for number in numbers]

    return pending


def once(key, minutes=10):
    return Once(key.encode(), NOON + timedelta(minutes=minutes))


def test_a_new_log_has_a_signed_checkpoint_of_no_entries(store, path, identity, sign):
    store.open(identity, sign)
    with SqliteReader(path) as reader:
        assert reader.size() == 0
        assert open_checkpoint(reader.checkpoint(), [identity.verifier]).size == 0


def test_the_files_are_for_the_owner_only(store, path, identity, sign, pending):
    store.open(identity, sign)
    store.append(pending(1), sign, NOON)
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert set(modes) == {"audit.db", "audit.db-wal", "audit.db-shm", "audit.db.lock"}
    assert set(modes.values()) == {0o600}


def test_a_log_that_others_may_read_is_refused(store, path, identity, sign):
    store.open(identity, sign)
    store.close()
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        store.open(identity, sign)


def test_commits_are_flushed_through_a_write_ahead_log(store, identity, sign):
    store.open(identity, sign)
    connection = store._connection
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_appended_entries_are_proven_by_the_checkpoint_returned(store, identity, sign, pending):
    store.open(identity, sign)
    store.append(pending(1, 2, 3), sign, NOON)
    batch = pending(4, 5)
    appended = store.append(batch, sign, NOON)
    checkpoint = open_checkpoint(appended.note, [identity.verifier])
    assert (appended.batch.first, checkpoint.size) == (3, 5)
    for offset, item in enumerate(batch):
        proof = appended.batch.inclusion_proof(offset)
        verify_inclusion(leaf_hash(item.data), 3 + offset, 5, proof, checkpoint.root)


def test_a_log_goes_on_where_it_ended(path, identity, sign, pending):
    for start in range(0, 900, 90):
        with SqliteStore(path) as store:
            store.open(identity, sign)
            appended = store.append(pending(*range(start, start + 90)), sign, NOON)
            assert appended.batch.first == start
    assert fsck(path, identity.verifier).findings == ()


def test_two_stores_append_to_one_log_in_turn(path, identity, sign, pending):
    with SqliteStore(path) as first, SqliteStore(path) as second:
        first.open(identity, sign)
        second.open(identity, sign)
        for number in range(300):
            writer = second if number % 3 else first
            assert writer.append(pending(number), sign, NOON).batch.first == number
    report = fsck(path, identity.verifier)
    assert (report.entries, report.checkpoints, report.findings) == (300, 301, ())


def test_a_log_under_another_key_is_refused(store, identity, sign, pending):
    store.open(identity, sign)
    other = Ed25519Signer.from_seed(ORIGIN, bytes(32))
    with pytest.raises(LogMismatchError, match="origin or key"):
        store.open(LogIdentity(ORIGIN, other.verifier), sign)


def test_a_log_of_another_origin_is_refused(store, identity, sign):
    store.open(identity, sign)
    other = Ed25519Signer.from_seed("audit.example.org/log/2027", bytes(range(32)))
    with pytest.raises(LogMismatchError, match="origin or key"):
        store.open(LogIdentity(other.name, other.verifier), sign)


def test_a_log_of_an_unknown_version_is_refused(store, path, identity, sign, tamper):
    store.open(identity, sign)
    store.close()
    tamper(path, "PRAGMA user_version = 99")
    with pytest.raises(LogMismatchError, match="version 99"):
        store.open(identity, sign)


def test_a_database_that_is_no_log_is_refused(store, path, identity, sign):
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE notes (text)")
    connection.close()
    path.chmod(0o600)
    with pytest.raises(LogMismatchError, match="not an audit log"):
        store.open(identity, sign)


def test_a_file_that_is_no_database_is_refused(store, path, identity, sign):
    path.write_bytes(b"no database at all" * 1000)
    path.chmod(0o600)
    with pytest.raises(LogMismatchError, match="damaged"):
        store.open(identity, sign)


def test_a_missing_folder_is_reported(tmp_path, identity, sign):
    with pytest.raises(LogUnavailableError, match="check path"):
        SqliteStore(tmp_path / "none" / "audit.db").open(identity, sign)


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM entry WHERE idx = 19",
        "DELETE FROM head",
        "DELETE FROM checkpoint WHERE size = 20",
        "UPDATE head SET size = 19",
        "UPDATE head SET frontier = zeroblob(72)",
        "UPDATE head SET frontier = zeroblob(3)",
        "UPDATE head SET note = (SELECT note FROM checkpoint WHERE size = 10)",
        "UPDATE head SET note = 'text'",
        "UPDATE entry SET hash = zeroblob(32) WHERE idx = 18",
    ],
)
def test_a_log_whose_end_contradicts_itself_is_refused(store, path, identity, sign, pending, tamper, change):
    store.open(identity, sign)
    store.append(pending(*range(10)), sign, NOON)
    store.append(pending(*range(10, 20)), sign, NOON)
    store.close()
    store.open(identity, sign)  # the control: as it was written, it opens
    store.close()
    tamper(path, change)
    with pytest.raises(LogMismatchError):
        store.open(identity, sign)


def test_rows_are_neither_changed_nor_deleted_by_mistake(store, path, identity, sign, pending):
    store.open(identity, sign)
    store.append(pending(*range(4100)), sign, NOON)
    with sqlite3.connect(path) as connection:
        for table in ("log", "checkpoint", "entry", "block", "block_term", "tile"):
            column = connection.execute(f"SELECT name FROM pragma_table_info('{table}')").fetchone()[0]
            for statement in (f"DELETE FROM {table}", f"UPDATE {table} SET {column} = {column}"):
                with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                    connection.execute(statement)
    connection.close()


def test_a_log_rolled_back_under_a_running_store_is_refused(store, path, tmp_path, identity, sign, pending):
    store.open(identity, sign)
    store.append(pending(*range(10)), sign, NOON)
    store.close()
    backup = tmp_path / "backup.db"
    shutil.copy(path, backup)
    store.open(identity, sign)
    store.append(pending(10), sign, NOON)
    # The control: another file with the same content is taken, and verified.
    same = tmp_path / "same.db"
    with sqlite3.connect(path) as source, sqlite3.connect(same) as target:
        source.backup(target)
    source.close()
    target.close()
    same.chmod(0o600)
    same.replace(path)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink()
    assert store.append(pending(11), sign, NOON).batch.first == 11
    backup.replace(path)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink()
    with pytest.raises(LogMismatchError, match="lost entries"):
        store.append(pending(12), sign, NOON)
    with pytest.raises(LogMismatchError, match="lost entries"):
        store.probe()


def test_a_head_moved_by_someone_without_the_key_is_not_built_on(
    store, path, identity, sign, pending, tamper
):
    store.open(identity, sign)
    store.append(pending(1), sign, NOON)
    tamper(path, "UPDATE head SET note = replace(note, '2026', '2027')")
    with pytest.raises(LogMismatchError):
        store.append(pending(2), sign, NOON)


def test_entries_of_16_kib_are_taken_and_larger_ones_refused(make_entry, store, path, identity, sign):
    room = MAX_ENTRY_BYTES - len(prepare_entry(make_entry(1, purpose="x")).data) + 1
    largest = prepare_entry(make_entry(1, purpose="x" * room))
    assert len(largest.data) == MAX_ENTRY_BYTES
    store.open(identity, sign)
    store.append([largest], sign, NOON)
    assert fsck(path, identity.verifier).findings == ()
    with pytest.raises(EntryTooLargeError):
        prepare_entry(make_entry(1, purpose="x" * (room + 1)))


@pytest.mark.parametrize(
    "members", [{"purpose": "\ud800"}, {"time": "2026-03-01T12:00:00Z"}, {"time": "now"}]
)
def test_an_entry_without_a_canonical_form_is_refused(make_entry, members):
    with pytest.raises(GatewayError):
        prepare_entry(make_entry(1, **members))


def test_a_once_key_is_taken_once(store, identity, sign, pending):
    store.open(identity, sign)
    assert store.append(pending(1, once=once("a")), sign, NOON).refused == frozenset()
    again = store.append(pending(2, once=once("a")), sign, NOON)
    assert (again.batch, again.refused) == (None, frozenset({0}))
    assert store.append(pending(3, once=once("b")), sign, NOON).batch.first == 1


def test_a_taken_once_key_refuses_only_its_own_entry(store, path, identity, sign, pending):
    store.open(identity, sign)
    store.append(pending(1, once=once("a")), sign, NOON)
    batch = [
        *pending(2),
        *pending(3, once=once("a")),
        *pending(4, once=once("b")),
        *pending(5, once=once("b")),
        *pending(6),
    ]
    appended = store.append(batch, sign, NOON)
    assert appended.refused == {1, 3}
    assert appended.batch.leaf_hashes == tuple(batch[at].leaf_hash for at in (0, 2, 4))
    assert fsck(path, identity.verifier).findings == ()


def test_a_once_key_stays_taken_across_a_restart(path, identity, sign, pending):
    with SqliteStore(path) as store:
        store.open(identity, sign)
        store.append(pending(1, once=once("a")), sign, NOON)
    with SqliteStore(path) as store:
        store.open(identity, sign)
        assert store.append(pending(2, once=once("a")), sign, NOON).refused == {0}


def test_a_once_key_is_free_again_when_it_has_expired(store, identity, sign, pending):
    store.open(identity, sign)
    store.append(pending(1, once=once("a", minutes=10)), sign, NOON)
    early, late = NOON + timedelta(minutes=9, seconds=59), NOON + timedelta(minutes=10)
    assert store.append(pending(2, once=once("a", minutes=30)), sign, early).refused == {0}
    assert store.append(pending(3, once=once("a", minutes=30)), sign, late).refused == frozenset()


def test_expired_once_keys_are_cleared_away(store, path, identity, sign, pending):
    store.open(identity, sign)
    for number in range(50):
        store.append(pending(number, once=once(f"old-{number}", minutes=1)), sign, NOON)
    later = NOON + timedelta(minutes=2)
    for number in range(25):
        store.append(pending(number, once=once(f"new-{number}")), sign, later)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM once").fetchone() == (25,)
    connection.close()


def test_a_claim_whose_append_fails_is_not_taken(store, identity, sign, pending):
    def unable(size, root):
        raise RuntimeError("no signature today")

    store.open(identity, sign)
    with pytest.raises(RuntimeError):
        store.append(pending(1, once=once("a")), unable, NOON)
    appended = store.append(pending(1, once=once("a")), sign, NOON)
    assert (appended.batch.first, appended.refused) == (0, frozenset())


def test_a_long_write_ahead_log_is_folded_back(store, path, identity, sign, pending):
    store.open(identity, sign)
    before = path.stat().st_size
    for number in range(300):
        store.append(pending(number), sign, NOON)
        store.maintain()
    assert path.stat().st_size > before
    assert fsck(path, identity.verifier).findings == ()
