"""The golden cases on both engines, and what the set of cases must cover."""

from __future__ import annotations

import dataclasses
import json
from itertools import product
from pathlib import Path

import msgspec
import pytest

from gateway.catalogue import Catalogue
from gateway.errors import Reason
from gateway.exchange.resolution import dataset_facts
from gateway.policy import PolicyError
from gateway.policy.errors import BundleError
from gateway.policy.golden import load_cases, run_cases
from gateway.policy.opa import OpaEngine

COMMON_PURPOSES = (
    "public-lookup", "tender-check", "credit-check", "licensing", "law-enforcement", "statistics",
)  # fmt: skip
# What no case is carried by: a measure that no memorandum names by itself, an article that only fails.
NOT_CARRYING = {"purposes": {"purposes.joint-discipline"}, "memoranda": set(), "legal_bases": set()}

POLICIES = Path(__file__).parents[2] / "policies"

# Denials that no question about the shipped data can bring about; the tests beside the rules do.
NOT_IN_SHIPPED_WORLD = {"duties.known", "facts.whole", "tiers.reach", "tiers.granted"}


async def test_the_embedded_engine_answers_every_case_as_the_law_wants(embedded, cases):
    assert await run_cases(embedded, cases) == ()


@pytest.mark.opa
async def test_a_real_opa_server_answers_every_case_as_the_law_wants(opa, cases):
    assert await run_cases(opa, cases) == ()


@pytest.mark.opa
async def test_both_engines_give_the_same_decisions_to_the_letter(opa, embedded, cases):
    for case in cases:
        ours = await embedded.decide(case.policy_input)
        theirs = await opa.decide(case.policy_input)
        assert msgspec.structs.replace(theirs, engine="") == msgspec.structs.replace(ours, engine=""), (
            case.title
        )


@pytest.mark.opa
async def test_a_real_opa_server_with_another_bundle_is_refused(opa_url, bundle):
    other = dataclasses.replace(bundle, digest="sha256:" + "0" * 64)
    with pytest.raises(PolicyError) as caught:
        await OpaEngine(other, opa_url).start()
    assert caught.value.reason is Reason.POLICY_STALE


async def test_a_case_that_is_answered_differently_is_told(embedded, cases):
    wrong = [
        dataclasses.replace(cases[0], expect=msgspec.structs.replace(cases[0].expect, **change))
        for change in (
            {"allow": False, "reasons": (Reason.PURPOSE_UNKNOWN,)},
            {"tier": "limited"},
            {"treatments": {}},
            {"rules": ("purposes.curiosity",)},
        )
    ]
    assert [mismatch.case for mismatch in await run_cases(embedded, wrong)] == wrong


def test_there_are_cases_for_every_tier_and_way_of_asking_of_the_common_purposes(bundle, cases):
    told = {(case.asked_tier, case.policy_input.purpose, case.policy_input.operation) for case in cases}
    wanted = set(product(bundle.data["tier_names"], COMMON_PURPOSES, ["query", "stream", "match"]))
    assert wanted - told == set()


@pytest.mark.parametrize("chapter", ["purposes", "memoranda", "legal_bases"])
async def test_there_is_a_case_that_everything_in_the_registers_carries(chapter, bundle, cases, embedded):
    carried = set()
    for case in cases:
        carried.update((await embedded.decide(case.policy_input)).rule_ids if case.expect.allow else ())
    assert {f"{chapter}.{name}" for name in bundle.data[chapter]} - carried == NOT_CARRYING[chapter]


def test_every_system_has_a_file_with_what_is_given_and_what_is_refused(cases):
    for row in range(1, 20):
        outcomes = [case.expect.allow for case in cases if case.title.startswith(f"system-{row:02}-")]
        assert {True, False} == set(outcomes), row


async def test_there_is_a_case_for_every_condition_and_every_reason(embedded, cases):
    conditions = json.loads(await embedded.evaluate("exchange.decision.conditions", b"{}"))
    told = {rule for case in cases for rule in case.expect.rules}
    assert conditions.keys() - told == NOT_IN_SHIPPED_WORLD
    reasons = {reason.value for case in cases for reason in case.expect.reasons}
    assert {condition["reason"] for condition in conditions.values()} - reasons == {"POLICY_UNDEFINED"}
    policy_reasons = set(list(Reason)[list(Reason).index(Reason.SIGNATURE_REQUIRED) :])
    assert reasons - {"PURPOSE_UNKNOWN", "TIER_UNKNOWN"} <= policy_reasons


def test_the_datasets_of_the_cases_are_those_of_the_catalogue(bundle, cases):
    catalogue = Catalogue.read(POLICIES / "datasets", bundle.data["tier_names"])
    known = {case.policy_input.dataset.name: case.policy_input.dataset for case in cases}
    assert {dataset.name: dataset_facts(dataset) for dataset in catalogue} == {
        dataset.name: known.get(dataset.name) for dataset in catalogue
    }
    entries = bundle.data["catalogue"]
    assert {dataset.citation for dataset in catalogue} <= set(entries)
    for dataset in catalogue:
        promised = None if dataset.freshness is None else dataset.freshness.days
        assert promised == entries[dataset.citation]["freshness_days"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("consumer: tradeplatform", "consumer: nobody"),
        ("dataset: companies", "dataset: nothing"),
        ("allow: true", "alow: true"),
        ("purpose: public-lookup", "purposes: public-lookup"),
    ],
)
def test_a_case_that_is_wrong_is_refused(old, new, bundle, tmp_path):
    for path in (POLICIES / "cases").glob("*.yaml"):
        (tmp_path / path.name).write_text(path.read_text())
    text = (tmp_path / "public.yaml").read_text()
    assert old in text
    (tmp_path / "public.yaml").write_text(text.replace(old, new, 1))
    with pytest.raises(BundleError):
        load_cases(bundle, tmp_path)
