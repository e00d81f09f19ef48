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
from gateway.policy import EmbeddedEngine, PolicyError
from gateway.policy.errors import BundleError
from gateway.policy.golden import load_cases, run_cases
from gateway.policy.opa import OpaEngine

POLICIES = Path(__file__).parents[2] / "policies"

# Denials that no question about the shipped data can bring about; the tests beside the rules do.
NOT_IN_SHIPPED_WORLD = {"facts.whole", "tiers.reach", "tiers.granted"}


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


def test_there_are_cases_for_every_tier_purpose_and_operation(bundle, cases):
    told = {(case.asked_tier, case.policy_input.purpose, case.policy_input.operation) for case in cases}
    wanted = set(product(bundle.data["tier_names"], bundle.data["purposes"], ["query", "stream", "match"]))
    assert wanted - told == set()
    assert len(cases) >= 40


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
    for name in ("members/registry/datasets/companies", "members/tax/datasets/arrears"):
        described = catalogue.dataset(name)
        facts = {
            field.name: (field.tier, field.identifier, field.generalise)
            for field in described.fields.values()
        }
        assert (described.tier, described.dataset_class) == (known[name].tier, known[name].dataset_class)
        assert facts == {
            field: (fact.tier, fact.identifier, fact.generalise) for field, fact in known[name].fields.items()
        }


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


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("purposes.rego", "if input.consumer.class in purpose.member_classes", "if purpose"),
        ("purposes.rego", "if input.dataset.class in purpose.dataset_classes", "if purpose"),
        ("purposes.rego", "if input.dataset.tier in purpose.tiers", "if purpose"),
        ("purposes.rego", "if input.operation in purpose.operations", "if purpose"),
        ("purposes.rego", 'if input.dataset.class != "score"', "if purpose"),
        ("memoranda.rego", "	input.provider.id == memorandum.provider\n", ""),
        ("memoranda.rego", "	input.consumer.id in memorandum.consumers\n", ""),
        ("memoranda.rego", "	input.dataset.name in memorandum.datasets\n", ""),
        ("memoranda.rego", "	input.purpose in memorandum.purposes\n", ""),
        ("memoranda.rego", "input.time < memorandum.valid_until", "input.time <= memorandum.valid_until"),
        ("legal_bases.rego", "if input.legal_basis in memorandum.legal_bases", "if memorandum"),
        ("legal_bases.rego", "if input.purpose in basis.purposes", "if basis"),
        ("legal_bases.rego", "	input.time < basis.valid_until\n", ""),
        ("legal_bases.rego", "if requirements.legal_basis == false", "if requirements"),
        ("tiers.rego", "if input.signed == true", "if input.time"),
        ("tiers.rego", "if dataset_tier.memorandum == false", "if dataset_tier"),
        ("tiers.rego", "	tier.rank <= offered_rank\n", ""),
        (
            "tiers.rego",
            "	classes[input.consumer.class]\n	classes[input.provider.class]\n",
            "	classes\n",
        ),
        (
            "obligations.rego",
            "	ranked[field.tier].rank <= highest\n",
            "	ranked[field.tier].rank <= highest + 9\n",
        ),
        ("obligations.rego", "	field.identifier in kinds\n", "	count(kinds) > 0\n"),
        ("obligations.rego", "	field.tier == granted\n", ""),
        ("obligations.rego", "if count(named - shown) == 0", "if named"),
        ("obligations.rego", "if count(considered & shown) > 0", "if considered"),
        ("reads.rego", "pseudonymised)) == 0", "pseudonymised)) >= 0"),
        ("decision.rego", '"purposes.member_class":', '"purposes.known":'),
    ],
)
async def test_a_policy_with_a_condition_taken_away_is_caught_by_the_cases(file, old, new, bundle, cases):
    path = f"exchange/decision/{file}"
    assert old in bundle.modules[path]
    spoilt = dataclasses.replace(
        bundle, modules={**bundle.modules, path: bundle.modules[path].replace(old, new)}
    )
    engine = EmbeddedEngine(spoilt)
    await engine.start()
    assert await run_cases(engine, cases) != ()
    await engine.close()
