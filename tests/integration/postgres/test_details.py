"""The store of details in PostgreSQL: it keeps, finds and erases, for several nodes at a time."""

import os
import threading
from contextlib import closing
from datetime import date

import psycopg
import pytest

from gateway.database.session import connect
from gateway.details import Custodian, Custodians, DetailsUnavailableError, open_details_store
from gateway.details.postgres import PostgresDetailsStore
from gateway.details.store import Selection
from gateway.errors import ConfigError
from gateway.identifiers import load_area_table
from tests.simulators.details import sealed_details
from tests.simulators.entries import ORIGIN
from tests.simulators.postgres import ROLE

pytestmark = pytest.mark.postgres


def exchange(number):
    return f"0195512e-0000-7000-8000-{number:012x}"


def record(count, commitment):
    return 7, "2026-03-02T00:00:00.000000Z"


@pytest.fixture(scope="module", autouse=True)
def areas():
    load_area_table()


@pytest.fixture(scope="module")
def custodians():
    return Custodians([Custodian.generate(name).card for name in ("chen", "lin")])


@pytest.fixture
def open_details(address, open_store):
    """Return a function that opens the store as another node would; the database holds a log."""
    open_store(address).close()
    stores = []

    def opened(**options):
        stores.append(PostgresDetailsStore(address, ORIGIN, **options))
        return stores[-1]

    yield opened
    for store in stores:
        store.close()


@pytest.fixture
def store(open_details):
    return open_details()


@pytest.fixture
def put(store, custodians):
    """Return a function that stores details of an exchange; it returns them as stored."""

    def put(exchange, *, into=store, **facts):
        keys, stored = sealed_details(ORIGIN, custodians, exchange, **facts)
        into.add(keys, [stored])
        return stored

    return put


def test_what_was_put_is_found_again(store, put):
    assert store.days() is None
    stored = put(exchange(1), tokens=[b"a" * 16])
    [(found, keys)] = store.of_exchange(exchange(1))
    assert (found.content, found.wraps, found.kind) == (stored.content, stored.wraps, stored.kind)
    assert keys.threshold == 2
    assert store.of_exchange(exchange(2)) == []
    assert (store.count(), store.days()) == (1, ("2026-03-01", "2026-03-01"))


def test_a_batch_of_many_keeps_their_order_and_their_tokens_apart(store, custodians):
    batch = []
    for number in range(100):
        keys, stored = sealed_details(
            ORIGIN, custodians, exchange(number), tokens=[number.to_bytes(16), b"b" * 16, b"b" * 16]
        )
        batch.append(stored)
    store.add(keys, batch)
    for number in (0, 57, 99):
        assert store.exchanges_with([number.to_bytes(16)]) == [(exchange(number), "exchange.requested")]
        assert store.of_exchange(exchange(number))[0][0].wraps == batch[number].wraps
    assert [found for found, _ in store.exchanges_with([b"b" * 16])] == [exchange(n) for n in range(100)]
    assert store.exchanges_with([os.urandom(16) for _ in range(5000)]) == []


@pytest.mark.parametrize(
    ("selection", "left"),
    [
        (Selection(exchange=exchange(1)), [2, 3]),
        (Selection(before=date(2026, 3, 2)), [3]),
        (Selection(tokens=(b"b" * 16,)), [1]),
    ],
)
def test_what_is_selected_is_erased_and_nothing_else(server, address, store, put, selection, left):
    put(exchange(1), day="2026-03-01", tokens=[b"a" * 16])
    put(exchange(2), day="2026-03-01", tokens=[b"b" * 16])
    put(exchange(3), day="2026-03-02", tokens=[b"b" * 16])
    told = []

    def telling(count, commitment):
        told.append((count, commitment))
        return record(count, commitment)

    assert store.erase(selection, telling) == 3 - len(left)
    assert [number for number in (1, 2, 3) if store.of_exchange(exchange(number))] == left
    assert [number for number in (1, 2, 3) if store.erased_of(exchange(number))] == [
        number for number in (1, 2, 3) if number not in left
    ]
    assert [store.erasure(7)] == told
    assert store.erasure(8) is None
    assert not store.scrub_pending
    with server.owner(address) as connection:
        for table in ("details_batch", "details_token"):
            assert connection.execute(f"SELECT count(*) FROM sluicegate.{table}").fetchone() == (len(left),)


def test_nothing_is_recorded_when_there_is_nothing_to_erase(store, put):
    put(exchange(1))
    assert store.erase(Selection(exchange=exchange(2)), pytest.fail) == 0


def test_nothing_is_erased_when_it_cannot_be_recorded(store, put):
    put(exchange(1))

    def refuse(count, commitment):
        raise DetailsUnavailableError("no")

    with pytest.raises(DetailsUnavailableError):
        store.erase(Selection(exchange=exchange(1)), refuse)
    assert store.of_exchange(exchange(1))
    assert store.erased_of(exchange(1)) == []
    assert store.erase(Selection(exchange=exchange(1)), record) == 1


def test_what_comes_back_and_is_erased_again_contradicts_no_erasing(store, put):
    """A copy that was put back: both entries must go on telling the truth."""
    put(exchange(1))
    put(exchange(2))
    before = date(2027, 1, 1)
    store.erase(Selection(before=before), lambda *_: (7, "2026-03-02"))
    first = store.erasure(7)
    put(exchange(1))
    store.erase(Selection(before=before), lambda *_: (9, "2026-03-03"))
    assert store.erasure(7) == first
    assert [erased.entry for erased in store.erased_of(exchange(1))] == [9, 7]


# -- erasing is for good ---------------------------------------------------------------------------


def fill(put, count):
    """Put details of many exchanges, some of them long; return the bytes that must not outlive them."""
    traces = []
    for number in range(count):
        token = os.urandom(16)
        stored = put(exchange(number), tokens=[token], subject="X" * (5000 if number % 5 == 0 else 10))
        traces += [stored.content[:48], stored.content[-48:], stored.wraps, token]
    return traces


def found_in(server, traces, *folders):
    """Return how many of `traces` stand in the files of the server's folders, all of them by default."""
    with server.admin() as connection:
        connection.execute("CHECKPOINT")
    roots = [server.data / folder for folder in folders] or [server.data]
    content = b"".join(
        path.read_bytes() for root in roots for path in sorted(root.rglob("*")) if path.is_file()
    )
    return sum(trace in content for trace in traces)


def analyse(server, address):
    """Have the server take its samples, as autovacuum would."""
    with server.owner(address) as connection:
        connection.execute("ANALYZE sluicegate.details, sluicegate.details_batch, sluicegate.details_token")


def test_erasing_leaves_no_byte_in_the_files_of_the_database(server, address, store, put):
    traces = fill(put, 60)
    kept = put(exchange(1000), day="2027-02-01")
    analyse(server, address)
    assert found_in(server, traces, "base") == len(traces), "the test must look for what is there"
    assert store.erase(Selection(before=date(2027, 1, 1)), record) == 60
    assert found_in(server, traces, "base", "global") == 0
    assert found_in(server, [kept.content, kept.wraps], "base") == 2
    assert store.of_exchange(exchange(1000))[0][0].content == kept.content


def test_deleting_and_vacuuming_alone_would_leave_it_there(server, address, store, put, monkeypatch):
    """The control: it is the writing anew that erases."""
    traces = fill(put, 60)
    put(exchange(1000), day="2027-02-01")
    monkeypatch.setattr(store, "scrub", lambda: None)
    store.erase(Selection(before=date(2027, 1, 1)), record)
    assert store.scrub_pending
    with server.owner(address) as connection:
        connection.execute("VACUUM sluicegate.details, sluicegate.details_token, sluicegate.details_batch")
    assert found_in(server, traces, "base") > 0


def test_statistics_would_keep_samples_if_they_were_taken(server, address, store, put):
    """The control of `SET STATISTICS 0`."""
    with server.owner(address) as connection:
        connection.execute("ALTER TABLE sluicegate.details ALTER COLUMN wraps SET STATISTICS 100")
    traces = fill(put, 60)
    analyse(server, address)
    store.erase(Selection(before=date(2027, 1, 1)), record)
    assert found_in(server, traces, "base") > 0


def test_the_write_ahead_log_keeps_it_until_its_segments_are_gone(server, store, put):
    """What docs/privacy.md says of the server's own files, and what it says to do."""
    traces = fill(put, 20)
    store.erase(Selection(before=date(2027, 1, 1)), record)
    assert found_in(server, traces, "pg_wal") > 0
    server.configure(wal_recycle="off", min_wal_size="32MB")
    try:
        with server.admin() as connection:
            connection.execute("SELECT pg_switch_wal()")
            connection.execute("CHECKPOINT")
            connection.execute("SELECT pg_switch_wal()")
            connection.execute("CHECKPOINT")
        assert found_in(server, traces) == 0
    finally:
        server.configure(wal_recycle="on", min_wal_size="80MB")


def test_who_still_sees_the_state_before_is_waited_for_and_told_of(server, address, open_details, put):
    traces = fill(put, 20)
    store = open_details(scrub_timeout_s=0.1)
    with server.owner(address) as reader:
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        assert reader.execute("SELECT count(*) FROM sluicegate.log").fetchone() == (1,)
        with pytest.raises(DetailsUnavailableError, match="older state"):
            store.erase(Selection(before=date(2027, 1, 1)), record)
        assert store.count() == 0
        assert store.scrub_pending
        assert found_in(server, traces, "base") > 0
        reader.execute("COMMIT")
    store.scrub()
    assert not store.scrub_pending
    assert found_in(server, traces, "base") == 0


def test_rows_that_are_written_anew_though_they_are_deleted_are_noticed(
    server, address, open_details, put, monkeypatch
):
    """A standby or a replication slot keeps them without a transaction that could be waited for."""
    traces = fill(put, 20)
    store = open_details()
    monkeypatch.setattr(store, "_await_older_transactions", lambda _: True)
    with server.owner(address) as reader:
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT 1 FROM sluicegate.log")
        with pytest.raises(DetailsUnavailableError, match="older state"):
            store.erase(Selection(before=date(2027, 1, 1)), record)
        assert store.scrub_pending
        assert found_in(server, traces, "base") > 0, "the control"


# -- several nodes ---------------------------------------------------------------------------------


def test_nodes_write_and_erase_at_the_same_time(open_details, put, custodians):
    stores = [open_details() for _ in range(3)]
    failures = []

    def write(number):
        try:
            for at in range(30):
                keys, stored = sealed_details(
                    ORIGIN, custodians, exchange(number * 100 + at), tokens=[b"t" * 16]
                )
                stores[number].add(keys, [stored])
        except Exception as error:  # noqa: BLE001 - told below
            failures.append(error)

    def erase():
        try:
            for at in range(10):
                put(exchange(900 + at), into=stores[2], day="2026-02-01")
                assert (
                    stores[2].erase(
                        Selection(before=date(2026, 2, 2)), lambda *_, at=at: (50 + at, "2026-03-02")
                    )
                    == 1
                )
        except Exception as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in (0, 1)]
    threads.append(threading.Thread(target=erase))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert stores[0].count() == 60
    assert len(stores[1].exchanges_with([b"t" * 16])) == 60
    assert [len(stores[0].erased_of(exchange(900 + at))) for at in range(10)] == [1] * 10


def test_two_that_erase_the_same_record_it_once(open_details, put):
    put(exchange(1))
    first, second = open_details(), open_details()
    told, others = [], []

    def meanwhile(count, commitment):
        told.append(count)
        thread = threading.Thread(
            target=lambda: others.append(second.erase(Selection(exchange=exchange(1)), pytest.fail))
        )
        thread.start()
        threads.append(thread)
        return record(count, commitment)

    threads = []
    assert first.erase(Selection(exchange=exchange(1)), meanwhile) == 1
    for thread in threads:
        thread.join()
    assert (told, others) == ([1], [0])


def test_while_one_erases_others_go_on_writing(open_details, put, store):
    put(exchange(1))

    def meanwhile(count, commitment):
        put(exchange(2), into=store)
        return record(count, commitment)

    assert open_details().erase(Selection(before=date(2027, 1, 1)), meanwhile) == 1
    assert store.of_exchange(exchange(2)), "it was not there when it was said what is erased"


# -- faults and rights -----------------------------------------------------------------------------


def test_a_batch_whose_commit_was_not_heard_of_is_found_once(store, custodians):
    """The keeper writes it again."""
    for _ in range(2):
        keys, stored = sealed_details(ORIGIN, custodians, exchange(1), tokens=[b"a" * 16])
        store.add(keys, [stored])
    assert store.exchanges_with([b"a" * 16]) == [(exchange(1), "exchange.requested")]
    assert store.erase(Selection(exchange=exchange(1)), record) == 1
    assert store.count() == 0


def test_a_store_outlives_a_restart_of_the_server(server, store, put):
    put(exchange(1))
    server.restart()
    with pytest.raises(DetailsUnavailableError):
        store.count()
    assert store.count() == 1
    store.close()
    with pytest.raises(DetailsUnavailableError, match="closed"):
        store.count()


def test_a_fault_in_the_middle_of_a_batch_keeps_nothing_of_it(server, address, store, put, custodians):
    with server.owner(address) as connection:
        connection.execute("ALTER TABLE sluicegate.details_token ADD CHECK (token <> 'bad')")
    keys, stored = sealed_details(ORIGIN, custodians, exchange(1), tokens=[b"bad"])
    with pytest.raises(DetailsUnavailableError):
        store.add(keys, [stored])
    assert store.count() == 0
    put(exchange(2))
    assert store.count() == 1


def test_another_logs_database_is_refused(address, open_store, server):
    open_store(address).close()
    with pytest.raises(ConfigError, match="another log"):
        open_details_store(address, "audit.example.net/log/2026")
    with pytest.raises(ConfigError, match="another log"):
        PostgresDetailsStore(server.database(), ORIGIN)
    with closing(open_details_store(address, ORIGIN)) as store:
        assert store.count() == 0


def test_the_role_of_the_gateway_may_add_and_delete_and_change_nothing(address, store, put):
    put(exchange(1), tokens=[b"a" * 16])
    put(exchange(2), tokens=[b"b" * 16])
    store.erase(Selection(exchange=exchange(2)), record)
    with connect(address, "attack") as session:
        for statement in (
            "UPDATE details SET content = ''",
            "UPDATE details_batch SET keys = ''",
            "UPDATE details_token SET token = ''",
            "DELETE FROM details_token",
            "UPDATE erased SET entry = 1",
            "DELETE FROM erased",
            "UPDATE erasure SET salt = ''",
            "DELETE FROM erasure",
            "TRUNCATE details CASCADE",
            "CLUSTER details USING details_pkey",
            "DELETE FROM details_state",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(statement)
        assert session.execute("DELETE FROM details").rowcount == 1, "the control"


def test_others_may_not_have_the_tables_written_anew(server, address, store):
    name = psycopg.conninfo.conninfo_to_dict(address.url)["dbname"]
    with server.admin(name) as connection:
        connection.execute("CREATE ROLE stranger LOGIN")
        try:
            connection.execute("GRANT USAGE ON SCHEMA sluicegate TO stranger")
            connection.execute("SET ROLE stranger")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("SELECT sluicegate.scrub_details(1)")
            connection.execute("RESET ROLE")
            connection.execute(f"SET ROLE {ROLE}")
            assert connection.execute("SELECT sluicegate.scrub_details(0)").fetchone() == (True,)
        finally:
            connection.execute("RESET ROLE")
            connection.execute("DROP OWNED BY stranger")
            connection.execute("DROP ROLE stranger")
