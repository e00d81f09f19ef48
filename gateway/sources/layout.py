"""Layouts: the mapped columns of one table as SQLAlchemy objects, proved against the database at start."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SAWarning
from sqlalchemy.types import NullType, TypeEngine

from gateway.model import FieldType
from gateway.sources.mapping import DatasetMapping, MappingError
from gateway.sources.values import Storage


@dataclass(frozen=True)
class MappedColumn:
    """One field and the column behind it."""

    field: str
    column: sa.Column[Any]
    type: FieldType
    storage: Storage


@dataclass(frozen=True)
class Layout:
    """Everything that is ever named in a statement on this dataset."""

    table: sa.Table
    columns: Mapping[str, MappedColumn]
    """By field."""
    key: tuple[sa.Column[Any], ...]
    """Unique together and never null."""
    lookup: frozenset[str]
    nulls: frozenset[str]


_STORAGE_BY_TYPE: Final[tuple[tuple[type[TypeEngine[Any]], Storage, FieldType], ...]] = (
    # The first that fits counts: an Enum is a String.
    (sa.Enum, Storage.LABEL, FieldType.STRING),
    (sa.String, Storage.TEXT, FieldType.STRING),
    (sa.Boolean, Storage.BOOLEAN, FieldType.BOOLEAN),
    (sa.Integer, Storage.INTEGER, FieldType.INTEGER),
    (sa.Numeric, Storage.NUMBER, FieldType.NUMBER),
    (sa.Float, Storage.NUMBER, FieldType.NUMBER),
    (sa.Date, Storage.DATE, FieldType.DATE),
    (sa.DateTime, Storage.MOMENT, FieldType.STRING),
    (sa.Time, Storage.MOMENT, FieldType.STRING),
    (sa.Uuid, Storage.UUID, FieldType.STRING),
)

SQLITE_STORAGE: Final = {
    FieldType.STRING: Storage.TEXT,
    FieldType.INTEGER: Storage.INTEGER,
    FieldType.NUMBER: Storage.NUMBER,
    FieldType.BOOLEAN: Storage.BOOLEAN,
    FieldType.DATE: Storage.TEXT,
}
"""SQLite's columns hold anything, so the field's type decides; dates are texts there."""

_NO_LOOKUP: Final = frozenset({Storage.MOMENT, Storage.NUMBER})
_NO_KEY: Final = frozenset({Storage.NUMBER, Storage.BOOLEAN})


def reflect_layout(connection: Connection, dataset: DatasetMapping) -> Layout:
    """Return the layout of `dataset`'s table; raise `MappingError` if mapping and table do not fit."""
    inspector = sa.inspect(connection)
    schema = dataset.schema or None
    if not inspector.has_table(dataset.table, schema=schema):
        raise MappingError(f"There is no table or view {dataset.table!r} that this user may see.")
    with warnings.catch_warnings():
        # Types that SQLAlchemy does not know matter only if they are mapped; `_storage` says so.
        warnings.simplefilter("ignore", SAWarning)
        found = {column["name"]: column for column in inspector.get_columns(dataset.table, schema=schema)}
    missing = [column for column in dataset.columns.values() if column not in found]
    if missing:
        raise MappingError(
            f"Table {dataset.table!r} has no column {', '.join(map(repr, missing))}; correct the mapping."
        )
    # NullType: values come as the driver gives them, so that one odd value cannot raise inside SQLAlchemy.
    columns = {name: sa.Column(name, NullType()) for name in dict.fromkeys(dataset.columns.values())}
    table = sa.Table(dataset.table, sa.MetaData(), *columns.values(), schema=schema)
    mapped = {
        field: _map_column(field, columns[name], found[name]["type"], dataset, connection.dialect.name)
        for field, name in dataset.columns.items()
    }
    _check_storage(mapped, dataset)
    return Layout(
        table=table,
        columns=mapped,
        key=tuple(mapped[field].column for field in dataset.key),
        lookup=frozenset(dataset.lookup),
        nulls=frozenset(dataset.null_values),
    )


def verify_key(connection: Connection, layout: Layout) -> None:
    """Raise `MappingError` unless the key is unique and never null: else pages would miss records.

    Constraints of the table prove it where there are any; otherwise the records are looked at.
    """
    has_null = sa.select(sa.literal(1)).where(sa.or_(*(column.is_(None) for column in layout.key))).limit(1)
    if connection.execute(has_null).first() is not None:
        raise MappingError("A column of the key holds nulls; choose a key that every record has.")
    if _is_constrained(connection, layout):
        return
    twice = sa.select(sa.literal(1)).select_from(layout.table)
    twice = twice.group_by(*layout.key).having(sa.func.count() > 1).limit(1)
    if connection.execute(twice).first() is not None:
        raise MappingError("The key is not unique; add a field that tells its records apart.")


def lookups_without_index(connection: Connection, dataset: DatasetMapping) -> tuple[str, ...]:
    """Return the look-up fields whose column leads no index: finding by them reads the whole table."""
    leading = {
        columns[0] for columns in _indexes(connection, dataset.table, dataset.schema or None) if columns
    }
    return tuple(field for field in dataset.lookup if dataset.columns[field] not in leading)


def _map_column(
    field: str, column: sa.Column[Any], found: TypeEngine[Any], dataset: DatasetMapping, dialect: str
) -> MappedColumn:
    if isinstance(found, postgresql.DOMAIN):
        found = found.data_type
    declared = dataset.types.get(field)
    known = next((entry for entry in _STORAGE_BY_TYPE if isinstance(found, entry[0])), None)
    if dialect == "sqlite":
        # Any column may hold anything there, and SQLite converts what it is compared with.
        kind = declared or (known[2] if known else FieldType.STRING)
        return MappedColumn(field, column, kind, SQLITE_STORAGE[kind])
    if known is None:
        raise MappingError(
            f"The column of field {field} is of type {type(found).__name__}, which has no plain value; "
            "map a view that casts it to text."
        )
    return MappedColumn(field, column, declared or known[2], known[1])


def _check_storage(columns: Mapping[str, MappedColumn], dataset: DatasetMapping) -> None:
    for role, fields, excluded in (("lookup", dataset.lookup, _NO_LOOKUP), ("key", dataset.key, _NO_KEY)):
        for field in fields:
            if columns[field].storage in excluded:
                raise MappingError(
                    f"Field {field} cannot stand in {role}: a column of kind {columns[field].storage} "
                    "does not compare exactly."
                )


def _is_constrained(connection: Connection, layout: Layout) -> bool:
    key = {column.name for column in layout.key}
    inspector = sa.inspect(connection)
    name, schema = layout.table.name, layout.table.schema
    unique = [inspector.get_pk_constraint(name, schema=schema)["constrained_columns"]]
    unique += [entry["column_names"] for entry in inspector.get_unique_constraints(name, schema=schema)]
    unique += [
        [column or "" for column in entry["column_names"]]
        for entry in inspector.get_indexes(name, schema=schema)
        if entry["unique"] and not _is_partial(entry)
    ]
    return any(columns and key.issuperset(columns) for columns in unique)


def _is_partial(index: Any) -> bool:
    return any(option.endswith("_where") for option in index.get("dialect_options", {}))


def _indexes(connection: Connection, table: str, schema: str | None) -> list[list[str]]:
    inspector = sa.inspect(connection)
    found = [inspector.get_pk_constraint(table, schema=schema)["constrained_columns"]]
    found += [entry["column_names"] for entry in inspector.get_unique_constraints(table, schema=schema)]
    found += [
        [column or "" for column in entry["column_names"]]
        for entry in inspector.get_indexes(table, schema=schema)
    ]
    return found
