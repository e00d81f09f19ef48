"""The eight faults of an OPA server, as a member sees them: denied, each with its reason, within a second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web

from gateway.config import GatewayConfig
from gateway.demo.world import COMPANIES
from gateway.policy import EmbeddedEngine, load_bundle
from tests.simulators.outcome import refused
from tests.simulators.world import SimulatedWorld
from tests.unit.policy.conftest import OpaSimulator
from tests.unit.policy.test_opa import body, dribble, hang, pour, say_stale

pytestmark = pytest.mark.asyncio(loop_scope="module")

TIMEOUT_S = 0.4


class Sidecar:
    """An OPA server that misbehaves on command, and can be taken down."""

    def __init__(self, simulator: OpaSimulator) -> None:
        self.simulator = simulator
        self._runner: web.AppRunner | None = None
        self._port = 0

    async def start(self) -> None:
        application = web.Application()
        application.router.add_post("/{path:.*}", self.simulator.answer)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = self._runner.addresses[0][1]
        self.simulator.url = f"http://127.0.0.1:{self._port}"

    async def stop(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sidecar(tmp_path_factory) -> AsyncIterator[tuple[SimulatedWorld, Sidecar]]:
    world = SimulatedWorld(tmp_path_factory.mktemp("opa"), company_count=5)
    engine = EmbeddedEngine(load_bundle(world.config.policy.directory))
    await engine.start()
    sidecar = Sidecar(OpaSimulator(engine))
    await sidecar.start()

    def ask_opa(config: GatewayConfig) -> GatewayConfig:
        changed = {"engine": "opa", "opa_url": sidecar.simulator.url, "timeout_s": TIMEOUT_S}
        # Without the cache, so that every question reaches the server.
        policy = config.policy.model_copy(update={**changed, "cache_entries": 0})
        return config.model_copy(update={"policy": policy})

    await world.start(ask_opa)
    try:
        yield world, sidecar
        world.log.verify()
    finally:
        sidecar.simulator.released.set()
        await world.stop()
        await sidecar.stop()
        await engine.close()


FAULTS = {
    "slow": (dribble, "UNAVAILABLE", "POLICY_TIMEOUT"),
    "hanging": (hang, "UNAVAILABLE", "POLICY_TIMEOUT"),
    "undefined": (body(b"{}"), "PERMISSION_DENIED", "POLICY_UNDEFINED"),
    "wrong type": (body(b'{"result":7}'), "PERMISSION_DENIED", "POLICY_FAILED"),
    "malformed JSON": (body(b'{"result":'), "PERMISSION_DENIED", "POLICY_FAILED"),
    "huge body": (pour, "PERMISSION_DENIED", "POLICY_FAILED"),
    "stale bundle": (say_stale, "UNAVAILABLE", "POLICY_STALE"),
}


async def deny_within_a_second(world: SimulatedWorld, code: str, reason: str) -> None:
    caller = world.caller()
    asked = len(world.registry.orders)
    begun = time.monotonic()
    refusal = await refused(caller.query(caller.statement(COMPANIES, "public-lookup")))
    assert time.monotonic() - begun < 1
    world.assert_recorded(refusal, code, reason)
    assert len(world.registry.orders) == asked, "the provider was asked without a decision"


@pytest.mark.timed
@pytest.mark.parametrize("name", FAULTS)
async def test_a_query_is_denied_while_the_server_is(name: str, sidecar) -> None:
    world, server = sidecar
    fault, code, reason = FAULTS[name]
    server.simulator.released = asyncio.Event()
    server.simulator.fault = lambda request: fault(server.simulator, request)
    try:
        await deny_within_a_second(world, code, reason)
    finally:
        server.simulator.fault = None
        server.simulator.released.set()
    await world.works()  # the control: the same server in health


@pytest.mark.timed
async def test_a_query_is_denied_while_the_server_is_down(sidecar) -> None:
    world, server = sidecar
    await server.stop()
    try:
        await deny_within_a_second(world, "UNAVAILABLE", "POLICY_UNAVAILABLE")
    finally:
        await server.start()
    await world.works()
