"""Files of records as a contributor has them: CSV, JSON Lines, Parquet; read in constant memory.

Each row becomes one line in canonical form, typed by the dataset's schema. What does not fit is left as
it stands, for the gateway to reject and report with its row; a row of which no record can be made
becomes a JSON string that says why. A file that cannot be read on ends the upload.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, Final, cast

import msgspec

from gateway.client.contributing import record_line
from gateway.client.errors import ClientError
from gateway.evidence.canonical import DECODE_ERRORS, encode_canonical
from gateway.evidence.quality import RowReason

MAX_LINE_BYTES: Final = 256 * 1024
"""Of one physical line of a file; no record may be as long."""
_PARQUET_ROWS: Final = 2048
_DIGEST_CHUNK: Final = 1024 * 1024

_INTEGER: Final = re.compile(r"-?[0-9]{1,19}")
_NUMBER: Final = re.compile(r"-?[0-9]+\.[0-9]+(?:[eE][+-]?[0-9]{1,3})?|-?[0-9]+[eE][+-]?[0-9]{1,3}")
_TRUTH: Final = {"true": True, "false": False, "1": True, "0": False}
_BOM: Final = b"\xef\xbb\xbf"
_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")


class FileFormat(StrEnum):
    """How the records stand in a file."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


_ENDINGS: Final = {
    ".csv": FileFormat.CSV,
    ".jsonl": FileFormat.JSONL,
    ".ndjson": FileFormat.JSONL,
    ".parquet": FileFormat.PARQUET,
}


class RecordFileError(ClientError):
    """The file cannot be read as what it should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordFile:
    """A file of records for a dataset whose fields are known."""

    path: Path
    format: FileFormat
    types: Mapping[str, str]
    """Field name to logical type (`string`, `integer`, `number`, `boolean`, `date`)."""
    max_record_bytes: int
    nulls: frozenset[str] = frozenset({""})
    """Texts of a CSV file that stand for no value."""
    respell: Mapping[str, Callable[[str], str]] | None = None
    """Field name to what gives the canonical spelling of its texts."""

    def lines(self) -> Iterator[bytes]:
        """Yield the records' lines, from the first; raise `RecordFileError`."""
        readers = {
            FileFormat.CSV: self._csv,
            FileFormat.JSONL: self._jsonl,
            FileFormat.PARQUET: self._parquet,
        }
        try:
            yield from readers[self.format]()
        except (OSError, EOFError) as error:
            raise RecordFileError(f"{self.path} cannot be read to its end; check the file.") from error

    def _csv(self) -> Iterator[bytes]:
        with _opened(self.path) as file:
            lines = _TextLines(file, self.path)
            rows = csv.reader(lines, strict=True)
            try:
                names = next(rows, [])
            except csv.Error as error:
                raise RecordFileError(
                    f"{self.path}: the first line is no header of field names; check quotes and commas."
                ) from error
            self._verify_header(names)
            convert = [_CONVERTERS[self.types[name]] for name in names]
            while True:
                lines.cut = False
                try:
                    row = next(rows, None)
                except csv.Error:
                    yield _unreadable(RowReason.ROW_OVERSIZE if lines.cut else RowReason.ROW_MALFORMED)
                    continue
                if row is None:
                    return
                if lines.cut:
                    yield _unreadable(RowReason.ROW_OVERSIZE)
                elif len(row) != len(names):
                    if row:
                        yield _unreadable(RowReason.ROW_COLUMNS)
                else:
                    yield self._line(
                        {
                            name: to_value(text)
                            for name, to_value, text in zip(names, convert, row, strict=True)
                            if text not in self.nulls
                        }
                    )

    def _verify_header(self, names: list[str]) -> None:
        unknown = len([name for name in names if name not in self.types])
        if unknown or len(set(names)) != len(names) or not names:
            raise RecordFileError(
                f"{self.path}: the header must name fields of the dataset, each once, as the contract does: "
                f"{', '.join(self.types)}. {unknown} of its names are none of these."
            )

    def _jsonl(self) -> Iterator[bytes]:
        with _opened(self.path) as file:
            for raw, cut in _raw_lines(file):
                line = raw.strip()
                if not line:
                    continue
                if cut:
                    yield _unreadable(RowReason.ROW_OVERSIZE)
                    continue
                try:
                    record = msgspec.json.decode(line)
                except DECODE_ERRORS:
                    yield _unreadable(RowReason.ROW_MALFORMED)
                    continue
                if isinstance(record, dict):
                    yield self._line(record)
                else:
                    yield _unreadable(RowReason.ROW_MALFORMED)

    def _parquet(self) -> Iterator[bytes]:
        try:
            import pyarrow as pa  # noqa: PLC0415 - an extra
            from pyarrow.parquet import ParquetFile  # noqa: PLC0415
        except ImportError as error:
            raise RecordFileError(
                "Parquet files need one more package: pip install 'sluicegate[parquet]'."
            ) from error
        try:
            with ParquetFile(self.path) as file:
                self._verify_header(file.schema_arrow.names)
                for batch in file.iter_batches(batch_size=_PARQUET_ROWS):
                    for record in batch.to_pylist():
                        yield self._line({name: _plain(value) for name, value in record.items()})
        except pa.ArrowException as error:
            raise RecordFileError(f"{self.path} is no Parquet file, or is damaged.") from error

    def _line(self, record: dict[str, Any]) -> bytes:
        for name, respell in (self.respell or {}).items():
            value = record.get(name)
            if isinstance(value, str):
                record[name] = respell(value)
        try:
            line = record_line(record)
        except (TypeError, ValueError, OverflowError, RecursionError):
            return _unreadable(RowReason.ROW_MALFORMED)
        return line if len(line) <= self.max_record_bytes else _unreadable(RowReason.ROW_OVERSIZE)


def format_of(path: Path) -> FileFormat:
    """Return the format that a file's name tells, `.gz` aside; raise `RecordFileError`."""
    name = path.name.removesuffix(".gz").lower()
    for ending, found in (
        (".csv", FileFormat.CSV),
        (".jsonl", FileFormat.JSONL),
        (".ndjson", FileFormat.JSONL),
    ):
        if name.endswith(ending):
            return found
    if path.name.lower().endswith(".parquet"):
        return FileFormat.PARQUET
    raise RecordFileError(
        "The file's name does not tell its format; name it with --format csv|jsonl|parquet."
    )


def batch_of(path: Path, contract: str, dataset: str) -> str:
    """Return a batch id made of the file's content: the same file under the same contract is one batch."""
    digest = hashlib.sha256(f"{contract}\n{dataset}\n".encode())
    with path.open("rb") as file:
        while chunk := file.read(_DIGEST_CHUNK):
            digest.update(chunk)
    return f"file-{digest.hexdigest()[:32]}"


class _TextLines:
    """The lines of a file as text, for the CSV reader; of one too long only the beginning."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._lines = _raw_lines(file)
        self._path = path
        self._number = 0
        self.cut = False
        """Whether a line since this was last reset was too long."""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        raw, cut = next(self._lines)
        self._number += 1
        if self._number == 1:
            if raw.startswith(_UTF16):
                raise self._wrong_encoding()
            raw = raw.removeprefix(_BOM)
        self.cut = self.cut or cut
        try:
            return raw.decode("utf-8", errors="ignore" if cut else "strict")
        except UnicodeDecodeError as error:
            raise self._wrong_encoding() from error

    def _wrong_encoding(self) -> RecordFileError:
        return RecordFileError(
            f"{self._path}: line {self._number} is not UTF-8. Save the file as UTF-8, or convert it, such as "
            "with: iconv -f GB18030 -t UTF-8 OLD > NEW"
        )


def _raw_lines(file: IO[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Yield each line and whether it was cut for its length: what follows of it is skipped."""
    while line := file.readline(MAX_LINE_BYTES):
        if line.endswith(b"\n") or len(line) < MAX_LINE_BYTES:
            yield line, False
            continue
        rest = line
        while rest and not rest.endswith(b"\n"):
            rest = file.readline(MAX_LINE_BYTES)
        yield line, True


def _opened(path: Path) -> IO[bytes]:
    if path.name.endswith(".gz"):
        return cast("IO[bytes]", gzip.open(path, "rb"))
    return path.open("rb")


def _unreadable(reason: RowReason) -> bytes:
    return encode_canonical(reason.value)


def _integer(text: str) -> Any:
    return int(text) if _INTEGER.fullmatch(text) else text


def _number(text: str) -> Any:
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text


def _truth(text: str) -> Any:
    return _TRUTH.get(text.lower(), text)


_CONVERTERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "string": str,
    "date": str,
    "integer": _integer,
    "number": _number,
    "boolean": _truth,
}


def _plain(value: Any) -> Any:
    """Return a value of a Parquet file as JSON has it."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value
