"""Faults of server and network: nothing acknowledged is lost, nothing is doubled, service resumes unaided."""

import random
import threading
import time
from contextlib import closing
from datetime import timedelta

import psycopg
import pytest

from gateway.audit import postgres
from gateway.audit.errors import LogMismatchError, LogUnavailableError
from gateway.audit.postgres import PostgresStore
from gateway.audit.postgres_reader import PostgresReader
from gateway.audit.store import Once
from gateway.audit.tree import leaf_hash
from gateway.audit.writer import AuditLog
from gateway.database import roundtrip
from gateway.database.session import connect
from tests.simulators.campaign import scaled
from tests.simulators.cutting import CuttingProxy
from tests.simulators.entries import NOON, ORIGIN, make_entry
from tests.simulators.waiting import wait_until

pytestmark = pytest.mark.postgres

KILLS = scaled(5, 100)


@pytest.fixture
def proxy(server):
    with closing(CuttingProxy(server.port)) as proxy:
        yield proxy


def entries(address):
    with PostgresReader(address) as reader:
        return [reader.entry(index).data for index in range(reader.size())]


def append_when_possible(store, pending, sign):
    """Append as the log's writer does: again and again, until the store can."""
    done = []

    def attempt():
        try:
            done.append(store.append(pending, sign, NOON))
        except LogUnavailableError:
            return False
        return True

    wait_until(attempt, within_s=20)
    return done[0]


@pytest.mark.parametrize("side", ["question", "answer"])
@pytest.mark.parametrize("chunk", range(5))
def test_a_connection_cut_at_any_point_of_an_append(
    server, address, open_store, sign, batch, examined, proxy, chunk, side
):
    store = open_store(server.through(address, proxy.port))
    acknowledged = [item.data for item in batch(0, 3)]
    store.append(batch(0, 3), sign, NOON)
    proxy.cut_at(chunk, side)
    unsure = [item.data for item in batch(3, 2)]
    try:
        store.append(batch(3, 2), sign, NOON)
        acknowledged += unsure
        unsure = []
    except LogUnavailableError:
        assert proxy.cuts == 1
    proxy.spare()
    append_when_possible(store, batch(5, 1), sign)
    last = [item.data for item in batch(5, 1)]
    found = entries(address)
    assert found in ([*acknowledged, *last], [*acknowledged, *unsure, *last]), "whole or not at all, in order"
    assert examined(address).entries == len(found)


def test_a_commit_whose_answer_is_lost_is_reported_as_failed_and_found_later(
    server, address, open_store, sign, batch, examined, proxy
):
    store = open_store(server.through(address, proxy.port))
    store.append(batch(0, 2), sign, NOON)
    claim = Once(b"nonce", NOON + timedelta(minutes=5))
    proxy.cut_at_text(b"COMMIT", "answer")
    with pytest.raises(LogUnavailableError):
        store.append(batch(2, 1, claim), sign, NOON)
    wait_until(lambda: len(entries(address)) == 3)
    again = append_when_possible(store, batch(2, 1, claim), sign)
    assert again.refused == {0}, "who asks again with the same nonce is a replay: nothing is doubled"
    unclaimed = append_when_possible(store, batch(2, 1), sign)
    assert unclaimed.batch.first == 3, "the control: without its nonce it would stand there twice"
    assert examined(address).entries == 4


@pytest.mark.timed
def test_a_server_that_falls_silent_does_not_hold_an_append_for_ever(
    server, address, open_store, sign, batch, examined, proxy, monkeypatch
):
    monkeypatch.setattr(roundtrip, "ANSWER_TIMEOUT_S", 0.5)
    store = open_store(server.through(address, proxy.port))
    store.append(batch(0, 1), sign, NOON)
    proxy.stall()
    begun = time.monotonic()
    with pytest.raises(LogUnavailableError, match="cannot be reached"):
        store.append(batch(1, 1), sign, NOON)
    assert time.monotonic() - begun < 5
    healed = open_store(address)
    append_when_possible(healed, batch(1, 1), sign)
    assert examined(address).entries in (2, 3)


@pytest.mark.timed
def test_a_head_held_by_a_dead_node_is_free_after_seconds(address, open_store, sign, batch):
    store = open_store(address)
    with closing(connect(address, "dies")) as dead:
        dead.execute("BEGIN")
        dead.execute("SELECT 1 FROM head FOR UPDATE")
        begun = time.monotonic()
        with pytest.raises(LogUnavailableError, match="another node holds"):
            store.append(batch(0, 1), sign, NOON)
        append_when_possible(store, batch(0, 1), sign)
        assert time.monotonic() - begun < 10
    with psycopg.connect(**address.parameters()) as unbounded:
        # The control: a session without the time limits of ours holds it on and on.
        unbounded.execute("SELECT 1 FROM sluicegate.head FOR UPDATE")
        for _ in range(2):
            with pytest.raises(LogUnavailableError, match="another node holds"):
                store.append(batch(1, 1), sign, NOON)
        unbounded.rollback()
        assert store.append(batch(1, 1), sign, NOON).batch.first == 1


def test_a_session_that_the_server_ends_costs_one_append(server, address, open_store, sign, batch, examined):
    store = open_store(address)
    with PostgresReader(address) as reader:
        assert reader.size() == 0
        with server.admin() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                " AND application_name LIKE 'sluicegate%'"
            )
        with pytest.raises(LogUnavailableError):
            store.append(batch(0, 1), sign, NOON)
        assert store.append(batch(0, 1), sign, NOON).batch.first == 0
        assert reader.size() == 1, "a reader does not even notice"
    assert examined(address).entries == 1


def test_no_acknowledged_entry_is_lost_when_the_server_is_killed(server, address, signer, examined):
    """Two nodes append; the server is killed at random instants, and comes back."""
    nodes = [AuditLog(PostgresStore(address), signer, origin=ORIGIN) for _ in range(2)]
    acknowledged: dict[int, bytes] = {}
    failures = []
    over = threading.Event()

    def append(log, number):
        while not over.is_set():
            number += 1
            try:
                done = log.append_sync(make_entry(number))
            except LogUnavailableError as error:
                failures.append(error)
                over.wait(0.02)
            else:
                assert acknowledged.setdefault(done.index, done.leaf_hash) == done.leaf_hash

    threads = [
        threading.Thread(target=append, args=(nodes[at % 2], at * 10_000), daemon=True) for at in range(8)
    ]
    for thread in threads:
        thread.start()
    try:
        chance = random.Random(7)
        for _ in range(KILLS):
            known = len(acknowledged)
            wait_until(lambda known=known: len(acknowledged) > known + 20, within_s=30)
            over.wait(chance.uniform(0, 0.1))
            server.kill()
            server.start()
        known = len(acknowledged)
        wait_until(lambda: len(acknowledged) > known + 20, within_s=30)
    finally:
        over.set()
        for thread in threads:
            thread.join()
        for log in nodes:
            log.close()
    assert failures, "the kills must have been felt"
    assert not [error for error in failures if isinstance(error, LogMismatchError)]
    found = entries(address)
    assert examined(address).entries == len(found)
    assert all(leaf_hash(found[index]) == hashed for index, hashed in acknowledged.items())


def test_a_commit_that_was_not_flushed_would_be_missed(server, address, open_store, sign, batch, monkeypatch):
    """The control of the kills: without flushes acknowledged entries go, and that is noticed."""
    with server.admin() as connection:
        connection.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
    server.restart()
    try:
        store = open_store(address)
        # A session that flushes nothing, in a store that does not mind.
        store._connection.execute("SET synchronous_commit = off")
        with monkeypatch.context() as careless:
            careless.setattr(postgres, "_TRUE", b"\x00")
            store.append(batch(0, 5), sign, NOON)
        assert len(entries(address)) == 5
        server.kill()
        server.start()
        assert entries(address) == [], "acknowledged, and gone"
        wait_until(lambda: "lost entries" in _told(store))
    finally:
        with server.admin() as connection:
            connection.execute("ALTER SYSTEM RESET wal_writer_delay")
        server.restart()


def _told(store):
    try:
        store.probe()
    except LogUnavailableError as error:
        return error.message
    return ""
