"""A query in terms of the catalogue: what is not there or not valid is refused by its reason."""

import pytest

from gateway.errors import GatewayError, Reason
from gateway.exchange.resolution import MAX_VALUE_LENGTH, policy_input, resolve
from gateway.model import Member, Operation, Role, Subject

USCC = "91350100M000100Y43"


def refusal(query, catalogue):
    with pytest.raises(GatewayError) as raised:
        resolve(query, catalogue)
    return raised.value


def test_identifiers_are_normalised_and_named_once(make_query, catalogue):
    query = make_query(
        subjects=(Subject("uscc", f" {USCC.lower()} "), Subject("uscc", USCC)),
        filters={"title": " As it is "},
    )
    resolved = resolve(query, catalogue)
    assert (resolved.subject_field, resolved.subjects) == ("uscc", (USCC,))
    assert resolved.filters == {"title": " As it is "}
    assert resolved.reads == ("title", "uscc")


def test_a_query_without_subjects_names_no_field(make_query, catalogue):
    resolved = resolve(make_query(), catalogue)
    assert (resolved.subject_field, resolved.subjects, resolved.reads) == ("", (), ())


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"dataset": "members/registry/datasets/nothing"}, Reason.DATASET_UNKNOWN),
        ({"dataset": "companies"}, Reason.DATASET_UNKNOWN),
        ({"fields": ("title", "salary")}, Reason.FIELD_UNKNOWN),
        ({"filters": {"salary": "1"}}, Reason.FIELD_UNKNOWN),
        ({"filters": {"capital": "1"}}, Reason.FILTER_UNSUPPORTED),
        ({"subjects": (Subject("capital", "1"),)}, Reason.FILTER_UNSUPPORTED),
        ({"subjects": (Subject("uscc", USCC), Subject("title", "x"))}, Reason.FILTER_UNSUPPORTED),
        ({"subjects": (Subject("uscc", USCC[:-1] + "4"),)}, Reason.IDENTIFIER_INVALID),
        ({"filters": {"person": "110101199003070000"}}, Reason.IDENTIFIER_INVALID),
        ({"filters": {"title": "x" * (MAX_VALUE_LENGTH + 1)}}, Reason.STATEMENT_MALFORMED),
        ({"match": {"title": "x"}}, Reason.STATEMENT_MALFORMED),
    ],
)
def test_what_is_not_there_or_not_valid_is_refused(make_query, catalogue, parts, reason):
    error = refusal(make_query(**parts), catalogue)
    assert error.reason is reason
    told = f"{error.message} {error.details}"
    assert not any(value in told for value in (USCC[:-1], "110101199003070000", "salary", "xxx"))


@pytest.mark.parametrize(
    "parts",
    [
        {"subjects": (Subject("uscc", USCC),)},
        {"match": {"title": "x"}},
        {"subjects": (Subject("uscc", USCC), Subject("uscc", USCC)), "match": {"title": "x"}},
    ],
)
def test_a_match_has_one_subject_and_something_to_match(make_query, catalogue, parts):
    assert refusal(make_query(Operation.MATCH, **parts), catalogue).reason is Reason.SUBJECT_MISSING


def test_what_a_match_states_is_read(make_query, catalogue):
    query = make_query(
        Operation.MATCH, subjects=(Subject("uscc", USCC),), match={"capital": " 5 ", "area": "110101"}
    )
    resolved = resolve(query, catalogue)
    assert resolved.match == {"capital": "5", "area": "110101"}
    assert resolved.reads == ("area", "capital", "uscc")


def test_policy_sees_no_value_of_a_subject(make_query, catalogue, now):
    query = make_query(subjects=(Subject("uscc", USCC),), fields=("title", "capital", "title"))
    bank = Member(
        id="bank",
        title="Bank",
        member_class="bank",
        roles=frozenset({Role.CONSUMER}),
        uri="spiffe://x/bank",
        signing_keys={},
    )
    facts = policy_input(resolve(query, catalogue), bank, "agency", signed=True, now=now)
    assert facts.fields == ("capital", "title")
    assert facts.reads == ("uscc",)
    assert facts.time == "2026-11-21T12:00:00Z"
    assert USCC not in repr(facts)
