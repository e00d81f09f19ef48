"""Corrections on two nodes: announced at one, heard at the other within a second, answered at either."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.client import error_class
from gateway.client.corrections import ReceivedNotice
from gateway.demo.world import COMPANIES
from gateway.errors import ConfigError, Reason
from gateway.evidence.correction import AnswerOutcome, CorrectionKind, CorrectionReason
from gateway.node import Node
from tests.simulators.postgres import PostgresServer
from tests.simulators.two_nodes import TwoNodes, named

pytestmark = [pytest.mark.postgres, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(loop_scope="module")
async def world(tmp_path: Path, server: PostgresServer) -> AsyncIterator[TwoNodes]:
    world = TwoNodes(tmp_path / "world", server)
    path = world.config.catalogue / "registry-companies.yaml"
    asked = "  - {property: corrections, value: uscc}\n  - {property: tier"
    path.write_text(path.read_text().replace("  - {property: tier", asked, 1))
    await world.start()
    try:
        yield world
        world.log.verify()
    finally:
        await world.stop()


@pytest.mark.timed
async def test_a_correction_announced_at_one_node_is_heard_at_the_other_within_a_second(
    world: TwoNodes,
) -> None:
    code = world.companies[1].uscc
    await world.on(0).client().query(COMPANIES, purpose="public-lookup", filters={"uscc": code})
    there, heard = world.on(1).client(), asyncio.Queue[ReceivedNotice]()
    assert [item async for item in there.corrections.waiting()] == []

    async def listen() -> None:
        async for item in there.corrections.watch():
            await heard.put(item)

    listening = asyncio.create_task(listen())
    holder = world.on(0).client("registry")
    try:
        for _ in range(2):
            begun = time.monotonic()
            correction = await holder.corrections.announce(
                COMPANIES, CorrectionKind.WITHDRAWN, CorrectionReason.ERROR, [{"uscc": code}]
            )
            announced_s = time.monotonic() - begun
            async with asyncio.timeout(5):
                received = await heard.get()
            assert received.notice.correction in correction.name
            assert time.monotonic() - begun - announced_s < 1
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
    here = world.on(0).client()
    await here.corrections.answer(received, AnswerOutcome.DELETED)
    with pytest.raises(error_class(Reason.REPLAYED)):
        await there.corrections.answer(received, AnswerOutcome.DELETED)
    assert len([item async for item in there.corrections.waiting()]) == 1, "the first is not answered"


async def test_a_node_with_another_key_of_corrections_serves_nobody(world: TwoNodes, tmp_path: Path) -> None:
    """Its tokens would find nothing, and nobody would notice. Control: with the same key it starts."""
    other = tmp_path / "other.key"
    other.write_bytes(bytes(32))
    other.chmod(0o600)
    config = named(world.deployment.load(), 2)
    changed = config.model_copy(update={"corrections": config.corrections.model_copy(update={"key": other})})
    node = Node(changed, clock=world.clock)
    with pytest.raises(ConfigError, match="corrections"):
        await node.start()
    node = Node(config, clock=world.clock)
    await node.start()
    await node.stop()
