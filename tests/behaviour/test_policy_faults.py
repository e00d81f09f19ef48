"""What policy engines do wrong: undefined, failing, slow, stale, or asking for what cannot be done."""

from __future__ import annotations

import pytest

from gateway.catalogue import CatalogueError
from gateway.demo.world import COMPANIES
from gateway.model import EntryKind, Operation
from tests.simulators.outcome import refused
from tests.simulators.policy import PolicyFault
from tests.simulators.waiting import until
from tests.simulators.world import CLOSING_KINDS, SimulatedWorld

pytestmark = pytest.mark.asyncio(loop_scope="module")

FAULTS = {
    PolicyFault.UNDEFINED: ("PERMISSION_DENIED", "POLICY_UNDEFINED"),
    PolicyFault.FAILS: ("PERMISSION_DENIED", "POLICY_FAILED"),
    PolicyFault.PANICS: ("INTERNAL", "INTERNAL"),
    PolicyFault.TIMES_OUT: ("UNAVAILABLE", "POLICY_TIMEOUT"),
    PolicyFault.UNAVAILABLE: ("UNAVAILABLE", "POLICY_UNAVAILABLE"),
    PolicyFault.STALE: ("UNAVAILABLE", "POLICY_STALE"),
    PolicyFault.UNKNOWN_GENERALISATION: ("PERMISSION_DENIED", "OBLIGATION_UNSUPPORTED"),
    PolicyFault.PSEUDONYM_OF_NO_IDENTIFIER: ("PERMISSION_DENIED", "OBLIGATION_UNSUPPORTED"),
    PolicyFault.MASK_OF_A_NUMBER: ("PERMISSION_DENIED", "OBLIGATION_UNSUPPORTED"),
    PolicyFault.NEGATIVE_MASK: ("PERMISSION_DENIED", "OBLIGATION_UNSUPPORTED"),
    PolicyFault.DROPS_EVERYTHING: ("PERMISSION_DENIED", "NOTHING_PERMITTED"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_query_is_denied_when_policy(world: SimulatedWorld, fault: PolicyFault) -> None:
    world.node.scripted.fault = fault
    code, reason = FAULTS[fault]
    caller = world.caller()
    asked = len(world.registry.orders)
    refusal = await refused(caller.query(caller.statement(COMPANIES, "public-lookup")))
    entry = world.assert_recorded(refusal, code, reason)
    assert entry.kind is EntryKind.EXCHANGE_DENIED
    assert len(world.registry.orders) == asked, "the provider was asked without a decision"
    assert "110101199003070134" not in f"{refusal} {world.output.getvalue()}"


async def test_an_engine_that_hangs_holds_no_call_beyond_its_deadline(world: SimulatedWorld) -> None:
    """The engines of the product give up by themselves; one that does not is cut by the deadline."""
    world.node.scripted.fault = PolicyFault.HANGS
    caller = world.caller()
    first = world.log.size()
    refusal = await refused(caller.query(caller.statement(COMPANIES, "public-lookup"), timeout_s=0.5))
    assert refusal.code == "DEADLINE_EXCEEDED"

    def closing() -> list[tuple[str, ...]]:
        return [entry.reasons for entry in world.log.entries(first) if entry.kind in CLOSING_KINDS]

    await until(closing)
    assert closing() in ([("CANCELLED",)], [("POLICY_TIMEOUT",)])


async def test_a_stream_is_denied_without_a_page(world: SimulatedWorld) -> None:
    world.node.scripted.fault = PolicyFault.FAILS
    caller = world.caller()
    stream = caller.stream(caller.statement(COMPANIES, "public-lookup", Operation.STREAM))
    refusal = await refused(anext(stream))
    world.assert_recorded(refusal, "PERMISSION_DENIED", "POLICY_FAILED")


async def test_a_tier_that_policy_does_not_know_stops_the_start(tmp_path) -> None:
    world = SimulatedWorld(tmp_path / "world", company_count=3)
    describe_at_an_unknown_tier(world)
    with pytest.raises(CatalogueError, match="tier must be one of"):
        await world.start()


async def test_a_tier_that_policy_does_not_know_is_denied(tmp_path, monkeypatch) -> None:
    """Should such a description get past the start, policy denies whatever is asked of it."""
    world = SimulatedWorld(tmp_path / "world", company_count=3)
    describe_at_an_unknown_tier(world)
    monkeypatch.setattr("gateway.node.tier_names", lambda bundle: [*bundle.data["tiers"], "secret"])
    await world.start()
    try:
        caller = world.caller()
        refusal = await refused(caller.query(caller.statement(COMPANIES, "public-lookup")))
        world.assert_recorded(refusal, "PERMISSION_DENIED", "TIER_UNKNOWN")
    finally:
        await world.stop()


def describe_at_an_unknown_tier(world: SimulatedWorld) -> None:
    description = world.deployment.directory / "catalogue" / "registry-companies.yaml"
    text = description.read_text()
    described = text.replace("{property: tier, value: public}", "{property: tier, value: secret}")
    assert described != text
    description.write_text(described)
