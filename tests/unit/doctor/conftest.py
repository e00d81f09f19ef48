"""A deployment that was started and stopped once, and the doctor's findings on it."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from gateway.clock import system_clock
from gateway.config import GatewayConfig
from gateway.demo.world import build_world
from gateway.doctor import Finding, examine_deployment
from gateway.node import Node

Examine = Callable[..., dict[str, list[Finding]]]


@pytest.fixture(scope="session")
def started_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world at a place of its own; it is copied back there for each test, as paths are settings."""
    directory = tmp_path_factory.mktemp("doctor") / "world"
    build_world(directory, gateway_port=0, registry_port=0, tax_port=0, company_count=3)

    async def run() -> None:
        node = Node(GatewayConfig.load(directory / "gateway" / "config.toml"))
        await node.start()
        await node.stop()

    asyncio.run(run())
    shutil.copytree(directory, directory.with_name("pristine"))
    return directory


@pytest.fixture
def directory(started_once: Path) -> Path:
    shutil.rmtree(started_once)
    shutil.copytree(started_once.with_name("pristine"), started_once)
    return started_once / "gateway"


@pytest.fixture
def config(directory: Path) -> GatewayConfig:
    return GatewayConfig.load(directory / "config.toml")


@pytest.fixture
def examine(directory: Path) -> Examine:
    """Return a function that examines the deployment as its files are now."""

    def examine(now=None, **options: object) -> dict[str, list[Finding]]:
        path = directory / "config.toml"
        found: dict[str, list[Finding]] = {}
        for finding in examine_deployment(GatewayConfig.load(path), path, now or system_clock(), **options):
            found.setdefault(finding.check, []).append(finding)
        return found

    return examine


@pytest.fixture
def run_sql() -> Callable[..., None]:
    """Return a function that changes a database file behind everybody's back."""

    def run(path: Path, *statements: str) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            for statement in statements:
                database.execute(statement)
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    return run
