"""Files of records: typed by the schema, hostile cells kept as text, and what is no row told as such."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from gateway.client.files import FileFormat, RecordFile, RecordFileError, batch_of, format_of

TYPES = {"code": "string", "count": "integer", "share": "number", "open": "boolean", "day": "date"}


def read(path: Path, **options: Any) -> list[bytes]:
    file = RecordFile(path=path, format=format_of(path), types=TYPES, max_record_bytes=65536, **options)
    return list(file.lines())


def test_cells_become_what_the_schema_says(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"\xef\xbb\xbfcode,count,share,open,day\r\n007,12,1.5,true,2026-01-31\r\n=1+1,x,,0,\r\n")
    assert read(path) == [
        b'{"code":"007","count":12,"day":"2026-01-31","open":true,"share":1.5}',
        b'{"code":"=1+1","count":"x","open":false}',
    ]


def test_rows_of_which_no_record_can_be_made_keep_their_place(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(
        b"code,count\n" + b"x" * 10_000_000 + b",1\nshort\na,b,c\n" + b"y" * 70_000 + b",2\nz,3\n\x00,4\n"
    )
    assert read(path) == [
        b'"row-oversize"',
        b'"row-columns"',
        b'"row-columns"',
        b'"row-oversize"',
        b'{"code":"z","count":3}',
        b'{"code":"\\u0000","count":4}',
    ]


@pytest.mark.parametrize("text", ["编号,count\n", "code\n公司"])
def test_another_encoding_is_refused_with_its_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(text.encode("gb18030"))
    with pytest.raises(RecordFileError, match=r"line \d is not UTF-8.*iconv"):
        read(path)


def test_a_header_that_is_not_the_schemas_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("code,colour\n1,red\n")
    with pytest.raises(RecordFileError, match="1 of its names"):
        read(path)


def test_json_lines_and_parquet_give_the_same_records(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from datetime import date

    from pyarrow.parquet import write_table

    rows = [{"code": "a", "count": 1, "day": date(2026, 1, 2)}, {"code": "b", "count": None, "day": None}]
    write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    (tmp_path / "rows.jsonl").write_text('{"day":"2026-01-02","code":"a","count":1}\n\n{"code":"b"}\nnot\n')
    parquet = read(tmp_path / "rows.parquet")
    assert parquet == [b'{"code":"a","count":1,"day":"2026-01-02"}', b'{"code":"b"}']
    assert read(tmp_path / "rows.jsonl") == [*parquet, b'"row-malformed"']


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    with path.open("w") as file:
        file.write("code,count\n")
        file.writelines(f"{'c' * 200}{at},{at}\n" for at in range(100_000))
    records = RecordFile(path=path, format=FileFormat.CSV, types=TYPES, max_record_bytes=65536)
    tracemalloc.start()
    assert sum(1 for _ in records.lines()) == 100_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000 < path.stat().st_size // 10


def test_a_batch_id_is_the_contents(tmp_path: Path) -> None:
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    for path in (first, second):
        path.write_text("code\n1\n")
    assert batch_of(first, "c", "d") == batch_of(second, "c", "d") != batch_of(first, "c", "e")
