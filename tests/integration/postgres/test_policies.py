"""Policies put into force by two people, on two nodes that share a PostgreSQL."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from gateway.activation.postgres import PostgresShelf
from gateway.audit.postgres_reader import PostgresReader
from gateway.client import AsyncClient, ClientError
from gateway.clock import parse_rfc3339
from gateway.config import GatewayConfig
from gateway.database import PostgresAddress
from gateway.demo.processes import free_ports
from gateway.demo.world import COMPANIES, World, build_world
from gateway.deployment.move import move_to_postgres
from gateway.model import Entry, EntryKind
from tests.simulators.activation import People, packed_policy, put_into_force
from tests.simulators.commands import Command, running
from tests.simulators.postgres import PostgresServer, running_postgres

pytestmark = [pytest.mark.postgres, pytest.mark.asyncio(loop_scope="module")]

PUBLIC = "public-lookup"


@dataclass(frozen=True)
class Nodes:
    """Two running gateways, what they share, and where each listens."""

    world: World
    server: PostgresServer
    address: PostgresAddress
    config: GatewayConfig
    people: People
    commands: tuple[Command, ...]
    ports: tuple[int, ...]
    directory: Path

    def entry(self, index: int) -> Entry:
        with PostgresReader(self.address) as reader:
            return msgspec.json.decode(reader.entry(index).data, type=Entry)

    def decided_by(self, first: int) -> list[str]:
        with PostgresReader(self.address) as reader:
            entries = [msgspec.json.decode(leaf, type=Entry) for leaf in reader.entries(first, reader.size())]
        return [entry.bundle for entry in entries if entry.kind is EntryKind.EXCHANGE_REQUESTED]

    async def ask(self, number: int) -> str:
        files = self.world.members["harbour-bank"].directory
        settings = files / f"client-{number}.toml"
        text = (files / "client.toml").read_text()
        settings.write_text(text.replace(f":{self.ports[0]}", f":{self.ports[number]}"))
        client = AsyncClient.from_config(settings)
        try:
            await client.query(COMPANIES, purpose=PUBLIC, filters={"uscc": self.world.companies[0].uscc})
        except ClientError as error:
            return error.reason or type(error).__name__
        finally:
            await client.close()
        return ""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: Any) -> Iterator[Nodes]:
    directory = tmp_path_factory.mktemp("nodes")
    first, second, registry, tax, metrics, more_metrics = free_ports(6)
    world = build_world(
        directory / "first",
        gateway_port=first,
        registry_port=registry,
        tax_port=tax,
        metrics_port=metrics,
        company_count=50,
    )
    people = People.make()
    with ExitStack() as stack:
        server = stack.enter_context(running_postgres())
        address = server.database()
        move_to_postgres(world.deployment.load(), address)
        config = world.deployment.config
        text = config.read_text()
        for name in ("audit", "members"):
            text = text.replace(f'database = "data/{name}.db"', f'database = "{address.url}"')
        config.write_text(text + people.section())
        other = shutil.copytree(world.deployment.directory, directory / "second") / config.name
        renumbered = other.read_text().replace(str(first), str(second))
        other.write_text(renumbered.replace(str(metrics), str(more_metrics)))
        settings = world.deployment.load()
        put_into_force(settings, people, packed_policy(settings.policy.directory, directory, 1))
        provider = stack.enter_context(running("provider", "--config", world.provider_configs[0]))
        provider.wait_for("provider.started")
        commands = tuple(stack.enter_context(running("serve", "--config", path)) for path in (config, other))
        for command in commands:
            command.wait_for("gateway.started")
        yield Nodes(
            world, server, address, world.deployment.load(), people, commands, (first, second), directory
        )
        for command in commands:
            assert command.stop() == 0


async def test_a_bundle_is_in_force_on_both_nodes_within_a_second(nodes: Nodes) -> None:
    packed = packed_policy(nodes.config.policy.directory, nodes.directory, 2)
    index = await asyncio.to_thread(put_into_force, nodes.config, nodes.people, packed)
    events = [await asyncio.to_thread(command.wait_for, "policy.activated") for command in nodes.commands]
    entry = nodes.entry(index)
    for event in events:
        assert event["bundle"] == packed.bundle.digest
        took = parse_rfc3339(event["timestamp"]) - parse_rfc3339(entry.time)
        assert took.total_seconds() < 1
    assert [await nodes.ask(number) for number in (0, 1)] == ["", ""]
    assert set(nodes.decided_by(index)) == {packed.bundle.digest}


async def test_nobody_changes_what_lies_in_the_database(nodes: Nodes) -> None:
    with nodes.server.owner(nodes.address) as connection:
        for table in ("policy_file", "policy_proposal"):
            for statement in (f"DELETE FROM sluicegate.{table}", f"TRUNCATE sluicegate.{table} CASCADE"):
                with pytest.raises(psycopg.errors.RestrictViolation):
                    connection.execute(statement)


async def test_what_lies_altered_in_the_database_denies_everything_on_both(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed_for, slipped_in = (
        packed_policy(nodes.config.policy.directory, nodes.directory, revision) for revision in (3, 4)
    )
    put = PostgresShelf.put

    def put_another(shelf, statement, envelope, bundle, digest, file):
        put(shelf, statement, envelope, bundle, digest, slipped_in.content)

    monkeypatch.setattr(PostgresShelf, "put", put_another)
    await asyncio.to_thread(put_into_force, nodes.config, nodes.people, signed_for)
    for command in nodes.commands:
        event = await asyncio.to_thread(command.wait_for, "policy.unloadable")
        assert "another bundle file" in event["message"]
    assert [await nodes.ask(number) for number in (0, 1)] == ["POLICY_STALE"] * 2
    with nodes.server.owner(nodes.address) as connection:
        # Only who owns the tables can put it right, and has to switch the guard off for that.
        connection.execute("ALTER TABLE sluicegate.policy_file DISABLE TRIGGER policy_file_is_append_only")
        connection.execute(
            "UPDATE sluicegate.policy_file SET content = %s WHERE digest = %s",
            (signed_for.content, signed_for.file_digest),
        )
        connection.execute(
            "ALTER TABLE sluicegate.policy_file ENABLE ALWAYS TRIGGER policy_file_is_append_only"
        )
    for command in nodes.commands:
        await asyncio.to_thread(command.wait_for, "policy.activated")
    assert [await nodes.ask(number) for number in (0, 1)] == ["", ""], "the control: what was signed for"
