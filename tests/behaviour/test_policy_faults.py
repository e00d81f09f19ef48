"""What policy engines do wrong: undefined, failing, slow, stale, or asking for what cannot be done."""

from __future__ import annotations

import json
import time

import grpc
import pytest

from gateway.catalogue import CatalogueError
from gateway.demo.world import COMPANIES
from gateway.errors import ConfigError
from gateway.model import Decision, EntryKind, Operation
from gateway.policy.policy_input import PolicyInput
from tests.simulators.outcome import refusal_of, refused
from tests.simulators.policy import PolicyFault
from tests.simulators.waiting import until
from tests.simulators.world import SimulatedWorld

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


@pytest.mark.timed
@pytest.mark.parametrize(("timeout_s", "most_s"), [(0.5, 0.5), (10.0, 1.5)])
async def test_an_engine_that_hangs_is_given_up(
    world: SimulatedWorld, timeout_s: float, most_s: float
) -> None:
    """The engines of the product give up by themselves; one that does not is cut: after a second at most."""
    world.node.scripted.fault = PolicyFault.HANGS
    caller = world.caller()
    began = time.monotonic()
    refusal = await refused(caller.query(caller.statement(COMPANIES, "public-lookup"), timeout_s=timeout_s))
    assert time.monotonic() - began < most_s
    world.assert_recorded(refusal, "UNAVAILABLE", "POLICY_TIMEOUT")


SECRET_TEXT = "keys/gateway.key of 110101199003070134"


@pytest.mark.parametrize("error", [ConfigError(SECRET_TEXT, path=SECRET_TEXT), ValueError(SECRET_TEXT)])
async def test_a_fault_of_our_own_is_told_to_operators_and_to_nobody_else(
    world: SimulatedWorld, monkeypatch, error: Exception
) -> None:
    async def decide(policy_input: PolicyInput) -> Decision:
        raise error

    monkeypatch.setattr(world.node.scripted, "decide", decide)
    caller = world.caller()
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await caller.query(caller.statement(COMPANIES, "public-lookup"))
    refusal = refusal_of(raised.value)
    world.assert_recorded(refusal, "INTERNAL", "INTERNAL")
    assert refusal.details.keys() == {"exchange", "entry", "reference"}
    told = f"{refusal} {raised.value.debug_error_string()} {raised.value.trailing_metadata()}"
    assert not any(word in told for word in ("keys/", "110101199003070134", type(error).__name__))
    await until(lambda: refusal.details["reference"] in world.output.getvalue())
    [line] = [
        json.loads(line)
        for line in world.output.getvalue().splitlines()
        if refusal.details["reference"] in line
    ]
    assert (line["event"], line["error_type"]) == ("fault.recorded", type(error).__name__)


async def test_a_fault_outside_an_exchange_is_no_less_secret(world: SimulatedWorld, monkeypatch) -> None:
    async def decide(policy_input: PolicyInput) -> Decision:
        raise ValueError(SECRET_TEXT)

    monkeypatch.setattr(world.node.scripted, "decide", decide)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await world.caller().unary("/gateway.api.v1.CatalogService/ListDatasets", b"")
    refusal = refusal_of(raised.value)
    assert (refusal.code, refusal.reason) == ("INTERNAL", "INTERNAL")
    assert refusal.details.keys() == {"reference"}
    assert "110101199003070134" not in f"{refusal} {raised.value.debug_error_string()}"
    await until(lambda: refusal.details["reference"] in world.output.getvalue())


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
