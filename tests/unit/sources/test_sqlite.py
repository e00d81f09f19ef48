import sqlite3
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.errors import Reason
from gateway.sources.mapping import DatasetMapping, MappingError, ProviderMapping
from gateway.sources.opening import check_mapping, open_sources
from gateway.sources.source import FetchRequest, RecordSource, SourceError

CANARY = "canary-7731"

_MANY_ROWS = (
    "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40000)"
    " SELECT i, 'x' FROM n;"
)


@pytest.fixture
def opened(tmp_path) -> Callable[..., RecordSource]:
    """Make a database by a script and open its table `t`; keywords are the mapping's."""
    sources = []

    def open_(script: str, **mapping) -> RecordSource:
        _create(tmp_path / "t.db", script)
        sources.append(open_sources(_mapping(tmp_path, **mapping))["t"].source)
        return sources[-1]

    yield open_
    for source in sources:
        source.close()


def _create(path: Path, script: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)


def _mapping(folder: Path, **mapping) -> ProviderMapping:
    dataset = {"source": "sqlite:///t.db", "table": "t", "key": ("id",), **mapping}
    dataset.setdefault("columns", {"id": "id", "a": "a"})
    return ProviderMapping("registry", {"t": DatasetMapping(**dataset)}, folder)


def _decode(page) -> list[dict]:
    return [msgspec.json.decode(line) for line in page.records.splitlines()]


def test_only_mapped_columns_are_ever_read(opened):
    read = set()

    def watch(action, table, column, *_):
        if action == sqlite3.SQLITE_READ and table == "t":
            read.add(column)
        return sqlite3.SQLITE_OK

    def on_connect(connection, _):
        connection.set_authorizer(watch)

    sa.event.listen(sa.Pool, "connect", on_connect)
    try:
        source = opened(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b TEXT, secret TEXT);"
            "INSERT INTO t VALUES (1, 'x', 'y', 'z'), (2, 'x', 'y', 'z');",
            columns={"id": "id", "a": "a", "b": "b"},
            lookup=("a",),
        )
        assert source.fetch(FetchRequest(fields=("a",), filters={"a": "x"}, page_size=1)).count == 1
        assert read - {""} == {"id", "a"}, "b is mapped but was not asked for"
        source.count_records()
        assert [page.count for page in source.stream(FetchRequest(fields=("id", "a", "b")))] == [2]
        assert read - {""} == {"id", "a", "b"}
        with source._database.reading(1) as connection:
            connection.exec_driver_sql("SELECT secret FROM t").all()
        assert "secret" in read, "the control: the watch sees a column that is read"
    finally:
        sa.event.remove(sa.Pool, "connect", on_connect)


def test_the_database_cannot_be_written_through_a_source(opened, tmp_path):
    source = opened("CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT)")
    for statement in ("INSERT INTO t VALUES (1, 'x')", "DROP TABLE t", "CREATE TABLE u (v)"):
        with pytest.raises(SourceError), source._database.reading(1) as connection:
            connection.exec_driver_sql(statement)
    _create(tmp_path / "t.db", "INSERT INTO t VALUES (1, 'x')")
    assert source.count_records() == 1, "the control: another connection can write"


def test_pages_hold_each_row_once_while_rows_are_added(opened, tmp_path):
    script = "".join(f"INSERT INTO t VALUES ({number}, 'before');" for number in range(0, 200, 2))
    source = opened("CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT);" + script)
    seen, cursor, added = [], None, 1
    while True:
        page = source.fetch(FetchRequest(fields=("id", "a"), page_size=7, cursor=cursor))
        seen += _decode(page)
        # One row before and one after the place where reading stands: offsets would slip.
        _create(tmp_path / "t.db", f"INSERT INTO t VALUES ({added}, 'added'), ({-added}, 'added');")
        added += 2
        cursor = page.next_cursor
        if cursor is None:
            break
    ids = [record["id"] for record in seen]
    assert len(ids) == len(set(ids))
    assert [record["id"] for record in seen if record["a"] == "before"] == list(range(0, 200, 2))


def test_a_stream_shows_one_state_while_rows_are_added(opened, tmp_path):
    script = "".join(f"INSERT INTO t VALUES ({number}, 'before');" for number in range(50))
    source = opened("PRAGMA journal_mode=WAL; CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT);" + script)
    ids = []
    for page in source.stream(FetchRequest(fields=("id",), page_size=5)):
        ids += [record["id"] for record in _decode(page)]
        _create(tmp_path / "t.db", f"INSERT INTO t VALUES ({1000 + len(ids)}, 'added')")
    assert ids == list(range(50))
    assert source.count_records() > 50


def test_a_statement_that_takes_too_long_is_stopped(opened):
    source = opened(
        "CREATE VIEW t AS WITH RECURSIVE"
        " n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 100000000)"
        " SELECT max(id) AS id, 'x' AS a FROM n",
        trust_key=True,
    )
    for timeout_s in (0.05, 0.01):
        with pytest.raises(SourceError) as caught:
            source.fetch(FetchRequest(fields=("a",), timeout_s=timeout_s))
        assert caught.value.reason is Reason.PROVIDER_TIMEOUT
    with pytest.raises(SourceError) as caught:
        list(source.stream(FetchRequest(fields=("a",), timeout_s=0.05)))
    assert caught.value.reason is Reason.PROVIDER_TIMEOUT
    with pytest.raises(SourceError) as caught:
        source.fetch(FetchRequest(fields=("a",), timeout_s=0))
    assert caught.value.reason is Reason.PROVIDER_TIMEOUT


def test_a_slow_reader_of_a_stream_does_not_use_up_the_time_of_the_statement(opened, monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("gateway.sources.database.time", SimpleNamespace(monotonic=lambda: clock.now))
    source = opened("CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT);" + _MANY_ROWS)
    found = 0
    for page in source.stream(FetchRequest(fields=("id",), page_size=10_000, timeout_s=0.5)):
        clock.now += 1  # the reader takes longer than a statement may
        found += page.count
    assert found == 40_000


def test_the_control_of_the_slow_reader_a_clock_that_runs_inside_the_statement_stops_it(opened, monkeypatch):
    ticks = count(0)
    monkeypatch.setattr(
        "gateway.sources.database.time", SimpleNamespace(monotonic=lambda: float(next(ticks)))
    )
    source = opened("CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT);" + _MANY_ROWS)
    with pytest.raises(SourceError) as caught:
        list(source.stream(FetchRequest(fields=("id",), page_size=10_000, timeout_s=0.5)))
    assert caught.value.reason is Reason.PROVIDER_TIMEOUT


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (f"'{CANARY}'", "integer"),
        (f"'{CANARY}'", "number"),
        (f"'{CANARY}'", "boolean"),
        (f"'{CANARY}'", "date"),
        ("'20010711'", "date"),
        ("9007199254740992", "integer"),
        ("1e999", "number"),
        ("0.5", "integer"),
        ("2", "boolean"),
        (f"CAST('{CANARY}' AS BLOB)", "string"),
    ],
)
def test_a_value_of_the_wrong_type_stops_the_page_and_is_not_shown(opened, value, kind):
    source = opened(
        f"CREATE TABLE t (id INTEGER PRIMARY KEY, a); INSERT INTO t VALUES (1, NULL), (2, {value})",
        types={"a": kind},
    )
    with pytest.raises(SourceError) as caught:
        source.fetch(FetchRequest(fields=("a",)))
    assert caught.value.reason is Reason.PROVIDER_SCHEMA
    assert "Field a" in caught.value.message
    assert CANARY not in str(caught.value)
    assert _decode(source.fetch(FetchRequest(fields=("a",), page_size=1))) == [{"a": None}]


def test_a_text_that_is_no_utf8_stops_the_page_and_is_not_shown(opened):
    source = opened(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT);"
        f"INSERT INTO t VALUES (1, CAST(CAST('{CANARY}' AS BLOB) || x'ff' AS TEXT))"
    )
    with pytest.raises(SourceError) as caught:
        source.fetch(FetchRequest(fields=("a",)))
    assert CANARY not in str(caught.value)
    assert caught.value.__suppress_context__


def test_columns_give_their_types_unless_the_mapping_says_otherwise(opened):
    source = opened(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, n REAL, i BIGINT, f BOOLEAN, d DATE, x,"
        " m DECIMAL(9,2));"
        "INSERT INTO t VALUES (1, 'x', 1.5, 7, 1, '2001-07-11', 'any', 2.25)",
        columns={name: name for name in ("id", "a", "n", "i", "f", "d", "x", "m")},
        types={"i": "string"},
    )
    assert _decode(source.fetch(FetchRequest(fields=tuple(source.fields)))) == [
        {"id": 1, "a": "x", "n": 1.5, "i": "7", "f": True, "d": "2001-07-11", "x": "any", "m": 2.25}
    ]


def test_two_fields_may_show_one_column(opened):
    source = opened(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT); INSERT INTO t VALUES (1, '5')",
        columns={"id": "id", "text": "a", "number": "a"},
        types={"number": "integer"},
    )
    assert _decode(source.fetch(FetchRequest(fields=("number", "id", "text")))) == [
        {"number": 5, "id": 1, "text": "5"}
    ]


def test_keys_of_several_fields_page_through_all_rows(opened):
    pairs = [(first, second) for first in "abc" for second in range(7)]
    script = "".join(f"INSERT INTO t VALUES ('{first}', {second});" for first, second in pairs)
    source = opened(
        "CREATE TABLE t (a TEXT NOT NULL, id INTEGER NOT NULL, UNIQUE (a, id));" + script, key=("a", "id")
    )
    for page_size in (1, 2, 5, 21):
        seen, cursor = [], None
        while True:
            page = source.fetch(FetchRequest(fields=("a", "id"), page_size=page_size, cursor=cursor))
            seen += [(record["a"], record["id"]) for record in _decode(page)]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert seen == pairs


def test_a_column_that_is_dropped_later_fails_and_does_not_read_as_its_name(opened, tmp_path):
    source = opened(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, \"Company Name\" TEXT); INSERT INTO t VALUES (1, 'x')",
        columns={"id": "id", "a": "Company Name"},
    )
    assert _decode(source.fetch(FetchRequest(fields=("a",)))) == [{"a": "x"}]
    _create(tmp_path / "t.db", 'ALTER TABLE t DROP COLUMN "Company Name"')
    with pytest.raises(SourceError) as caught:
        source.fetch(FetchRequest(fields=("a",)))
    assert caught.value.reason is Reason.PROVIDER_UNAVAILABLE


def test_a_locked_database_is_unavailable_and_then_serves_again(opened, tmp_path, monkeypatch):
    monkeypatch.setattr("gateway.sources.database._WAIT_FOR_CONNECTION_S", 0.05)
    source = opened("CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT); INSERT INTO t VALUES (1, 'x')")
    with closing(sqlite3.connect(tmp_path / "t.db", isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        with pytest.raises(SourceError) as caught:
            source.fetch(FetchRequest(fields=("a",)))
        assert caught.value.reason is Reason.PROVIDER_UNAVAILABLE
        assert caught.value.details["code"] == "SQLITE_BUSY"
    assert source.fetch(FetchRequest(fields=("a",))).count == 1


def test_when_all_connections_are_in_use_the_next_request_is_told_so(opened, monkeypatch):
    monkeypatch.setattr("gateway.sources.database._WAIT_FOR_CONNECTION_S", 0.05)
    source = opened(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT); INSERT INTO t VALUES (1, 'x'), (2, 'y'), (3, 'z')",
        connections=1,
    )
    with closing(source.stream(FetchRequest(fields=("a",), page_size=1))) as pages:
        next(pages)
        with pytest.raises(SourceError) as caught:
            source.fetch(FetchRequest(fields=("a",)))
    assert caught.value.reason is Reason.PROVIDER_UNAVAILABLE
    assert source.fetch(FetchRequest(fields=("a",))).count == 3


@pytest.mark.parametrize(
    ("script", "mapping", "problem"),
    [
        ("CREATE TABLE u (id)", {}, "no table or view 't'"),
        ("CREATE TABLE t (id INTEGER PRIMARY KEY)", {}, "no column 'a'"),
        ("CREATE TABLE t (id, a); INSERT INTO t VALUES (1, 2), (1, 3)", {}, "not unique"),
        ("CREATE TABLE t (id, a); INSERT INTO t VALUES (1, 2), (NULL, 3)", {}, "holds nulls"),
        ("CREATE TABLE t (id REAL PRIMARY KEY, a)", {}, "cannot stand in key"),
        ("CREATE TABLE t (id INTEGER PRIMARY KEY, a REAL)", {"lookup": ("a",)}, "cannot stand in lookup"),
        ("", {"source": "sqlite:///absent.db"}, "does not exist"),
        ("", {"source": "sqlite://"}, "must name a file"),
        ("", {"source": "sqlite:///:memory:"}, "must name a file"),
        ("", {"source": "sqlite:///t.db?mode=rwc"}, "without options"),
        ("", {"source": "sqlite+aiosqlite:///t.db"}, "asyncio"),
        ("", {"source": "nonsense"}, "not a database URL"),
        ("", {"source": "martian://host/db"}, "not known"),
        ("", {"source": "${SLUICEGATE_TEST_UNSET}"}, "SLUICEGATE_TEST_UNSET"),
        ("", {"source": "sqlite:///${SLUICEGATE_TEST_UNSET}"}, "SLUICEGATE_TEST_UNSET"),
        ("", {"source": "postgresql://u:hunter2@h/d"}, "holds a secret"),
        ("", {"source": "postgresql://u@h/d?password=hunter2"}, "holds a secret"),
        ("", {"source": "postgresql://u@h/d", "password_file": "absent"}, "absent"),
    ],
)
def test_a_mapping_that_does_not_fit_is_told_at_start(tmp_path, script, mapping, problem):
    _create(tmp_path / "t.db", script)
    with pytest.raises(MappingError, match=r"Dataset t cannot be served") as caught:
        open_sources(_mapping(tmp_path, **mapping))
    assert problem in caught.value.message
    assert "hunter2" not in caught.value.message
    (report,) = check_mapping(_mapping(tmp_path, **mapping))
    assert problem in report.problem


def test_a_file_that_is_no_database_is_told_at_start(tmp_path):
    (tmp_path / "t.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(MappingError, match="SQLITE_NOTADB"):
        open_sources(_mapping(tmp_path))


def test_secrets_come_from_the_environment_and_from_files(tmp_path, monkeypatch):
    from gateway.sources.database import resolve_url

    monkeypatch.setenv("DB_PASSWORD", "p@ss/w:rd")
    monkeypatch.setenv("DB_URL", "postgresql://u:whole@h/d")
    (tmp_path / "secret").write_text("from file\n")
    (tmp_path / "secret").chmod(0o600)

    def resolve(**mapping):
        return resolve_url(_mapping(tmp_path, **mapping).datasets["t"], tmp_path)

    assert resolve(source="postgresql://u:${DB_PASSWORD}@h/d").password == "p@ss/w:rd"
    assert resolve(source="${DB_URL}").password == "whole"
    assert resolve(source="postgresql://u@h/d", password_file="secret").password == "from file"
    (tmp_path / "secret").chmod(0o644)
    with pytest.raises(Exception, match="open to others"):
        resolve(source="postgresql://u@h/d", password_file="secret")


def test_the_check_counts_records_and_names_lookups_without_an_index(tmp_path):
    _create(
        tmp_path / "t.db",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b TEXT); CREATE INDEX i ON t (a);"
        "INSERT INTO t VALUES (1, 'x', 'y'), (2, 'x', 'y')",
    )
    (report,) = check_mapping(
        _mapping(tmp_path, columns={"id": "id", "a": "a", "b": "b"}, lookup=("id", "a", "b"))
    )
    assert (report.kind, report.records, report.lookups_without_index) == ("sqlite", 2, ("b",))


# No NUL: SQLite cannot have one in a name. No surrogates: SQL text is UTF-8.
_NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=_NAMES, column=_NAMES, value=st.text(st.characters(codec="utf-8", exclude_characters="\0")))
@pytest.mark.parametrize("lookup", [True, False])
def test_names_of_tables_and_columns_may_be_any_text(tmp_path, lookup, table, column, value):
    if table.lower().startswith("sqlite_") or column.lower() == "id":
        return
    path = tmp_path / "t.db"
    path.unlink(missing_ok=True)

    def quoted(name: str) -> str:
        return '"' + name.replace('"', '""') + '"'

    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"CREATE TABLE {quoted(table)} (id INTEGER PRIMARY KEY, {quoted(column)} TEXT)")
        connection.execute(f"INSERT INTO {quoted(table)} VALUES (1, ?), (2, NULL)", (value,))
        connection.commit()
    mapping = _mapping(tmp_path, table=table, columns={"id": "id", "a": column}, lookup=("a",))
    with closing(open_sources(mapping)["t"].source) as source:
        filters = {"a": value} if lookup else {}
        found = _decode(source.fetch(FetchRequest(fields=("a",), filters=filters)))
        assert found == [{"a": value}, {"a": None}][: 1 if lookup else 2]


@pytest.mark.parametrize(
    "column", ['x"; DROP TABLE t; --', "%s", "%(a)s", ":a", "?", "a.b", "[a]", "`a`", "'a'", "sel ect", "Ä"]
)
def test_hostile_column_names_are_only_names(opened, column):
    quoted = '"' + column.replace('"', '""') + '"'
    source = opened(
        f"CREATE TABLE t (id INTEGER PRIMARY KEY, {quoted} TEXT); INSERT INTO t VALUES (1, 'x'), (2, 'y')",
        columns={"id": "id", "a": column},
        lookup=("a",),
    )
    page = source.fetch(FetchRequest(fields=("a", "id"), filters={"a": "y"}))
    assert _decode(page) == [{"a": "y", "id": 2}]
    assert source.count_records() == 2
