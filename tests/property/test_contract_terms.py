"""Contracts only ever narrow: on both engines, and down to the values that leave."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.exchange.treatments import generalisation, keeping
from gateway.identifiers import load_area_table
from gateway.policy import TREATMENT_ORDER, EmbeddedEngine, PolicyError, load_bundle
from gateway.policy.engine import ENTRY_POINT, Evaluator
from gateway.policy.golden import load_cases
from tests.simulators.questions import Questions, term

POLICIES = Path(__file__).parents[2] / "policies"
BUNDLE = load_bundle(POLICIES)
QUESTIONS = Questions(BUNDLE, load_cases(BUNDLE, POLICIES / "cases"))
STRICTNESS = {treatment.value: rank for rank, treatment in enumerate(TREATMENT_ORDER)}
NUMBERS = [0, 3, 9, 10, 14, 15, 99, 100, 149, 150, 151, 999, 1000, 1499, 1500, 123456, 1000000, 2999999]
TEXTS = ["", "a", "ab", "abc", "abcdef", "abcdefgh", "0123456789", "0123456789abc", "x" * 25]
AREAS = ["110101", "110105", "310101", "440304"]
DATES = ["2020-01-31", "2020-02-01", "2021-02-01", "2029-12-31", "2030-01-01"]

relaxed = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def engine() -> Iterator[EmbeddedEngine]:
    load_area_table()
    engine = EmbeddedEngine(BUNDLE)
    asyncio.run(engine.start())
    yield engine
    asyncio.run(engine.close())


def decide(engine: Evaluator, content: dict[str, Any]) -> dict[str, Any]:
    return msgspec.json.decode(asyncio.run(engine.evaluate(ENTRY_POINT, msgspec.json.encode(content))))


@st.composite
def contracted(draw: st.DrawFn) -> tuple[dict[str, Any], Random]:
    random = draw(st.randoms(use_true_random=False))
    return QUESTIONS.under_contract(random), random


def obligation(result: dict[str, Any], field: str) -> dict[str, Any]:
    return {"params": {}, **result["obligations"].get(field, {"treatment": "drop"})}


def values_of(field: dict[str, Any]) -> list[Any]:
    """Return values that the field may have, by the treatments laid down for it."""
    method = field["generalise"] or ""
    if method.startswith("band"):
        return list(NUMBERS)
    if method in {"year", "month", "decade"}:
        return [msgspec.convert(text, date) for text in DATES]
    return list(AREAS if method == "province" else TEXTS)


def shown(treated: dict[str, Any], values: list[Any]) -> list[Any] | None:
    """Return what a recipient sees of `values`; None where the treatment is not for values of the kind."""
    match treated["treatment"], treated["params"]:
        case "release", _:
            return values
        case "drop", _:
            return [None] * len(values)
        case "pseudonymise", _:
            return [f"pseudonym of {value}" for value in values]
        case "generalise", {"method": method}:
            fits = {"y": DATES, "m": DATES, "d": DATES, "p": AREAS, "b": NUMBERS}[method[0]]
            if len(fits) != len(values):
                return None
            return list(generalisation(method)(values))
        case "mask", params:
            return list(keeping(params)(values)) if isinstance(values[0], str) else None
    raise AssertionError(treated)


def tells_more(result: list[Any], than: list[Any]) -> bool:
    """Return whether two values that look alike in `than` can be told apart in `result`."""
    return any(
        than[one] == than[other] and result[one] != result[other]
        for one in range(len(than))
        for other in range(one)
    )


def assert_no_milder(result: dict[str, Any], reference: dict[str, Any], fields: dict[str, Any]) -> None:
    assert reference["allow"] or not result["allow"]
    for name in result["obligations"]:
        ours, theirs = obligation(result, name), obligation(reference, name)
        assert STRICTNESS[ours["treatment"]] >= STRICTNESS[theirs["treatment"]], name
        values = values_of(fields[name]) if name in fields else []
        seen, before = (shown(one, values) if values else None for one in (ours, theirs))
        if seen is not None and before is not None and theirs["treatment"] != "mask":
            hidden = ours["treatment"] == "pseudonymise" and theirs["treatment"] in {"generalise", "mask"}
            assert hidden or not tells_more(seen, before), (name, ours, theirs)
        if seen is not None and before is not None and {ours["treatment"], theirs["treatment"]} == {"mask"}:
            for one, other in zip(seen, before, strict=True):
                assert all(a in {"*", b} for a, b in zip(one, other, strict=True)), (ours, theirs)


@relaxed
@given(drawn=contracted())
def test_no_terms_give_more_than_the_same_contract_without_terms(engine, drawn):
    content, _ = drawn
    without_terms = copy.deepcopy(content)
    without_terms["contract"]["fields"] = {}
    result = decide(engine, content)
    assert_no_milder(result, decide(engine, without_terms), content["dataset"]["fields"])


@relaxed
@given(drawn=contracted())
def test_no_term_gives_more_of_its_field_than_it_says(engine, drawn):
    """What leaves is no more than what the term alone would leave, as well as no more than the tier's."""
    content, _ = drawn
    result = decide(engine, content)
    alone = {"allow": result["allow"], "obligations": content["contract"]["fields"]}
    fields = content["dataset"]["fields"]
    limited = {
        "allow": result["allow"],
        "obligations": {
            name: obligation
            for name, obligation in result["obligations"].items()
            if name in content["contract"]["fields"]
        },
    }
    assert_no_milder(limited, alone, fields)


@relaxed
@given(drawn=contracted())
def test_a_contract_gives_no_more_than_a_dataset_that_needs_none(engine, drawn):
    content, _ = drawn
    free = copy.deepcopy(content)
    free["dataset"]["contract"], free["contract"] = "", None
    result = decide(engine, content)
    assert_no_milder(result, decide(engine, free), content["dataset"]["fields"])


@relaxed
@given(drawn=contracted())
def test_without_its_contract_nothing_is_given(engine, drawn):
    """Control: with it, some of the questions are allowed."""
    content, _ = drawn
    content["contract"] = None
    result = decide(engine, content)
    assert not result["allow"]
    assert "CONTRACT_MISSING" in result["reasons"]


@relaxed
@given(drawn=contracted())
def test_tightening_a_term_never_gives_more(engine, drawn):
    content, random = drawn
    fields = content["dataset"]["fields"]
    before = decide(engine, content)
    name = random.choice(sorted(fields))
    tightened = content["contract"]["fields"].get(name, {"treatment": "release", "params": {}})
    stricter = term(fields[name], random)
    kinds = tightened["treatment"], stricter["treatment"]
    # Neither of a mask and a coarsening is the tighter; with the other of them the tier's may be dropped.
    if STRICTNESS[kinds[1]] > STRICTNESS[kinds[0]] and kinds != ("generalise", "mask"):
        content["contract"]["fields"][name] = stricter
    after = decide(engine, content)
    assert before["allow"] or not after["allow"]
    for other in after["obligations"]:
        ranks = [STRICTNESS[obligation(one, other)["treatment"]] for one in (before, after)]
        assert ranks[1] >= ranks[0], other


@relaxed
@given(drawn=contracted(), data=st.data())
def test_taking_a_recipient_or_a_purpose_away_never_gives_more(engine, drawn, data):
    content, _ = drawn
    before = decide(engine, content)
    part = data.draw(st.sampled_from(["purposes", "recipients"]))
    content["contract"][part] = [] if part == "purposes" else {"members": [], "classes": []}
    after = decide(engine, content)
    assert not after["allow"]
    assert "CONTRACT_NOT_APPLICABLE" in after["reasons"] or not before["allow"]


def test_questions_under_contract_are_allowed_often_enough_to_mean_something(engine):
    random = Random(7)
    results = [decide(engine, QUESTIONS.under_contract(random)) for _ in range(200)]
    assert sum(result["allow"] for result in results) > 60
    treatments = {one["treatment"] for result in results for one in result["obligations"].values()}
    assert treatments == set(STRICTNESS)


def test_a_policy_whose_contract_loosens_is_found_out(engine):
    """The control: with the terms of the contract in the place of the tier's treatment."""
    text = BUNDLE.modules["exchange/decision/fields.rego"]
    spoilt_text = text.replace("exact := bare & free", "exact := (bare & free) | (released & considered)")
    assert spoilt_text != text
    modules = {**BUNDLE.modules, "exchange/decision/fields.rego": spoilt_text}
    spoilt = EmbeddedEngine(dataclasses.replace(BUNDLE, modules=modules))
    asyncio.run(spoilt.start())
    random, found = Random(7), False
    for _ in range(200):
        content = QUESTIONS.under_contract(random)
        bare = copy.deepcopy(content)
        bare["contract"]["fields"] = {}
        try:
            assert_no_milder(decide(spoilt, content), decide(spoilt, bare), content["dataset"]["fields"])
        except (AssertionError, PolicyError):
            found = True
    assert found
    asyncio.run(spoilt.close())
