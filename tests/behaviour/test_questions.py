"""What is asked for: datasets, fields, purposes, subjects, filters, identifiers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.demo.world import ARREARS, COMPANIES
from gateway.model import EntryKind, Operation, Subject
from tests.simulators.outcome import refused
from tests.simulators.world import SimulatedWorld

pytestmark = pytest.mark.asyncio(loop_scope="module")

CREDIT = {"legal_basis": "credit-reporting-act-14", "memorandum": "registry-harbour-bank"}


@dataclass(frozen=True)
class Case:
    """A question and what must come of it."""

    code: str
    reason: str
    dataset: str = COMPANIES
    purpose: str = "public-lookup"
    operation: Operation = Operation.QUERY
    member: str = "harbour-bank"
    parts: dict[str, Any] = field(default_factory=dict)


def ask(code: str, reason: str, *, dataset=COMPANIES, purpose="public-lookup", **parts: Any) -> Case:
    return Case(code, reason, dataset, purpose, parts=parts)


INVALID, DENIED, NOT_FOUND = "INVALID_ARGUMENT", "PERMISSION_DENIED", "NOT_FOUND"

CASES = {
    "an unknown dataset": ask(NOT_FOUND, "DATASET_UNKNOWN", dataset="members/registry/datasets/secrets"),
    "an unknown provider": ask(NOT_FOUND, "DATASET_UNKNOWN", dataset="members/nobody/datasets/companies"),
    "no dataset": ask(NOT_FOUND, "DATASET_UNKNOWN", dataset=""),
    "a dataset's path with tricks": ask(NOT_FOUND, "DATASET_UNKNOWN", dataset=f"{COMPANIES}/../companies"),
    "an unknown field": ask(INVALID, "FIELD_UNKNOWN", fields=["shoe_size"]),
    "an unknown filter": ask(INVALID, "FIELD_UNKNOWN", filters={"shoe_size": "42"}),
    "a subject by an unknown field": ask(INVALID, "FIELD_UNKNOWN", subjects=[Subject("shoe_size", "42")]),
    "an unknown purpose": ask(DENIED, "PURPOSE_UNKNOWN", purpose="curiosity"),
    "no purpose": ask(DENIED, "PURPOSE_UNKNOWN", purpose=""),
    "a purpose of others": ask(DENIED, "PURPOSE_NOT_PERMITTED", purpose="law-enforcement"),
    "an unknown legal basis": ask(
        DENIED,
        "LEGAL_BASIS_UNKNOWN",
        purpose="credit-check",
        legal_basis="whim-act-1",
        memorandum="registry-harbour-bank",
    ),
    "an unknown memorandum": ask(
        DENIED,
        "MEMORANDUM_UNKNOWN",
        purpose="credit-check",
        legal_basis="credit-reporting-act-14",
        memorandum="handshake",
    ),
    "the memorandum of another bank": ask(
        DENIED,
        "MEMORANDUM_NOT_APPLICABLE",
        purpose="credit-check",
        legal_basis="credit-reporting-act-14",
        memorandum="registry-northern-bank",
    ),
    "a legal basis that has ended": ask(
        DENIED,
        "LEGAL_BASIS_NOT_IN_FORCE",
        purpose="credit-check",
        legal_basis="interim-credit-order-3",
        memorandum="registry-harbour-bank",
    ),
    "no memorandum where one is needed": ask(
        DENIED,
        "MEMORANDUM_MISSING",
        dataset=ARREARS,
        purpose="credit-check",
        legal_basis="credit-reporting-act-14",
    ),
    "a field above the tier": ask(DENIED, "FIELD_ABOVE_TIER", fields=["representative_name"]),
    "a field above the tier, under a memorandum": ask(
        DENIED, "FIELD_ABOVE_TIER", purpose="credit-check", fields=["name", "phone"], **CREDIT
    ),
    "a filter on a hidden field": ask(
        DENIED, "FILTER_HIDDEN_FIELD", filters={"representative_id": "11010119900307803X"}
    ),
    "a filter on a field that is no key": ask(INVALID, "FILTER_UNSUPPORTED", filters={"phone": "000-1"}),
    "a subject by a field that is no key": ask(
        INVALID, "FILTER_UNSUPPORTED", subjects=[Subject("representative_name", "x")]
    ),
    "subjects by two fields": ask(
        INVALID, "FILTER_UNSUPPORTED", subjects=[Subject("name", "x"), Subject("kind", "y")]
    ),
    "match attributes in a query": ask(INVALID, "STATEMENT_MALFORMED", match={"name": "x"}),
    "a value without measure": ask(INVALID, "STATEMENT_MALFORMED", filters={"name": "x" * 513}),
    "a broken credit code": ask(
        INVALID, "IDENTIFIER_INVALID", subjects=[Subject("uscc", "91350100M000100Y44")]
    ),
    "a short credit code": ask(INVALID, "IDENTIFIER_INVALID", filters={"uscc": "9135"}),
    "a broken national number": ask(
        INVALID, "IDENTIFIER_INVALID", subjects=[Subject("representative_id", "110101199003078031")]
    ),
    "a national number of no day": ask(
        INVALID, "IDENTIFIER_INVALID", subjects=[Subject("representative_id", "110101199013078031")]
    ),
    "an area that does not exist": ask(INVALID, "IDENTIFIER_INVALID", filters={"area_code": "000000"}),
    "an area in words": ask(INVALID, "IDENTIFIER_INVALID", filters={"area_code": "harbour"}),
}


@pytest.mark.parametrize("name", CASES)
async def test_a_question_is_refused_for(world: SimulatedWorld, name: str) -> None:
    case = CASES[name]
    caller = world.caller(case.member)
    asked = len(world.registry.orders)
    refusal = await refused(
        caller.query(caller.statement(case.dataset, case.purpose, case.operation, **case.parts))
    )
    entry = world.assert_recorded(refusal, case.code, case.reason)
    assert entry.kind is EntryKind.EXCHANGE_DENIED
    assert len(world.registry.orders) == asked, "the provider was asked"


async def test_what_nobody_knows_is_not_written_into_the_log(world: SimulatedWorld) -> None:
    caller = world.caller()
    asked = caller.statement(COMPANIES, "id-110101199003070134", memorandum="id-110101199003070134")
    entry = world.assert_recorded(await refused(caller.query(asked)), DENIED, "PURPOSE_UNKNOWN")
    assert (entry.purpose, entry.memorandum) == ("(unknown)", "(unknown)")


async def test_a_denial_names_every_reason(world: SimulatedWorld) -> None:
    caller = world.caller()
    asked = caller.statement(ARREARS, "credit-check")
    refusal = await refused(caller.query(asked))
    entry = world.assert_recorded(refusal, DENIED, "LEGAL_BASIS_MISSING")
    assert set(refusal.details["reasons"].split(",")) == set(entry.reasons)
    assert {"LEGAL_BASIS_MISSING", "MEMORANDUM_MISSING"} <= set(entry.reasons)


async def test_an_identifier_may_be_spelt_in_any_usual_way(world: SimulatedWorld) -> None:
    """The control of the invalid ones: full width, lower case and spaces around are the same code."""
    caller = world.caller()
    code = world.companies[3].uscc
    wide = "".join(chr(ord(character) + 0xFEE0) for character in code)
    for spelling in (code, code.lower(), f" {code} ", wide):
        answer = await caller.query(
            caller.statement(COMPANIES, "public-lookup", subjects=[Subject("uscc", spelling)])
        )
        assert answer.page.record_count == 1
    assert {order.subject_values for order in world.registry.orders[-4:]} == {(code,)}


# -- matching ---------------------------------------------------------------------------------------


def match(caller, purpose="public-lookup", **parts):
    return caller.statement(COMPANIES, purpose, Operation.MATCH, **parts)


async def matched(world: SimulatedWorld, uscc: str, **wanted: str) -> bool:
    caller = world.caller()
    answer = await caller.match(match(caller, subjects=[Subject("uscc", uscc)], match=wanted))
    return answer.result == 1


async def test_a_match_answers_yes_or_no(world: SimulatedWorld) -> None:
    company = world.companies[5]
    assert await matched(world, company.uscc, name=company.name)
    assert await matched(world, company.uscc, name=f"  {company.name.upper()} ", kind=company.kind)
    assert not await matched(world, company.uscc, name="Another Company")
    assert not await matched(world, company.uscc, name=company.name, status="Nothing")


async def test_a_missing_subject_does_not_match(world: SimulatedWorld) -> None:
    """It is answered as one that differs: whether there is such a company stays open."""
    absent = "91350100M000100Y43"
    assert absent not in {company.uscc for company in world.companies}
    assert not await matched(world, absent, name=world.companies[0].name)


@pytest.mark.parametrize(
    ("parts", "code", "reason"),
    [
        ({"match": {"name": "x"}}, INVALID, "SUBJECT_MISSING"),
        ({"subjects": [Subject("name", "x")]}, INVALID, "SUBJECT_MISSING"),
        (
            {"subjects": [Subject("name", "x"), Subject("name", "y")], "match": {"name": "x"}},
            INVALID,
            "SUBJECT_MISSING",
        ),
        ({"subjects": [Subject("name", "x")], "match": {"shoe_size": "42"}}, INVALID, "FIELD_UNKNOWN"),
        ({"subjects": [Subject("name", "x")], "match": {"uscc": "1"}}, INVALID, "IDENTIFIER_INVALID"),
        ({"subjects": [Subject("name", "x")], "match": {"phone": "000-1"}}, DENIED, "FIELD_ABOVE_TIER"),
    ],
)
async def test_a_match_is_refused_for(world: SimulatedWorld, parts, code: str, reason: str) -> None:
    caller = world.caller()
    world.assert_recorded(await refused(caller.match(match(caller, **parts))), code, reason)


async def test_a_match_is_no_way_to_a_pseudonymised_field(world: SimulatedWorld) -> None:
    """A yes to a guessed national number would undo the pseudonym; see the decision's fields."""
    caller = world.caller()
    company = world.companies[5]
    asked = match(
        caller,
        "credit-check",
        subjects=[Subject("uscc", company.uscc)],
        match={"capital": str(company.capital)},
        **CREDIT,
    )
    world.assert_recorded(await refused(caller.match(asked)), DENIED, "FILTER_HIDDEN_FIELD")
