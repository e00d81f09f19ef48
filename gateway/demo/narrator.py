"""Tells the demonstration's story on standard output.

Colour on a terminal; elsewhere plain ASCII lines without colours or drawn boxes.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, TextIO

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

PLAIN_WIDTH: Final = 100
"""Columns of a line where there is no terminal to ask."""

_INDENT: Final = 3
_STYLES: Final = {
    "released": "green",
    "generalised": "yellow",
    "pseudonym": "magenta",
    "withheld": "red",
    "yes": "green",
    "verified": "green",
}
"""By the first word of a table's cell in the last column."""


class Narrator:
    """Prints chapters, sentences, tables and outcomes. Everything printed is taken literally."""

    def __init__(self, file: TextIO | None = None) -> None:
        file = file or sys.stdout
        width = None if file.isatty() else PLAIN_WIDTH
        self._console = Console(file=file, width=width, markup=False, highlight=False, emoji=False)
        self._chapters = 0
        self._gap = False

    def title(self, text: str) -> None:
        """Print the title of the story or of a part of it."""
        self._print(Text(text, "bold"))

    def chapter(self, text: str) -> None:
        """Begin a chapter; chapters are numbered."""
        self._chapters += 1
        self.gap()
        self._print(Text(f"{self._chapters}. {text}", "bold"))

    def say(self, text: str) -> None:
        """Print a paragraph, wrapped to the width of the page."""
        self._paragraph("", "", text)

    def released(self, text: str) -> None:
        """Tell of an exchange that ended in a release."""
        self._outcome("RELEASED", "bold green", text)

    def denied(self, text: str) -> None:
        """Tell of an exchange that was refused."""
        self._outcome("DENIED", "bold red", text)

    def found(self, text: str) -> None:
        """Tell what an examination has found."""
        self._outcome("FOUND", "bold yellow", text)

    def verified(self, text: str) -> None:
        """Tell what holds."""
        self._outcome("VERIFIED", "bold green", text)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Print `rows` under `columns`, without a drawn box."""
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column in columns:
            table.add_column(column, overflow="fold")
        for *cells, last in rows:
            style = _STYLES.get(last.partition(" ")[0], "")
            table.add_row(*(Text(cell) for cell in cells), Text(last, style))
        with self._console.capture() as printed:
            self._console.print(Padding(table, (0, 0, 0, _INDENT)))
        self.gap()
        for line in printed.get().splitlines():
            # Rich fills lines up with blanks, which are a nuisance in files and comparisons.
            self._print(Text.from_ansi(line.rstrip()))
        self.gap()

    def lines(self, text: str) -> None:
        """Print lines that somebody may copy: never wrapped, nor moved in."""
        self.gap()
        for line in text.splitlines():
            self._print(Text(line))
        self.gap()

    def last(self, text: str) -> None:
        """Print the last line of the story."""
        self.gap()
        self._print(Text(text, "bold"))

    def gap(self) -> None:
        """Print an empty line, unless the line before is one."""
        if not self._gap:
            self._console.print()
        self._gap = True

    @contextmanager
    def working(self, text: str) -> Iterator[None]:
        """Show on a terminal that something goes on while the block runs; elsewhere nothing."""
        if not self._console.is_terminal:
            yield
            return
        with self._console.status(text):
            yield

    def _outcome(self, word: str, style: str, text: str) -> None:
        self._paragraph(f"{word}  ", style, text)

    def _paragraph(self, label: str, style: str, text: str) -> None:
        margin = " " * _INDENT
        wrapped = textwrap.fill(
            margin + label + text, self._console.width, subsequent_indent=margin + " " * len(label)
        )
        line = Text(wrapped)
        line.stylize(style, len(margin), len(margin) + len(label))
        self._print(line)

    def _print(self, line: Text) -> None:
        self._console.print(line, soft_wrap=True)
        self._gap = False
