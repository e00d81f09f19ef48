import uuid
from datetime import UTC, date, datetime
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model import FieldType
from gateway.sources.values import (
    RecordEncoder,
    Storage,
    WrongTypeError,
    convert_column,
    convert_value,
    lookup_value,
)

NONE = frozenset()
DAY = date(2001, 7, 11)


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ("x", "string", "x"),
        (7, "string", "7"),
        (True, "string", "true"),
        (Decimal("1E+3"), "string", "1000"),
        (1.5, "string", "1.5"),
        (DAY, "string", "2001-07-11"),
        (datetime.fromisoformat("2001-07-11T01:02"), "string", "2001-07-11T01:02:00"),
        (uuid.UUID(int=1), "string", "00000000-0000-0000-0000-000000000001"),
        (7, "integer", 7),
        ("-7", "integer", -7),
        (Decimal("7.00"), "integer", 7),
        (7.0, "integer", 7),
        (7, "number", 7),
        ("7", "number", 7),
        ("-1.5e3", "number", -1500.0),
        (Decimal("0.10"), "number", Decimal("0.10")),
        (False, "boolean", False),
        (1, "boolean", True),
        ("TRUE", "boolean", True),
        ("0", "boolean", False),
        (DAY, "date", DAY),
        (datetime.fromisoformat("2001-07-11"), "date", DAY),
        ("2001-07-11", "date", DAY),
        (None, "date", None),
    ],
)
def test_values_become_their_fields_type(value, kind, expected):
    found = convert_value(value, FieldType(kind), NONE)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (b"x", "string"),
        ([1], "string"),
        ({"a": 1}, "string"),
        (float("nan"), "string"),
        (Decimal("NaN"), "string"),
        (True, "integer"),
        (1.5, "integer"),
        (float("nan"), "integer"),
        (float("inf"), "integer"),
        (Decimal("Infinity"), "integer"),
        (Decimal("sNaN"), "integer"),
        (Decimal("1e999999"), "integer"),
        ("1.0", "integer"),
        ("\u0661", "integer"),
        ("", "integer"),
        ("7\n", "integer"),
        (2**53, "integer"),
        (-(2**53), "integer"),
        (True, "number"),
        (float("inf"), "number"),
        (Decimal("NaN"), "number"),
        (Decimal("sNaN"), "number"),
        (Decimal("1e999"), "number"),
        ("1e999", "number"),
        ("0x10", "number"),
        (".5", "number"),
        (2**60, "number"),
        (2, "boolean"),
        ("yes", "boolean"),
        (1.0, "boolean"),
        (datetime.fromisoformat("2001-07-11T01:00"), "date"),
        (datetime(2001, 7, 11, tzinfo=UTC), "date"),
        ("20010711", "date"),
        ("2001-W28-3", "date"),
        ("2001-02-30", "date"),
        (20010711, "date"),
    ],
)
def test_values_that_are_not_of_their_fields_type_are_refused(value, kind):
    with pytest.raises(WrongTypeError):
        convert_value(value, FieldType(kind), NONE)


def test_null_texts_are_null_in_a_column_of_any_type():
    nulls = frozenset({"N/A", ""})
    assert list(convert_column(["x", "N/A", None, ""], FieldType.STRING, nulls)) == ["x", None, None, None]
    assert list(convert_column([1, "N/A", None], FieldType.INTEGER, nulls)) == [1, None, None]
    assert list(convert_column(["N/A"], FieldType.DATE, nulls)) == [None]
    with pytest.raises(WrongTypeError):
        convert_column([[1], "N/A"], FieldType.STRING, nulls)


_ANYTHING = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.decimals()
    | st.dates()
    | st.datetimes()
    | st.times()
    | st.uuids()
    | st.binary()
    | st.text(st.characters(codec="utf-8"))
)


def _is_convertible(value, kind) -> bool:
    try:
        convert_value(value, kind, NONE)
    except WrongTypeError:
        return False
    return True


@given(values=st.lists(_ANYTHING, min_size=1, max_size=6), kind=st.sampled_from(FieldType))
def test_a_column_is_refused_or_comes_out_as_json_of_its_type(values, kind):
    try:
        converted = convert_column(values, kind, NONE)
    except WrongTypeError:
        # What refuses a column refuses one of its values alone.
        assert not all(_is_convertible(value, kind) for value in values)
        return
    expected = {
        FieldType.STRING: str,
        FieldType.INTEGER: int,
        FieldType.NUMBER: int | float,
        FieldType.BOOLEAN: bool,
        FieldType.DATE: date,
    }[kind]
    lines = RecordEncoder(("a",)).encode([converted]).splitlines()
    found = [msgspec.json.decode(line, type=dict[str, expected | None])["a"] for line in lines]
    assert [value is None for value in found] == [value is None for value in values]


@pytest.mark.parametrize(
    ("text", "storage", "expected"),
    [
        ("x", Storage.TEXT, "x"),
        ("", Storage.TEXT, ""),
        ("x", Storage.LABEL, "x"),
        ("7", Storage.INTEGER, 7),
        ("-7", Storage.INTEGER, -7),
        ("true", Storage.BOOLEAN, True),
        ("false", Storage.BOOLEAN, False),
        ("2001-07-11", Storage.DATE, DAY),
        ("00000000-0000-0000-0000-000000000001", Storage.UUID, uuid.UUID(int=1)),
    ],
)
def test_a_lookup_compares_with_what_the_column_holds(text, storage, expected):
    assert lookup_value(text, storage) == expected


@pytest.mark.parametrize(
    ("text", "storage"),
    [
        ("a\0", Storage.TEXT),
        ("\ud800", Storage.TEXT),
        ("007", Storage.INTEGER),
        ("+7", Storage.INTEGER),
        ("-0", Storage.INTEGER),
        ("9" * 30, Storage.INTEGER),
        ("7 OR 1=1", Storage.INTEGER),
        ("TRUE", Storage.BOOLEAN),
        ("1", Storage.BOOLEAN),
        ("20010711", Storage.DATE),
        ("x", Storage.UUID),
        ("{00000000-0000-0000-0000-000000000001}", Storage.UUID),
    ],
)
def test_a_text_that_the_column_cannot_hold_finds_nothing(text, storage):
    assert lookup_value(text, storage) is None


def test_records_are_lines_with_the_fields_in_order():
    encoder = RecordEncoder(("b", "class", "a.x-1"))
    assert encoder.encode([["x\n", None], [True, False], [Decimal("1.10"), DAY]]) == (
        b'{"b":"x\\n","class":true,"a.x-1":1.10}\n{"b":null,"class":false,"a.x-1":"2001-07-11"}\n'
    )
