"""How results are printed: tables for people at a terminal, JSON for programs, plain text on pipes."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, Final

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

_UNSAFE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Control characters and marks of direction: what could move a terminal's cursor or reorder its text."""
_UNSAFE_BUT_LINES: Final = re.compile(_UNSAFE.pattern.replace("\x00-\x1f", "\x00-\x09\x0b-\x1f"))

_encoder: Final = msgspec.json.Encoder()


class Format(StrEnum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"


Advance = Callable[[int, int | None], None]
"""Takes how much is done and how much there is in all, if that is known."""


class Output:
    """Prints a command's results, in the form that was asked for."""

    def __init__(self, form: Format | None = None, *, no_colour: bool = False) -> None:
        """Take the form asked for; None lets the terminal, or its absence, decide."""
        self.no_colour = no_colour
        self._asked = form
        self._terminal = sys.stdout.isatty()

    @property
    def error_form(self) -> Format:
        """The form of errors: text unless JSON was asked for."""
        return self._asked or Format.TABLE

    def list(
        self,
        rows: Sequence[Mapping[str, Any]],
        columns: Sequence[str],
        *,
        nothing: str = "Nothing.",
        shorten: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict,
    ) -> None:
        """Print `rows`: JSON shows everything, a table the `columns` of what `shorten` makes of a row.

        By default it is a table on a terminal and JSON Lines on a pipe.
        """
        form = self._asked or (Format.TABLE if self._terminal else Format.JSONL)
        if form is Format.JSON:
            self._write(to_json(list(rows), pretty=True))
        elif form is Format.JSONL:
            for row in rows:
                self._write(to_json(row))
        elif not rows:
            self._write(nothing)
        else:
            cells = [shorten(row) for row in rows]
            self._table([[shown(row.get(name)) for name in columns] for row in cells], columns)

    def facts(self, facts: Mapping[str, Any], text: Sequence[str] | None = None) -> None:
        """Print one result: as lines of `text` (by default: name and value), or as a JSON object."""
        if self._asked is Format.JSON:
            self._write(to_json(facts, pretty=True))
        elif self._asked is Format.JSONL:
            self._write(to_json(facts))
        elif text is not None:
            for line in text:
                self._write(visible(line))
        else:
            width = max(map(len, facts), default=0)
            for name, value in facts.items():
                label = name.replace("_", " ")
                self._write(f"{label:<{width}}  {visible(shown(value))}".rstrip())

    def report(self, rows: Sequence[Mapping[str, Any]], text: Sequence[str]) -> None:
        """Print several results: as lines of `text`, or as JSON objects."""
        if self._asked in {Format.JSON, Format.JSONL}:
            self.list(rows, ())
            return
        for line in text:
            self._write(visible(line))

    def jsonl(self, row: Mapping[str, Any]) -> None:
        """Print one of an unknown number of results as a JSON object on a line."""
        self._write(to_json(row))

    def lines(self, text: bytes) -> None:
        """Print JSON Lines as they came; a terminal is kept safe from what stands in them."""
        if self._terminal:
            self._write(_escape_json(text.decode()), end="")
        else:
            sys.stdout.flush()
            typer.get_binary_stream("stdout").write(text)

    def document(self, text: str) -> None:
        """Print the text of a file, such as a proof, as it is."""
        self._write(text, end="")

    def remark(self, text: str) -> None:
        """Tell people something beside the result, on standard error."""
        typer.echo(visible(text), err=True)

    @property
    def wants_records(self) -> Format:
        """The form for records: a table on a terminal, JSON Lines on a pipe, or what was asked for."""
        return self._asked or (Format.TABLE if self._terminal else Format.JSONL)

    @contextmanager
    def progress(self, what: str) -> Iterator[Advance]:
        """Show a bar on a terminal while the block runs; yield the function that moves it."""
        if not (self._terminal and sys.stderr.isatty()) or self._asked in {Format.JSON, Format.JSONL}:
            yield lambda _done, _total: None
            return
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True, no_color=self.no_colour),
            transient=True,
        )
        with bar:
            task = bar.add_task(what, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)

    def _table(self, cells: Sequence[Sequence[str]], columns: Sequence[str]) -> None:
        headers = [name.replace("_", " ") for name in columns]
        if self._terminal:
            table = Table(box=None, pad_edge=False, header_style="bold")
            for header in headers:
                table.add_column(header, overflow="fold")
            for row in cells:
                table.add_row(*(Text(visible(cell)) for cell in row))
            Console(no_color=self.no_colour, highlight=False).print(table)
            return
        lines = [headers, *([visible(cell) for cell in row] for row in cells)]
        widths = [max(len(line[at]) for line in lines) for at in range(len(headers))]
        for line in lines:
            padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            self._write("  ".join(padded).rstrip())

    def _write(self, text: str, *, end: str = "\n") -> None:
        sys.stdout.write(text + end)


def output_of(context: typer.Context) -> Output:
    """Return the output that the global options describe."""
    found = context.find_object(Output)
    return found if found is not None else Output()


def visible(text: str, *, keep_lines: bool = False) -> str:
    """Return `text` with everything that could steer a terminal replaced by its escape."""
    unsafe = _UNSAFE_BUT_LINES if keep_lines else _UNSAFE
    return unsafe.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def shown(value: Any) -> str:
    """Return `value` as a cell or line shows it."""
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case str():
            return value
        case Mapping():
            return ", ".join(f"{name}={shown(item)}" for name, item in value.items()) or "-"
        case list() | tuple() | set() | frozenset():
            return ", ".join(map(shown, value)) or "-"
        case _:
            return str(value)


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return the number with its noun, such as `1 record` or `3 entries`."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def to_json(value: Any, *, pretty: bool = False) -> str:
    """Return `value` as JSON that is safe on a terminal."""
    encoded = _encoder.encode(value)
    return _escape_json((msgspec.json.format(encoded, indent=2) if pretty else encoded).decode())


def _escape_json(text: str) -> str:
    # Within JSON such characters stand only in strings, where the escape means the same.
    return visible(text, keep_lines=True)
