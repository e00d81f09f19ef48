"""A statement as PDF, for people. Derived from the signed statement alone, whose digest it names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from fpdf import FPDF
from fpdf.enums import TableBordersLayout, XPos, YPos
from fpdf.fonts import FontFace

from gateway.clock import parse_rfc3339
from gateway.usage.charges import QuotaUse
from gateway.usage.csv_form import price_text
from gateway.usage.statement import StatedContract, Statement

MAX_LINES: Final = 5000
"""Lines that a PDF has; the signed statement and its CSV have all of them."""

_FONT: Final = "helvetica"
_INK: Final = (28, 36, 48)
_GREY: Final = (105, 115, 130)
_RULE: Final = (205, 211, 220)
_HEAD: Final = (36, 72, 110)
_BAND: Final = (244, 246, 249)
_MARGIN_MM: Final = 16
_RIGHT: Final = "RIGHT"
_LEFT: Final = "LEFT"


def to_pdf(statement: Statement, digest: str) -> bytes:
    """Return the statement as a PDF document; the same statement gives the same bytes.

    `digest` is that of the signed payload. Text is ASCII, as are all names in a statement.
    """
    page = _Page(statement, digest)
    page.add_page()
    page.heading()
    page.totals()
    for contract in statement.contracts:
        page.contract(contract)
    page.recipients()
    page.lines()
    page.proof()
    return bytes(page.output())


class _Page(FPDF):
    def __init__(self, statement: Statement, digest: str) -> None:
        super().__init__(orientation="portrait", unit="mm", format="A4")
        self._statement = statement
        self._digest = digest
        issued = parse_rfc3339(statement.issued)
        self.set_creation_date(datetime(issued.year, issued.month, issued.day, tzinfo=issued.tzinfo))
        self.set_title(f"Statement of use {statement.month}, {statement.member}")
        self.set_producer("Sluicegate")
        self.set_margins(_MARGIN_MM, _MARGIN_MM, _MARGIN_MM)
        self.set_auto_page_break(True, margin=20)
        self.set_text_color(*_INK)
        self.set_draw_color(*_RULE)
        self.alias_nb_pages()

    def footer(self) -> None:
        """Write the foot of each page: what it is of, and its number."""
        self.set_y(-14)
        self._style(7, colour=_GREY)
        self.cell(0, 4, f"{self._statement.gateway}   sha256:{self._digest}")
        self.set_x(_MARGIN_MM)
        self.cell(0, 4, f"{self.page_no()}/{{nb}}", align="R")

    def heading(self) -> None:
        """Write what this is, for whom, and of which month."""
        statement = self._statement
        self._style(20, bold=True, colour=_HEAD)
        so_far = " so far" if statement.so_far else ""
        self._line(f"Statement of use, {statement.month}{so_far}", 10)
        self._style(11)
        self._line(f"for {statement.member}, from {statement.gateway}", 6)
        self._style(8.5, colour=_GREY)
        self._line(
            f"Issued {statement.issued[:19]}Z. Days are in UTC. The signed statement counts; this shows it.",
            5,
        )
        self.ln(3)

    def totals(self) -> None:
        """Write the sums of the month, large."""
        totals = self._statement.totals
        figures = [
            ("records left", totals.records),
            ("exchanges", totals.exchanges),
            ("released", totals.released),
            ("denied", totals.denied),
            ("failed", totals.failed),
            ("open", totals.open),
        ]
        width, top = self.epw / len(figures), self.get_y()
        self.set_fill_color(*_BAND)
        self.rect(_MARGIN_MM, top, self.epw, 17, style="F")
        for at, (name, value) in enumerate(figures):
            self.set_xy(_MARGIN_MM + at * width + 2, top + 3)
            self._style(13, bold=True)
            self.cell(width - 2, 6, _number(value))
            self.set_xy(_MARGIN_MM + at * width + 2, top + 9.5)
            self._style(8, colour=_GREY)
            self.cell(width - 2, 4, name)
        self.set_xy(_MARGIN_MM, top + 21)

    def contract(self, contract: StatedContract) -> None:
        """Write a contract: its dates, its price, and how much of its quotas was used."""
        self._title(f"Contract {contract.name}, version {contract.version}")
        self._style(8, colour=_GREY)
        self._line(contract.id, 4)
        self._style(9)
        self._line(
            f"In force {contract.valid_from[:10]} to {contract.valid_until[:10]}.  "
            f"Price: {price_text(contract.price)}.",
            5,
        )
        rows = [row for quota in contract.quotas for row in _quota_rows(quota)]
        if rows:
            self._table(
                ("Quota", "Recipient", "Fullest span", "Used", "Share"),
                rows,
                (50, 42, 32, 32, 22),
                right=(3, 4),
            )
        self.ln(2)

    def recipients(self) -> None:
        """Write what each recipient got, and owes."""
        statement = self._statement
        names = {contract.id: f"{contract.name} v{contract.version}" for contract in statement.contracts}
        owed = {(amount.contract, amount.consumer): amount for amount in statement.amounts}
        sums: dict[tuple[str, str], list[int]] = {}
        for line in statement.lines:
            found = sums.setdefault((line.contract, line.consumer), [0, 0, 0])
            found[0] += line.exchanges
            found[1] += line.exchanges if line.reasons and line.outcome.value == "denied" else 0
            found[2] += line.records
        self._title("Recipients")
        rows = []
        for (contract, consumer), (exchanges, denied, records) in sorted(sums.items()):
            amount = owed.get((contract, consumer))
            rows.append(
                (
                    consumer or "-",
                    names.get(contract, "none" if not contract else "other"),
                    _number(exchanges),
                    _number(denied),
                    _number(records),
                    f"{_number(amount.minor_units)} {amount.currency}" if amount else "-",
                )
            )
        columns = ("Recipient", "Contract", "Exchanges", "Denied", "Records", "Minor units")
        self._table(columns, rows, (44, 44, 22, 18, 24, 26), right=(2, 3, 4, 5))

    def lines(self) -> None:
        """Write the lines, with the entries of the log that each is of."""
        lines = self._statement.lines
        self._title("Day by day")
        rows = [
            (
                line.day[5:],
                line.consumer or "-",
                f"{line.dataset.rpartition('/')[2] or '-'}\n{line.purpose}",
                "\n".join([line.outcome.value, *map(_spelt_out, line.reasons)]),
                " ".join(line.fields) or "-",
                _number(line.records),
                _shortened(line.entries),
            )
            for line in lines[:MAX_LINES]
        ]
        columns = ("Day", "Recipient", "Dataset, purpose", "Outcome", "Fields", "Records", "Entries")
        self._table(columns, rows, (12, 26, 33, 35, 33, 15, 24), right=(5,), size=7)
        if len(lines) > MAX_LINES:
            self._style(8, colour=_GREY)
            self._line(f"{len(lines) - MAX_LINES} more lines stand in the signed statement and its CSV.", 5)

    def proof(self) -> None:
        """Write what the statement is proven with."""
        statement = self._statement
        self._title("Proof")
        self._style(8)
        for text in (
            f"Log: {statement.gateway}, the entries below index {statement.tree_size} of {statement.member}",
            f"Root hash of the tree: {statement.root}",
            f"Digest of the signed statement: sha256:{self._digest}",
            "Verify with: gateway usage verify STATEMENT.json",
        ):
            self._line(text, 4.5)

    def _title(self, text: str) -> None:
        if self.will_page_break(24):
            self.add_page()
        self.ln(3)
        self._style(11, bold=True, colour=_HEAD)
        self._line(text, 7)

    def _table(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[str]],
        widths: Sequence[float],
        *,
        right: Sequence[int],
        size: float = 8,
    ) -> None:
        self._style(size)
        aligned = tuple(_RIGHT if at in right else _LEFT for at in range(len(columns)))
        with self.table(
            borders_layout=TableBordersLayout.HORIZONTAL_LINES,
            col_widths=tuple(widths),
            headings_style=FontFace(emphasis="BOLD", color=_HEAD, fill_color=_BAND),
            line_height=size * 0.5,
            padding=1,
            text_align=aligned,
        ) as table:
            table.row(columns)
            for row in rows:
                table.row(row)
        self.ln(1)

    def _style(self, size: float, *, bold: bool = False, colour: tuple[int, int, int] = _INK) -> None:
        self.set_font(_FONT, "B" if bold else "", size)
        self.set_text_color(*colour)

    def _line(self, text: str, height: float) -> None:
        self.multi_cell(0, height, text, new_x=XPos.LMARGIN, new_y=YPos.NEXT)


def _quota_rows(quota: QuotaUse) -> list[tuple[str, str, str, str, str]]:
    name = f"{_number(quota.records)} a {quota.per.value}"
    if not quota.uses:
        return [(name, "-", "-", "0", "0 %")]
    return [
        (
            name,
            use.consumer or "all together",
            use.span,
            _number(use.records),
            f"{use.records * 100 // quota.records} %",
        )
        for use in quota.uses
    ]


def _spelt_out(reason: str) -> str:
    return reason.replace("_", " ").lower()


def _number(value: int) -> str:
    return f"{value:,}".replace(",", " ")


def _shortened(entries: str, limit: int = 40) -> str:
    if len(entries) <= limit:
        return entries.replace(",", ", ")
    return entries[:limit].rpartition(",")[0].replace(",", ", ") + ", ..."
