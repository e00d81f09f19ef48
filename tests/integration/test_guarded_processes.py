"""`gateway serve` against an older log, a member swapped behind its back, and processes that die."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway.audit.sqlite_reader import SqliteReader
from gateway.demo.processes import free_ports
from gateway.demo.world import World, build_world
from gateway.evidence.keys import SigningKey
from gateway.timestamps.store import TimestampStore
from gateway.timestamps.token import Authorities
from tests.integration.test_gateway_processes import ask, examine, holds, running
from tests.simulators.timestamp_authority import OpensslAuthority, serving
from tests.simulators.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="function")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    ports = dict(zip(("gateway_port", "registry_port", "tax_port"), free_ports(3), strict=True))
    world = build_world(tmp_path, **ports, company_count=5)
    with running("provider", "--config", world.provider_configs[0]) as registry:
        registry.wait_for("provider.started")
        yield world


def entries(world: World) -> list[dict[str, Any]]:
    with SqliteReader(world.deployment.load().log.database) as reader:
        return [json.loads(reader.entry(index).data) for index in range(reader.size())]


def kinds(world: World) -> list[str]:
    return [entry["kind"] for entry in entries(world)]


def write_setting(world: World, line: str) -> None:
    path = world.deployment.config
    path.write_text(path.read_text().replace("[log]\n", f"[log]\n{line}\n"))


@pytest.mark.parametrize("anchored", [True, False], ids=["with an anchor", "the control: without"])
async def test_yesterdays_log_is_refused_by_its_anchor(world: World, tmp_path: Path, anchored: bool) -> None:
    database = world.deployment.load().log.database
    yesterday = database.read_bytes()
    if anchored:
        write_setting(world, f'anchor = "{tmp_path / "anchor"}"')
        with running("audit", "anchor", "--output", "jsonl", "--config", world.deployment.config) as command:
            assert command.process.wait(30) == 0
    with running("serve", "--config", world.deployment.config) as gateway:
        gateway.wait_for("gateway.started")
        assert await ask(world) == ""
        assert gateway.stop() == 0
    examine(world)
    for path in database.parent.glob("audit.db*"):
        path.unlink()
    database.write_bytes(yesterday)
    database.chmod(0o600)
    with running("serve", "--config", world.deployment.config) as gateway:
        if not anchored:
            gateway.wait_for("gateway.started")
            assert gateway.stop() == 0
            return
        _, told = gateway.process.communicate(timeout=30)
        assert gateway.process.returncode == 3
        assert "this is an older copy" in told
        assert "new origin" in told
    assert database.read_bytes() == yesterday, "nothing was appended"


async def test_a_member_changed_behind_its_back_is_refused_within_a_second(world: World) -> None:
    """Whoever can write to the member store can neither register a key nor take a member's place unseen."""
    config = world.deployment.load()
    with running("serve", "--config", world.deployment.config) as gateway:
        gateway.wait_for("gateway.started")
        assert await ask(world) == ""
        with closing(sqlite3.connect(config.members.database)) as database, database:
            database.execute("UPDATE members SET roles = 'auditor,consumer' WHERE id = 'harbour-bank'")
            database.execute("UPDATE registry SET revision = revision + 1")
        await until(lambda: _refused(world), within_s=3)
        told = gateway.wait_for("members.contradicted")
        assert told["member"] == "harbour-bank"
        assert "roles" in told["message"]
        with closing(sqlite3.connect(config.members.database)) as database, database:
            database.execute("UPDATE members SET roles = 'consumer' WHERE id = 'harbour-bank'")
            database.execute("UPDATE registry SET revision = revision + 1")
        await until(lambda: _answered(world), within_s=3)
        assert gateway.stop() == 0


async def _refused(world: World) -> bool:
    return await ask(world) == "MEMBER_SUSPENDED"


async def _answered(world: World) -> bool:
    return await ask(world) == ""


async def test_who_died_is_told_by_who_follows(world: World) -> None:
    with running("serve", "--config", world.deployment.config, "--workers", "2") as gateway:
        for _ in range(2):
            gateway.wait_for("gateway.started")
        os.kill(gateway.below()[1], signal.SIGKILL)
        gateway.wait_for("gateway.started")
        crashes = [entry for entry in entries(world) if entry["kind"] == "gateway.crashed"]
        assert [crash["detail"]["worker"] for crash in crashes] == ["1"]
        children = gateway.below()
        gateway.process.kill()
        gateway.process.wait(30)
        await until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))
    with running("serve", "--config", world.deployment.config) as gateway:
        gateway.wait_for("gateway.started")
        assert gateway.stop() == 0
    crashes = [entry for entry in entries(world) if entry["kind"] == "gateway.crashed"]
    assert len(crashes) == 3, "each of the two that were killed with their supervisor is told of once"
    with running("serve", "--config", world.deployment.config) as gateway:
        gateway.wait_for("gateway.started")
        assert gateway.stop() == 0
    assert kinds(world).count("gateway.crashed") == 3
    examine(world)


async def test_a_policy_changed_between_starts_is_told_once_by_two_workers(world: World) -> None:
    with running("serve", "--config", world.deployment.config, "--workers", "2") as gateway:
        for _ in range(2):
            gateway.wait_for("gateway.started")
        assert gateway.stop() == 0
    bundle = world.deployment.load().policy.directory / "bundle.yaml"
    bundle.write_text(bundle.read_text().replace("revision: ", "revision: 4"))
    with running("serve", "--config", world.deployment.config, "--workers", "2") as gateway:
        for _ in range(2):
            gateway.wait_for("gateway.started")
        assert gateway.stop() == 0
    [changed] = [entry for entry in entries(world) if entry["kind"] == "policy.changed"]
    started = [entry["bundle"] for entry in entries(world) if entry["kind"] == "gateway.started"]
    assert changed["detail"]["before"] == started[0]
    assert changed["detail"]["after"] == started[-1]
    examine(world)


async def test_checkpoints_are_stamped_beside_the_traffic_which_an_outage_does_not_stop(
    world: World, tmp_path: Path
) -> None:
    async with serving(OpensslAuthority(tmp_path / "tsa")) as authority:
        with world.deployment.config.open("a") as file:
            section = f'url = "{authority.url}"\nca = "{authority.authority.ca}"\ninterval_s = 1\n'
            file.write(f"\n[log.timestamps]\n{section}")
        config = world.deployment.load()
        assert config.log.timestamps is not None
        store = TimestampStore(config.log.timestamps.database)
        with running("serve", "--config", world.deployment.config) as gateway:
            gateway.wait_for("gateway.started")
            await asyncio.to_thread(gateway.wait_for, "log.stamped")
            stamp = store.latest()
            assert stamp is not None
            assert Authorities.load(config.log.timestamps.ca).verify(stamp.token, stamp.note) == stamp.time
            log, worker, stamper = gateway.below()
            secrets = [SigningKey.load(path).seed() for path in (config.log.key, config.keys.signing)]
            assert holds(log, secrets[0])  # the control
            assert holds(worker, secrets[1])
            assert not any(holds(stamper, secret) for secret in secrets)
            authority.answer = lambda _: web.Response(status=503)
            assert await ask(world) == ""
            await asyncio.to_thread(gateway.wait_for, "timestamp.failed")
            assert await ask(world) == ""
            assert gateway.stop() == 0
    examine(world)
