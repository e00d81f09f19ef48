"""Golden cases and tests are run and told; coverage says what they leave out."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.policy import load_bundle
from gateway.policy_review.covering import measure
from gateway.policy_review.opa_binary import OpaBinary
from gateway.policy_review.testing import load_suite, rego_tests, run_embedded, run_opa

LOCAL_OPA = Path(__file__).parents[3] / ".tools/bin/opa"


@pytest.fixture
def suite(policy):
    bundle = load_bundle(policy)
    return bundle, load_suite(bundle, policy)


async def test_every_case_is_run(suite):
    bundle, cases = suite
    seen = []
    outcomes = await run_embedded(bundle, cases, lambda done, total: seen.append((done, total)))
    assert [outcome.name for outcome in outcomes] == [case.title for case in cases]
    assert seen[-1] == (len(outcomes), len(outcomes))
    assert [outcome for outcome in outcomes if not outcome.passed] == []


async def test_a_case_that_policy_answers_differently_is_told(policy, edit):
    edit("data/tiers.yaml", "signature: true", "signature: false")
    bundle = load_bundle(policy)
    failed = [each for each in await run_embedded(bundle, load_suite(bundle, policy)) if not each.passed]
    assert failed
    assert any("expected" in difference for each in failed for difference in each.differences)


@pytest.mark.opa
async def test_a_real_opa_runs_cases_and_tests_and_tells_what_does_not_hold(policy):
    opa = OpaBinary.find(LOCAL_OPA if LOCAL_OPA.exists() else None)
    if opa is None:
        pytest.skip("no opa binary: `make opa` installs one where Go is present")
    path = policy / "exchange/decision/reads_test.rego"
    path.write_text(path.read_text() + "\ntest_that_never_holds if input.nothing\n")
    bundle = load_bundle(policy)
    outcomes = await run_opa(opa, bundle, load_suite(bundle, policy)[:20])
    assert [each.name for each in outcomes if not each.passed] == [
        "exchange.decision_test.test_that_never_holds"
    ]
    assert len(outcomes) == 20 + len(rego_tests(bundle))


async def test_without_cases_nothing_is_covered_and_with_them_nearly_all(suite):
    bundle, cases = suite
    full = await measure(bundle, cases)
    bare = await measure(bundle, ())
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
