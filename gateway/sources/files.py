"""Files as sources: loaded once into a private database in memory, then read as any other table.

So that files page, stream and look up by the same code as databases, and a file that is replaced
while the provider runs changes nothing until it starts again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.sql import ClauseElement
from sqlalchemy.types import UserDefinedType

from gateway.model import FieldType
from gateway.sources.database import Database, open_private_database
from gateway.sources.layout import SQLITE_STORAGE, Layout, MappedColumn
from gateway.sources.mapping import BadRowRule, DatasetMapping, MappingError
from gateway.sources.rows import BadRow, native_types, read_rows
from gateway.sources.values import WrongTypeError, convert_value

MAX_REPORTED_ROWS: Final = 20
"""Skipped rows that a report names; the others are only counted."""

_MEMDB_VERSION: Final = (3, 36)
"""The first SQLite whose `memdb` databases can be shared by the connections of a process."""

_DIALECT: Final = sqlite_dialect(paramstyle="qmark")


@dataclass(frozen=True)
class SkippedRow:
    """A row that was left out."""

    line: int
    """Line number (Parquet: row number) from 1."""
    problem: str


@dataclass(frozen=True)
class LoadedFile:
    """A file's records in memory."""

    database: Database
    layout: Layout
    skipped_rows: int
    first_skipped: tuple[SkippedRow, ...]
    """At most `MAX_REPORTED_ROWS`."""


def load_file(dataset: DatasetMapping, folder: Path) -> LoadedFile:
    """Load the file of `dataset`.

    Raises `MappingError` if the file cannot be read or lacks a column, and for its first bad row
    unless the mapping says that bad rows are skipped.
    """
    if sqlite3.sqlite_version_info < _MEMDB_VERSION:
        raise MappingError(
            "Files need SQLite 3.36 or newer under Python; load the file into a database instead."
        )
    path = folder / dataset.file
    loader = _Loader(dataset, path, _private_layout(dataset, native_types(dataset, path)))
    try:
        database = open_private_database(loader.fill)
    except sqlite3.Error as error:
        if error.sqlite_errorname == "SQLITE_FULL":
            message = f"The file {path} is too large to be served from memory; load it into a database."
        else:
            message = f"The file {path} cannot be loaded into memory ({error.sqlite_errorname})."
        raise MappingError(message) from None
    return LoadedFile(database, loader.layout, loader.skipped_rows, tuple(loader.first_skipped))


class _Untyped(UserDefinedType[Any]):
    """A column without declared type, in which SQLite converts nothing."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return ""


def _private_layout(dataset: DatasetMapping, native: dict[str, FieldType]) -> Layout:
    """Declare a table of our own, so that no name out of a file ever stands in a statement."""
    line = sa.Column("line", sa.Integer, primary_key=True)
    columns = {field: sa.Column(f"value_{index}", _Untyped()) for index, field in enumerate(dataset.columns)}
    table = sa.Table("records", sa.MetaData(), line, *columns.values())
    mapped = {}
    for field, column in columns.items():
        kind = dataset.types.get(field) or native.get(field, FieldType.STRING)
        if kind is FieldType.NUMBER and field in {*dataset.key, *dataset.lookup}:
            raise MappingError(f"Field {field} is a number and cannot stand in key or lookup.")
        mapped[field] = MappedColumn(field, column, kind, SQLITE_STORAGE[kind])
    return Layout(
        table=table,
        columns=mapped,
        key=tuple(columns[field] for field in dataset.key) or (line,),
        lookup=frozenset(dataset.lookup),
        nulls=frozenset(dataset.null_values),
    )


class _Loader:
    """Fills a private database from one file and keeps account of what it left out."""

    def __init__(self, dataset: DatasetMapping, path: Path, layout: Layout) -> None:
        self._dataset = dataset
        self._path = path
        self.layout = layout
        self.skipped_rows = 0
        self.first_skipped: list[SkippedRow] = []

    def fill(self, connection: sqlite3.Connection) -> None:
        table = self.layout.table
        connection.execute(_sql(CreateTable(table)))
        connection.executemany(_sql(table.insert()), self._records())
        if self._dataset.key:
            self._leave_out_repeated_keys(connection)
        for name, columns, unique in self._indexes():
            connection.execute(_sql(CreateIndex(sa.Index(name, *columns, unique=unique))))
        connection.commit()
        connection.execute("ANALYZE")

    def _records(self) -> Iterator[tuple[Any, ...]]:
        fields = list(self.layout.columns.values())
        key = [field.column in self.layout.key for field in fields]
        with closing(read_rows(self._dataset, self._path)) as rows:
            for line, row in rows:
                problem, values = self._judge(row, fields, key)
                if problem:
                    self._leave_out(line, problem)
                else:
                    yield (line, *values)

    def _judge(
        self, row: Sequence[Any] | BadRow, fields: Sequence[MappedColumn], key: Sequence[bool]
    ) -> tuple[str, list[Any]]:
        """Return (what is wrong with `row` or nothing, its values as they are stored)."""
        if isinstance(row, BadRow):
            return row.problem, []
        nulls = self.layout.nulls
        values: list[Any] = []
        for value, field in zip(row, fields, strict=True):
            if type(value) is str and field.type is FieldType.STRING:
                values.append(None if value in nulls else value)
                continue
            try:
                values.append(_storable(convert_value(value, field.type, nulls)))
            except WrongTypeError:
                return f"field {field.field} is no {field.type}", []
        if any(part and value is None for part, value in zip(key, values, strict=True)):
            return "its key has no value", []
        return "", values

    def _leave_out(self, line: int, problem: str) -> None:
        if self._dataset.on_bad_row is BadRowRule.REFUSE:
            raise MappingError(
                f"Line {line} of the file {self._path}: {problem}; correct it, or set on_bad_row to skip.",
                line=line,
            )
        self.skipped_rows += 1
        if len(self.first_skipped) < MAX_REPORTED_ROWS:
            self.first_skipped.append(SkippedRow(line, problem))

    def _leave_out_repeated_keys(self, connection: sqlite3.Connection) -> None:
        line = self.layout.table.c.line
        first = sa.select(sa.func.min(line)).group_by(*self.layout.key)
        repeated = sa.select(line).where(line.not_in(first)).order_by(line)
        lines = [found for (found,) in connection.execute(_sql(repeated))]
        for number in lines:
            self._leave_out(number, "another row has the same key")
        if lines:
            connection.execute(_sql(sa.delete(self.layout.table).where(line.not_in(first))))

    def _indexes(self) -> Iterator[tuple[str, Sequence[sa.Column[Any]], bool]]:
        if self._dataset.key:
            yield "by_key", self.layout.key, True
        for index, field in enumerate(self._dataset.lookup):
            if self._dataset.key[:1] != (field,):
                yield f"by_value_{index}", (self.layout.columns[field].column,), False


def _storable(value: Any) -> Any:
    """Return the value as SQLite keeps it; `convert_column` turns it back when it is read."""
    match value:
        case date():
            return value.isoformat()
        case Decimal():
            return float(value)
        case _:
            return value


def _sql(clause: ClauseElement) -> str:
    return str(clause.compile(dialect=_DIALECT))
