"""Of duties that several decisions lay on one answer the strictest of each holds."""

from __future__ import annotations

from gateway.model import NO_DUTIES, read_duties, strictest
from gateway.model.duties import DUTY_NAMES

ONE = {
    "smallest_cohort": {"records": 5},
    "round_counts": {"to": 10},
    "limit_records": {"records": 100},
    "limit_volume": {"records": 1000, "per": "day"},
    "delay": {"seconds": 1},
    "notify_subject": {"within_days": 30},
    "acknowledge": {"within_hours": 48},
}
OTHER = {
    "smallest_cohort": {"records": 9},
    "round_counts": {"to": 5},
    "limit_records": {"records": 200},
    "limit_volume": {"records": 500, "per": "day"},
    "delay": {"seconds": 4},
    "notify_subject": {"within_days": 10},
    "acknowledge": {"within_hours": 72},
    "one_bit": {},
}
BOTH = {
    "smallest_cohort": {"records": 9},
    "round_counts": {"to": 10},
    "limit_records": {"records": 100},
    "limit_volume": {"records": 500, "per": "day"},
    "delay": {"seconds": 4},
    "notify_subject": {"within_days": 10},
    "acknowledge": {"within_hours": 48},
    "one_bit": {},
}


def test_each_duty_is_as_strict_as_its_strictest():
    one, other = read_duties(ONE), read_duties(OTHER)
    assert strictest([one, other]) == strictest([other, one]) == read_duties(BOTH)


def test_a_duty_that_one_alone_lays_down_holds():
    for name, parameters in BOTH.items():
        only = read_duties({name: parameters})
        assert strictest([NO_DUTIES, only]) == only


def test_every_duty_is_joined_but_retention_which_is_of_one_dataset():
    assert {*BOTH} | {"retention"} == {*DUTY_NAMES}
    kept = read_duties({"retention": {"field": "on", "years": 5}})
    assert strictest([kept]) is NO_DUTIES


def test_of_no_duties_there_are_none():
    assert strictest([]) is strictest([NO_DUTIES, NO_DUTIES]) is NO_DUTIES
