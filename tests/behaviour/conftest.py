"""Worlds for the behaviour tests: one for each module, or a fresh one for a test that breaks it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway.pki.tls13 import require_tls13
from tests.simulators.world import SimulatedWorld

require_tls13()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SimulatedWorld]:
    """A running world that the tests of a module share; at its end the log must be sound."""
    world = await SimulatedWorld(tmp_path_factory.mktemp("world")).start()
    try:
        yield world
        world.log.verify()
    finally:
        await world.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def world(shared_world: SimulatedWorld) -> AsyncIterator[SimulatedWorld]:
    """The module's world; after each test it must work as before, and its log must be sound."""
    yield shared_world
    shared_world.registry.fault = None
    shared_world.registry.gate.set()
    shared_world.node.scripted.fault = None
    await shared_world.works()
    shared_world.log.verify()


@pytest_asyncio.fixture(loop_scope="module")
async def own_world(tmp_path) -> AsyncIterator[SimulatedWorld]:
    """A running world for one test."""
    world = await SimulatedWorld(tmp_path / "world").start()
    try:
        yield world
    finally:
        await world.stop()
