"""A process of its own that appends to a log and says what was acknowledged; see `log_process`.

Usage: appender.py PATH MODE [OPTION...]. Prints one line for each acknowledged entry: index and leaf hash.

Modes: a number of entries; `for-ever`; `too-early`; `full-disk` (a limit on file size); `until-full` (a disk
that is full in truth, until a line comes on standard input).
Options: `direct` appends on one thread, as the log process does; `careless` and `unflushed` switch a defence
off, for controls.
"""

import resource
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

import gateway.audit.sqlite
from gateway.audit.appender import Appender
from gateway.audit.errors import LogUnavailableError
from gateway.audit.note import Ed25519Signer
from gateway.audit.sqlite import SqliteStore
from gateway.audit.sqlite_reader import SqliteReader
from gateway.audit.sqlite_schema import connect_for_writing
from gateway.audit.store import prepare_entry
from gateway.audit.writer import AuditLog
from gateway.clock import rfc3339
from gateway.errors import GatewayError
from gateway.model.entry import Entry, EntryKind

ORIGIN = "audit.example.org/log/2026"


def entry(number):
    time = rfc3339(datetime.now(UTC))
    return Entry(
        v=1, kind=EntryKind.EXCHANGE_RELEASED, time=time, records=number, purpose="x" * (number % 300)
    )


def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def acknowledge(committed):
    say(committed.index, committed.leaf_hash.hex())


class DirectLog:
    """A log without a thread of its own: every call to the system comes from one place, in one order."""

    def __init__(self, store, signer):
        self._appender = Appender(store, signer, origin=ORIGIN)

    def append_sync(self, entry):
        [outcome] = self._appender.append([prepare_entry(entry)])
        if isinstance(outcome, GatewayError):
            raise outcome
        return outcome

    def close(self):
        self._appender.close()


class CarelessLog:
    """What must never be: an append that failed is acknowledged as if it had not."""

    def __init__(self, log, path):
        self._log = log
        with SqliteReader(path) as reader:
            self._size = reader.size()

    def append_sync(self, entry):
        try:
            committed = self._log.append_sync(entry)
        except LogUnavailableError:
            say(self._size, prepare_entry(entry).leaf_hash.hex())
            raise
        self._size = committed.index + 1
        return committed

    def close(self):
        self._log.close()


def connect_unflushed(path, busy_timeout_s):
    """What must never be: a commit that does not wait for the disk."""
    connection = connect_for_writing(path, busy_timeout_s)
    connection.execute("PRAGMA synchronous = OFF")
    return connection


def append_for_ever(log):
    number = 0
    while True:
        acknowledge(log.append_sync(entry(number)))
        number += 1


def acknowledge_too_early(path):
    """What must never be: the answer goes out before the commit."""
    with SqliteReader(path) as reader:
        say(reader.size(), "00" * 32)
    signal.pause()


def append_until_it_has_failed(log, count):
    """Append `count` entries; print `failed` and `healed` as that happens."""
    failing = False
    done = 0
    while done < count:
        try:
            committed = log.append_sync(entry(done))
        except LogUnavailableError as error:
            if not failing:
                say("failed", error.reason)
            failing = True
            continue
        if failing:
            say("healed")
            failing = False
        acknowledge(committed)
        done += 1


def append_until_refused(log, make_space):
    """Append until it is refused three times; then make space, and append again."""
    refusals = number = 0
    while refusals < 3:
        try:
            acknowledge(log.append_sync(entry(number)))
        except LogUnavailableError as error:
            say("failed", error.reason)
            refusals += 1
        number += 1
    make_space()
    say("healed")
    for _ in range(20):
        acknowledge(log.append_sync(entry(number)))


def append_to_a_full_disk(log, path):
    """Append until the files may not grow any more; then let them, and append again."""
    # Beyond the limit a write ends early or fails with EFBIG, as on a disk without space with ENOSPC.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    longest = max(file.stat().st_size for file in path.parent.iterdir())
    infinite = resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_FSIZE, (longest + 200_000, infinite))
    append_until_refused(log, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (infinite, infinite)))


def open_log(store, path, options):
    signer = Ed25519Signer.from_seed(ORIGIN, bytes(range(32)))
    log = DirectLog(store, signer) if "direct" in options else AuditLog(store, signer, origin=ORIGIN)
    return CarelessLog(log, path) if "careless" in options else log


def main():
    path, mode, *options = Path(sys.argv[1]), *sys.argv[2:]
    if "unflushed" in options:
        gateway.audit.sqlite.connect_for_writing = connect_unflushed
    with SqliteStore(path) as store:
        log = open_log(store, path, options)
        say("open")
        match mode:
            case "for-ever":
                append_for_ever(log)
            case "too-early":
                acknowledge_too_early(path)
            case "full-disk":
                append_to_a_full_disk(log, path)
            case "until-full":
                append_until_refused(log, sys.stdin.readline)
            case count:
                append_until_it_has_failed(log, int(count))
        log.close()


if __name__ == "__main__":
    main()
