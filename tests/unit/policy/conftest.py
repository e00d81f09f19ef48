"""Shared by the tests of policy: the shipped bundle, questions about it, an OPA server that can misbehave."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from gateway.policy import Bundle, EmbeddedEngine, PolicyError, PolicyInput, load_bundle
from gateway.policy.golden import GoldenCase, load_cases

POLICIES = Path(__file__).parents[3] / "policies"


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    return load_bundle(POLICIES)


@pytest.fixture(scope="session")
def cases(bundle: Bundle) -> dict[str, GoldenCase]:
    return {case.title: case for case in load_cases(bundle, POLICIES / "cases")}


@pytest.fixture
def allowed_input(cases: dict[str, GoldenCase]) -> PolicyInput:
    return cases["limited: Another bank gets the same under its own memorandum"].policy_input


@pytest.fixture
def denied_input(cases: dict[str, GoldenCase]) -> PolicyInput:
    return cases["public: Credit is not checked in bulk"].policy_input


@pytest.fixture
def restricted_input(cases: dict[str, GoldenCase]) -> PolicyInput:
    return cases[
        "restricted: The Tax Office learns who represents an applicant (licensing, query)"
    ].policy_input


@pytest.fixture
async def embedded(bundle: Bundle) -> AsyncIterator[EmbeddedEngine]:
    engine = EmbeddedEngine(bundle)
    await engine.start()
    yield engine
    await engine.close()


@pytest.fixture
def bundle_copy(tmp_path: Path) -> Path:
    """A copy of the shipped bundle that a test may spoil."""
    return shutil.copytree(POLICIES, tmp_path / "policies")


Fault = Callable[[web.Request], Awaitable[web.StreamResponse]]


class OpaSimulator:
    """Answers `POST /v1/data/...` as OPA does, by the embedded engine; with `fault` set, as that says."""

    def __init__(self, engine: EmbeddedEngine) -> None:
        self._engine = engine
        self.fault: Fault | None = None
        self.requests: list[web.Request] = []
        self.released = asyncio.Event()
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        if self.fault is not None:
            return await self.fault(request)
        document = request.path.removeprefix("/v1/data/").replace("/", ".")
        if document == "bundle.digest":
            return web.json_response({"result": self._engine.bundle.digest})
        if document == "system.version.version":
            return web.json_response({"result": "1.20.2"})
        body = msgspec.json.decode(await request.read())
        try:
            answer = await self._engine.evaluate(document, msgspec.json.encode(body["input"]))
        except PolicyError:
            return web.json_response({})
        return web.json_response({"result": msgspec.json.decode(answer)})


@pytest.fixture
async def opa_simulator(embedded: EmbeddedEngine) -> AsyncIterator[OpaSimulator]:
    simulator = OpaSimulator(embedded)
    application = web.Application()
    application.router.add_post("/{path:.*}", simulator.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    simulator.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield simulator
    simulator.released.set()
    await runner.cleanup()
