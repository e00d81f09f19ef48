import gzip
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.sources.mapping import DatasetMapping, MappingError, ProviderMapping
from gateway.sources.opening import check_mapping, open_sources
from gateway.sources.source import FetchRequest

CANARY = "canary-5519"


def _mapping(folder: Path, file: str, **mapping) -> ProviderMapping:
    mapping.setdefault("columns", {"id": "id", "a": "a"})
    return ProviderMapping("registry", {"f": DatasetMapping(file=file, **mapping)}, folder)


def _records(mapping: ProviderMapping, **request) -> list[dict]:
    with closing(open_sources(mapping)["f"].source) as source:
        fields = request.pop("fields", tuple(source.fields))
        pages = source.stream(FetchRequest(fields=fields, **request))
        return [msgspec.json.decode(line) for page in pages for line in page.records.splitlines()]


@pytest.fixture
def load(tmp_path) -> Callable[..., list[dict]]:
    def load_(name: str, content: bytes | str, **mapping) -> list[dict]:
        raw = content.encode() if isinstance(content, str) else content
        (tmp_path / name).write_bytes(raw)
        return _records(_mapping(tmp_path, name, **mapping))

    return load_


def test_a_csv_file_gives_texts_unless_the_mapping_names_types(load):
    content = "id,secret,a\r\n1,z,007\r\n2,z,\r\n"
    assert load("f.csv", content) == [{"id": "1", "a": "007"}, {"id": "2", "a": ""}]
    assert load("f.csv", content, types={"id": "integer", "a": "integer"}, null_values=("",)) == [
        {"id": 1, "a": 7},
        {"id": 2, "a": None},
    ]


def test_csv_dialects_and_encodings_are_told_by_the_mapping(load):
    assert load("f.csv", "\ufeffid;a\n1;'x;y'\n", delimiter=";", on_bad_row="skip") == []
    assert load("f.csv", '\ufeffid;a\n1;"x;y"\n', delimiter=";") == [{"id": "1", "a": "x;y"}]
    assert load("f.csv", "id,a\n1,公司\n".encode("gb18030"), encoding="gb18030") == [{"id": "1", "a": "公司"}]
    assert load("f.tsv", "id\ta\n1\tx\n", delimiter="\t", format="csv") == [{"id": "1", "a": "x"}]


def test_every_format_may_be_compressed(load, tmp_path):
    expected = [{"id": "1", "a": "x"}]
    assert load("f.csv.gz", gzip.compress(b"id,a\n1,x\n")) == expected
    assert load("f.ndjson.gz", gzip.compress(b'{"id":"1","a":"x","b":{}}\n\n')) == expected
    _write_parquet(tmp_path / "plain.parquet", {"id": ["1"], "a": ["x"]})
    assert load("f.parquet.gz", gzip.compress((tmp_path / "plain.parquet").read_bytes())) == expected


def test_json_lines_keep_their_plain_values(load):
    lines = '{"id":1,"a":"x","n":1.5,"f":true}\n{"id":2}\n{"id":3,"a":null,"n":2,"f":false,"other":[]}\n'
    columns = {"id": "id", "a": "a", "n": "n", "f": "f"}
    types = {"id": "integer", "n": "number", "f": "boolean"}
    assert load("f.jsonl", lines, columns=columns, types=types) == [
        {"id": 1, "a": "x", "n": 1.5, "f": True},
        {"id": 2, "a": None, "n": None, "f": None},
        {"id": 3, "a": None, "n": 2, "f": False},
    ]


def test_parquet_columns_tell_their_own_types(tmp_path):
    from datetime import date, datetime
    from decimal import Decimal

    _write_parquet(
        tmp_path / "f.parquet",
        {
            "id": [1, 2],
            "d": [date(2001, 7, 11), None],
            "n": [Decimal("1.50"), None],
            "f": [True, None],
            "t": [datetime.fromisoformat("2001-07-11T01:02"), None],
            "x": [0.5, None],
            "hidden": [CANARY, CANARY],
        },
    )
    columns = {name: name for name in ("id", "d", "n", "f", "t", "x")}
    assert _records(_mapping(tmp_path, "f.parquet", columns=columns)) == [
        {"id": 1, "d": "2001-07-11", "n": 1.5, "f": True, "t": "2001-07-11T01:02:00", "x": 0.5},
        dict.fromkeys(columns) | {"id": 2},
    ]


def test_parquet_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    _write_parquet(tmp_path / "f.parquet", {"id": [1], "a": [2]})
    mapping = _mapping(tmp_path, "f.parquet")
    assert len(_records(mapping)) == 1
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MappingError, match=r"pip install 'sluicegate\[parquet\]'"):
        open_sources(mapping)


_BAD = [
    ("f.csv", f"id,a\n1,x\n2,y,{CANARY}\n", 3, "3 values instead of 2"),
    ("f.csv", f"id,a\n1,x\n{CANARY}\n", 3, "1 values instead of 2"),
    ("f.csv", f'id,a\n1,"x"{CANARY}\n', 2, "quotes"),
    ("f.csv", b"id,a\n1," + CANARY.encode() + b"\xff\n", 2, "not utf-8 text"),
    ("f.csv", f"id,a\n{CANARY},x\n", 2, "field id is no integer"),
    ("f.csv", "id,a\n99999999999999999,x\n", 2, "field id is no integer"),
    ("f.jsonl", f'{{"id":1,"a":"x"}}\n[{CANARY!r}]\n', 2, "not one JSON object"),
    ("f.jsonl", '{"id":1,"a":"x"}\n[1]\n', 2, "not one JSON object"),
    ("f.jsonl", "[" * 100_000, 1, "not one JSON object"),
    ("f.jsonl", f'{{"id":1,"a":{{"{CANARY}":1}}}}\n', 1, "field a is no string"),
    ("f.jsonl", '{"id":1e3,"a":"x"}\n{"id":1.5,"a":"x"}\n', 2, "field id is no integer"),
    ("f.jsonl", b'{"id":1,"a":"\xff"}\n', 1, "not one JSON object"),
]


@pytest.mark.parametrize(("name", "content", "line", "problem"), _BAD, ids=range(len(_BAD)))
def test_a_bad_row_is_refused_with_its_line_and_without_its_values(load, name, content, line, problem):
    with pytest.raises(MappingError) as caught:
        load(name, content, types={"id": "integer"})
    assert f"Line {line} of the file" in caught.value.message
    assert problem in caught.value.message
    assert CANARY not in caught.value.message


@pytest.mark.parametrize(("name", "content", "line", "problem"), _BAD, ids=range(len(_BAD)))
def test_a_bad_row_is_skipped_and_reported_where_the_mapping_says_so(tmp_path, name, content, line, problem):
    raw = content.encode() if isinstance(content, str) else content
    good = b"8,good\n" if name == "f.csv" else b'\n{"id":8,"a":"good"}\n'
    (tmp_path / name).write_bytes(raw + good)
    mapping = _mapping(tmp_path, name, types={"id": "integer"}, on_bad_row="skip")
    assert _records(mapping)[-1] == {"id": 8, "a": "good"}
    (report,) = check_mapping(mapping)
    assert report.skipped_rows == 1
    assert [(row.line, problem in row.problem) for row in report.first_skipped] == [(line, True)]
    assert CANARY not in str(report)


def test_repeated_and_missing_keys_are_bad_rows(load, tmp_path):
    content = "id,a\n1,x\n2,y\n1,z\n,w\n3,v\n2,u\n"
    with pytest.raises(MappingError, match=r"Line 5 .*its key has no value"):
        load("f.csv", content, key=("id",), null_values=("",))
    with pytest.raises(MappingError, match=r"Line 4 .*another row has the same key"):
        load("f.csv", content.replace(",w\n", ""), key=("id",), null_values=("",))
    found = load("f.csv", content, key=("id",), null_values=("",), on_bad_row="skip")
    assert found == [{"id": "1", "a": "x"}, {"id": "2", "a": "y"}, {"id": "3", "a": "v"}]
    (report,) = check_mapping(_mapping(tmp_path, "f.csv", key=("id",), null_values=("",), on_bad_row="skip"))
    assert sorted(row.line for row in report.first_skipped) == [4, 5, 7]


def test_a_report_names_the_first_skipped_rows_and_counts_all(tmp_path):
    (tmp_path / "f.csv").write_text("id,a\n" + "1\n" * 1000)
    (report,) = check_mapping(_mapping(tmp_path, "f.csv", on_bad_row="skip"))
    assert (report.records, report.skipped_rows, len(report.first_skipped)) == (0, 1000, 20)


def test_the_order_of_the_key_is_the_order_of_the_pages(load):
    content = "id,a\n10,x\n9,y\n-1,z\n"
    assert [r["a"] for r in load("f.csv", content)] == ["x", "y", "z"]
    assert [r["a"] for r in load("f.csv", content, key=("id",))] == ["z", "x", "y"]
    assert [r["a"] for r in load("f.csv", content, key=("id",), types={"id": "integer"})] == ["z", "y", "x"]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("f.csv", b"id,b\n1,x\n", "no column 'a'"),
        ("f.csv", b"", "no column 'id', 'a'"),
        ("f.csv", b"id,a,a\n", "column 'a' more than once"),
        ("f.csv", b'"id"x,a\n', "no header"),
        ("f.jsonl", b'{"id":1}\n{"id":2}\n', "No line of the file has 'a'"),
        ("f.csv.gz", b"id,a\n1,x\n", "does not unpack"),
        ("f.csv.gz", gzip.compress(b"id,a\n1,x\n" * 999)[:-20], "does not unpack"),
        ("f.csv.gz", gzip.compress(bytes(range(256)) * 999)[:40] + b"damaged" * 20, "does not unpack"),
        ("f.parquet", b"id,a\n1,x\n", "not a Parquet file"),
        ("f.parquet", b"PAR1" + b"x" * 100 + b"PAR1", "not a Parquet file"),
        ("f.parquet.gz", b"PAR1", "does not unpack"),
    ],
    ids=range(11),
)
def test_a_file_that_is_not_what_it_should_be_is_told_at_start(load, name, content, problem):
    with pytest.raises(MappingError) as caught:
        load(name, content)
    assert problem in caught.value.message


def test_a_file_that_is_missing_or_unreadable_is_told_at_start(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    for name, problem in (("absent.csv", "No such file"), ("folder.csv", "Is a directory")):
        with pytest.raises(MappingError, match=problem):
            open_sources(_mapping(tmp_path, name))
    with pytest.raises(MappingError, match="No such file"):
        open_sources(_mapping(tmp_path, "absent.parquet"))


def test_a_parquet_file_without_a_mapped_column_is_told_at_start(tmp_path):
    _write_parquet(tmp_path / "f.parquet", {"id": [1]})
    with pytest.raises(MappingError, match="no column 'a'"):
        open_sources(_mapping(tmp_path, "f.parquet"))


def test_a_file_is_read_once_and_leaves_nothing_on_disk(tmp_path):
    (tmp_path / "f.csv").write_text("id,a\n1,x\n")
    mapping = _mapping(tmp_path, "f.csv")
    with closing(open_sources(mapping)["f"].source) as source:
        (tmp_path / "f.csv").unlink()
        assert list(tmp_path.iterdir()) == []
        assert source.fetch(FetchRequest(fields=("id",))).count == 1


_VALUES = st.text(st.characters(codec="utf-8"), max_size=20)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(_VALUES, st.none() | _VALUES), min_size=1, max_size=8))
def test_any_texts_in_json_lines_come_out_as_they_went_in(tmp_path, rows):
    records = [{"id": first, "a": second} for first, second in rows]
    (tmp_path / "f.jsonl").write_bytes(msgspec.json.Encoder().encode_lines(records))
    assert _records(_mapping(tmp_path, "f.jsonl"), page_size=3) == records


_COLUMN_NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), min_size=1, max_size=20)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(_COLUMN_NAMES, min_size=2, max_size=2, unique=True), value=_VALUES)
def test_any_names_of_columns_are_only_names(tmp_path, names, value):
    record = dict(zip(names, ("1", value), strict=True))
    (tmp_path / "f.jsonl").write_bytes(msgspec.json.encode(record) + b"\n")
    mapping = _mapping(tmp_path, "f.jsonl", columns={"id": names[0], "a": names[1]}, lookup=("a",))
    assert _records(mapping) == [{"id": "1", "a": value}]


def _write_parquet(path: Path, columns: dict) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table(columns), path)
