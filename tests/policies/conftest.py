"""Shared by the tests of the shipped policies: both engines, a real OPA server where its binary is."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.policy import Bundle, EmbeddedEngine, load_bundle, write_opa_directory
from gateway.policy.golden import GoldenCase, load_cases
from gateway.policy.opa import OpaEngine

ROOT = Path(__file__).parents[2]
POLICIES = ROOT / "policies"
START_LIMIT_S = 15


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    return load_bundle(POLICIES)


@pytest.fixture(scope="session")
def cases(bundle: Bundle) -> tuple[GoldenCase, ...]:
    return load_cases(bundle, POLICIES / "cases")


@pytest.fixture(scope="session")
def opa_binary() -> str:
    """Path of the OPA binary; `make opa` puts it where this looks first."""
    local = ROOT / ".tools/bin/opa"
    found = str(local) if os.access(local, os.X_OK) else shutil.which("opa")
    if found is None:
        pytest.skip("no opa binary: `make opa` installs one where Go is present")
    return found


@pytest.fixture(scope="session")
def opa_url(opa_binary: str, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real OPA server that serves the shipped bundle."""
    served = tmp_path_factory.mktemp("opa") / "served"
    write_opa_directory(bundle, served)
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    command = [
        opa_binary,
        "run",
        "--server",
        "--disable-telemetry",
        "--log-level=error",
        f"--addr=127.0.0.1:{port}",
    ]
    with subprocess.Popen([*command, str(served)]) as server:
        try:
            wait_until_listening(server, port)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def wait_until_listening(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        assert server.poll() is None, "the OPA server ended while it started"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except ConnectionRefusedError:
            time.sleep(0.02)
        else:
            return
    pytest.fail("the OPA server did not listen in time")


@pytest.fixture
async def embedded(bundle: Bundle) -> AsyncIterator[EmbeddedEngine]:
    engine = EmbeddedEngine(bundle)
    await engine.start()
    yield engine
    await engine.close()


@pytest.fixture
async def opa(bundle: Bundle, opa_url: str) -> AsyncIterator[OpaEngine]:
    engine = OpaEngine(bundle, opa_url, timeout_s=1.0)
    await engine.start()
    yield engine
    await engine.close()
