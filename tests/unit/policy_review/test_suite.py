"""Golden cases and tests are run and told; coverage says what they leave out."""

from __future__ import annotations

import pytest

from gateway.policy import load_bundle
from gateway.policy_review.covering import measure
from gateway.policy_review.testing import load_suite, rego_tests, run_embedded


@pytest.fixture
def suite(policy):
    bundle = load_bundle(policy)
    return bundle, load_suite(bundle, policy)


async def test_every_case_and_every_test_is_run(suite):
    bundle, cases = suite
    seen = []
    outcomes = await run_embedded(bundle, cases, lambda done, total: seen.append((done, total)))
    assert [outcome.name for outcome in outcomes] == [case.title for case in cases] + list(rego_tests(bundle))
    assert seen[-1] == (len(outcomes), len(outcomes))
    assert [outcome for outcome in outcomes if not outcome.passed] == []


async def test_a_case_that_policy_answers_differently_is_told(policy, edit):
    edit("data/tiers.yaml", "signature: true", "signature: false")
    bundle = load_bundle(policy)
    failed = [each for each in await run_embedded(bundle, load_suite(bundle, policy)) if not each.passed]
    assert failed
    assert any("expected" in difference for each in failed for difference in each.differences)


async def test_a_test_beside_the_rules_that_does_not_hold_is_told(policy):
    path = policy / "exchange/decision/reads_test.rego"
    path.write_text(path.read_text() + "\ntest_that_never_holds if input.nothing\n")
    bundle = load_bundle(policy)
    failed = [each.name for each in await run_embedded(bundle, ()) if not each.passed]
    assert failed == ["exchange.decision_test.test_that_never_holds"]


async def test_without_cases_nothing_is_covered_and_with_them_nearly_all(suite):
    bundle, cases = suite
    full = await measure(bundle, cases)
    bare = await measure(bundle, (), with_tests=False)
    assert full.percent >= 95
    assert bare.reached < full.reached
    assert bare.allowed == 0
    assert all(not each.denials for each in bare.conditions)
    assert sum(each.denials for each in full.conditions) > 50


async def test_a_rule_that_nothing_reaches_is_told_with_its_line(policy, suite):
    path = policy / "exchange/decision/reads.rego"
    path.write_text(
        path.read_text() + '\n# METADATA\n# title: Idle\nidle := "never" if input.time == "never"\n'
    )
    bundle = load_bundle(policy)
    found = await measure(bundle, suite[1])
    [idle] = [rule for rule in found.rules if rule.name == "idle"]
    assert idle.missed == (len(path.read_text().splitlines()),)
    assert (idle.title, idle.reached) == ("Idle", 0)
