"""A clock that errs, a disk that fills, an older copy of the log: noticed, told, and not built upon."""

import json
from datetime import timedelta

import pytest

from gateway.audit.anchor import Anchor
from gateway.audit.appender import Appender
from gateway.audit.committed import Committed
from gateway.audit.errors import LogForkedError, LogRolledBackError, LogUnavailableError
from gateway.audit.fsck import fsck
from gateway.audit.guards import DiskLimits, DiskState, GuardHooks, LogGuards, latest_time, used_ratio
from gateway.audit.note import Ed25519Signer
from gateway.audit.sqlite import SqliteStore
from gateway.audit.sqlite_reader import SqliteReader
from gateway.audit.store import prepare_entry
from gateway.clock import rfc3339
from gateway.errors import ConfigError
from gateway.model.entry import EntryKind

from .conftest import NOON, ORIGIN


class Steady:
    """A clock that nobody sets: it goes on by what it is told."""

    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def steady():
    return Steady()


@pytest.fixture
def guarded(path, store, signer, identity, sign, clock):
    """Return a function that opens a guarded log; `pass_time` then moves both clocks together."""
    store.open(identity, sign)
    store.close()
    readers = []

    def guarded(**options):
        reader = SqliteReader(path)
        readers.append(reader)
        guards = LogGuards(reader, **options)
        return Appender(SqliteStore(path), signer, origin=ORIGIN, clock=clock, guards=guards)

    yield guarded
    for reader in readers:
        reader.close()


@pytest.fixture
def now_entry(make_entry, clock):
    """Return a function that makes an entry with the time of the clock."""
    return lambda number=0, **members: prepare_entry(make_entry(number, time=rfc3339(clock()), **members))


def kinds(path):
    with SqliteReader(path) as reader:
        return [json.loads(reader.entry(index).data)["kind"] for index in range(reader.size())]


@pytest.mark.parametrize("jump", [timedelta(hours=1), timedelta(seconds=-20)])
def test_a_jump_of_the_clock_gets_an_entry_before_any_other(
    path, guarded, clock, steady, now_entry, signer, jump
):
    heard = []
    log = guarded(steady=steady, hooks=GuardHooks(clock_jumped=heard.append))
    assert isinstance(log.append([now_entry()])[0], Committed)
    clock.advance(jump)
    [placed] = log.append([now_entry(1)])
    assert placed.index == 2
    assert kinds(path) == ["exchange.released", "clock.jumped", "exchange.released"]
    with SqliteReader(path) as reader:
        detail = json.loads(reader.entry(1).data)["detail"]
    assert float(detail["seconds"]) == jump.total_seconds() == heard[0]
    assert log.append([now_entry(2)])[0].index == 3  # it is told once
    assert fsck(path, signer.verifier).findings == ()


def test_the_control_without_a_steady_clock_a_jump_is_not_noticed(path, guarded, clock, now_entry):
    log = guarded()
    log.append([now_entry()])
    clock.advance(timedelta(hours=1))
    log.append([now_entry(1)])
    assert "clock.jumped" not in kinds(path)


def test_a_clock_that_goes_as_it_should_has_not_jumped(path, guarded, clock, steady, now_entry):
    log = guarded(steady=steady)
    for number in range(5):
        log.append([now_entry(number)])
        clock.advance(timedelta(hours=3))
        steady.now_s += 3 * 3600 + 0.4  # drift within what clocks do
    assert "clock.jumped" not in kinds(path)


def test_while_the_clock_lies_far_before_the_latest_entry_nothing_is_appended(
    path, guarded, clock, now_entry, signer
):
    log = guarded(tolerance=timedelta(seconds=60))
    log.append([now_entry()])
    clock.advance(timedelta(seconds=-61))
    [refused] = log.append([now_entry(1)])
    assert isinstance(refused, LogUnavailableError)
    assert "accept-clock" in refused.message
    assert not log.healthy
    log.probe()
    assert not log.healthy, "a disk that takes writes does not make the clock right"
    clock.advance(timedelta(seconds=2))
    log.probe()
    assert log.healthy
    assert isinstance(log.append([now_entry(2)])[0], Committed)
    assert fsck(path, signer.verifier).findings == ()


def test_the_control_without_guards_times_go_back_and_only_fsck_notices(
    path, store, signer, identity, sign, clock, now_entry
):
    store.open(identity, sign)
    log = Appender(SqliteStore(path), signer, origin=ORIGIN, clock=clock)
    log.append([now_entry()])
    clock.advance(timedelta(hours=-1))
    assert isinstance(log.append([now_entry(1)])[0], Committed)
    assert [finding.place for finding in fsck(path, signer.verifier).findings] == ["entry"]


def test_the_latest_time_is_known_after_a_restart(guarded, clock, now_entry):
    guarded().append([now_entry()])
    clock.advance(timedelta(hours=-1))
    assert isinstance(guarded().append([now_entry(1)])[0], LogUnavailableError)


def test_a_person_can_vouch_for_the_clock_and_a_log_that_waits_goes_on(
    path, guarded, clock, now_entry, signer
):
    clock.advance(timedelta(days=3650))  # a clock set wrong, and put right
    waiting = guarded()
    waiting.append([now_entry()])
    clock.advance(timedelta(days=-3650))
    assert isinstance(waiting.append([now_entry(1)])[0], LogUnavailableError)
    vouching = now_entry(2, kind=EntryKind.CLOCK_JUMPED)
    assert isinstance(guarded().append([vouching])[0], LogUnavailableError)  # not just anybody
    assert isinstance(guarded(accepts_clock=True).append([vouching])[0], Committed)
    waiting.probe()
    assert waiting.healthy
    assert isinstance(waiting.append([now_entry(3)])[0], Committed)
    assert fsck(path, signer.verifier).findings == ()


def test_a_jump_far_back_is_told_as_soon_as_anything_is_appended(path, guarded, clock, steady, now_entry):
    log = guarded(steady=steady)
    log.append([now_entry()])
    clock.advance(timedelta(days=-1))
    assert isinstance(log.append([now_entry(1)])[0], LogUnavailableError)
    clock.advance(timedelta(days=1))
    log.append([now_entry(2)])
    assert kinds(path)[1:] == ["clock.jumped", "clock.jumped", "exchange.released"]


@pytest.mark.parametrize("off", [timedelta(minutes=2), timedelta(minutes=-2)])
def test_an_entry_with_another_time_than_the_logs_is_refused_and_no_other(
    path, guarded, clock, make_entry, now_entry, off
):
    """A process whose clock, or whose honesty, is off could otherwise stop the log for years."""
    stranger = prepare_entry(make_entry(1, time=rfc3339(clock() + off)))
    log = guarded()
    first, refused, last = log.append([now_entry(0), stranger, now_entry(2)])
    assert (first.index, last.index) == (0, 1)
    assert isinstance(refused, LogUnavailableError)
    assert log.healthy


class Disk:
    def __init__(self):
        self.ratio = 0.5

    def __call__(self, _):
        return self.ratio


@pytest.fixture
def disk(monkeypatch):
    monkeypatch.setattr("gateway.audit.guards._DISK_INTERVAL_S", 0.0)
    return Disk()


def test_a_filling_disk_is_told_once_and_a_full_one_takes_all_but_new_exchanges(
    path, guarded, now_entry, disk
):
    heard = []
    hooks = GuardHooks(disk_changed=lambda state, ratio: heard.append((state, ratio)))
    log = guarded(disk=DiskLimits(path), measure=disk, hooks=hooks)

    def outcomes():
        request = now_entry(0, kind=EntryKind.EXCHANGE_REQUESTED)
        others = [now_entry(1, kind=kind) for kind in (EntryKind.EXCHANGE_DENIED, EntryKind.MEMBER_SUSPENDED)]
        return [isinstance(each, Committed) for each in log.append([request, *others])]

    assert outcomes() == [True, True, True]
    disk.ratio = 0.75
    assert outcomes() == outcomes() == [True, True, True]
    disk.ratio = 0.95
    assert outcomes() == [False, True, True]
    assert log.healthy
    disk.ratio = 0.5
    assert outcomes() == [True, True, True]
    assert heard == [(DiskState.FILLING, 0.75), (DiskState.FULL, 0.95), (DiskState.SPACIOUS, 0.5)]


def test_the_control_without_limits_a_full_disk_takes_exchanges(guarded, now_entry, disk):
    disk.ratio = 0.99
    [outcome] = guarded(measure=disk).append([now_entry(kind=EntryKind.EXCHANGE_REQUESTED)])
    assert isinstance(outcome, Committed)


def test_the_used_part_of_a_real_disk_lies_between_nothing_and_all(tmp_path):
    assert 0.0 < used_ratio(tmp_path) < 1.0


def test_of_an_empty_log_there_is_no_latest_time(path, store, identity, sign):
    store.open(identity, sign)
    with SqliteReader(path) as reader:
        assert latest_time(reader, 0) == ""


# -- the anchor --------------------------------------------------------------------------------------


@pytest.fixture
def anchor(tmp_path, identity):
    return Anchor(tmp_path / "elsewhere", identity.verifier)


def grow(store, sign, make_entry, first, count):
    for number in range(first, first + count):
        store.append([prepare_entry(make_entry(number))], sign, NOON)


def seen(path):
    with SqliteReader(path) as reader:
        return reader.checkpoint()


def copy(path, target):
    """Copy a log that is closed, whole."""
    target.write_bytes(path.read_bytes())
    target.chmod(0o600)


def test_a_log_that_goes_on_from_its_anchor_is_fine(path, store, identity, sign, make_entry, anchor):
    store.open(identity, sign)
    for size in (0, 3, 300):
        anchor.write(seen(path))
        with SqliteReader(path) as reader:
            assert anchor.verify(reader).size == reader.size()
        grow(store, sign, make_entry, size, 297 if size else 3)
        with SqliteReader(path) as reader:
            anchor.verify(reader)
    assert anchor.path.stat().st_mode & 0o777 == 0o600


def test_yesterdays_copy_is_refused_though_it_agrees_with_itself(
    path, store, identity, sign, make_entry, anchor, tmp_path
):
    store.open(identity, sign)
    grow(store, sign, make_entry, 0, 5)
    store.close()
    copy(path, tmp_path / "yesterday")
    store.open(identity, sign)
    grow(store, sign, make_entry, 5, 2)
    anchor.write(seen(path))
    store.close()
    copy(tmp_path / "yesterday", path)
    with SqliteReader(path) as reader, pytest.raises(LogRolledBackError, match="older copy") as raised:
        anchor.verify(reader)
    assert "new origin" in raised.value.message
    # The control: without the anchor the copy opens, and goes on.
    with SqliteStore(path) as next_day:
        next_day.open(identity, sign)
        grow(next_day, sign, make_entry, 5, 3)


def test_a_copy_that_has_grown_past_the_anchor_by_other_entries_is_refused(
    path, store, identity, sign, make_entry, anchor, tmp_path
):
    store.open(identity, sign)
    grow(store, sign, make_entry, 0, 5)
    store.close()
    copy(path, tmp_path / "yesterday")
    store.open(identity, sign)
    grow(store, sign, make_entry, 5, 2)
    anchor.write(seen(path))
    store.close()
    copy(tmp_path / "yesterday", path)
    with SqliteStore(path) as next_day:
        next_day.open(identity, sign)
        grow(next_day, sign, make_entry, 100, 3)
    with SqliteReader(path) as reader, pytest.raises(LogForkedError, match="are not those"):
        anchor.verify(reader)


def test_an_anchor_that_is_missing_altered_or_of_another_log_is_refused(
    path, store, identity, sign, anchor, tmp_path
):
    store.open(identity, sign)
    note = seen(path)
    with SqliteReader(path) as reader:
        with pytest.raises(ConfigError, match="gateway audit anchor"):
            anchor.verify(reader)
        for content in (b"", b"\xff", b"nonsense\n", note.replace("\n0\n", "\n1\n").encode(), b"x" * 10**6):
            anchor.path.write_bytes(content)
            with pytest.raises(ConfigError, match="no checkpoint of this log"):
                anchor.verify(reader)
        anchor.write(note)
        stranger = Ed25519Signer.from_seed(ORIGIN, b"\x05" * 32).verifier
        with pytest.raises(ConfigError, match="no checkpoint of this log"):
            Anchor(anchor.path, stranger).verify(reader)
        anchor.path.unlink()
        anchor.path.mkdir()
        with pytest.raises(ConfigError, match="cannot be read"):
            anchor.verify(reader)


def test_a_write_that_fails_leaves_the_anchor_and_nothing_beside_it(anchor, monkeypatch):
    anchor.write("one")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(5, "EIO")))
    with pytest.raises(OSError, match="EIO"):
        anchor.write("two")
    assert anchor.path.read_text() == "one"
    assert list(anchor.path.parent.glob(".*")) == []
