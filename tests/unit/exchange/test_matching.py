"""A match is yes when one record has all the stated values, however people write them."""

from datetime import date

import pytest

from gateway.exchange.matching import is_match

USCC = "91350100M000100Y43"
RECORD = {
    "uscc": USCC,
    "title": "Harbour  Bank Ltd",
    "capital": 1000,
    "open": True,
    "founded": date(2001, 7, 11),
    "area": None,
}


@pytest.mark.parametrize(
    ("wanted", "matched"),
    [
        ({"uscc": USCC}, True),
        ({"title": "HARBOUR BANK LTD"}, True),
        ({"title": "\uff28arbour Bank Ltd"}, True),
        ({"title": "Harbour Bank"}, False),
        ({"capital": "1000"}, True),
        ({"capital": "1000.0"}, False),
        ({"open": "true"}, True),
        ({"open": "1"}, False),
        ({"founded": "2001-07-11"}, True),
        ({"founded": "2001"}, False),
        ({"area": ""}, False),
        ({"area": "None"}, False),
        ({"uscc": USCC, "title": "somebody else"}, False),
        ({"uscc": USCC, "capital": "1000", "open": "true"}, True),
    ],
)
def test_all_values_must_be_those_of_the_record(dataset, wanted, matched):
    assert is_match(dataset, [RECORD], wanted) is matched


def test_without_a_record_nothing_matches(dataset):
    assert is_match(dataset, [], {"uscc": USCC}) is False


def test_the_values_must_be_of_one_and_the_same_record(dataset):
    other = {**RECORD, "title": "Other", "capital": 5}
    assert is_match(dataset, [RECORD, other], {"title": "other", "capital": "5"})
    assert not is_match(dataset, [RECORD, other], {"title": "other", "capital": "1000"})


def test_an_identifier_is_compared_in_its_one_spelling_and_not_at_all_when_invalid(dataset):
    assert is_match(dataset, [{**RECORD, "uscc": f" {USCC.lower()} "}], {"uscc": USCC})
    assert not is_match(dataset, [{**RECORD, "uscc": "91350100M000100Y44"}], {"uscc": "91350100M000100Y44"})
