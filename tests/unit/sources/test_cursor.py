import uuid
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Reason
from gateway.sources.cursor import CursorError, CursorSeal, KeyValueError, cursor_scope

SCOPE = cursor_scope("companies", "uscc", ("b", "a"), {"x": "y"})
SECRET = bytes(range(32))

_KEY = st.lists(
    st.text(st.characters(codec="utf-8"), max_size=40)
    | st.integers()
    | st.dates()
    | st.datetimes()
    | st.datetimes(timezones=st.just(UTC))
    | st.uuids()
    | st.decimals(allow_nan=False, allow_infinity=False),
    min_size=1,
    max_size=4,
)


@given(key=_KEY)
def test_a_cursor_gives_back_the_key_with_its_types(key):
    seal = CursorSeal(SECRET)
    found = seal.open(seal.seal(key, SCOPE), SCOPE)
    assert list(found) == key
    assert [type(value) for value in found] == [type(value) for value in key]


def test_a_cursor_outlives_the_process_where_the_secret_does():
    cursor = CursorSeal(SECRET).seal(["k"], SCOPE)
    assert CursorSeal(SECRET).open(cursor, SCOPE) == ("k",)
    for other in (CursorSeal(), CursorSeal(b"x" * 32)):
        with pytest.raises(CursorError):
            other.open(cursor, SCOPE)


@given(position=st.integers(0, 60), bit=st.integers(0, 7), cut=st.integers(1, 60))
def test_a_cursor_that_was_touched_does_not_open(position, bit, cut):
    seal = CursorSeal(SECRET)
    cursor = seal.seal(["some key", 7], SCOPE)
    touched = bytearray(cursor)
    touched[position % len(cursor)] ^= 1 << bit
    for bad in (bytes(touched), cursor[:-cut], cursor + b"x", b""):
        with pytest.raises(CursorError) as caught:
            seal.open(bad, SCOPE)
        assert caught.value.reason is Reason.PAGE_TOKEN_INVALID


@given(st.binary(max_size=200))
def test_any_bytes_are_no_cursor(noise):
    for bad in (noise, b"\x01" + noise, b"\x01" * 9000):
        with pytest.raises(CursorError):
            CursorSeal(SECRET).open(bad, SCOPE)


def test_the_scope_is_the_choice_of_records_and_nothing_else():
    assert cursor_scope("companies", "uscc", ("a", "b", "a"), {"x": "y"}) == SCOPE
    others = [
        cursor_scope("branches", "uscc", ("a", "b"), {"x": "y"}),
        cursor_scope("companies", "name", ("a", "b"), {"x": "y"}),
        cursor_scope("companies", "uscc", ("a",), {"x": "y"}),
        cursor_scope("companies", "uscc", ("a", "b"), {"x": "z"}),
        cursor_scope("companies", "uscc", ("a", "b"), {}),
    ]
    assert len({SCOPE, *others}) == 6
    cursor = CursorSeal(SECRET).seal([1], SCOPE)
    for other in others:
        with pytest.raises(CursorError):
            CursorSeal(SECRET).open(cursor, other)


@pytest.mark.parametrize("value", [1.5, None, True, b"x", "x" * 9000])
def test_a_key_value_without_exact_text_makes_no_cursor(value):
    with pytest.raises(KeyValueError):
        CursorSeal(SECRET).seal([value], SCOPE)


def test_keys_of_each_kind_are_told_apart():
    key = ["1", 1, date(2001, 1, 1), datetime(2001, 1, 1, tzinfo=UTC), uuid.UUID(int=1), Decimal("1.0")]
    found = CursorSeal(SECRET).open(CursorSeal(SECRET).seal(key, SCOPE), SCOPE)
    assert [str(value) for value in found] == [str(value) for value in key]


def test_a_short_secret_is_refused():
    with pytest.raises(ValueError, match="32 bytes"):
        CursorSeal(b"short")
