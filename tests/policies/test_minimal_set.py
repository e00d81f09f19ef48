"""The smallest policy set of the documentation: with the shipped rules it loads, and its cases hold."""

from __future__ import annotations

import shutil
from pathlib import Path

from gateway.catalogue import Catalogue
from gateway.exchange.resolution import dataset_facts
from gateway.policy import EmbeddedEngine, load_bundle
from gateway.policy.golden import load_cases, run_cases

ROOT = Path(__file__).parents[2]
MINIMAL = ROOT / "docs/minimal-policies"


async def test_the_smallest_policy_set_loads_and_decides_as_its_cases_say(tmp_path):
    directory = shutil.copytree(MINIMAL, tmp_path / "my-policies")
    shutil.copytree(ROOT / "policies/exchange", directory / "exchange")
    shutil.copy(ROOT / "policies/capabilities.json", directory)
    bundle = load_bundle(directory)
    cases = load_cases(bundle, directory / "cases")
    engine = EmbeddedEngine(bundle)
    await engine.start()
    assert await run_cases(engine, cases) == ()
    assert {case.expect.allow for case in cases} == {True, False}
    await engine.close()
    catalogue = Catalogue.read(directory / "datasets", bundle.data["tier_names"])
    assert [dataset_facts(dataset) for dataset in catalogue] == [cases[0].policy_input.dataset]
