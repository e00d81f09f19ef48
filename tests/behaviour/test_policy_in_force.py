"""A policy that two people put into force, as members see it: changed under a stream, stale, confirmed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.activation.errors import NotInForceError
from gateway.activation.statement import Action
from gateway.client import ClientError
from gateway.config import GatewayConfig
from gateway.demo.world import COMPANIES
from gateway.errors import GatewayError
from gateway.model import EntryKind, Operation
from gateway.policy.bundle_file import PackedBundle
from tests.simulators.activation import People, packed_policy, put_into_force
from tests.simulators.outcome import refused
from tests.simulators.waiting import until
from tests.simulators.world import SimulatedWorld

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class InForce:
    """A world whose policy two people put into force."""

    world: SimulatedWorld
    people: People
    directory: Path

    def packed(self, revision: int) -> PackedBundle:
        return packed_policy(self.world.config.policy.directory, self.directory, revision)

    async def put(self, packed: PackedBundle, action: Action = Action.ACTIVATE) -> None:
        world = self.world
        await asyncio.to_thread(
            put_into_force, world.deployment.load(), self.people, packed, action, world.clock
        )

    async def serves(self) -> bool:
        try:
            await self.world.works()
        except (ClientError, GatewayError):
            return False
        return True


@pytest_asyncio.fixture(loop_scope="module")
async def in_force(tmp_path) -> AsyncIterator[InForce]:
    world = SimulatedWorld(tmp_path / "world")
    people = People.make()
    config = world.deployment.config
    config.write_text(config.read_text() + people.section(max_age_h=24))
    made = InForce(world, people, tmp_path)
    await made.put(made.packed(1))
    await world.start()
    try:
        yield made
        world.log.verify()
    finally:
        await world.stop()


async def test_a_stream_ends_under_the_bundle_that_began_it(in_force: InForce) -> None:
    world, first, second = in_force.world, in_force.packed(1), in_force.packed(2)
    world.registry.gate.clear()
    caller = world.caller()
    stream = caller.stream(caller.statement(COMPANIES, "public-lookup", Operation.STREAM), page_size=10)
    received = [await anext(stream)]
    await in_force.put(second)

    async def decided_by() -> set[str]:
        await world.works()
        released = [each for each in world.log.entries() if each.kind is EntryKind.EXCHANGE_RELEASED]
        return {released[-1].bundle}

    async def has_changed() -> bool:
        return await decided_by() == {second.bundle.digest}

    await until(has_changed)
    world.registry.gate.set()
    received.extend([message async for message in stream])
    assert received[-1].HasField("receipt")
    closing = [each for each in world.log.entries() if each.kind is EntryKind.EXCHANGE_RELEASED][-1]
    assert (closing.operation, closing.bundle) == ("stream", first.bundle.digest)


async def test_a_policy_that_nobody_confirms_denies_everything_in_the_end(in_force: InForce) -> None:
    world = in_force.world
    world.clock.advance(timedelta(hours=23))
    await world.works()
    world.clock.advance(timedelta(hours=1))
    caller = world.caller()
    refusal = await refused(caller.query(caller.statement(COMPANIES, "public-lookup")))
    world.assert_recorded(refusal, "UNAVAILABLE", "POLICY_STALE")
    assert "sluicegate_policy_age_seconds 86" in world.metrics_text()
    await in_force.put(in_force.packed(1), Action.CONFIRM)
    await until(in_force.serves)


async def test_a_gateway_does_not_start_without_a_policy_in_force(in_force: InForce) -> None:
    world = in_force.world
    await world.stop_node()
    activation = world.deployment.load().policy.activation
    assert activation is not None
    moved = activation.database.rename(activation.database.with_suffix(".away"))
    with pytest.raises(GatewayError, match="restore the store"):
        await world.start_node()
    moved.rename(activation.database)
    await world.start_node()
    await world.works()


async def test_a_gateway_that_was_never_given_a_policy_says_what_to_do(tmp_path) -> None:
    world = SimulatedWorld(tmp_path / "world", company_count=3)
    config = world.deployment.config
    config.write_text(config.read_text() + People.make().section())
    with pytest.raises(NotInForceError, match="gateway policy activate"):
        await world.start()


async def test_without_activation_a_bundle_file_serves_as_well_as_a_folder(tmp_path) -> None:
    world = SimulatedWorld(tmp_path / "world", company_count=3)
    packed = packed_policy(world.config.policy.directory, tmp_path, 7)
    file = tmp_path / "7.tar.gz"
    file.write_bytes(packed.content)

    def from_file(config: GatewayConfig) -> GatewayConfig:
        return config.model_copy(update={"policy": config.policy.model_copy(update={"directory": file})})

    await world.start(from_file)
    try:
        await world.works()
        assert world.log.entries()[-1].bundle == packed.bundle.digest
    finally:
        await world.stop()
