"""A process of its own that appends to a log and says what was acknowledged; run by test_faults.

Usage: appender.py PATH MODE. Prints one line for each acknowledged entry: index and leaf hash.
"""

import resource
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from gateway.audit.errors import LogUnavailableError
from gateway.audit.note import Ed25519Signer
from gateway.audit.sqlite import SqliteStore
from gateway.audit.sqlite_reader import SqliteReader
from gateway.audit.writer import AuditLog
from gateway.clock import rfc3339
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


def append_for_ever(log):
    number = 0
    while True:
        acknowledge(log.append_sync(entry(number)))
        number += 1


def acknowledge_too_early(log, path):
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


def append_to_a_full_disk(log, path):
    """Append until the files may not grow any more; then let them, and append again."""
    # Beyond the limit a write ends early or fails with EFBIG, as on a disk without space with ENOSPC.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    longest = max(file.stat().st_size for file in path.parent.iterdir())
    resource.setrlimit(resource.RLIMIT_FSIZE, (longest + 200_000, resource.RLIM_INFINITY))
    refusals = number = 0
    while refusals < 3:
        try:
            acknowledge(log.append_sync(entry(number)))
        except LogUnavailableError as error:
            say("failed", error.reason)
            refusals += 1
        number += 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    say("healed")
    for _ in range(20):
        acknowledge(log.append_sync(entry(number)))


def main():
    path, mode = Path(sys.argv[1]), sys.argv[2]
    signer = Ed25519Signer.from_seed(ORIGIN, bytes(range(32)))
    with SqliteStore(path) as store, AuditLog(store, signer, origin=ORIGIN) as log:
        say("open")
        match mode:
            case "for-ever":
                append_for_ever(log)
            case "too-early":
                acknowledge_too_early(log, path)
            case "full-disk":
                append_to_a_full_disk(log, path)
            case count:
                append_until_it_has_failed(log, int(count))


if __name__ == "__main__":
    main()
