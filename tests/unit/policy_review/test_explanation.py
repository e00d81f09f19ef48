"""A decision is explained by its rules, and a denial by the least change that would be allowed."""

from __future__ import annotations

import msgspec
import pytest

from gateway.policy.golden import load_cases
from gateway.policy.policy_input import encode_input
from gateway.policy_review.allowing import least_changes
from gateway.policy_review.explanation import Explainer
from gateway.policy_review.judges import start_engine
from gateway.policy_review.questions import Questions, Way
from tests.unit.policy_review.conftest import COMPANIES, POLICIES

BANK = Way(
    "harbour-bank", COMPANIES, "credit-check", "query", "credit-reporting-act-14", "registry-harbour-bank"
)


@pytest.fixture
def ask(world):
    """Write a question; changes to the way, then to its facts."""

    def encode(way: Way = BANK, **facts) -> bytes:
        return msgspec.json.encode(
            {**msgspec.json.decode(Questions(world).encode(way)), **facts}, order="sorted"
        )

    return encode


@pytest.fixture
def engine(bundle):
    return start_engine(bundle)


def but(**changes) -> Way:
    return msgspec.structs.replace(BANK, **changes)


async def explained(engine, encoded):
    return await Explainer(engine).explain(encoded)


async def test_an_allowance_names_its_grounds_with_act_and_article(engine, ask):
    told = await explained(engine, ask())
    grounds = {ground.rule: ground for ground in told.grounds}
    assert "Article 14" in grounds["legal_bases.credit-reporting-act-14"].citation
    assert grounds["memoranda.registry-harbour-bank"].citation
    assert told.reasons == ()
    assert {field.field for field in told.fields} == {*engine.judge(ask()).obligations}


async def test_each_field_has_a_rule(engine, ask):
    told = {field.field: field for field in (await explained(engine, ask())).fields}
    assert all(field.rules for field in told.values())
    assert told["capital"].treatment.startswith("generalise (band:")
    assert "'bank'" in told["capital"].rules[0].title
    assert "pseudonymise" in told["representative_id"].rules[0].title
    assert "above the tier granted" in told["phone"].rules[0].title
    assert "within the tier granted" in told["name"].rules[0].title


async def test_a_denial_names_rule_citation_owner_remedy_and_place(engine, ask, bundle):
    told = await explained(engine, ask(but(memorandum="registry-northern-bank")))
    assert not told.allow
    [reason] = told.reasons
    assert (reason.reason, reason.condition) == ("MEMORANDUM_NOT_APPLICABLE", "memoranda.scope")
    for rule in reason.rules:
        assert rule.citation
        assert rule.owner
        assert rule.remedy
        path, _, line = rule.place.partition(":")
        assert "memoranda.scope" in bundle.modules[path].splitlines()[int(line) - 1]


@pytest.mark.parametrize(
    ("way", "facts", "change"),
    [
        (but(memorandum="registry-northern-bank"), {}, "state the memorandum registry-harbour-bank"),
        (but(legal_basis="statistics-act-9"), {}, "state the legal basis credit-reporting-act-14"),
        (but(operation="stream"), {}, "use the operation query"),
        (but(purpose="licensing"), {}, "state the purpose credit-check"),
        (BANK, {"signed": False}, "sign the query"),
        (BANK, {"fields": ["name", "phone"]}, "leave out the fields phone"),
        (BANK, {"reads": ["phone", "uscc"]}, "choose records without the fields phone"),
    ],
)
def test_the_single_change_that_would_be_allowed_is_found(engine, ask, way, facts, change):
    encoded = ask(way, **facts)
    assert not engine.judge(encoded).allow
    found = least_changes(engine, encoded)
    assert (change,) in found.changes
    assert all(len(each) == 1 for each in found.changes)


def test_a_pair_is_told_only_where_no_single_change_is_enough(engine, ask):
    encoded = ask(BANK, signed=False, fields=["name", "phone"])
    found = least_changes(engine, encoded)
    assert ("sign the query", "leave out the fields phone") in found.changes
    assert all(len(each) == 2 for each in found.changes)


def test_where_no_pair_is_enough_that_is_said(engine, ask):
    facts = msgspec.json.decode(ask())
    stranger = {**facts["consumer"], "class": "nobody"}
    found = least_changes(engine, ask(BANK, consumer=stranger))
    assert found.changes == ()
    assert found.complete
    assert found.asked > 20


async def test_every_denied_case_is_explained_with_all_its_reasons(engine, bundle):
    for case in load_cases(bundle, POLICIES / "cases"):
        encoded = encode_input(case.policy_input)
        told = await explained(engine, encoded)
        assert {each.reason for each in told.reasons} == {*engine.judge(encoded).reasons}
