"""What must hold for every question, not only for those in the golden cases."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.model import Treatment
from gateway.policy import TREATMENT_ORDER, Bundle, EmbeddedEngine, load_bundle
from gateway.policy.engine import ENTRY_POINT
from gateway.policy.golden import load_cases
from tests.simulators.questions import Questions, is_weaker, keys, without

POLICIES = Path(__file__).parents[2] / "policies"
BUNDLE = load_bundle(POLICIES)
CASES = load_cases(BUNDLE, POLICIES / "cases")
QUESTIONS = Questions(BUNDLE, CASES)
CHAPTERS = ("purposes", "memoranda", "legal_bases", "member_classes", "tiers", "catalogue")
TIERS = [*BUNDLE.data["tier_names"], "cosmic"]
TERM_DEPTH = 3
"""Of `contract.fields.NAME` and `dataset.fields.NAME`."""
STRICTNESS = {treatment.value: rank for rank, treatment in enumerate(TREATMENT_ORDER)}

relaxed = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def engine() -> Iterator[EmbeddedEngine]:
    engine = EmbeddedEngine(BUNDLE)
    asyncio.run(engine.start())
    yield engine
    asyncio.run(engine.close())


def decide(engine: EmbeddedEngine, content: dict) -> dict:
    answer = asyncio.run(engine.evaluate(ENTRY_POINT, msgspec.json.encode(content)))
    return msgspec.json.decode(answer)


@st.composite
def near_questions(draw: st.DrawFn) -> dict:
    return QUESTIONS.near(draw(st.randoms(use_true_random=False)))


def strictness(result: dict, field: str) -> int:
    obligation = result["obligations"].get(field)
    return STRICTNESS["drop"] if obligation is None else STRICTNESS[obligation["treatment"]]


def take_every_fact_away(engine: EmbeddedEngine, content: dict) -> None:
    """Take one after the other away; fail if without it more is allowed, or shown."""
    before = decide(engine, content)
    for path in keys(content):
        if path[:2] == ("contract", "fields") and len(path) == TERM_DEPTH:
            continue  # a contract without the term is another contract; no fact is missing from it
        after = decide(engine, without(content, path))
        if path[:2] == ("dataset", "fields") and len(path) == TERM_DEPTH:
            assert strictness(after, path[-1]) == STRICTNESS["drop"]
            if not content["fields"] and not before["allow"]:
                continue  # all that the dataset has is asked for, and it has less: see below
        assert before["allow"] or not after["allow"], path
        for field in after["obligations"]:
            assert strictness(after, field) >= strictness(before, field), path
        assert not after["allow"] or not is_weaker(after["duties"], before["duties"]), path


@relaxed
@given(content=near_questions())
def test_taking_a_fact_away_never_turns_a_denial_into_an_allowance_nor_weakens_an_obligation(engine, content):
    take_every_fact_away(engine, content)


def test_nor_does_it_in_any_case_that_is_denied_for_one_reason(engine):
    denied = [case for case in CASES if len(case.expect.reasons) == 1]
    assert denied
    for case in denied:
        take_every_fact_away(engine, msgspec.to_builtins(case.policy_input))


def test_a_dataset_that_does_not_show_who_it_names_needs_no_legal_basis_for_persons(engine):
    """No fact is missing from what is left; asked for by name, the field that is gone allows nothing."""
    [case] = [case for case in CASES if case.title.endswith("identifies a person tells of that person")]
    content = msgspec.to_builtins(case.policy_input)
    person = ("dataset", "fields", "representative_id")
    assert not decide(engine, content)["allow"]
    named = decide(engine, without({**content, "fields": ["representative_id"]}, person))
    assert not named["allow"]
    everything = decide(engine, without({**content, "fields": []}, person))
    assert everything["allow"]
    assert set(everything["obligations"]) == {"uscc"}
    content["dataset"]["fields"]["representative_id"]["tier"] = "limited"
    above = decide(engine, content)
    assert above["allow"]
    assert strictness(above, "representative_id") == STRICTNESS["drop"]


@relaxed
@given(content=near_questions(), data=st.data())
def test_raising_the_tier_of_a_field_never_weakens_anything(engine, content, data):
    content["capabilities"] = sorted(Treatment)
    before = decide(engine, content)
    name = data.draw(st.sampled_from(sorted(content["dataset"]["fields"])))
    field = content["dataset"]["fields"][name]
    field["tier"] = data.draw(st.sampled_from(TIERS[TIERS.index(field["tier"]) :]))
    after = decide(engine, content)
    if after["allow"] and not before["allow"]:
        # Nothing but this field stood against an answer, as it names persons; now it is no part of one.
        assert BUNDLE.data["identifiers"][field["identifier"]]["person"]
        assert set(before["reasons"]) <= {"LEGAL_BASIS_MISSING", "LEGAL_BASIS_NOT_PERMITTED"}
        assert name not in content["fields"]
        assert strictness(after, name) == STRICTNESS["drop"]
        return
    for other in after["obligations"]:
        assert strictness(after, other) >= strictness(before, other)


@relaxed
@given(content=near_questions(), data=st.data())
def test_raising_the_tier_of_a_dataset_never_adds_access_nor_weakens_anything(engine, content, data):
    before = decide(engine, content)
    dataset = content["dataset"]
    dataset["tier"] = data.draw(st.sampled_from(TIERS[TIERS.index(dataset["tier"]) :]))
    after = decide(engine, content)
    assert before["allow"] or not after["allow"]
    for field in after["obligations"]:
        assert strictness(after, field) >= strictness(before, field)
    assert not after["allow"] or not is_weaker(after["duties"], before["duties"])


@relaxed
@given(content=near_questions())
def test_the_order_of_keys_and_fields_does_not_matter(engine, content):
    turned = {name: content[name] for name in reversed(content)}
    turned["dataset"] = {name: content["dataset"][name] for name in reversed(content["dataset"])}
    turned["dataset"]["fields"] = dict(reversed(content["dataset"]["fields"].items()))
    assert decide(engine, turned) == decide(engine, content)


@relaxed
@given(content=near_questions(), data=st.data())
def test_what_nobody_has_agreed_on_denies(engine, content, data):
    path = data.draw(
        st.sampled_from(
            [("purpose",), ("operation",), ("legal_basis",), ("memorandum",), ("consumer", "class"),
             ("provider", "class"), ("dataset", "tier"), ("dataset", "class"), ("dataset", "catalogue")]
        )
    )  # fmt: skip
    inner = content
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = "unheard-of"
    assert not decide(engine, content)["allow"]


def removals() -> Iterator[tuple[str, str]]:
    return ((chapter, name) for chapter in CHAPTERS for name in BUNDLE.data[chapter])


def bundle_without(chapter: str, name: str) -> Bundle:
    rows = {key: value for key, value in BUNDLE.data[chapter].items() if key != name}
    return dataclasses.replace(BUNDLE, data={**BUNDLE.data, chapter: rows})


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_removing_something_from_the_registers_never_adds_access(engine, chapter):
    questions = [msgspec.to_builtins(case.policy_input) for case in CASES]
    before = [decide(engine, content) for content in questions]
    lost = 0
    for name in BUNDLE.data[chapter]:
        smaller = EmbeddedEngine(bundle_without(chapter, name))
        asyncio.run(smaller.start())
        for content, decided in zip(questions, before, strict=True):
            if name not in _stated(chapter, content):
                continue
            after = decide(smaller, content)
            assert decided["allow"] or not after["allow"], (name, content)
            for field in after["obligations"]:
                assert strictness(after, field) >= strictness(decided, field), (name, content)
            assert not after["allow"] or not is_weaker(after["duties"], decided["duties"])
            lost += decided["allow"] and not after["allow"]
        asyncio.run(smaller.close())
    assert lost, "a register from which nothing is missed proves nothing"


def _stated(chapter: str, content: dict) -> set[object]:
    """Return what of `chapter` the question can touch; removing the rest changes nothing."""
    fields = content["dataset"]["fields"].values()
    return {
        "purposes": {content["purpose"]},
        "memoranda": {content["memorandum"]},
        "legal_bases": {content["legal_basis"]},
        "member_classes": {content["consumer"]["class"], content["provider"]["class"]},
        "tiers": {content["dataset"]["tier"], *(field["tier"] for field in fields), *BUNDLE.data["tiers"]},
        "catalogue": {content["dataset"]["catalogue"]},
    }[chapter]


def test_a_member_that_no_memorandum_names_gets_nothing_under_one(engine):
    """Members reach policy through memoranda; a memorandum without them gives them nothing."""
    for case in CASES:
        content = msgspec.to_builtins(case.policy_input)
        if not case.expect.allow or not content["memorandum"]:
            continue
        row = BUNDLE.data["memoranda"][content["memorandum"]]
        others = [name for name in row["consumers"] if name != content["consumer"]["id"]]
        memoranda = {**BUNDLE.data["memoranda"], content["memorandum"]: {**row, "consumers": others}}
        smaller = EmbeddedEngine(dataclasses.replace(BUNDLE, data={**BUNDLE.data, "memoranda": memoranda}))
        asyncio.run(smaller.start())
        assert not decide(smaller, content)["allow"], case.title
        asyncio.run(smaller.close())


@relaxed
@given(content=near_questions())
def test_a_score_is_given_to_its_owner_alone_and_never_to_enforce(engine, content):
    result = decide(engine, content)
    if result["allow"] and content["dataset"]["class"] == "score":
        assert content["consumer"]["id"] == content["dataset"]["owner"]
        assert not BUNDLE.data["purposes"][content["purpose"]]["enforcement"]


@relaxed
@given(content=near_questions())
def test_whoever_enforces_cites_a_document_over_a_signature(engine, content):
    result = decide(engine, content)
    if result["allow"] and BUNDLE.data["purposes"][content["purpose"]]["enforcement"]:
        assert content["document"]
        assert content["signed"]


def test_no_legal_basis_gives_records_of_persons_from_a_dataset_that_it_does_not_name(engine):
    """No dossier: every case's question, put to every dataset and under every legal basis."""
    persons = {name for name, kind in BUNDLE.data["identifiers"].items() if kind["person"]}
    datasets = {case.policy_input.dataset.name: case.policy_input.dataset for case in CASES}
    allowed = 0
    for case in CASES:
        if not case.expect.allow:
            continue
        for dataset in datasets.values():
            asked = msgspec.structs.replace(
                case.policy_input, dataset=dataset, fields=(), reads=(), contract=None
            )
            content = msgspec.to_builtins(asked)
            content["subjects"] = 1
            if content["dataset"]["contract"]:
                content["contract"] = msgspec.to_builtins(case.policy_input.contract)
            result = decide(engine, content)
            if not result["allow"]:
                continue
            shown = [
                dataset.fields[name].identifier
                for name, obligation in result["obligations"].items()
                if obligation["treatment"] != "drop"
            ]
            if BUNDLE.data["catalogue"][dataset.catalogue]["persons"] or persons & {*shown}:
                allowed += 1
                assert dataset.name in BUNDLE.data["legal_bases"][content["legal_basis"]]["datasets"]
    assert allowed, "no case shows a person"


@relaxed
@given(content=near_questions(), data=st.data())
def test_a_field_of_an_unknown_tier_or_identifier_kind_is_never_shown(engine, content, data):
    name = data.draw(st.sampled_from(sorted(content["dataset"]["fields"])))
    part = data.draw(st.sampled_from(["tier", "identifier"]))
    content["dataset"]["fields"][name][part] = "unheard-of"
    result = decide(engine, content)
    assert not result["allow"] or strictness(result, name) == STRICTNESS["drop"]


@relaxed
@given(content=near_questions())
def test_what_is_shown_is_described_was_asked_for_and_lies_within_the_tier(engine, content):
    result = decide(engine, content)
    fields = content["dataset"]["fields"]
    if not result["allow"]:
        assert result["obligations"] == {}
        return
    considered = set(content["fields"]) or set(fields)
    assert set(result["obligations"]) == considered
    for name, obligation in result["obligations"].items():
        if obligation["treatment"] != "drop":
            assert TIERS.index(fields[name]["tier"]) <= TIERS.index(result["tier"])
        if fields.get(name, {}).get("identifier") == "national-id" and result["tier"] != "restricted":
            assert obligation["treatment"] in {"pseudonymise", "drop"}
    for name in content["reads"]:
        assert fields[name]["tier"] in TIERS[: TIERS.index(result["tier"]) + 1]


@relaxed
@given(content=near_questions())
def test_what_is_denied_is_always_explained(engine, content):
    answer = asyncio.run(engine.evaluate("exchange.decision.denials", msgspec.json.encode(content)))
    denials = msgspec.json.decode(answer)
    result = decide(engine, content)
    assert result["allow"] == (denials == [])
    assert result["allow"] or result["rule_ids"] == sorted(denials)
    assert result["bundle"] == BUNDLE.digest, "the default of the rules is never needed for a whole input"
    assert result["allow"] or result["reasons"]


@relaxed
@given(content=near_questions())
def test_an_unsigned_question_above_the_open_tier_is_never_allowed(engine, content):
    result = decide(engine, content)
    assert not result["allow"] or result["tier"] == "public" or content["signed"]


def test_the_questions_generated_are_allowed_often_enough_to_mean_something(engine):
    allowed = sum(decide(engine, msgspec.to_builtins(case.policy_input))["allow"] for case in CASES)
    assert allowed >= len(CASES) / 4


def test_a_policy_that_leans_on_what_is_missing_is_found_out():
    """The control of the first property: a rule of the sort that fails open."""
    text = BUNDLE.modules["exchange/decision/reads.rego"]
    spoilt = {
        **BUNDLE.modules,
        "exchange/decision/reads.rego": text + '\nfield_proofs contains "reads.visible" if not input.reads\n',
    }
    spoilt["exchange/decision/facts.rego"] = BUNDLE.modules["exchange/decision/facts.rego"].replace(
        '"reads", ', ""
    )
    engine = EmbeddedEngine(dataclasses.replace(BUNDLE, modules=spoilt))
    asyncio.run(engine.start())
    hidden = next(case for case in CASES if "FILTER_HIDDEN_FIELD" in case.expect.reasons)
    content = msgspec.to_builtins(hidden.policy_input)
    assert not decide(engine, content)["allow"]
    assert any(decide(engine, without(content, path))["allow"] for path in keys(content))
    asyncio.run(engine.close())
