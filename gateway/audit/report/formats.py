"""How entries are written into a report: JSON Lines, CSV, or OCSF events.

Each form turns one entry into one piece of text, so that a report of any length needs no memory.
See docs/formats/export.md.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from enum import StrEnum
from typing import IO, Any, Final, Protocol

import msgspec

from gateway.audit.errors import LogMismatchError
from gateway.audit.report.ocsf import to_ocsf
from gateway.audit.store import StoredEntry
from gateway.errors import GatewayError, Reason
from gateway.evidence.canonical import DECODE_ERRORS, encode_canonical
from gateway.model.entry import Entry


class ReportFormat(StrEnum):
    """The forms of a report."""

    JSONL = "jsonl"
    CSV = "csv"
    OCSF = "ocsf"


class ReportForm(Protocol):
    """Writes entries, and counts them again."""

    def heading(self) -> bytes:
        """Return what stands before the first entry."""
        ...

    def write(self, stored: StoredEntry) -> bytes:
        """Return the text of one entry."""
        ...

    def count(self, report: IO[bytes]) -> int:
        """Return how many entries stand in a report; raise `GatewayError` if it is not of this form."""
        ...


CSV_COLUMNS: Final = ("index", *(name for name in Entry.__struct_fields__ if name != "v"))

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a spreadsheet takes for the beginning of a formula (OWASP, CSV Injection), full-width forms too."""

_decode: Final = msgspec.json.Decoder(Entry).decode
_encode: Final = msgspec.json.Encoder().encode


class JsonLines:
    """One object a line: the index, and the entry byte for byte as it stands in the log."""

    def heading(self) -> bytes:
        """Return nothing: JSON Lines have no heading."""
        return b""

    def write(self, stored: StoredEntry) -> bytes:
        """Return the line of one entry."""
        return b'{"index":%d,"entry":%b}\n' % (stored.index, stored.data)

    def count(self, report: IO[bytes]) -> int:
        """Return the number of lines."""
        return sum(1 for _ in report)


class Csv:
    """One row an entry, every cell in quotes (RFC 4180), none of them a formula."""

    def heading(self) -> bytes:
        """Return the names of the columns."""
        return _row(CSV_COLUMNS)

    def write(self, stored: StoredEntry) -> bytes:
        """Return the row of one entry."""
        entry = decode_entry(stored)
        return _row((stored.index, *(getattr(entry, name) for name in CSV_COLUMNS[1:])))

    def count(self, report: IO[bytes]) -> int:
        """Return the number of rows after the heading."""
        lines = (line.decode(errors="replace") for line in report)
        try:
            return max(0, sum(1 for _ in csv.reader(lines, strict=True)) - 1)
        except csv.Error as error:
            raise GatewayError("The report is not CSV.", reason=Reason.PROOF_INVALID) from error


class Ocsf:
    """One event of the Open Cybersecurity Schema Framework a line."""

    def __init__(self, origin: str) -> None:
        self._origin = origin

    def heading(self) -> bytes:
        """Return nothing: JSON Lines have no heading."""
        return b""

    def write(self, stored: StoredEntry) -> bytes:
        """Return the line of one entry."""
        return _encode(to_ocsf(stored, decode_entry(stored), self._origin)) + b"\n"

    def count(self, report: IO[bytes]) -> int:
        """Return the number of lines."""
        return sum(1 for _ in report)


def form_of(kind: ReportFormat, origin: str) -> ReportForm:
    """Return the form of that name, for a report on the log `origin`."""
    match kind:
        case ReportFormat.JSONL:
            return JsonLines()
        case ReportFormat.CSV:
            return Csv()
        case ReportFormat.OCSF:
            return Ocsf(origin)


def decode_entry(stored: StoredEntry) -> Entry:
    """Return the entry in `stored`; raise `LogMismatchError` if it is not one."""
    try:
        return _decode(stored.data)
    except DECODE_ERRORS as error:
        raise LogMismatchError(
            "An entry of the log is not of the known form; run `gateway audit fsck`.", index=stored.index
        ) from error


def _row(values: tuple[Any, ...]) -> bytes:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerow(map(safe_cell, values))
    return text.getvalue().encode()


def safe_cell(value: Any) -> str:
    """Return `value` as the text of a cell that no spreadsheet takes for a formula.

    What could be one gets an apostrophe before it, and so does what begins with an apostrophe, so
    that taking one away always gives back the value.
    """
    match value:
        case None:
            text = ""
        case tuple():
            text = " ".join(value)
        case Mapping():
            text = encode_canonical(value).decode() if value else ""
        case _:
            text = str(value)
    return f"'{text}" if text.startswith(("'", *_FORMULA)) else text
