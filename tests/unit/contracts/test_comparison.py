"""What differs between versions, and which way it goes for the contributor's records."""

from __future__ import annotations

import copy

import pytest

from gateway.contracts.comparison import Effect, compare_terms
from tests.simulators.negotiated import BANK, COMPANY, content_of, terms_of

DATASET = content_of()["datasets"][0]


def dataset(**changes):
    return {"datasets": [{**DATASET, **changes}]}


def with_field():
    described = copy.deepcopy(DATASET["description"])
    described["schema"][0]["properties"].append({"name": "phone", "classification": "limited"})
    return dataset(description=described)


def test_the_same_terms_do_not_differ():
    assert compare_terms(terms_of(), terms_of()) == []


WIDER = {
    "purposes": {"purposes": ["credit-check", "tender-check"]},
    "recipients.members": {"recipients": {"members": ["registry", BANK], "classes": ["bank"]}},
    "recipients.classes": {"recipients": {"members": ["registry"], "classes": ["bank", "agency"]}},
    "valid_until": {"valid_until": "2028-11-01T00:00:00Z"},
    "valid_from": {"valid_from": "2026-10-01T00:00:00Z"},
    "quotas per month, each consumer": {"quotas": []},
    "onward_sharing": {"onward_sharing": "with-consent"},
    "retention_days": {"retention_days": 30},
    "deletion_days": {"deletion_days": 30},
    f"members/{COMPANY}/datasets/customers fields.name": dataset(fields={}),
    f"members/{COMPANY}/datasets/customers description.schema": with_field(),
}


@pytest.mark.parametrize("where", WIDER)
def test_more_is_wider_and_the_way_back_is_narrower(where):
    before, after = terms_of(), terms_of(**WIDER[where])
    [there] = [item for item in compare_terms(before, after) if item.where == where]
    [back] = [item for item in compare_terms(after, before) if item.where == where]
    assert (there.effect, back.effect) == (Effect.WIDER, Effect.NARROWER)
    assert (there.before, there.after) == (back.after, back.before)


@pytest.mark.parametrize(
    ("treatment", "effect"),
    [("release", Effect.WIDER), ("drop", Effect.NARROWER)],
)
def test_a_stricter_treatment_is_narrower(treatment, effect):
    after = terms_of(**dataset(fields={"name": {"treatment": treatment}}))
    [found] = compare_terms(terms_of(), after)
    assert (found.before, found.after, found.effect) == ("mask", treatment, effect)


@pytest.mark.parametrize(
    "changes",
    [
        {"title": "Another"},
        {"contact": "data-office@example.org"},
        {"paper": "sha256:" + "1" * 64},
        {"price": {"currency": "EUR", "minor_units_per_thousand": 5}},
        {"reciprocity": {"datasets": ["members/a/datasets/b"], "received_per_hundred_given": 5}},
        dataset(held="provider"),
        dataset(key=["uscc", "name"]),
        dataset(fields={"name": {"treatment": "mask", "params": {"keep_first": 1}}}),
    ],
)
def test_what_goes_neither_way_is_told_all_the_same(changes):
    [found] = compare_terms(terms_of(), terms_of(**changes))
    assert found.effect is Effect.OTHER


def test_a_smaller_quota_is_narrower():
    less = terms_of(quotas=[{"records": 10, "per": "month", "each": "consumer"}])
    [found] = compare_terms(terms_of(), less)
    assert (found.before, found.after, found.effect) == ("1000", "10", Effect.NARROWER)
