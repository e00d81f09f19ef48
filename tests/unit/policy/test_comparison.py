"""How two decisions differ: allowed, denied, weakened, strengthened."""

from __future__ import annotations

import msgspec
import pytest

from gateway.model import Decision, Obligation, Treatment
from gateway.policy.comparison import ChangeKind, compare

ALLOWED = Decision(
    id="d-1",
    allow=True,
    reasons=(),
    tier="limited",
    obligations={"capital": Obligation(Treatment.GENERALISE, {"method": "band:1000"})},
    rule_ids=("purposes.credit-check", "tiers.limited"),
    valid_until=None,
    bundle_digest="sha256:a",
    engine="test",
)
DENIED = msgspec.structs.replace(
    ALLOWED,
    allow=False,
    tier="",
    obligations={},
    reasons=("PURPOSE_UNKNOWN",),
    rule_ids=("purposes.known",),
)


def but(**changes) -> Decision:
    return msgspec.structs.replace(ALLOWED, **changes)


def kinds(before: Decision, after: Decision) -> list[ChangeKind]:
    return [divergence.kind for divergence in compare(before, after)]


def test_the_same_release_on_other_grounds_is_no_difference():
    other = but(id="d-2", rule_ids=("tiers.limited",), valid_until="2030-01-01T00:00:00Z", engine="other")
    assert compare(ALLOWED, other) == ()
    assert compare(DENIED, msgspec.structs.replace(DENIED, reasons=("TIER_UNKNOWN",))) == ()


def test_the_answer_itself_is_told_with_the_conditions_that_deny():
    [allowed], [denied] = compare(DENIED, ALLOWED), compare(ALLOWED, DENIED)
    assert (allowed.kind, allowed.rules) == (ChangeKind.ALLOWED, ("purposes.known",))
    assert (denied.kind, denied.rules) == (ChangeKind.DENIED, ("purposes.known",))


@pytest.mark.parametrize("weaker", range(len(Treatment)))
@pytest.mark.parametrize("stricter", range(len(Treatment)))
def test_treatments_are_held_against_their_order(weaker, stricter):
    order = list(Treatment)
    before = but(obligations={"capital": Obligation(order[weaker])})
    after = but(obligations={"capital": Obligation(order[stricter])})
    wanted = [] if weaker == stricter else [
        ChangeKind.STRENGTHENED if stricter > weaker else ChangeKind.WEAKENED
    ]  # fmt: skip
    assert kinds(before, after) == wanted


def test_a_field_that_is_not_spoken_of_is_dropped():
    assert kinds(ALLOWED, but(obligations={})) == [ChangeKind.STRENGTHENED]
    assert kinds(but(obligations={}), but(obligations={"capital": Obligation(Treatment.DROP)})) == []


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        ("band:1000", "band:5000", ChangeKind.STRENGTHENED),
        ("band:1000", "band:100", ChangeKind.WEAKENED),
        ("band:1000", "band:1500", ChangeKind.WEAKENED),
        ("month", "year", ChangeKind.STRENGTHENED),
        ("year", "month", ChangeKind.WEAKENED),
        ("year", "century", ChangeKind.WEAKENED),
    ],
)
def test_only_what_surely_hides_more_is_stricter(old, new, kind):
    before, after = (
        but(obligations={"x": Obligation(Treatment.GENERALISE, {"method": method})}) for method in (old, new)
    )
    assert kinds(before, after) == [kind]


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        ({"keep_last": 4}, {"keep_last": 2}, ChangeKind.STRENGTHENED),
        ({"keep_last": 2}, {"keep_last": 4}, ChangeKind.WEAKENED),
        ({"keep_first": 2}, {"keep_last": 2}, ChangeKind.WEAKENED),
    ],
)
def test_a_mask_that_keeps_less_is_stricter(old, new, kind):
    before, after = (but(obligations={"x": Obligation(Treatment.MASK, keep)}) for keep in (old, new))
    assert kinds(before, after) == [kind]


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        ({}, {"delay": {"seconds": 5}}, ChangeKind.STRENGTHENED),
        ({"delay": {"seconds": 5}}, {}, ChangeKind.WEAKENED),
        ({"smallest_cohort": {"records": 5}}, {"smallest_cohort": {"records": 10}}, ChangeKind.STRENGTHENED),
        ({"limit_records": {"records": 5}}, {"limit_records": {"records": 10}}, ChangeKind.WEAKENED),
        (
            {"notify_subject": {"within_days": 5}},
            {"notify_subject": {"within_days": 2}},
            ChangeKind.STRENGTHENED,
        ),
        (
            {"retention": {"field": "a", "years": 5}},
            {"retention": {"field": "b", "years": 5}},
            ChangeKind.WEAKENED,
        ),
        ({"sing": {"songs": 5}}, {"sing": {"songs": 6}}, ChangeKind.WEAKENED),
    ],
)
def test_duties_are_held_against_their_direction(old, new, kind):
    assert kinds(but(duties=old), but(duties=new)) == [kind]


def test_both_directions_are_told_apart():
    after = but(
        obligations={"capital": Obligation(Treatment.RELEASE)},
        duties={"delay": {"seconds": 5}},
        rule_ids=("purposes.credit-check", "tiers.government"),
    )
    weakened, strengthened = compare(ALLOWED, after)
    assert weakened.details == ("capital: generalise (band:1000) -> release",)
    assert strengthened.details == ("duty delay: none -> seconds 5",)
    assert weakened.rules == strengthened.rules == ("tiers.government", "tiers.limited")
