"""Rules with a condition taken away: the golden cases, or the tests beside the rules, must notice each."""

from __future__ import annotations

import dataclasses

import pytest

from gateway.policy import Bundle, EmbeddedEngine, PolicyError
from gateway.policy.golden import GoldenCase, run_cases
from gateway.policy.syntax import parse_modules


async def is_noticed(bundle: Bundle, cases: tuple[GoldenCase, ...]) -> bool:
    with_tests = dataclasses.replace(bundle, modules={**bundle.modules, **bundle.tests})
    engine = EmbeddedEngine(with_tests)
    try:
        await engine.start()
        if await run_cases(engine, cases):
            return True
        for module in parse_modules(bundle.tests):
            for rule in module.rules:
                if rule.name.startswith("test_"):
                    await engine.evaluate(".".join((*module.package, rule.name)), b"{}")
    except PolicyError:
        return True
    finally:
        await engine.close()
    return False


async def test_the_policy_as_it_stands_gives_nothing_to_notice(bundle, cases):
    assert not await is_noticed(bundle, cases)


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
        ("obligations.rego", "ranked[field.tier].rank <= highest", "ranked[field.tier].rank <= highest + 9"),
        ("obligations.rego", "	field.identifier in kinds\n", "	count(kinds) > 0\n"),
        ("obligations.rego", "	field.tier == granted\n", ""),
        ("obligations.rego", "if count(named - shown) == 0", "if named"),
        ("obligations.rego", "if count(considered & shown) > 0", "if considered"),
        ("reads.rego", "pseudonymised)) == 0", "pseudonymised)) >= 0"),
        ("decision.rego", "count(unproven) == 0", "count(unproven) <= 1"),
    ],
)
async def test_a_condition_taken_away_is_noticed(file, old, new, bundle, cases):
    path = f"exchange/decision/{file}"
    assert old in bundle.modules[path]
    spoilt = {**bundle.modules, path: bundle.modules[path].replace(old, new)}
    assert await is_noticed(dataclasses.replace(bundle, modules=spoilt), cases)
