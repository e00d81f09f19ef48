"""Values between a database and JSON: columns become their fields' types, look-up texts what columns hold."""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from enum import StrEnum
from itertools import starmap
from typing import Any, Final

import msgspec

from gateway.model import FieldType

MAX_INTEGER: Final = 2**53 - 1
"""Larger integers lose digits in some readers of JSON (RFC 7493 section 2.2)."""

_INTEGER_TEXT: Final = re.compile(r"-?[0-9]{1,16}")
_NUMBER_TEXT: Final = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?")
_BOOLEAN_TEXT: Final = {"true": True, "1": True, "false": False, "0": False}


class WrongTypeError(ValueError):
    """A value is not of its field's type. Never says which value."""


class Storage(StrEnum):
    """How a column holds its values, which decides what a look-up is compared with."""

    TEXT = "text"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    DATE = "date"
    UUID = "uuid"
    LABEL = "label"
    """An enumeration: compared by the text of its label."""
    MOMENT = "moment"
    """A time stamp: may be a key, never a look-up."""
    NUMBER = "number"
    """Neither key nor look-up: does not compare exactly."""


def convert_column(values: Sequence[Any], kind: FieldType, nulls: frozenset[str]) -> Sequence[Any]:
    """Return the values of one column as JSON-ready values of `kind`, texts in `nulls` as None.

    Works by column, because one look at the set of types present spares a look at every value in
    the common case. Raises `WrongTypeError`.
    """
    present = set(map(type, values))
    if nulls and str in present and not (present <= _TEXT_OR_NULL and nulls.isdisjoint(values)):
        values = [None if type(value) is str and value in nulls else value for value in values]
        present = set(map(type, values))
    present.discard(type(None))
    if not present <= _NATIVE[kind]:
        convert = _CONVERT[kind]
        return [None if value is None else convert(value) for value in values]
    if present and kind in _BOUNDED:
        _check_bounds(values)
    return values


def convert_value(value: Any, kind: FieldType, nulls: frozenset[str]) -> Any:
    """Return one value as `convert_column` does."""
    return convert_column((value,), kind, nulls)[0]


def lookup_value(text: str, storage: Storage) -> Any | None:
    """Return what a column must hold for its JSON value to read `text`; None if it cannot hold that.

    A text that no column can hold (U+0000, lone surrogates, a word where a number stands) finds
    nothing; it is no error, because what the columns are is the holder's affair.
    """
    if "\0" in text or not is_encodable(text):
        return None
    try:
        return _LOOKUP[storage](text)
    except ValueError:
        return None


def is_encodable(text: str) -> bool:
    """Whether `text` has a UTF-8 form (no lone surrogates)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class RecordEncoder:
    """Writes records of some fields as JSON Lines. Safe for several threads."""

    def __init__(self, fields: tuple[str, ...]) -> None:
        # A struct per set of fields encodes some 40 % faster than a dictionary per record.
        names = [f"value_{index}" for index in range(len(fields))]
        self._record = msgspec.defstruct(
            "Record", names, rename=dict(zip(names, fields, strict=True)), gc=False
        )
        self._encoder = msgspec.json.Encoder(decimal_format="number")

    def encode(self, columns: Iterable[Sequence[Any]]) -> bytes:
        """Return one line per record; `columns` in the order of the fields, all of one length."""
        return self._encoder.encode_lines(list(starmap(self._record, zip(*columns, strict=True))))


def _check_bounds(values: Sequence[Any]) -> None:
    try:
        finite = all(
            map(math.isfinite, (value for value in values if type(value) is not int and value is not None))
        )
        largest = max((abs(value) for value in values if type(value) is int), default=0)
    except (OverflowError, ValueError):
        raise WrongTypeError("a number without a JSON form") from None
    if not finite or largest > MAX_INTEGER:
        raise WrongTypeError("a number without a JSON form")


def _to_string(value: Any) -> str:
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int() | uuid.UUID():
            return str(value)
        case float() if math.isfinite(value):
            return repr(value)
        case Decimal() if value.is_finite():
            return format(value, "f")
        case datetime() | date() | time():
            return value.isoformat()
        case _:
            raise WrongTypeError("not a text")


def _to_integer(value: Any) -> int:
    match value:
        case bool():
            raise WrongTypeError("not an integer")
        case int():
            number = value
        case float() if value.is_integer():
            number = int(value)
        case Decimal() if value.is_finite() and abs(value) <= MAX_INTEGER and value == int(value):
            number = int(value)
        case str() if _INTEGER_TEXT.fullmatch(value):
            number = int(value)
        case _:
            raise WrongTypeError("not an integer")
    if abs(number) > MAX_INTEGER:
        raise WrongTypeError("an integer beyond 2^53-1")
    return number


def _to_number(value: Any) -> int | float | Decimal:
    match value:
        case bool():
            raise WrongTypeError("not a number")
        case int() | float() | Decimal():
            number = value
        case str() if _INTEGER_TEXT.fullmatch(value):
            number = int(value)
        case str() if _NUMBER_TEXT.fullmatch(value):
            number = float(value)
        case _:
            raise WrongTypeError("not a number")
    _check_bounds((number,))
    return number


def _to_boolean(value: Any) -> bool:
    match value:
        case bool():
            return value
        case int() if value in {0, 1}:
            return bool(value)
        case str() if value.lower() in _BOOLEAN_TEXT:
            return _BOOLEAN_TEXT[value.lower()]
        case _:
            raise WrongTypeError("not a boolean")


def _to_date(value: Any) -> date:
    match value:
        case datetime() if value.time() == time() and value.tzinfo is None:
            return value.date()
        case datetime():
            raise WrongTypeError("a time, not a date")
        case date():
            return value
        case str():
            try:
                found = date.fromisoformat(value)
            except ValueError:
                raise WrongTypeError("not a date") from None
            # fromisoformat also reads 20010711 and 2001-W28-3.
            if found.isoformat() != value:
                raise WrongTypeError("not a date of the form YYYY-MM-DD")
            return found
        case _:
            raise WrongTypeError("not a date")


def _exact_integer(text: str) -> int:
    if _INTEGER_TEXT.fullmatch(text) is None or str(int(text)) != text:
        raise ValueError("not the text of an integer")
    return int(text)


def _exact_boolean(text: str) -> bool:
    if text not in {"true", "false"}:
        raise ValueError("not the text of a boolean")
    return text == "true"


def _exact_uuid(text: str) -> uuid.UUID:
    found = uuid.UUID(text)
    if str(found) != text:
        raise ValueError("not the text of a UUID")
    return found


_LOOKUP: Final[dict[Storage, Callable[[str], Any]]] = {
    Storage.TEXT: str,
    Storage.LABEL: str,
    Storage.INTEGER: _exact_integer,
    Storage.BOOLEAN: _exact_boolean,
    Storage.DATE: _to_date,
    Storage.UUID: _exact_uuid,
}

_TEXT_OR_NULL: Final = frozenset({str, type(None)})
_NATIVE: Final[dict[FieldType, frozenset[type]]] = {
    FieldType.STRING: frozenset({str}),
    FieldType.INTEGER: frozenset({int}),
    FieldType.NUMBER: frozenset({int, float, Decimal}),
    FieldType.BOOLEAN: frozenset({bool}),
    FieldType.DATE: frozenset({date}),
}
_BOUNDED: Final = frozenset({FieldType.INTEGER, FieldType.NUMBER})
_CONVERT: Final[dict[FieldType, Callable[[Any], Any]]] = {
    FieldType.STRING: _to_string,
    FieldType.INTEGER: _to_integer,
    FieldType.NUMBER: _to_number,
    FieldType.BOOLEAN: _to_boolean,
    FieldType.DATE: _to_date,
}
