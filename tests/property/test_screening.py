"""A record whose time is over, or cannot be told, is never kept; every other is."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.exchange.screening import oldest_retained, read_date

days = st.dates(date(1900, 1, 1), date(2200, 1, 1))


@given(days, days, st.integers(1, 150))
def test_a_record_is_kept_for_its_years_to_the_day(recorded: date, today: date, years: int) -> None:
    """A record of 29 February is kept to the end of 28 February where there is no such day."""
    kept = recorded >= oldest_retained(today, years)
    try:
        last_day = recorded.replace(year=recorded.year + years)
    except ValueError:
        last_day = date(recorded.year + years, 2, 28)
    assert kept == (today <= last_day)


@pytest.mark.parametrize(
    ("today", "oldest"),
    [
        (date(2028, 2, 29), date(2023, 3, 1)),
        (date(2028, 2, 28), date(2023, 2, 28)),
        (date(2026, 11, 22), date(2021, 11, 22)),
    ],
)
def test_the_oldest_day_that_is_kept(today: date, oldest: date) -> None:
    assert oldest_retained(today, 5) == oldest


def test_a_time_longer_than_the_calendar_keeps_everything() -> None:
    assert oldest_retained(date(2026, 11, 22), 9999).year == date.min.year


@given(st.dates())
def test_a_date_is_read_as_it_is_written(day: date) -> None:
    assert read_date(day.isoformat()) == day


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates().map(str),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(anything)
def test_anything_else_is_no_date_and_raises_nothing(value: object) -> None:
    read = read_date(value)
    assert read is None or (isinstance(value, str) and read.isoformat() == value)


@given(days, st.sampled_from(["T00:00:00", "Z", " ", "\n", "+01:00"]))
def test_a_date_with_anything_after_it_is_none(day: date, tail: str) -> None:
    assert read_date(day.isoformat() + tail) is None
    assert read_date((day + timedelta(1)).strftime("%Y%m%d")) is None
