"""Files of many records, of the kind `tests.simulators.contributing` makes, written without holding them."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from gateway.client import record_line
from gateway.identifiers.uscc import ALPHABET, check_character
from tests.simulators.contributing import records

_PATTERNS = 500


def write_large(path: Path, size_bytes: int) -> int:
    """Write a CSV or JSON Lines file, as its name says, of so many bytes; return how many records it has.

    Each file begins with the same ones, and no two of a file have the same code.
    """
    rows = large_rows()
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        columns = ("uscc", "name", "registered_on", "employees", "turnover", "active")
        writer = csv.DictWriter(file, columns)
        if path.suffix == ".csv":
            writer.writeheader()
        while count % 1000 or file.tell() < size_bytes:
            row = next(rows)
            if path.suffix == ".csv":
                writer.writerow(row)
            else:
                file.write(record_line(row).decode() + "\n")
            count += 1
    return count


def large_rows() -> Iterator[dict[str, Any]]:
    """Yield valid records, more than anybody needs."""
    patterns = records(_PATTERNS)
    for number, tail in enumerate(product(ALPHABET, repeat=7)):
        body = f"91310000XT{''.join(tail)}"
        yield {
            **patterns[number % _PATTERNS],
            "uscc": body + check_character(body),
            "employees": number % 500,
            "turnover": number + 0.5,
        }
