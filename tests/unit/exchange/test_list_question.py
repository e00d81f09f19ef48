"""A list question in terms of the catalogue: which lists, about whom, and what is refused."""

from __future__ import annotations

import msgspec
import pytest

from gateway.catalogue import Catalogue
from gateway.errors import GatewayError, Reason
from gateway.exchange.list_question import resolve_list_question, restriction_field
from gateway.model import Dataset, Field, FieldType, Operation, Subject

CODE = "91350100M000100Y43"
ALONE = "members/court/datasets/defaulters"
ONE, OTHER, THIRD = (f"members/{office}/datasets/watched" for office in ("registry", "tax", "water"))
SET = "list-sets/warning"
AGREED = {
    "list_sets": {
        "warning": {"title": "Warning", "lists": {ONE: "m1", OTHER: "m2", THIRD: "m2"}, "at_least": 2},
        "gone": {"title": "Gone", "lists": {ONE: "m1", ALONE + "-gone": "m1"}, "at_least": 1},
    },
    "memoranda": {"m1": {"consumers": ["watcher", "half"]}, "m2": {"consumers": ["watcher"]}},
}


def watched(name: str, *kinds: str, dataset_class: str = "list") -> Dataset:
    fields = {
        f"by_{at}": Field(
            name=f"by_{at}", type=FieldType.STRING, tier="limited", identifier=kind, lookup=True
        )
        for at, kind in enumerate(kinds)
    }
    fields["unsearchable"] = Field(
        name="unsearchable", type=FieldType.STRING, tier="limited", identifier="organisation-code"
    )
    fields["restriction"] = Field(name="restriction", type=FieldType.STRING, tier="limited", restriction=True)
    return Dataset(
        name=name,
        provider=name.split("/")[1],
        title="A list",
        version="1",
        tier="limited",
        dataset_class=dataset_class,
        fields=fields,
    )


@pytest.fixture
def lists() -> Catalogue:
    return Catalogue(
        [
            watched(ALONE, "uscc", "national-id"),
            watched(ONE, "national-id", "uscc"),
            watched(OTHER, "uscc"),
            watched(THIRD, "uscc", "uscc"),
            watched("members/registry/datasets/records", "uscc", dataset_class="record"),
        ]
    )


@pytest.fixture
def ask(make_query, lists):
    def ask(dataset=SET, consumer="watcher", agreed=AGREED, **parts):
        parts = {"subjects": (Subject("uscc", CODE),), **parts}
        return resolve_list_question(
            make_query(Operation.LIST, dataset=dataset, **parts), lists, agreed, consumer
        )

    return ask


def without_third() -> dict:
    held = dict(list(AGREED["list_sets"]["warning"]["lists"].items())[:2])
    return AGREED | {
        "list_sets": {"warning": AGREED["list_sets"]["warning"] | {"lists": held, "at_least": 1}}
    }


def test_a_set_asks_each_list_by_its_own_field_under_its_own_memorandum(ask):
    question = ask(agreed=without_third(), at_least=1)
    assert [(one.dataset.name, one.subject_field, one.query.memorandum) for one in question.lists] == [
        (ONE, "by_1", "m1"),
        (OTHER, "by_0", "m2"),
    ]
    assert all(one.subjects == (CODE,) and one.reads == (one.subject_field,) for one in question.lists)
    assert all(one.query.fields == (one.subject_field,) for one in question.lists)
    assert (question.joint, question.at_least) == (True, 1)


def test_what_others_are_told_of_a_set_names_no_list(ask):
    asked = ask(agreed=without_third(), at_least=1).asked
    assert (asked.dataset.name, asked.dataset.provider, asked.query.memorandum) == (SET, "", "")
    assert (asked.subject_field, asked.subjects, list(asked.dataset.fields)) == ("uscc", (CODE,), ["uscc"])


def test_a_single_list_is_asked_for_everything_that_policy_grants(ask):
    question = ask(ALONE, memorandum="m9")
    [asked] = question.lists
    assert asked is question.asked
    assert (asked.query.fields, asked.query.memorandum, asked.subject_field) == ((), "m9", "by_0")
    assert restriction_field(asked.dataset) == "restriction"


def test_a_list_of_a_set_is_asked_alone_only_by_who_may_not_ask_the_set(ask):
    with pytest.raises(GatewayError) as raised:
        ask(ONE)
    assert raised.value.reason is Reason.OPERATION_NOT_PERMITTED
    assert ask(ONE, consumer="half", agreed=without_third()).lists[0].dataset.name == ONE


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        # The third list has two fields of the kind: it is not known which is meant.
        ({"at_least": 2}, Reason.FILTER_UNSUPPORTED),
        ({"at_least": 3}, Reason.FILTER_UNSUPPORTED),
        ({}, Reason.FILTER_UNSUPPORTED),
        ({"at_least": 2, "memorandum": "m1"}, Reason.STATEMENT_MALFORMED),
        ({"at_least": 2, "fields": ("by_0",)}, Reason.STATEMENT_MALFORMED),
        ({"at_least": 2, "filters": {"by_0": "x"}}, Reason.STATEMENT_MALFORMED),
        ({"at_least": 2, "match": {"by_0": "x"}}, Reason.STATEMENT_MALFORMED),
        ({"at_least": 2, "subjects": ()}, Reason.SUBJECT_MISSING),
        ({"at_least": 2, "subjects": (Subject("uscc", CODE),) * 2}, Reason.SUBJECT_MISSING),
        ({"at_least": 2, "subjects": (Subject("by_0", CODE),)}, Reason.FILTER_UNSUPPORTED),
        ({"at_least": 2, "subjects": (Subject("uscc", CODE[:-1] + "4"),)}, Reason.IDENTIFIER_INVALID),
        ({"at_least": 2, "subjects": (Subject("uscc", "9" * 600),)}, Reason.STATEMENT_MALFORMED),
        ({"dataset": "list-sets/unknown", "at_least": 2}, Reason.DATASET_UNKNOWN),
        ({"dataset": "list-sets/gone", "at_least": 1}, Reason.LIST_UNAVAILABLE),
        ({"dataset": "members/registry/datasets/records"}, Reason.OPERATION_NOT_PERMITTED),
        ({"dataset": "members/registry/datasets/unknown"}, Reason.DATASET_UNKNOWN),
        ({"dataset": ALONE, "at_least": 2}, Reason.FILTER_UNSUPPORTED),
        # Of this kind it has a field, but not for looking up.
        ({"dataset": ALONE, "subjects": (Subject("organisation-code", "12345678-8"),)}, None),
    ],
)
def test_a_question_is_refused_for(ask, parts, reason):
    with pytest.raises(GatewayError) as raised:
        ask(**parts)
    assert reason is None or raised.value.reason is reason
    told = f"{raised.value.message} {raised.value.details}"
    assert not any(name in told for name in (ONE, OTHER, THIRD, CODE[:-1], "watched"))


def test_at_least_is_left_out_of_other_statements(make_query):
    assert b"at_least" not in msgspec.json.encode(make_query())
    assert b'"at_least":2' in msgspec.json.encode(make_query(Operation.LIST, at_least=2))
