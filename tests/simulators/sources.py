"""What providers hold, written as they would keep it: a file, a database, or a database in partitions."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Any

from gateway.model import Dataset, Field, FieldType, parse_dataset_name

Record = Mapping[str, Any]

PARTITIONS = 10


class Form(StrEnum):
    """How a provider keeps its records."""

    FILE = "file"
    DATABASE = "database"
    PARTITIONS = "partitions"
    """A database of several tables, one for each last character of the first field, behind one view."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What a provider holds of one dataset, by field."""

    dataset: str
    records: Sequence[Record]
    form: Form = Form.FILE
    key: tuple[str, ...] = ()
    """Fields that together are unique; by default the first field, and of a file the line."""


def write_source(folder: Path, dataset: Dataset, holding: Holding) -> str:
    """Write the records of `holding` as their holder keeps them; return their part of the mapping file."""
    name = parse_dataset_name(dataset.name)[1]
    place = _write_file if holding.form is Form.FILE else _write_database
    types = [field for field in dataset.fields.values() if field.type is not FieldType.STRING]
    lookups = [field.name for field in dataset.fields.values() if field.lookup]
    return "\n".join(
        [
            f"[datasets.{name}]",
            *place(folder, name, dataset, holding),
            f"lookup = {json.dumps(lookups)}",
            f"[datasets.{name}.types]",
            *(f'{field.name} = "{field.type.value}"' for field in types),
            f"[datasets.{name}.columns]",
            *(f'{field} = "c_{field}"' for field in dataset.fields),
            "",
        ]
    )


def insert_record(folder: Path, dataset: Dataset, record: Record) -> None:
    """Add a record to a database as its holder would, while it is served."""
    name = parse_dataset_name(dataset.name)[1]
    values = [value or None for value in _row(record, dataset)]
    with closing(sqlite3.connect(folder / f"{name}.db")) as database, database:
        database.execute(f"INSERT INTO {_table(name)} VALUES ({', '.join('?' for _ in values)})", values)


def delete_record(folder: Path, dataset: str, field: str, value: str) -> None:
    """Delete records from a database as their holder would, while it is served."""
    name = parse_dataset_name(dataset)[1]
    with closing(sqlite3.connect(folder / f"{name}.db")) as database, database:
        gone = database.execute(f"DELETE FROM {_table(name)} WHERE c_{field} = ?", (value,)).rowcount
    assert gone > 0, "there was no such record"


def _write_file(folder: Path, name: str, dataset: Dataset, holding: Holding) -> Iterator[str]:
    with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow([f"c_{field}" for field in dataset.fields])
        rows.writerows(_row(record, dataset) for record in holding.records)
    yield f'file = "{name}.csv"'
    yield 'null_values = [""]'
    if holding.key:
        yield f"key = {json.dumps(holding.key)}"


def _write_database(folder: Path, name: str, dataset: Dataset, holding: Holding) -> Iterator[str]:
    table = _table(name)
    key = holding.key or tuple(dataset.fields)[:1]
    path = folder / f"{name}.db"
    with closing(sqlite3.connect(path)) as database, database:
        # A provider's readers and its holder's own writers must not lock each other out.
        database.execute("PRAGMA journal_mode = WAL")
        if holding.form is Form.DATABASE:
            _fill(database, table, dataset, holding.records)
        else:
            parts = [f"{table}_{number}" for number in range(PARTITIONS)]
            for number, part in enumerate(parts):
                _fill(database, part, dataset, [r for r in holding.records if _partition(r) == number])
            union = " UNION ALL ".join(f"SELECT * FROM {part}" for part in parts)
            database.execute(f"CREATE VIEW {table} AS {union}")
            yield "trust_key = true"
    yield f'source = "sqlite:///{path.resolve()}"'
    yield f'table = "{table}"'
    yield f"key = {json.dumps(key)}"


def _fill(database: sqlite3.Connection, table: str, dataset: Dataset, records: Sequence[Record]) -> None:
    fields = dataset.fields
    columns = ", ".join(f"c_{name} {_storage(field)}" for name, field in fields.items())
    database.execute(f"CREATE TABLE {table} ({columns})")
    for name, field in fields.items():
        if field.lookup:
            database.execute(f"CREATE INDEX {table}_{name} ON {table} (c_{name})")
    places = ", ".join("?" for _ in fields)
    database.executemany(
        f"INSERT INTO {table} VALUES ({places})",
        ([value or None for value in _row(record, dataset)] for record in records),
    )


def _partition(record: Record) -> int:
    return ord(str(next(iter(record.values())))[-1]) % PARTITIONS


def _table(name: str) -> str:
    return f"t_{name.replace('-', '_')}"


def _storage(field: Field) -> str:
    return {FieldType.INTEGER: "INTEGER", FieldType.NUMBER: "REAL"}.get(field.type, "TEXT")


def _row(record: Record, dataset: Dataset) -> list[str]:
    surplus = record.keys() - dataset.fields.keys()
    assert not surplus, f"{dataset.name} has no field {', '.join(surplus)}"
    return [_text(record.get(field)) for field in dataset.fields]


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value.isoformat() if isinstance(value, date) else str(value)
