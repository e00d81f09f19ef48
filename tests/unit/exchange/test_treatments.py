"""What becomes of values, a column at a time; null stays null everywhere."""

from datetime import date

import pytest

from gateway.errors import Reason
from gateway.exchange.treatments import ObligationError, generalisation, masking


@pytest.mark.parametrize(
    ("method", "values", "treated"),
    [
        ("year", [date(2001, 7, 11), None, date(987, 1, 1)], ["2001", None, "0987"]),
        ("month", [date(2001, 7, 11), None], ["2001-07", None]),
        ("province", ["110101", None, "440305"], ["110000", None, "440000"]),
        ("band:1000", [0, 999, 1000, None], ["0-999", "0-999", "1000-1999", None]),
        ("band:7", [-1, -7, -8, 13], ["-7--1", "-7--1", "-14--8", "7-13"]),
        ("band:1", [5], ["5-5"]),
    ],
)
def test_a_value_is_generalised(method, values, treated):
    assert generalisation(method)(values) == treated


@pytest.mark.parametrize(
    "method",
    ["", "decade", "band", "band:", "band:0", "band:-1", "band:x", "band:1.5", "Year", "band:\u0665x"],
)
def test_a_generalisation_that_nobody_knows_is_denied(method):
    with pytest.raises(ObligationError) as raised:
        generalisation(method)
    assert raised.value.reason is Reason.OBLIGATION_UNSUPPORTED


@pytest.mark.parametrize(
    ("first", "last", "value", "masked"),
    [
        (0, 0, "secret", "******"),
        (2, 0, "secret", "se****"),
        (0, 2, "secret", "****et"),
        (1, 2, "secret", "s***et"),
        (2, 2, "secret", "******"),
        (3, 0, "sec", "***"),
        (1, 1, "", ""),
        (1, 0, None, None),
        (1, 1, "名字很长的人", "名****人"),
    ],
)
def test_a_mask_hides_at_least_half(first, last, value, masked):
    assert masking(first, last)([value]) == [masked]


@pytest.mark.parametrize(("first", "last"), [(-1, 0), (0, -1)])
def test_a_mask_of_negative_length_is_denied(first, last):
    with pytest.raises(ObligationError):
        masking(first, last)
