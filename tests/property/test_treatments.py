"""A treatment never reveals more than its parameters say, whatever the values are."""

from __future__ import annotations

import re
from datetime import date

from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.errors import Reason
from gateway.exchange.treatments import ObligationError, generalisation, masking
from gateway.identifiers import load_area_table

load_area_table()

# Every character there is, of any plane, lone surrogates, line breaks and marks that combine.
hostile = st.text(st.characters(exclude_categories=())) | st.text("*-0aé\u0301\u200d\U0001f468", max_size=30)
widths = st.integers(1, 10**6)
ends = st.integers(0, 12)


def mask_method(first: int, last: int) -> str:
    parts = [f"first:{first}"] * bool(first) + [f"last:{last}"] * bool(last)
    return ",".join(parts) or "all"


@given(st.lists(hostile | st.none(), max_size=5), ends, ends)
def test_a_mask_shows_the_ends_and_the_length_and_nothing_else(values, first, last) -> None:
    """Two texts of one length with the same ends are the same behind the mask."""
    masked = masking(mask_method(first, last))(values)
    assert len(masked) == len(values)
    for value, shown in zip(values, masked, strict=True):
        if value is None:
            assert shown is None
            continue
        hidden = len(value) - first - last
        if first + last == 0 or hidden < first + last:
            assert shown == "*" * len(value)
        else:
            assert shown == value[:first] + "*" * hidden + value[len(value) - last :]
            other = value[:first] + "x" * hidden + value[len(value) - last :]
            assert masking(mask_method(first, last))([other]) == [shown]


@given(st.lists(st.integers() | st.none(), max_size=6), widths)
def test_a_band_shows_nothing_but_the_band(values, width) -> None:
    labels = generalisation(f"band:{width}")(values)
    for value, label in zip(values, labels, strict=True):
        if value is None:
            assert label is None
            continue
        low, high = map(int, re.fullmatch(r"(-?\d+)-(-?\d+)", label).groups())
        assert low <= value <= high
        assert (low % width, high - low) == (0, width - 1)
        everybody = generalisation(f"band:{width}")([low, high])
        assert everybody == [label, label]


@given(st.lists(st.floats() | st.none(), max_size=6), widths)
def test_a_band_of_a_fraction_shows_nothing_but_the_band(values, width) -> None:
    labels = generalisation(f"band:{width}")(values)
    for value, label in zip(values, labels, strict=True):
        if value is None or value in (float("inf"), float("-inf")) or value != value:  # noqa: PLR0124 - NaN
            assert label is None
            continue
        low, high = map(int, re.fullmatch(r"(-?\d+)-<(-?\d+)", label).groups())
        assert low <= value < high
        assert (low % width, high - low) == (0, width)


@given(st.dates(), st.dates(), st.sampled_from([("year", 1), ("decade", 10)]))
def test_dates_of_one_period_cannot_be_told_apart(one, other, period) -> None:
    method, years = period
    treated = generalisation(method)([one, other])
    assert (treated[0] == treated[1]) == (one.year // years == other.year // years)
    assert f"-{one.month:02d}" not in treated[0]


@given(st.dates(), st.integers(1, 28))
def test_the_month_hides_the_day(day: date, another: int) -> None:
    first, second = generalisation("month")([day, day.replace(day=another)])
    assert first == second


@given(st.sampled_from(["110101", "110105", "440305", "310104"]), st.sampled_from(["110101", "440305"]))
def test_places_of_one_province_cannot_be_told_apart(one: str, other: str) -> None:
    first, second = generalisation("province")([one, other])
    assert (first == second) == (one[:2] == other[:2])
    assert first.endswith("0000")


@given(st.text(max_size=30), st.sampled_from([generalisation, masking]))
def test_a_method_that_is_not_known_is_refused_and_nothing_else_is_raised(method, treatment) -> None:
    known = re.compile(
        r"year|month|decade|province|band:[1-9]\d{0,17}|all|first:[1-9]\d?(,last:[1-9]\d?)?|last:[1-9]\d?",
        re.ASCII,
    )
    assume(known.fullmatch(method) is None)
    try:
        treatment(method)
    except ObligationError as error:
        assert error.reason is Reason.OBLIGATION_UNSUPPORTED  # noqa: PT017 - raised by every method drawn
        assert not method or method not in error.message or len(method) < 3  # noqa: PT017
    else:
        raise AssertionError("an unknown method was taken")


@given(st.sampled_from(["year", "month", "decade", "province", "band:7"]), st.integers(0, 4))
def test_null_stays_null(method: str, count: int) -> None:
    assert generalisation(method)([None] * count) == [None] * count
