"""The keeper writes what it is handed, waits out a store that is busy, and refuses before it loses."""

import sqlite3
import threading
from contextlib import closing

import pytest

from gateway.details import DetailsKeeper, DetailsUnavailableError, KeeperHooks, SqliteDetailsStore, Term
from gateway.details.sealing import content_digest

ORIGIN = "audit.example.org/log/2026"
DAY = "2026-03-01"
KIND = "exchange.requested"


def exchange(number):
    return f"0195512e-0000-7000-8000-{number:012x}"


@pytest.fixture
def open_keeper(path, custodians, index):
    """Return a function that opens a keeper over the store at `path`; all are closed in the end."""
    keepers = []

    def open_keeper(**options):
        store = SqliteDetailsStore(path, ORIGIN, busy_timeout_s=0.01)
        keepers.append(DetailsKeeper(store, custodians, index, origin=ORIGIN, **options))
        return keepers[-1]

    yield open_keeper
    for keeper in keepers:
        keeper.close()


def hand_over(keeper, make_details, number):
    sealed = keeper.seal(exchange(number), KIND, DAY, make_details()[0], [Term("uscc", f"value {number}")])
    keeper.keep(sealed)
    return sealed


def test_what_was_handed_over_is_written_before_a_stop_ends(open_keeper, make_details, path, index):
    keeper = open_keeper()
    sealed = [hand_over(keeper, make_details, number) for number in range(700)]
    keeper.close()
    with SqliteDetailsStore(path, ORIGIN) as store:
        assert store.count() == 700
        for item in sealed[::100]:
            [(stored, _)] = store.of_exchange(item.context.exchange)
            assert content_digest(stored.content) == item.commitment
        assert store.exchanges_with([index.token("uscc", DAY, "value 650")]) == [(exchange(650), KIND)]


def test_many_share_a_batch(open_keeper, make_details, path):
    keeper = open_keeper()
    for number in range(100):
        hand_over(keeper, make_details, number)
    keeper.close()
    with closing(sqlite3.connect(path)) as connection:
        (batches,) = connection.execute("SELECT count(*) FROM batch").fetchone()
    assert batches < 50


def test_a_store_that_is_busy_is_waited_for(open_keeper, make_details, path):
    changes, changed = [], threading.Event()

    def on_change(healthy):
        changes.append(healthy)
        changed.set()

    keeper = open_keeper(hooks=KeeperHooks(health_changed=on_change))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        hand_over(keeper, make_details, 1)
        assert changed.wait(10)
        changed.clear()
        other.execute("ROLLBACK")
    assert changed.wait(10)
    keeper.close()
    assert changes == [False, True]
    with SqliteDetailsStore(path, ORIGIN) as store:
        assert store.count() == 1


def test_it_refuses_when_too_many_wait(open_keeper, make_details, path):
    keeper = open_keeper(queue_limit=3)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for number in range(3):
            hand_over(keeper, make_details, number)
        with pytest.raises(DetailsUnavailableError, match="does not begin"):
            hand_over(keeper, make_details, 3)
        other.execute("ROLLBACK")
    keeper.close()
    with SqliteDetailsStore(path, ORIGIN) as store:
        assert store.count() == 3


def test_what_a_stop_cannot_write_is_told(open_keeper, make_details, path):
    lost = []
    keeper = open_keeper(hooks=KeeperHooks(lost=lost.append))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        sealed = [hand_over(keeper, make_details, number) for number in range(5)]
        keeper.close()
        other.execute("ROLLBACK")
    assert sum(lost) == 5
    keeper.keep(sealed[0])
    assert sum(lost) == 6
    with pytest.raises(DetailsUnavailableError):
        hand_over(keeper, make_details, 6)


def test_a_start_finishes_an_erasing_that_was_cut_short(open_keeper, path, store, put, monkeypatch):
    from gateway.details.store import Selection

    put(exchange(1))
    monkeypatch.setattr(store, "scrub", lambda: None)
    store.erase(Selection(exchange=exchange(1)), lambda *_: (7, "2026-03-02T00:00:00.000000Z"))
    assert store.scrub_pending
    open_keeper().close()
    assert not store.scrub_pending


def test_keys_are_not_in_what_is_printed(open_keeper, make_details):
    sealed = open_keeper().seal(exchange(1), KIND, DAY, make_details()[0], [Term("uscc", "value")])
    assert "value" not in repr(sealed)
    assert repr(sealed.sealed.key)[2:20] not in repr(sealed)
