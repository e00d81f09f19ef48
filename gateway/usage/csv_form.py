"""A statement as CSV: one row a line, and what it comes to below. Derived from the signed statement alone."""

from __future__ import annotations

import csv
import io
from typing import Final

from gateway.audit.report.formats import safe_cell
from gateway.model.contract import Price
from gateway.usage.statement import Statement

COLUMNS: Final = (
    "row",
    "day",
    "contract",
    "dataset",
    "consumer",
    "purpose",
    "outcome",
    "fields",
    "reasons",
    "exchanges",
    "records",
    "pages",
    "currency",
    "minor_units",
    "entries",
)


def to_csv(statement: Statement, digest: str) -> bytes:
    """Return the statement as CSV (RFC 4180, every cell in quotes, none of them a formula).

    `row` says what a row is: `line`, `amount`, `total`, or `source`, which names the log's tree and the
    `digest` of the signed payload that everything here is taken from.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writeheader()

    def put(row: str, **cells: object) -> None:
        writer.writerow({"row": row, **{name: safe_cell(value) for name, value in cells.items()}})

    for line in statement.lines:
        put(
            "line",
            day=line.day,
            contract=line.contract,
            dataset=line.dataset,
            consumer=line.consumer,
            purpose=line.purpose,
            outcome=line.outcome.value,
            fields=line.fields,
            reasons=line.reasons,
            exchanges=line.exchanges,
            records=line.records,
            pages=line.pages,
            entries=line.entries,
        )
    for amount in statement.amounts:
        put(
            "amount",
            day=statement.month,
            contract=amount.contract,
            consumer=amount.consumer,
            records=amount.records,
            currency=amount.currency,
            minor_units=amount.minor_units,
        )
    total = "total so far" if statement.so_far else "total"
    put(total, day=statement.month, exchanges=statement.totals.exchanges, records=statement.totals.records)
    put(
        "source",
        day=statement.issued,
        dataset=f"{statement.gateway} tree {statement.tree_size} root {statement.root}",
        entries=digest,
    )
    return text.getvalue().encode()


def price_text(price: Price | None) -> str:
    """Return a price for people, such as `250 minor units of EUR for 1000 records`."""
    if price is None:
        return "none"
    return f"{price.minor_units_per_thousand} minor units of {price.currency} for 1000 records"
