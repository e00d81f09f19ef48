"""The store keeps, finds and erases; what is erased leaves no byte behind."""

import os
import random
import sqlite3
from contextlib import closing
from datetime import date

import pytest

from gateway.details import DetailsUnavailableError, SqliteDetailsStore
from gateway.details.store import Selection
from gateway.errors import ConfigError

ORIGIN = "audit.example.org/log/2026"


def exchange(number):
    return f"0195512e-0000-7000-8000-{number:012x}"


def record(count, commitment):
    return 7, "2026-03-02T00:00:00.000000Z"


def bytes_of(path):
    return b"".join(file.read_bytes() for file in path.parent.iterdir())


def test_what_was_put_is_found_again(store, put):
    stored = put(exchange(1))
    [(found, keys)] = store.of_exchange(exchange(1))
    assert (found.content, found.wraps, found.kind) == (stored.content, stored.wraps, stored.kind)
    assert keys.threshold == 2
    assert store.of_exchange(exchange(2)) == []
    assert (store.count(), store.days()) == (1, ("2026-03-01", "2026-03-01"))


def test_entries_are_found_by_their_tokens(store, put):
    put(exchange(1), tokens=[b"a" * 16, b"b" * 16])
    put(exchange(2), tokens=[b"b" * 16])
    assert store.exchanges_with([b"a" * 16]) == [(exchange(1), "exchange.requested")]
    assert [found for found, _ in store.exchanges_with([b"b" * 16])] == [exchange(1), exchange(2)]
    assert store.exchanges_with([os.urandom(16) for _ in range(2000)]) == []


@pytest.mark.parametrize(
    ("selection", "left"),
    [
        (Selection(exchange=exchange(1)), [2, 3]),
        (Selection(before=date(2026, 3, 2)), [3]),
        (Selection(tokens=(b"b" * 16,)), [1]),
    ],
)
def test_what_is_selected_is_erased_and_nothing_else(store, put, selection, left):
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
    assert not store.scrub_pending


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


def fill(store, put, numbers, marked):
    """Put details of many exchanges; return the bytes that must not outlive those in `marked`."""
    traces = []
    for number in numbers:
        token = os.urandom(16)
        stored = put(exchange(number), tokens=[token])
        if number in marked:
            traces += [stored.content[:64], stored.content[-64:], stored.wraps, token]
    return traces


def test_erasing_leaves_no_byte_in_the_file_or_its_write_ahead_log(store, put, path):
    marked = set(range(0, 300, 7))
    traces = fill(store, put, range(300), marked)
    before = bytes_of(path)
    assert all(trace in before for trace in traces), "the test must look for what is there"
    for number in sorted(marked):
        # One by one, with pages emptied and merged in between: the hard case for `secure_delete`.
        store.erase(
            Selection(exchange=exchange(number)), lambda *_, number=number: (1000 + number, "2026-03-02")
        )
    after = bytes_of(path)
    assert [trace.hex()[:16] for trace in traces if trace in after] == []
    assert store.count() == 300 - len(marked)


def test_without_cutting_the_write_ahead_log_traces_stay(store, put, path, monkeypatch):
    """The control: deleting alone is not erasing."""
    traces = fill(store, put, range(300), set(range(300)))
    monkeypatch.setattr(store, "scrub", lambda: None)
    store.erase(Selection(before=date(2027, 1, 1)), record)
    after = bytes_of(path)
    assert any(trace in after for trace in traces)
    assert store.scrub_pending


def test_without_overwriting_traces_stay(store, put, path):
    """The control: cutting the write-ahead log alone is not erasing."""
    store._connection.execute("PRAGMA secure_delete = OFF")
    traces = fill(store, put, range(300), set(range(300)))
    store.erase(Selection(before=date(2027, 1, 1)), record)
    after = bytes_of(path)
    assert any(trace in after for trace in traces)


def test_no_byte_is_left_where_rows_have_moved_between_pages(store, path):
    """Rows of all sizes come and go for a while, so that pages split, merge and change hands."""
    rng = random.Random(3)
    database = store._connection
    database.execute("INSERT INTO batch VALUES (1, x'00')")
    alive, traces = {}, []
    for _ in range(10):
        database.execute("BEGIN")
        for _ in range(120):
            token, content = rng.randbytes(16), rng.randbytes(rng.choice([300, 900, 3000, 9000]))
            row = database.execute(
                "INSERT INTO details (exchange, kind, day, batch, content, wraps)"
                " VALUES (?, '', '', 1, ?, x'')",
                (exchange(rng.getrandbits(48)), content),
            ).lastrowid
            database.execute("INSERT INTO token VALUES (?, ?)", (token, row))
            alive[row] = (token, content[:32], content[-32:])
        for row in rng.sample(sorted(alive), 70):
            database.execute("DELETE FROM token WHERE details = ?", (row,))
            database.execute("DELETE FROM details WHERE number = ?", (row,))
            traces += alive.pop(row)
        database.execute("COMMIT")
    store.scrub()
    content = path.read_bytes()
    assert len(traces) == 2100
    assert not any(trace in content for trace in traces)
    assert all(trace in content for trace, _, _ in alive.values())


def test_a_reader_that_keeps_traces_alive_is_told_and_it_can_be_done_again(store, put, path):
    fill(store, put, range(20), set())
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM details").fetchone()
        with pytest.raises(DetailsUnavailableError, match="traces"):
            store.erase(Selection(exchange=exchange(1)), record)
        assert store.scrub_pending
        reader.execute("COMMIT")
    store.scrub()
    assert not store.scrub_pending


def test_a_batch_goes_when_the_last_of_it_is_erased(store, put, path):
    put(exchange(1))
    store.erase(Selection(exchange=exchange(1)), record)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM batch").fetchone() == (0,)


def test_the_file_is_closed_to_others(path, store):
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        SqliteDetailsStore(path, ORIGIN)


def test_another_file_or_another_logs_store_is_refused(tmp_path, path, store):
    with pytest.raises(ConfigError, match="another log"):
        SqliteDetailsStore(path, "audit.example.net/log/2026")
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE t (a)")
        connection.commit()
    other.chmod(0o600)
    with pytest.raises(ConfigError, match=r"not a store"):
        SqliteDetailsStore(other, ORIGIN)
    junk = tmp_path / "junk"
    junk.write_bytes(b"no database" * 1000)
    junk.chmod(0o600)
    with pytest.raises(DetailsUnavailableError):
        SqliteDetailsStore(junk, ORIGIN)


def test_a_store_that_somebody_holds_is_unavailable_and_then_works(store, put, path):
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DetailsUnavailableError):
            put(exchange(1))
        other.execute("ROLLBACK")
    put(exchange(1))
    assert store.count() == 1
