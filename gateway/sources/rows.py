"""Rows out of CSV, JSON Lines and Parquet files, plain or compressed with gzip.

Each reader yields (line, values) or (line, bad row): the values of the mapped columns in their
order, or a `BadRow`. Columns that are not mapped are dropped here.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from gateway.evidence.canonical import DECODE_ERRORS
from gateway.model import FieldType
from gateway.sources.mapping import DatasetMapping, FileFormat, MappingError, file_format
from gateway.sources.values import is_encodable


@dataclass(frozen=True)
class BadRow:
    """What is wrong with a row, as the end of a sentence; never what stands in it."""

    problem: str


Row = tuple[int, Sequence[Any] | BadRow]
"""Line number (Parquet: row number) from 1, and what was found there."""

_File = io.BufferedReader | gzip.GzipFile

_PARQUET_BATCH: Final = 8_192


def read_rows(dataset: DatasetMapping, path: Path) -> Generator[Row, None, None]:
    """Yield the rows of the file at `path`; raise `MappingError` if the file as a whole cannot be read."""
    match file_format(dataset):
        case FileFormat.CSV:
            reader = _read_csv
        case FileFormat.JSONL:
            reader = _read_jsonl
        case FileFormat.PARQUET:
            reader = _read_parquet
    with _open(path) as file:
        yield from reader(file, dataset)


def native_types(dataset: DatasetMapping, path: Path) -> dict[str, FieldType]:
    """Return the field types that the file itself tells: those of Parquet columns; else none.

    Raises `MappingError` as `read_rows` does.
    """
    if file_format(dataset) is not FileFormat.PARQUET:
        return {}
    with _open(path) as file:
        schema = _open_parquet(file, dataset).schema_arrow
        return {field: _parquet_type(schema.field(column).type) for field, column in dataset.columns.items()}


@contextmanager
def _open(path: Path) -> Iterator[_File]:
    """Open the file, unpacked; what goes wrong while it is read is a `MappingError`."""
    try:
        with path.open("rb") as file:
            if path.suffix.lower() == ".gz":
                with gzip.open(file, "rb") as unpacked:
                    yield unpacked
            else:
                yield file
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise MappingError(f"The file {path} is damaged: it does not unpack as gzip.") from None
    except OSError as error:
        raise MappingError(f"The file {path} cannot be read ({error.strerror or 'input error'}).") from None


def _read_csv(file: _File, dataset: DatasetMapping) -> Iterator[Row]:
    # Bytes that are no text become lone surrogates, so that they spoil one row and not the whole file.
    with io.TextIOWrapper(file, dataset.encoding, errors="surrogateescape", newline="") as text:
        reader = csv.reader(text, delimiter=dataset.delimiter, strict=True)
        try:
            header = next(reader, [])
        except csv.Error:
            raise MappingError("The first line of the CSV file is no header.") from None
        if header:
            header[0] = header[0].removeprefix("\ufeff")
        positions = _positions(header, dataset)
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error:
                yield (
                    reader.line_num,
                    BadRow("the quotes or the line ending are wrong, or a value is too long"),
                )
                continue
            if not row:
                continue
            if len(row) != len(header):
                yield reader.line_num, BadRow(f"it has {len(row)} values instead of {len(header)}")
                continue
            values = [row[position] for position in positions]
            if is_encodable("".join(values)):
                yield reader.line_num, values
            else:
                yield reader.line_num, BadRow(f"a value is not {dataset.encoding} text")


def _positions(header: Sequence[str], dataset: DatasetMapping) -> list[int]:
    wanted = list(dataset.columns.values())
    missing = [column for column in wanted if column not in header]
    if missing:
        raise MappingError(f"The file has no column {', '.join(map(repr, missing))}; correct the mapping.")
    twice = [column for column in wanted if header.count(column) > 1]
    if twice:
        raise MappingError(f"The file has column {', '.join(map(repr, twice))} more than once.")
    return [header.index(column) for column in wanted]


def _read_jsonl(file: _File, dataset: DatasetMapping) -> Iterator[Row]:
    decoder = msgspec.json.Decoder(dict[str, Any])
    wanted = list(dataset.columns.values())
    seen: set[str] = set()
    line = 0
    for line, text in enumerate(file, start=1):
        if not text.strip():
            continue
        try:
            record = decoder.decode(text)
        except DECODE_ERRORS:
            yield line, BadRow("it is not one JSON object")
            continue
        if len(seen) < len(wanted):
            seen.update(column for column in wanted if column in record)
        values = [record.get(column) for column in wanted]
        if is_encodable("".join(value for value in values if isinstance(value, str))):
            yield line, values
        else:
            yield line, BadRow("a value has no UTF-8 form")
    missing = [column for column in wanted if column not in seen]
    if line and missing:
        raise MappingError(f"No line of the file has {', '.join(map(repr, missing))}; correct the mapping.")


def _read_parquet(file: _File, dataset: DatasetMapping) -> Iterator[Row]:
    import pyarrow as pa  # noqa: PLC0415 - an optional extra

    wanted = list(dataset.columns.values())
    parquet = _open_parquet(file, dataset)
    line = 0
    try:
        for batch in parquet.iter_batches(batch_size=_PARQUET_BATCH, columns=wanted):
            columns = [batch.column(column).to_pylist() for column in wanted]
            for line, values in enumerate(zip(*columns, strict=True), start=line + 1):  # noqa: B020
                yield line, values
    except (pa.ArrowException, ValueError):
        raise MappingError(f"The Parquet file is damaged after row {line}.") from None


def _open_parquet(file: _File, dataset: DatasetMapping) -> Any:
    try:
        import pyarrow as pa  # noqa: PLC0415 - an optional extra
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError:
        raise MappingError(
            "Parquet files need the extra package: pip install 'sluicegate[parquet]'."
        ) from None
    try:
        # The index stands at the end of the file, and gzip cannot seek cheaply.
        found = parquet.ParquetFile(io.BytesIO(file.read()) if isinstance(file, gzip.GzipFile) else file)
    except (pa.ArrowException, ValueError):
        raise MappingError("The file is not a Parquet file.") from None
    _positions(found.schema_arrow.names, dataset)
    return found


def _parquet_type(found: Any) -> FieldType:
    from pyarrow import types  # noqa: PLC0415

    if types.is_boolean(found):
        return FieldType.BOOLEAN
    if types.is_integer(found):
        return FieldType.INTEGER
    if types.is_floating(found) or types.is_decimal(found):
        return FieldType.NUMBER
    return FieldType.DATE if types.is_date(found) else FieldType.STRING
