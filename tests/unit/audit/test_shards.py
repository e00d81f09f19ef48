"""Closing a log and going on in the next: what may not happen after, and what a broken chain shows."""

import fcntl
import shutil

import pytest

from gateway.audit.errors import LogClosedError, LogUnavailableError
from gateway.audit.fsck import fsck
from gateway.audit.note import Ed25519Signer
from gateway.audit.occupancy import serving, vacated
from gateway.audit.shards import Shard, closing_detail, find_breaks, opening_detail
from gateway.audit.sqlite import SqliteStore
from gateway.audit.sqlite_reader import SqliteReader
from gateway.audit.store import prepare_entry
from gateway.audit.writer import AuditLog
from gateway.clock import FixedClock, rfc3339
from gateway.errors import ConfigError
from gateway.model.entry import Entry, EntryKind

from .conftest import NOON

YEARS = ("2026", "2027", "2028")


def origin_of(year):
    return f"audit.example.org/log/{year}"


def signer_of(year, seed=bytes(range(32))):
    return Ed25519Signer.from_seed(origin_of(year), seed)


def entry_of(kind, detail):
    return Entry(v=1, kind=kind, time=rfc3339(NOON), detail=dict(detail))


def note_of(path):
    with SqliteReader(path) as reader:
        return reader.checkpoint()


def write_shard(folder, year, make_entry, *, previous=None, following=None, first=0, seed=bytes(range(32))):
    """Write the log of a year: 300 entries, joined to the logs before and after it as asked."""
    path = folder / f"{year}.db"
    signer = signer_of(year, seed)
    with AuditLog(SqliteStore(path), signer, origin=signer.name, clock=FixedClock(NOON)) as log:
        if previous is not None:
            log.append_sync(entry_of(EntryKind.LOG_OPENED, opening_detail(previous)))
        for number in range(first, first + 300):
            log.append_sync(make_entry(number))
        if following is not None:
            log.append_sync(entry_of(EntryKind.LOG_CLOSED, closing_detail(origin_of(following))))
    return Shard(path, signer.verifier)


@pytest.fixture
def chain(tmp_path, make_entry):
    """Three years of a log, of which two are closed."""
    shards, note = [], None
    for at, year in enumerate(YEARS):
        following = YEARS[at + 1] if at + 1 < len(YEARS) else None
        shards.append(write_shard(tmp_path, year, make_entry, previous=note, following=following))
        note = note_of(shards[-1].database)
    return shards


def whats(shards):
    return [(found.origin[-4:], found.what) for found in find_breaks(shards)]


def test_a_chain_that_holds_has_no_breaks(chain):
    assert whats(chain) == []
    for shard in chain:
        assert fsck(shard.database, shard.verifier).findings == ()


def test_a_closed_log_takes_no_entry_by_any_way(chain, make_entry):
    closed, is_open = chain[0], chain[2]
    pending = [prepare_entry(make_entry(1))]
    before = note_of(closed.database)
    with SqliteStore(closed.database) as store, pytest.raises(LogClosedError, match="closed"):
        store.open(identity_of("2026"), sign_of("2026"))
    with pytest.raises(LogClosedError):
        AuditLog(SqliteStore(closed.database), signer_of("2026"), origin=closed.origin)
    assert note_of(closed.database) == before
    # The control: the log that goes on takes it.
    with SqliteStore(is_open.database) as store:
        store.open(identity_of("2028"), sign_of("2028"))
        store.append(pending, sign_of("2028"), NOON)
        store.probe()


def identity_of(year):
    from gateway.audit.store import LogIdentity

    return LogIdentity(origin_of(year), signer_of(year).verifier)


def sign_of(year):
    from gateway.audit.checkpoint import Checkpoint, sign_checkpoint

    return lambda size, root: sign_checkpoint(Checkpoint(origin_of(year), size, root), signer_of(year))


def test_a_store_that_was_open_when_another_closed_the_log_is_refused(tmp_path, make_entry):
    path = tmp_path / "2026.db"
    with SqliteStore(path) as running, SqliteStore(path) as closing:
        running.open(identity_of("2026"), sign_of("2026"))
        closing.open(identity_of("2026"), sign_of("2026"))
        running.append([prepare_entry(make_entry(1))], sign_of("2026"), NOON)
        last = prepare_entry(entry_of(EntryKind.LOG_CLOSED, closing_detail(origin_of("2027"))))
        closing.append([last], sign_of("2026"), NOON)
        for store in (running, closing):
            with pytest.raises(LogClosedError):
                store.append([prepare_entry(make_entry(2))], sign_of("2026"), NOON)
            with pytest.raises(LogClosedError):
                store.probe()
    with SqliteReader(path) as reader:
        assert reader.size() == 2


def test_nothing_follows_the_closing_entry_in_one_batch(tmp_path, make_entry):
    path = tmp_path / "2026.db"
    closing = prepare_entry(entry_of(EntryKind.LOG_CLOSED, closing_detail(origin_of("2027"))))
    with SqliteStore(path) as store:
        store.open(identity_of("2026"), sign_of("2026"))
        with pytest.raises(LogClosedError):
            store.append([closing, prepare_entry(make_entry(1))], sign_of("2026"), NOON)
        store.append([prepare_entry(make_entry(1)), closing], sign_of("2026"), NOON)
    with SqliteReader(path) as reader:
        assert reader.size() == 2


# -- attacks: each on a chain that held before ----------------------------------------------------


def test_a_dropped_shard_is_found(chain):
    first, middle, last = chain
    assert ("2027", "it goes on from an older log that is not given") in whats([middle, last])
    assert ("2026", "it was closed in favour of another log than the one given") in whats([first, last])
    assert ("2027", "it was closed, and the log it goes on in is not given") in whats([first, middle])
    assert whats([first])
    assert whats([]) == []


def test_shards_in_another_order_are_found(chain):
    first, middle, last = chain
    for order in ([middle, first, last], [first, last, middle], [last, middle, first]):
        assert whats(order)


def test_a_shard_swapped_for_a_sound_log_with_other_entries_is_found(chain, tmp_path, make_entry):
    """Somebody with the key writes the first year anew; for itself, that log is sound."""
    other = tmp_path / "forged"
    other.mkdir()
    forged = write_shard(other, "2026", make_entry, following="2027", first=1)
    assert fsck(forged.database, forged.verifier).findings == ()
    assert whats([forged, *chain[1:]]) == [
        ("2027", "the log before it is not the one it goes on from: size or root is another")
    ]


def test_a_shard_cut_short_and_closed_again_is_found(chain, tmp_path, make_entry, monkeypatch):
    other = tmp_path / "forged"
    other.mkdir()
    signer = signer_of("2026")
    path = other / "2026.db"
    with AuditLog(SqliteStore(path), signer, origin=signer.name, clock=FixedClock(NOON)) as log:
        for number in range(299):
            log.append_sync(make_entry(number))
        log.append_sync(entry_of(EntryKind.LOG_CLOSED, closing_detail(origin_of("2027"))))
    assert ("2027", "the log before it is not the one it goes on from: size or root is another") in whats(
        [Shard(path, signer.verifier), *chain[1:]]
    )


def test_a_closed_shard_that_was_opened_again_is_found(chain, tmp_path, make_entry, monkeypatch):
    """Somebody with the key and without our store's refusal appends to a closed log."""
    from gateway.audit import sqlite

    opened = tmp_path / "opened.db"
    shutil.copy(chain[0].database, opened)
    monkeypatch.setattr(sqlite, "_refuse_closed", lambda head: None)
    with SqliteStore(opened) as store:
        store.open(identity_of("2026"), sign_of("2026"))
        store.append([prepare_entry(make_entry(7))], sign_of("2026"), NOON)
    shard = Shard(opened, chain[0].verifier)
    assert fsck(opened, shard.verifier).findings == (), "for itself the log is sound"
    found = whats([shard, *chain[1:]])
    assert ("2026", "an entry log.closed stands where none may") in found
    assert ("2026", "it was not closed, though another log is said to go on from it") in found


def test_a_new_log_that_is_not_joined_is_found(chain, tmp_path, make_entry):
    other = tmp_path / "loose"
    other.mkdir()
    loose = write_shard(other, "2027", make_entry, following="2028")
    assert ("2027", "its first entry does not go on from an older log") in whats([chain[0], loose, chain[2]])


@pytest.mark.parametrize("change", ["size", "root", "previous", "checkpoint"])
def test_an_opening_entry_that_says_something_else_is_found(chain, tmp_path, make_entry, change):
    other = tmp_path / "changed"
    other.mkdir()
    signer = signer_of("2027")
    detail = dict(opening_detail(note_of(chain[0].database)))
    changed = {
        "previous": origin_of("2025"),
        "size": str(int(detail["size"]) + 1),
        "root": "A" + detail["root"][1:] if detail["root"][0] != "A" else "B" + detail["root"][1:],
        "checkpoint": detail["checkpoint"].replace("\n302\n", "\n303\n").replace("\n301\n", "\n302\n"),
    }
    assert changed[change] != detail[change]
    detail[change] = changed[change]
    path = other / "2027.db"
    with AuditLog(SqliteStore(path), signer, origin=signer.name, clock=FixedClock(NOON)) as log:
        log.append_sync(entry_of(EntryKind.LOG_OPENED, detail))
    assert ("2027", "its first entry holds no checkpoint signed by the key of the older log") in whats(
        [chain[0], Shard(path, signer.verifier)]
    )


def test_a_closed_log_under_a_stolen_name_and_another_key_is_found(chain, tmp_path, make_entry):
    other = tmp_path / "strange"
    other.mkdir()
    strange = write_shard(other, "2026", make_entry, following="2027", seed=bytes(32))
    assert whats([strange, *chain[1:]])
    assert whats([Shard(strange.database, chain[0].verifier), *chain[1:]])


def test_a_damaged_first_entry_breaks_the_chain_and_is_no_error(chain, tamper):
    tamper(chain[1].database, "UPDATE entry SET data = x'00' WHERE idx = 0")
    assert ("2027", "its first entry does not go on from an older log") in whats(chain)


# -- who serves ------------------------------------------------------------------------------------


def test_a_log_that_is_served_from_cannot_be_closed(tmp_path):
    database = tmp_path / "audit.db"
    with (
        serving(database),
        serving(database),
        pytest.raises(ConfigError, match="running"),
        vacated(database),
    ):
        raise AssertionError
    with vacated(database):
        with pytest.raises(LogUnavailableError, match="being closed"), serving(database):
            raise AssertionError
        with pytest.raises(ConfigError), vacated(database):
            raise AssertionError
    with serving(database):
        pass


def test_the_lock_of_one_that_died_is_free(tmp_path):
    database = tmp_path / "audit.db"
    with (tmp_path / "audit.db.serving").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        with pytest.raises(ConfigError), vacated(database):
            raise AssertionError
    with vacated(database):
        pass


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(LogUnavailableError, match="folder"), serving(tmp_path / "none" / "audit.db"):
        raise AssertionError
