"""A log, its key, and entries to put into it."""

import sqlite3
from datetime import UTC, datetime, timedelta

import pytest

from gateway.audit.checkpoint import Checkpoint, sign_checkpoint
from gateway.audit.note import Ed25519Signer
from gateway.audit.sqlite import SqliteStore
from gateway.audit.store import LogIdentity
from gateway.audit.writer import AuditLog
from gateway.clock import FixedClock, rfc3339
from gateway.model.entry import Entry, EntryKind

ORIGIN = "audit.example.org/log/2026"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def signer():
    return Ed25519Signer.from_seed(ORIGIN, bytes(range(32)))


@pytest.fixture
def sign(signer):
    return lambda size, root: sign_checkpoint(Checkpoint(ORIGIN, size, root), signer)


@pytest.fixture
def identity(signer):
    return LogIdentity(ORIGIN, signer.verifier)


@pytest.fixture
def clock():
    return FixedClock(NOON)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "audit.db"


@pytest.fixture
def store(path):
    with SqliteStore(path, lock_timeout_s=0.05) as store:
        yield store


@pytest.fixture
def open_log(signer, clock):
    """Return a function that opens a log over a store; all are closed in the end."""
    logs = []

    def open_log(store, **options):
        log = AuditLog(store, options.pop("signer", signer), **{"origin": ORIGIN, "clock": clock, **options})
        logs.append(log)
        return log

    yield open_log
    for log in logs:
        log.close()


@pytest.fixture
def make_entry():
    def make_entry(number=0, **members):
        members.setdefault("kind", EntryKind.EXCHANGE_RELEASED)
        members.setdefault("time", rfc3339(NOON + timedelta(milliseconds=number)))
        members.setdefault("exchange", f"0195512e-0000-7000-8000-{number:012x}")
        members.setdefault("consumer", f"bank-{number % 3}")
        members.setdefault("provider", "registry")
        members.setdefault("dataset", f"members/registry/datasets/set-{number % 5}")
        members.setdefault("records", number)
        return Entry(v=1, **members)

    return make_entry


@pytest.fixture
def fill(open_log, make_entry):
    """Return a function that makes a finished log of `count` entries at a path, `batch` at a time."""

    def fill(path, count, batch=7, make=None):
        from gateway.audit.store import prepare_entry

        with SqliteStore(path) as store:
            log = open_log(store)
            done = 0
            while done < count:
                size = min(batch, count - done)
                entries = [(make or make_entry)(done + at) for at in range(size)]
                store.append([prepare_entry(entry) for entry in entries], log._appender.sign, NOON)
                done += size
            log.close()

    return fill


@pytest.fixture
def tamper():
    """Return a function that runs SQL on a log as somebody would who owns the file."""

    def tamper(path, *statements):
        connection = sqlite3.connect(path, isolation_level=None)
        guards = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in guards:
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            sql, *values = (statement,) if isinstance(statement, str) else statement
            assert connection.execute(sql, values).rowcount != 0, "the tampering must hit something"
        for _, sql in guards:
            connection.execute(sql)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()

    return tamper
