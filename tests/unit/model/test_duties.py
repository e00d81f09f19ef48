"""Duties are read strictly: what is not exactly one is refused, never guessed at."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model import DUTY_NAMES, NO_DUTIES, Duties, read_duties
from gateway.model.duties import DELIVERIES_WITHHELD, MAX_COHORT

WHOLE = {
    "smallest_cohort": {"records": 5},
    "round_counts": {"to": 10},
    "limit_records": {"records": 100},
    "limit_volume": {"records": 1000, "per": "day"},
    "delay": {"seconds": 60},
    "notify_subject": {"within_days": 30},
    "acknowledge": {"within_hours": 24},
    "one_bit": {},
    "retention": {"field": "registered_on", "years": 5},
}


def test_every_duty_is_read():
    duties = read_duties(WHOLE)
    assert set(WHOLE) == set(DUTY_NAMES) == set(Duties.__struct_fields__)
    assert all(getattr(duties, name) is not None for name in DUTY_NAMES)
    assert set(DUTY_NAMES) >= DELIVERIES_WITHHELD


def test_no_duties_are_none():
    assert read_duties({}) is NO_DUTIES


@pytest.mark.parametrize("name", DUTY_NAMES)
def test_a_parameter_too_many_too_few_or_of_another_type_is_refused(name):
    right = WHOLE[name]
    wrong = [{**right, "more": 1}, None, [], "x", 1]
    for parameter in right:
        if parameter != "per":
            wrong.append({key: value for key, value in right.items() if key != parameter})
        wrong += [{**right, parameter: value} for value in (None, True, 1.5, "", -1, 0, 10**10, [1])]
    for parameters in wrong:
        with pytest.raises(ValueError, match=name):
            read_duties({name: parameters})


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("limit_volume", {"records": 1, "per": "year"}),
        ("smallest_cohort", {"records": MAX_COHORT + 1}),
        ("acknowledge", {"within_hours": 169}),
    ],
)
def test_what_cannot_be_fulfilled_is_refused(name, parameters):
    with pytest.raises(ValueError, match=name):
        read_duties({name: parameters})


@given(st.dictionaries(st.text(), st.dictionaries(st.text(), st.text() | st.integers()), min_size=1))
def test_nothing_unknown_is_read_and_nothing_else_is_raised(given_duties):
    if set(given_duties) <= set(DUTY_NAMES):
        return
    with pytest.raises(ValueError, match="no duty of this name"):
        read_duties({name: parameters for name, parameters in given_duties.items() if name not in DUTY_NAMES})
