"""Policies put into force by two people, on a running gateway with two workers."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.activation.errors import ActivationError
from gateway.activation.sqlite import SqliteShelf
from gateway.activation.statement import Action
from gateway.audit.sqlite_reader import SqliteReader
from gateway.client import AsyncClient, ClientError
from gateway.clock import parse_rfc3339
from gateway.demo.processes import free_ports
from gateway.demo.world import COMPANIES, World, build_world
from gateway.deployment.policy import activate, bundle_by_digest, policy_place
from gateway.model import Entry, EntryKind
from gateway.policy.bundle_file import PackedBundle
from tests.simulators.activation import People, packed_policy, put_into_force, signed, state
from tests.simulators.commands import Command, running
from tests.simulators.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

PUBLIC = "public-lookup"
WORKERS = 2


class Deployment:
    """A deployment that two people put policies into force for."""

    def __init__(self, world: World, directory: Path) -> None:
        self.world = world
        self.people = People.make()
        config = world.deployment.config
        config.write_text(config.read_text() + self.people.section())
        self.config = world.deployment.load()
        self.origin = self.config.log.origin
        self._directory = directory
        self.first = self.packed(1)
        put_into_force(self.config, self.people, self.first)

    def packed(self, revision: int) -> PackedBundle:
        return packed_policy(self.config.policy.directory, self._directory, revision)

    def entries(self, first: int = 0) -> list[Entry]:
        with SqliteReader(self.config.log.database) as reader:
            return [
                msgspec.json.decode(reader.entry(index).data, type=Entry)
                for index in range(first, reader.size())
            ]

    async def ask(self) -> str:
        """Return "" for an answer whose receipt verifies, the reason of a refusal otherwise."""
        client = AsyncClient.from_config(self.world.members["harbour-bank"].directory / "client.toml")
        try:
            await client.query(COMPANIES, purpose=PUBLIC, filters={"uscc": self.world.companies[0].uscc})
        except ClientError as error:
            return error.reason or type(error).__name__
        finally:
            await client.close()
        return ""

    async def decided_by(self, asked: int = 12) -> set[str]:
        """Ask over as many new connections, hence both workers; return the bundles that decided."""
        with SqliteReader(self.config.log.database) as reader:
            size = reader.size()
        assert [await self.ask() for _ in range(asked)] == [""] * asked
        return {each.bundle for each in self.entries(size) if each.kind is EntryKind.EXCHANGE_REQUESTED}


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    directory = tmp_path_factory.mktemp("activation")
    names = ("gateway_port", "registry_port", "tax_port", "metrics_port")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    world = build_world(directory / "world", **ports, company_count=50)
    with running("provider", "--config", world.provider_configs[0]) as registry:
        registry.wait_for("provider.started")
        yield Deployment(world, directory)


@pytest.fixture(scope="module")
def gateway(deployment: Deployment) -> Iterator[Command]:
    config = deployment.world.deployment.config
    with running("serve", "--config", config, "--workers", WORKERS) as command:
        for _ in range(WORKERS):
            command.wait_for("gateway.started")
        yield command
        assert command.stop() == 0


@asynccontextmanager
async def being_asked(deployment: Deployment):
    """Ask without a pause while the block runs; yield the list of what came of it."""
    outcomes: list[str] = []

    async def ask_on() -> None:
        while True:
            outcomes.append(await deployment.ask())

    task = asyncio.create_task(ask_on())
    try:
        yield outcomes
    finally:
        count = len(outcomes)
        await until(lambda: len(outcomes) > count + 2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def told(gateway: Command, name: str) -> list[dict[str, Any]]:
    return [gateway.wait_for(name) for _ in range(WORKERS)]


async def test_a_bundle_is_in_force_on_every_worker_within_a_second_and_nobody_is_refused(
    deployment: Deployment, gateway: Command
) -> None:
    assert await deployment.decided_by() == {deployment.first.bundle.digest}, "the control: before"
    second = deployment.packed(2)
    async with being_asked(deployment) as outcomes:
        index = await asyncio.to_thread(put_into_force, deployment.config, deployment.people, second)
        events = await asyncio.to_thread(told, gateway, "policy.activated")
    [entry] = deployment.entries(index)[:1]
    assert {event["bundle"] for event in events} == {second.bundle.digest}
    for event in events:
        took = parse_rfc3339(event["timestamp"]) - parse_rfc3339(entry.time)
        assert took.total_seconds() < 1
    assert set(outcomes) == {""}
    assert await deployment.decided_by() == {second.bundle.digest}
    assert (entry.kind, entry.bundle, entry.subject) == (
        EntryKind.POLICY_ACTIVATED,
        second.bundle.digest,
        "policies/2",
    )
    people = deployment.people
    assert set(entry.detail["keys"].split(",")) == {people.li.key_id, people.wang.key_id}
    assert entry.detail["previous"] == deployment.first.bundle.digest


async def test_a_worker_that_begins_anew_decides_by_the_bundle_in_force(
    deployment: Deployment, gateway: Command
) -> None:
    os.kill(gateway.below()[1], signal.SIGKILL)
    gateway.wait_for("gateway.started")
    with policy_place(deployment.config) as place:
        newest = place.recorded.newest()
    assert newest is not None
    assert await deployment.decided_by() == {newest.bundle}


async def test_a_rollback_takes_two_people_and_goes_to_what_is_kept(
    deployment: Deployment, gateway: Command
) -> None:
    third = deployment.packed(3)
    await asyncio.to_thread(put_into_force, deployment.config, deployment.people, third)
    await asyncio.to_thread(told, gateway, "policy.activated")
    people, config = deployment.people, deployment.config
    back = state(deployment.first, deployment.origin, third.bundle.digest, Action.ROLLBACK)
    for keys in ((people.li,), (people.wang,), (people.li, people.li_approving)):
        with pytest.raises(ActivationError):
            await asyncio.to_thread(activate, config, signed(back, *keys), deployment.first)
    lower = state(deployment.first, deployment.origin, third.bundle.digest)
    with pytest.raises(ActivationError, match="not above revision 3"):
        await asyncio.to_thread(activate, config, signed(lower, people.li, people.wang), deployment.first)
    assert await deployment.decided_by() == {third.bundle.digest}
    await asyncio.to_thread(activate, config, signed(back, people.li, people.wang), deployment.first)
    await asyncio.to_thread(told, gateway, "policy.activated")
    assert await deployment.decided_by() == {deployment.first.bundle.digest}
    for packed in (deployment.first, third):
        kept = bundle_by_digest(config, packed.bundle.digest)
        assert kept is not None
        assert kept.data == packed.bundle.data


async def test_what_lies_altered_in_the_database_is_not_decided_by_and_neither_is_the_old(
    deployment: Deployment, gateway: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed_for, slipped_in = deployment.packed(4), deployment.packed(5)
    put = SqliteShelf.put

    def put_another(shelf, statement, envelope, bundle, digest, file):
        put(shelf, statement, envelope, bundle, digest, slipped_in.content)

    monkeypatch.setattr(SqliteShelf, "put", put_another)
    await asyncio.to_thread(put_into_force, deployment.config, deployment.people, signed_for)
    events = await asyncio.to_thread(told, gateway, "policy.unloadable")
    assert all("another bundle file" in event["message"] for event in events)
    assert {await deployment.ask() for _ in range(12)} == {"POLICY_STALE"}
    assert deployment.config.policy.activation is not None
    with closing(sqlite3.connect(deployment.config.policy.activation.database)) as connection, connection:
        connection.execute(
            "UPDATE policy_file SET content = ? WHERE digest = ?",
            (signed_for.content, signed_for.file_digest),
        )
    await asyncio.to_thread(told, gateway, "policy.activated")
    assert await deployment.decided_by() == {signed_for.bundle.digest}, "the control: what was signed for"
