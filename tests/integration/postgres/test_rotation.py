"""Closing the log of several nodes, and going on in the next database."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from typer.testing import CliRunner

from gateway.audit.errors import LogUnavailableError
from gateway.audit.postgres import PostgresStore
from gateway.audit.postgres_reader import PostgresReader
from gateway.audit.receipt import verify_receipt
from gateway.cli.main import app
from gateway.config import GatewayConfig
from gateway.database import PostgresAddress
from gateway.demo.world import COMPANIES
from gateway.deployment.rotation import close_and_go_on
from gateway.details import Custodian
from gateway.evidence.trust import Trust
from gateway.members import open_member_store
from gateway.model import EntryKind, Member, MemberState
from gateway.node import Node
from tests.simulators.outcome import reason_of
from tests.simulators.postgres import PostgresServer, running_postgres
from tests.simulators.two_nodes import SharedLog, TwoNodes, named

pytestmark = [pytest.mark.postgres, pytest.mark.asyncio(loop_scope="module")]

NEXT = "audit.example.org/log/2099"


@pytest.fixture(scope="module")
def server() -> Any:
    with running_postgres() as server:
        yield server


@pytest_asyncio.fixture(loop_scope="module")
async def world(tmp_path: Path, server: PostgresServer) -> AsyncIterator[TwoNodes]:
    world = TwoNodes(tmp_path / "world", server)
    await world.start()
    try:
        yield world
    finally:
        await world.stop()


def command(world: TwoNodes, *words: object) -> Any:
    return CliRunner().invoke(app, [*map(str, words), "--config", str(world.deployment.config)])


def rotate(world: TwoNodes, into: PostgresAddress, origin: str = NEXT) -> Any:
    return command(world, "audit", "rotate", "--origin", origin, "--into", into.url)


def last_kind(address: PostgresAddress) -> str:
    with PostgresReader(address) as reader:
        return str(json.loads(reader.entry(reader.size() - 1).data)["kind"])


def members_of(address: PostgresAddress) -> list[Member]:
    with closing(open_member_store(address)) as store:
        return store.members()[1]


async def test_the_nodes_go_on_in_the_next_database_and_both_logs_verify_as_one_chain(
    world: TwoNodes, server: PostgresServer
) -> None:
    page = (
        await world.on(0)
        .client()
        .query(COMPANIES, purpose="public-lookup", filters={"uscc": world.companies[0].uscc})
    )
    closed, following = world.address, server.database()
    await world.stop_node()
    result = await asyncio.to_thread(rotate, world, following)
    assert result.exit_code == 0, result.output
    assert last_kind(closed) == EntryKind.LOG_CLOSED
    settings = world.deployment.load()
    assert settings.log.origin == NEXT
    assert (settings.log.database, settings.members.database) == (following, following)
    assert settings.log.previous == (closed,)
    trust = Trust.load(world.deployment.directory / "trust.json")
    assert trust.origin == NEXT
    verify_receipt(page.receipt, trust)
    assert members_of(following) == members_of(closed)
    # Members count as far as the log bears them out, and what bears them out stands in the closed one.
    world.config, world.trust, world.address = settings, trust, following
    world.log = SharedLog(following, trust)
    world.nodes.clear()
    await world.start_node()
    for number in (0, 1):
        await world.on(number).works()
    await world.set_state("harbour-bank", MemberState.SUSPENDED)
    await world.set_state("harbour-bank", MemberState.ACTIVE)
    world.log.verify()
    chain = await asyncio.to_thread(command, world, "audit", "fsck", "--chain", "--output", "json")
    told = json.loads(chain.stdout)
    assert (len(told["logs"]), told["findings"]) == (2, [])


async def test_a_running_node_is_in_the_way_and_told(world: TwoNodes, server: PostgresServer) -> None:
    size, text = world.log.size(), world.deployment.config.read_text()
    result = await asyncio.to_thread(rotate, world, server.database())
    assert result.exit_code == 2
    assert "stop the gateway on every node" in result.stderr
    assert (world.log.size(), world.deployment.config.read_text()) == (size, text)
    await world.on(1).works()


async def test_a_node_that_was_not_stopped_releases_nothing_once_the_log_is_closed(
    world: TwoNodes, server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking for writers is a courtesy; what holds is the closing entry."""
    await world.on(0).works()
    monkeypatch.setattr("gateway.audit.postgres.require_vacant", lambda _: None)
    closed = await asyncio.to_thread(close_and_go_on, world.config, NEXT, server.database())
    for number in (0, 1):
        caller = world.on(number).caller()
        assert (
            await reason_of(caller.query(caller.statement(COMPANIES, "public-lookup"))) == "LOG_UNAVAILABLE"
        )
    assert world.log.size() == closed.size
    await world.stop_node()
    again = Node(named(world.config, 0), clock=world.clock)
    with pytest.raises(LogUnavailableError, match="closed and takes no more entries"):
        await again.start()
    await again.stop()


async def test_a_rotation_broken_off_is_completed(
    world: TwoNodes, server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.stop_node()
    following, appending = server.database(), PostgresStore.append
    for survives in (0, 1):
        calls = iter(range(10))

        def append(self: Any, *values: Any, calls: Any = calls, survives: int = survives) -> Any:
            if next(calls) >= survives:
                raise LogUnavailableError("The server is gone.")
            return appending(self, *values)

        monkeypatch.setattr(PostgresStore, "append", append)
        assert (await asyncio.to_thread(rotate, world, following)).exit_code == 4
        monkeypatch.setattr(PostgresStore, "append", appending)
    assert last_kind(world.address) == EntryKind.LOG_CLOSED, "the second attempt got so far"
    other = await asyncio.to_thread(rotate, world, following, "audit.example.org/log/other")
    assert other.exit_code in (2, 3)
    assert (await asyncio.to_thread(rotate, world, following)).exit_code == 0
    chain = await asyncio.to_thread(command, world, "audit", "fsck", "--chain", "--output", "json")
    assert json.loads(chain.stdout)["findings"] == []


async def test_a_place_that_cannot_be_gone_on_in_closes_nothing(
    world: TwoNodes, server: PostgresServer
) -> None:
    await world.stop_node()
    others = server.database()
    with closing(open_member_store(others)) as store:
        store.add(msgspec.structs.replace(members_of(world.address)[0], title="Somebody else"))
    size = world.log.size()
    for into, told in (
        (server.empty_database().url, "no schema yet"),
        (world.address.url, "a database of its own"),
        (others.url, "other members"),
        ("next.db", "kept where this one is"),
        ("postgresql://x:secret@127.0.0.1/x", "holds a password"),
        (None, "name an empty database"),
    ):
        words = [] if into is None else ["--into", into]
        result = await asyncio.to_thread(command, world, "audit", "rotate", "--origin", NEXT, *words)
        assert result.exit_code in (2, 3)
        assert told in result.stderr
    assert world.log.size() == size


async def test_a_closed_database_that_was_altered_breaks_the_chain(
    world: TwoNodes, server: PostgresServer
) -> None:
    await world.stop_node()
    assert (await asyncio.to_thread(rotate, world, server.database())).exit_code == 0
    with server.owner(world.address) as connection:
        connection.execute("SET search_path = sluicegate")
        connection.execute("ALTER TABLE entry DISABLE TRIGGER ALL")
        connection.execute("DELETE FROM entry WHERE idx = (SELECT max(idx) FROM entry)")
    chain = await asyncio.to_thread(command, world, "audit", "fsck", "--chain", "--output", "json")
    assert chain.exit_code == 3
    places = {(finding["place"], finding["log"]) for finding in json.loads(chain.stdout)}
    assert ("chain", world.trust.origin) in places


async def test_with_details_the_next_log_has_a_store_of_its_own(
    world: TwoNodes, server: PostgresServer
) -> None:
    people = [Custodian.generate(name) for name in ("chen", "lin")]
    cards = []
    for person in people:
        cards.append(world.directory / f"{person.card.name}.card")
        cards[-1].write_bytes(person.card.to_json())
    config = world.deployment.config
    listed = ", ".join(f'"{card}"' for card in cards)
    config.write_text(
        f'{config.read_text()}\n[details]\ndatabase = "{world.address.url}"\ncustodians = [{listed}]\n'
    )
    await world.stop_node()
    following = server.database()
    result = await asyncio.to_thread(rotate, world, following)
    assert result.exit_code == 0, result.output
    settings = GatewayConfig.load(config)
    assert settings.details is not None
    assert settings.details.database == following
    node = Node(named(settings, 0), clock=world.clock)
    await node.start()
    await node.stop()
