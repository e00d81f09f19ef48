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
        (
            "decade",
            [date(2001, 7, 11), date(1999, 12, 31), None, date(9, 1, 1)],
            ["2000s", "1990s", None, "0000s"],
        ),
        ("province", ["110101", None, "440305"], ["110000", None, "440000"]),
        ("band:1000", [0, 999, 1000, None], ["0-999", "0-999", "1000-1999", None]),
        ("band:7", [-1, -7, -8, 13], ["-7--1", "-7--1", "-14--8", "7-13"]),
        ("band:1", [5], ["5-5"]),
        ("band:10", [9.999, 10.0, -0.5, None], ["0-<10", "10-<20", "-10-<0", None]),
        ("band:10", [float("nan"), float("inf"), float("-inf")], [None, None, None]),
    ],
)
def test_a_value_is_generalised(method, values, treated):
    assert generalisation(method)(values) == treated


@pytest.mark.parametrize(
    "method",
    [
        "",
        "century",
        "band",
        "band:",
        "band:0",
        "band:-1",
        "band:x",
        "band:1.5",
        "Year",
        "band:\u0665x",
        "year:2",
        "band:1:2",
        "band:\u0665",
        "band:007",
        "province:",
        "year\n",
        "band:" + "9" * 30,
    ],
)
def test_a_generalisation_that_nobody_knows_is_denied(method):
    with pytest.raises(ObligationError) as raised:
        generalisation(method)
    assert raised.value.reason is Reason.OBLIGATION_UNSUPPORTED


@pytest.mark.parametrize(
    ("method", "value", "masked"),
    [
        ("all", "secret", "******"),
        ("first:2", "secret", "se****"),
        ("last:2", "secret", "****et"),
        ("first:1,last:2", "secret", "s***et"),
        ("first:2,last:2", "secret", "******"),
        ("first:3", "sec", "***"),
        ("first:1,last:1", "", ""),
        ("first:1", None, None),
        ("first:1,last:1", "名字很长的人", "名****人"),
        ("first:99,last:99", "secret", "******"),
    ],
)
def test_a_mask_hides_at_least_half(method, value, masked):
    assert masking(method)([value]) == [masked]


@pytest.mark.parametrize(
    "method",
    [
        "",
        "none",
        "first:0",
        "first:-1",
        "last:",
        "first:1,",
        ",last:1",
        "last:1,first:1",
        "first:1,first:2",
        "first:100",
        "first:\u0661",
        "first: 1",
        "ALL",
        "all\n",
        "first:1last:1",
    ],
)
def test_a_mask_that_nobody_knows_is_denied(method):
    with pytest.raises(ObligationError) as raised:
        masking(method)
    assert raised.value.reason is Reason.OBLIGATION_UNSUPPORTED
