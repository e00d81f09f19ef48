"""The policy that `make bench-policy` measures is one that a gateway would load."""

from __future__ import annotations

from gateway.policy.bundle import load_bundle
from gateway.policy.embedded import EmbeddedEngine
from tests.bench.policy import question, write_policies


async def test_the_measured_policy_loads_and_allows_the_measured_question(tmp_path):
    engine = EmbeddedEngine(load_bundle(write_policies(tmp_path / "policies")))
    await engine.start()
    try:
        assert (await engine.decide(question())).allow
    finally:
        await engine.close()
