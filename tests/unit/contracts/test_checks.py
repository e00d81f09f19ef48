"""Terms must fit together, and say only what can be enforced."""

from __future__ import annotations

import copy

import pytest

from gateway.contracts.checks import verify_terms
from gateway.contracts.errors import ContractError
from gateway.errors import Reason
from gateway.model import Retention
from tests.simulators.negotiated import AGENCY, BANK, COMPANY, TIERS, content_of, terms_of

DATASET = content_of()["datasets"][0]


def dataset(**changes):
    return [{**DATASET, **changes}]


def description(**changes):
    found = {**copy.deepcopy(DATASET["description"]), **changes}
    return dataset(description={name: value for name, value in found.items() if value is not None})


def custom(*pairs):
    return [{"property": name, "value": value} for name, value in pairs]


def fields(**terms):
    return {"datasets": dataset(fields=terms)}


WRONG = {
    "no contributor": {"parties": [{"member": m, "role": "recipient"} for m in (COMPANY, AGENCY)]},
    "two contributors": {"parties": [{"member": m, "role": "contributor"} for m in (COMPANY, AGENCY)]},
    "a party twice": {
        "parties": [{"member": COMPANY, "role": "contributor"}, {"member": COMPANY, "role": "recipient"}]
    },
    "dates out of order": {"valid_until": "2026-11-01T00:00:00Z"},
    "a date that does not exist": {"valid_until": "2027-02-30T00:00:00Z"},
    "a first version with a predecessor": {"predecessor": "sha256:" + "0" * 64},
    "a later version without one": {"version": 2},
    "no recipients": {"recipients": {}},
    "a recipient twice": {"recipients": {"members": [AGENCY, AGENCY]}},
    "a purpose twice": {"purposes": ["credit-check", "credit-check"]},
    "a quota twice": {"quotas": [{"records": n, "per": "day"} for n in (1, 2)]},
    "a dataset twice": {"datasets": dataset() * 2},
    "a dataset of another": {"datasets": dataset(name=f"members/{AGENCY}/datasets/customers")},
    "a dataset without a name": {"datasets": dataset(name="customers")},
    "another dataset than described": {"datasets": dataset(name=f"members/{COMPANY}/datasets/others")},
    "a description of another's dataset": {
        "datasets": description(customProperties=custom(("tier", "limited"), ("provider", AGENCY)))
    },
    "no description": {"datasets": dataset(description={})},
    "a description that is none": {"datasets": description(schema=[{"properties": 7}])},
    "a description with an unhashable kind": {
        "datasets": description(
            schema=[
                {
                    "name": "x",
                    "properties": [
                        {
                            "name": "name",
                            "classification": "limited",
                            "customProperties": [{"property": "identifierKind", "value": [1]}],
                        }
                    ],
                }
            ]
        )
    },
    "an unknown tier": {"datasets": description(customProperties=custom(("tier", "secret")))},
    "a retention field that is not there": {
        "datasets": description(customProperties=custom(("tier", "limited"), ("retention", "ended:5")))
    },
    "an unknown field": fields(colour={"treatment": "drop"}),
    "an unknown key": {"datasets": dataset(key=["colour"])},
    "a key twice": {"datasets": dataset(key=["uscc", "uscc"])},
    "a pseudonym of no identifier": fields(name={"treatment": "pseudonymise"}),
    "a mask without one": fields(uscc={"treatment": "mask"}),
    "a milder mask": fields(name={"treatment": "mask", "params": {"keep_first": 3}}),
    "a mask by method": fields(name={"treatment": "mask", "params": {"method": "first:9"}}),
    "a generalisation without one": fields(since={"treatment": "generalise"}),
    "another generalisation": fields(capital={"treatment": "generalise", "params": {"method": "band:10"}}),
    "parameters of a release": fields(capital={"treatment": "release", "params": {"method": "year"}}),
    "nothing in return": {"reciprocity": {"datasets": [], "received_per_hundred_given": 1}},
    "its own in return": {"reciprocity": {"datasets": [DATASET["name"]], "received_per_hundred_given": 1}},
    "what is no dataset in return": {"reciprocity": {"datasets": ["all"], "received_per_hundred_given": 1}},
}


@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG.keys())
def test_terms_that_make_no_sense_are_refused(changes):
    with pytest.raises(ContractError) as raised:
        verify_terms(terms_of(**changes), TIERS)
    assert raised.value.reason is Reason.CONTRACT_MALFORMED


def test_sound_terms_give_the_datasets_as_described():
    """The control of the above."""
    [(name, described)] = verify_terms(terms_of(), TIERS).items()
    assert (name, described.provider) == (DATASET["name"], COMPANY)
    assert described.retention == Retention(field="since", years=5)


@pytest.mark.parametrize(
    "changes",
    [
        fields(uscc={"treatment": "pseudonymise"}, name={"treatment": "drop"}),
        fields(name={"treatment": "mask", "params": {"keep_first": 1, "keep_last": 0}}),
        fields(capital={"treatment": "generalise", "params": {"method": "band:1000"}}),
        {"datasets": description(customProperties=custom(("tier", "limited"), ("provider", COMPANY)))},
        {
            "reciprocity": {
                "datasets": [f"members/{BANK}/datasets/loans"],
                "received_per_hundred_given": 10,
            }
        },
    ],
)
def test_terms_that_can_be_enforced_are_taken(changes):
    verify_terms(terms_of(**changes), TIERS)
