"""Records out of one table: bound parameters, declared columns, pages by key."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from gateway.errors import Reason
from gateway.model import FieldType
from gateway.sources.cursor import CursorError, CursorSeal, KeyValueError, cursor_scope
from gateway.sources.database import Database
from gateway.sources.layout import Layout
from gateway.sources.source import EMPTY_PAGE, MAX_PAGE_SIZE, FetchRequest, SourceError, SourcePage
from gateway.sources.values import (
    RecordEncoder,
    Storage,
    WrongTypeError,
    convert_column,
    is_encodable,
    lookup_value,
)


class _Shape(NamedTuple):
    """What two requests share when they differ only in values: they share one statement."""

    fields: tuple[str, ...]
    subject_field: str
    filter_fields: tuple[str, ...]
    after: bool
    limited: bool


class _Selection(NamedTuple):
    """One statement and where in its rows things stand."""

    statement: sa.Select[Any]
    fields: tuple[tuple[str, FieldType, int], ...]
    """Field, type and position, in the order wanted."""
    key: tuple[int, ...]
    """Positions of the key."""
    encoder: RecordEncoder


class _Plan(NamedTuple):
    """A request, checked, with its parameters."""

    request: FetchRequest
    selection: _Selection
    parameters: dict[str, Any]
    scope: bytes
    timeout_s: float


class SqlSource:
    """One dataset behind a `Database`. Implements `RecordSource`."""

    def __init__(
        self, dataset: str, database: Database, layout: Layout, *, seal: CursorSeal, timeout_s: float
    ) -> None:
        self._dataset = dataset
        self._database = database
        self._layout = layout
        self._seal = seal
        self._timeout_s = timeout_s
        self._selection = lru_cache(maxsize=256)(self._build_selection)

    @property
    def fields(self) -> Mapping[str, FieldType]:
        """The mapped fields with their types."""
        return {field: column.type for field, column in self._layout.columns.items()}

    def fetch(self, request: FetchRequest) -> SourcePage:
        """Return one page, as `RecordSource.fetch` says."""
        plan = self._plan(request, limited=True)
        if plan is None:
            return EMPTY_PAGE
        rows = self._database.rows(plan.selection.statement, plan.parameters, plan.timeout_s)
        page = next(self._pages(rows[: request.page_size], plan), EMPTY_PAGE)
        return page if page.count < len(rows) else msgspec.structs.replace(page, next_cursor=None)

    def stream(self, request: FetchRequest) -> Generator[SourcePage, None, None]:
        """Return all pages, as `RecordSource.stream` says."""
        plan = self._plan(request, limited=False)
        last = EMPTY_PAGE
        if plan is not None:
            batches = self._database.batches(
                plan.selection.statement, plan.parameters, request.page_size, plan.timeout_s
            )
            with closing(batches):
                for rows in batches:
                    for page in self._pages(rows, plan):
                        # One page is held back, because only its successor shows that it is not the last.
                        if last.count:
                            yield last
                        last = page
        yield msgspec.structs.replace(last, next_cursor=None)

    def count_records(self) -> int:
        """Return how many records there are; raises `SourceError`."""
        statement = sa.select(sa.func.count()).select_from(self._layout.table)
        return int(self._database.rows(statement, {}, self._timeout_s)[0][0])

    def close(self) -> None:
        """Close the connections; a file's records are gone with them."""
        self._database.close()

    def _plan(self, request: FetchRequest, *, limited: bool) -> _Plan | None:
        """Check the request and bind its values; None if no record can match."""
        self._check(request)
        conditions = [(field, self._bind(field, text)) for field, text in sorted(request.filters.items())]
        texts = sorted(set(filter(is_encodable, request.subject_values)))
        subjects = [self._bind(request.subject_field, text) for text in texts]
        subjects = [value for value in subjects if value is not None]
        if any(value is None for _, value in conditions) or (request.subject_field and not subjects):
            return None
        parameters: dict[str, Any] = {}
        subject_field = request.subject_field
        if len(subjects) == 1:
            # `=` instead of `IN`: the common case, and SQLAlchemy need not expand the statement.
            conditions.append((subject_field, subjects[0]))
            subject_field = ""
        elif subjects:
            parameters["subjects"] = subjects
        parameters |= {f"filter_{index}": value for index, (_, value) in enumerate(conditions)}
        scope = cursor_scope(self._dataset, request.subject_field, texts, request.filters)
        if request.cursor is not None:
            parameters |= self._position(request.cursor, scope)
        if limited:
            parameters["page_size"] = request.page_size + 1
        shape = _Shape(
            fields=request.fields,
            subject_field=subject_field,
            filter_fields=tuple(field for field, _ in conditions),
            after=request.cursor is not None,
            limited=limited,
        )
        timeout_s = min(self._timeout_s, request.timeout_s or self._timeout_s)
        return _Plan(request, self._selection(shape), parameters, scope, timeout_s)

    def _check(self, request: FetchRequest) -> None:
        if not request.fields or len(set(request.fields)) != len(request.fields):
            raise _refused("A request names each field it wants once, and at least one.")
        if any(field not in self._layout.columns for field in request.fields):
            raise _refused("A field is not mapped for this dataset.")
        if bool(request.subject_field) != bool(request.subject_values):
            raise _refused("A request names a subject field and its values, or neither.")
        conditions = [*request.filters, *([request.subject_field] if request.subject_field else [])]
        if any(field not in self._layout.lookup for field in conditions):
            raise _refused("A field is not among the dataset's look-ups.")
        if not 1 <= request.page_size <= MAX_PAGE_SIZE or request.page_bytes < 1:
            raise _refused(f"A page has 1 to {MAX_PAGE_SIZE} records and room for some bytes.")
        if request.timeout_s is not None and request.timeout_s <= 0:
            raise SourceError("There is no time left for this request.", reason=Reason.PROVIDER_TIMEOUT)

    def _bind(self, field: str, text: str) -> Any | None:
        # A text that means "no value" is no value to be found by.
        if text in self._layout.nulls:
            return None
        return lookup_value(text, self._layout.columns[field].storage)

    def _position(self, cursor: bytes, scope: bytes) -> dict[str, Any]:
        values = self._seal.open(cursor, scope)
        if len(values) != len(self._layout.key):
            raise CursorError("The cursor is older than the dataset's mapping; start again without one.")
        return {f"after_{index}": value for index, value in enumerate(values)}

    def _build_selection(self, shape: _Shape) -> _Selection:
        layout = self._layout
        wanted = [layout.columns[field] for field in shape.fields]
        # Two fields may share one column, and the key may be among them: each is selected once.
        columns = {column.name: column for column in (*(mapped.column for mapped in wanted), *layout.key)}
        position = {name: index for index, name in enumerate(columns)}
        statement = sa.select(*columns.values()).order_by(*layout.key)
        if shape.subject_field:
            subject = self._comparable(shape.subject_field)
            statement = statement.where(subject.in_(sa.bindparam("subjects", expanding=True)))
        for index, field in enumerate(shape.filter_fields):
            statement = statement.where(self._comparable(field) == sa.bindparam(f"filter_{index}"))
        if shape.after:
            statement = statement.where(_after(layout.key))
        if shape.limited:
            statement = statement.limit(sa.bindparam("page_size", type_=sa.Integer))
        return _Selection(
            statement=statement,
            fields=tuple((mapped.field, mapped.type, position[mapped.column.name]) for mapped in wanted),
            key=tuple(position[column.name] for column in layout.key),
            encoder=RecordEncoder(shape.fields),
        )

    def _comparable(self, field: str) -> sa.ColumnElement[Any]:
        mapped = self._layout.columns[field]
        return sa.cast(mapped.column, sa.String) if mapped.storage is Storage.LABEL else mapped.column

    def _pages(self, rows: Sequence[Sequence[Any]], plan: _Plan) -> Iterator[SourcePage]:
        """Yield `rows` as pages of at most `page_bytes`, each with the cursor after it."""
        if not rows:
            return
        records = self._encode(rows, plan.selection)
        done, start = 0, 0
        while start < len(records):
            end = records.rfind(b"\n", start, start + plan.request.page_bytes) + 1
            if not end:
                end = records.index(b"\n", start) + 1
            count = records.count(b"\n", start, end)
            done += count
            cursor = self._cursor_after(rows[done - 1], plan)
            yield SourcePage(records=records[start:end], count=count, next_cursor=cursor)
            start = end

    def _encode(self, rows: Sequence[Sequence[Any]], selection: _Selection) -> bytes:
        columns = list(zip(*rows, strict=True))
        converted = []
        for field, kind, position in selection.fields:
            try:
                converted.append(convert_column(columns[position], kind, self._layout.nulls))
            except WrongTypeError:
                raise SourceError(
                    f"Field {field} holds a value that is no {kind}; the provider must correct the data, or "
                    "types or null_values in the mapping.",
                    reason=Reason.PROVIDER_SCHEMA,
                    field=field,
                ) from None
        return selection.encoder.encode(converted)

    def _cursor_after(self, row: Sequence[Any], plan: _Plan) -> bytes:
        try:
            return self._seal.seal([row[position] for position in plan.selection.key], plan.scope)
        except KeyValueError as error:
            raise SourceError(
                "A value of the key is too long or not exact; the provider must choose another key.",
                reason=Reason.PROVIDER_SCHEMA,
            ) from error


def _after(key: Sequence[sa.Column[Any]]) -> sa.ColumnElement[bool]:
    """Return the condition "comes after the values after_0, after_1 …" in the order of `key`.

    `a >= x AND (a > x OR (a = x AND b > y))`: every dialect understands it, and the first half lets
    an index start at the right place.
    """
    first, *rest = key
    return _after_from(first, rest, 0)


def _after_from(first: sa.Column[Any], rest: Sequence[sa.Column[Any]], index: int) -> sa.ColumnElement[bool]:
    value: sa.BindParameter[Any] = sa.bindparam(f"after_{index}")
    if not rest:
        return first > value
    tail = _after_from(rest[0], rest[1:], index + 1)
    return sa.and_(first >= value, sa.or_(first > value, sa.and_(first == value, tail)))


def _refused(message: str) -> SourceError:
    return SourceError(message, reason=Reason.PROVIDER_REFUSED)
