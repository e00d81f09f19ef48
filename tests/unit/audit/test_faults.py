"""Crashes and broken disks: no acknowledged entry is lost, and the log serves again by itself."""

import fcntl
import os
import random
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

import gateway.audit.sqlite
from gateway.audit.errors import LogMismatchError, LogUnavailableError
from gateway.audit.fsck import fsck
from gateway.audit.sqlite import SqliteStore
from gateway.audit.sqlite_reader import SqliteReader
from gateway.audit.sqlite_schema import connect_for_writing
from gateway.audit.store import prepare_entry
from tests.simulators.campaign import scaled
from tests.simulators.log_process import (
    FAULTS,
    acknowledged,
    finish,
    kill_after,
    lost,
    start_appender,
    traced,
)

from .conftest import NOON

CYCLES = scaled(12, 300)

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


def test_a_process_killed_while_it_appends_loses_nothing_it_acknowledged(path, identity):
    chance = random.Random(3)
    total = []
    for _ in range(CYCLES):
        acks = kill_after(start_appender(path, "for-ever"), chance.randrange(1, 120))
        assert acks
        total.extend(acks)
        assert lost(path, total) == []
    assert len({index for index, _ in total}) == len(total), "an index was given away twice"
    report = fsck(path, identity.verifier)
    assert report.findings == ()
    assert report.entries >= len(total)


def test_the_control_an_answer_before_the_commit_is_found_lost(path, store, identity, sign):
    store.open(identity, sign)
    store.close()
    acks = kill_after(start_appender(path, "too-early"), 1)
    assert lost(path, acks) == acks != []


def test_two_processes_append_to_one_log_without_gap_or_overlap(path, identity, store, sign):
    store.open(identity, sign)
    store.close()
    processes = [start_appender(path, "200"), start_appender(path, "200")]
    acks = [ack for process in processes for ack in acknowledged(finish(process))]
    assert sorted(index for index, _ in acks) == list(range(400))
    assert lost(path, acks) == []
    assert fsck(path, identity.verifier).findings == ()


def test_a_full_disk_refuses_and_serves_again_when_there_is_space(path, identity):
    lines = finish(start_appender(path, "full-disk"))
    events = [line for line in lines if FAULTS.fullmatch(line)]
    assert events == ["failed LOG_UNAVAILABLE"] * 3 + ["healed"]
    acks = acknowledged(lines)
    assert len(acks) > 20
    assert lost(path, acks) == []
    report = fsck(path, identity.verifier)
    assert report.findings == ()


def break_disk(store, path, batch, sign):
    """Let one append fail with an error of the disk."""
    size = max(file.stat().st_size for file in path.parent.iterdir())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        with pytest.raises(LogUnavailableError, match="disk"):
            append_until_it_fails(store, batch, sign)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def damage_an_entry(path):
    """Change a byte of an entry, as a disk does that has lost what it was given."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("DROP TRIGGER entry_keeps_update")
        other.execute("UPDATE entry SET data = CAST(x'20' || substr(data, 2) AS BLOB) WHERE idx = 0")


def test_after_an_error_of_the_disk_the_newest_entries_are_read_back(path, store, identity, sign, pending):
    store.open(identity, sign)
    store.append(pending(0), sign, NOON)
    break_disk(store, path, pending(1), sign)
    damage_an_entry(path)
    with pytest.raises(LogMismatchError, match="contradicts"):
        store.append(pending(2), sign, NOON)


def test_the_control_without_an_error_they_are_not_read_back(path, store, identity, sign, pending):
    store.open(identity, sign)
    store.append(pending(0), sign, NOON)
    damage_an_entry(path)
    store.append(pending(2), sign, NOON)
    assert fsck(path, identity.verifier).findings


@needs_strace
def test_after_an_error_of_the_disk_the_system_is_told_to_forget_its_pages(
    path, store, identity, sign, tmp_path
):
    """What memory holds of the file after a failed flush is no proof of what the disk holds."""
    store.open(identity, sign)
    store.close()
    trace = tmp_path / "trace"
    options = ("-o", str(trace), "-e", "trace=fdatasync,fadvise64,pread64")
    for injection, forgotten in (
        ("fdatasync:error=EIO:when=8", True),
        ("fdatasync:delay_exit=1:when=8", False),
    ):
        under = traced(path, *options, "-e", f"inject={injection}")
        finish(start_appender(path, "12", under=under))
        told = trace.read_text()
        assert ("POSIX_FADV_DONTNEED" in told) is forgotten


@needs_strace
def test_every_acknowledged_append_was_flushed(path, tmp_path):
    trace = tmp_path / "trace"
    strace = ("strace", "-f", "-qq", "-o", str(trace), "-e", "trace=fdatasync,fsync")
    lines = finish(start_appender(path, "30", under=strace))
    flushes = len(re.findall(r"f(?:data)?sync\(", trace.read_text()))
    assert len(acknowledged(lines)) == 30
    assert flushes >= 30


@pytest.fixture
def pending(make_entry):
    return lambda number: [prepare_entry(make_entry(number))]


@pytest.fixture
def disk(monkeypatch):
    """A disk whose faults can be switched on: SQLite meets them on every connection it opens."""

    class Disk:
        pragma = ""

    def connect(path, busy_timeout_s):
        connection = connect_for_writing(path, busy_timeout_s)
        if Disk.pragma:
            connection.execute(Disk.pragma)
        return connection

    monkeypatch.setattr(gateway.audit.sqlite, "connect_for_writing", connect)
    return Disk


def append_until_it_fails(store, batch, sign):
    for _ in range(50):
        store.append(batch * 20, sign, NOON)


@pytest.mark.parametrize(
    ("pragma", "words"),
    [("PRAGMA max_page_count = 1", "disk is full"), ("PRAGMA query_only = ON", "read-only")],
)
def test_a_disk_without_space_or_rights_is_named_and_recovered_from(
    store, path, identity, sign, pending, disk, pragma, words
):
    store.open(identity, sign)
    store.append(pending(0), sign, NOON)
    store._connection.execute(pragma)
    disk.pragma = pragma
    with pytest.raises(LogUnavailableError, match=words):
        append_until_it_fails(store, pending(1), sign)
    with SqliteReader(path) as reader:
        size = reader.size()
    with pytest.raises(LogUnavailableError):
        store.append([*pending(1)] * 200, sign, NOON)
    disk.pragma = ""
    store.probe()
    assert store.append(pending(2), sign, NOON).batch.first == size
    assert fsck(path, identity.verifier).findings == ()


@pytest.mark.skipif(shutil.which("chattr") is None, reason="chattr is not installed")
def test_a_log_file_made_read_only_while_it_is_open_is_recovered_from(identity, sign, pending):
    # On a disk, wherever other tests are: in memory a file that is open already can be written all the same.
    with (
        tempfile.TemporaryDirectory(dir="/var/tmp") as folder,
        SqliteStore(path := Path(folder) / "audit.db", lock_timeout_s=0.05) as store,
    ):
        store.open(identity, sign)
        store.append(pending(0), sign, NOON)
        files = (str(path), f"{path}-wal")
        try:
            if subprocess.run(["chattr", "+i", *files], capture_output=True, check=False).returncode:
                pytest.skip("files cannot be made immutable here")
            for number in (1, 2):
                with pytest.raises(LogUnavailableError):
                    store.append(pending(number), sign, NOON)
        finally:
            subprocess.run(["chattr", "-i", *files], capture_output=True, check=False)
        store.probe()
        assert store.append(pending(3), sign, NOON).batch.first == 1
        assert fsck(path, identity.verifier).findings == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can hand a file to somebody else")
def test_a_log_file_of_somebody_else_cannot_be_opened(tmp_path, path, store, identity, sign):
    store.open(identity, sign)
    store.close()
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from gateway.audit.errors import LogUnavailableError\n"
        "from gateway.audit.sqlite import SqliteStore\n"
        "os.setuid(65534)\n"
        "try: SqliteStore(Path(sys.argv[1])).probe()\n"
        "except LogUnavailableError as error: print(error.reason)\n"
    )
    for folder in [tmp_path, *tmp_path.parents][:3]:
        folder.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("LOG_UNAVAILABLE\n", "")


def test_a_log_locked_within_sqlite_is_refused_and_recovered_from(store, path, identity, sign, pending):
    store.open(identity, sign)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LogUnavailableError, match="another process"):
        store.append(pending(1), sign, NOON)
    other.execute("ROLLBACK")
    other.close()
    assert store.append(pending(1), sign, NOON).batch.first == 0


def test_a_lock_is_waited_for_as_long_as_allowed_and_no_longer(path, identity, sign, pending):
    with SqliteStore(path, lock_timeout_s=0.2) as store:
        store.open(identity, sign)
        descriptor = os.open(f"{path}.lock", os.O_RDWR)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(LogUnavailableError, match="holds its lock"):
            store.append(pending(1), sign, NOON)
        os.close(descriptor)
        assert store.append(pending(1), sign, NOON).batch.first == 0


def test_a_lock_held_by_a_process_that_died_is_free(path, store, identity, sign, pending):
    store.open(identity, sign)
    code = (
        "import fcntl, os, signal, sys\n"
        "fcntl.flock(os.open(sys.argv[1], os.O_RDWR), fcntl.LOCK_EX)\n"
        "print('held', flush=True); signal.pause()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, f"{path}.lock"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    with pytest.raises(LogUnavailableError):  # the control: alive, it holds the lock
        store.append(pending(1), sign, NOON)
    process.kill()
    process.communicate(timeout=60)
    assert store.append(pending(1), sign, NOON).batch.first == 0


def test_a_reader_in_the_middle_does_not_stop_the_log_from_opening(path, store, identity, sign, pending):
    store.open(identity, sign)
    store.append(pending(1), sign, NOON)
    with SqliteReader(path) as reader, reader._snapshot() as connection:
        connection.execute("SELECT * FROM head").fetchall()
        store.append(pending(2), sign, NOON)
        store.close()
        store.open(identity, sign)
        assert store.append(pending(3), sign, NOON).batch.first == 2
