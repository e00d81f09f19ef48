"""Two gateways as operators run them, each a log process and a worker, on one database."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.audit.note import Ed25519Verifier
from gateway.audit.postgres_fsck import fsck_database
from gateway.audit.postgres_reader import PostgresReader
from gateway.client import AsyncClient
from gateway.clock import system_clock
from gateway.config import GatewayConfig
from gateway.database import PostgresAddress
from gateway.demo.processes import free_ports
from gateway.demo.world import COMPANIES, World, build_world
from gateway.deployment import change_state
from gateway.deployment.kept import open_store
from gateway.deployment.move import move_to_postgres
from gateway.details import Custodian
from gateway.details.opening import verify_content
from gateway.evidence.keys import SigningKey
from gateway.evidence.trust import Trust
from gateway.model import Entry, EntryKind, MemberState
from tests.simulators.caller import Credentials, RawCaller
from tests.simulators.commands import Command, running
from tests.simulators.outcome import reason_of
from tests.simulators.postgres import name_database, running_postgres
from tests.simulators.waiting import until

pytestmark = [pytest.mark.postgres, pytest.mark.asyncio(loop_scope="module")]

PUBLIC = "public-lookup"
BANK = "harbour-bank"


@dataclass(frozen=True)
class Nodes:
    """Two running gateways, what they share, and where each listens."""

    world: World
    address: PostgresAddress
    config: GatewayConfig
    commands: tuple[Command, ...]
    ports: tuple[int, ...]

    def entries(self, first: int = 0) -> list[Entry]:
        with PostgresReader(self.address) as reader:
            leaves = reader.entries(first, reader.size())
        return [msgspec.json.decode(leaf, type=Entry) for leaf in leaves]

    def examine(self) -> None:
        key = SigningKey.load(self.config.log.key).verify_key
        report = fsck_database(self.address, Ed25519Verifier(self.config.log.origin, key.public))
        assert report.findings == ()
        assert report.entries == len(self.entries())

    async def ask(self, number: int) -> None:
        """Ask the product's client, which verifies the receipt, for what every bank may know."""
        files = self.world.members[BANK].directory
        settings = files / f"client-{number}.toml"
        text = (files / "client.toml").read_text()
        settings.write_text(text.replace(f":{self.ports[0]}", f":{self.ports[number]}"))
        client = AsyncClient.from_config(settings)
        try:
            page = await client.query(
                COMPANIES, purpose=PUBLIC, filters={"uscc": self.world.companies[0].uscc}
            )
        finally:
            await client.close()
        assert len(page.records) == 1

    async def answers(self, number: int) -> bool:
        async with self.callers() as callers:
            return await asked(callers[number]) == ""

    @asynccontextmanager
    async def callers(self) -> AsyncIterator[list[RawCaller]]:
        """Yield a caller of each node, with the keys of one bank."""
        files = self.world.members[BANK]
        async with AsyncExitStack() as stack:
            yield [
                await stack.enter_async_context(
                    RawCaller(
                        port,
                        Credentials.read(files.directory),
                        origin=self.config.log.origin,
                        signing_key=SigningKey.load(files.signing_key),
                        clock=system_clock,
                    )
                )
                for port in self.ports
            ]


async def asked(caller: RawCaller) -> str:
    """Return the reason for which a fresh query is refused; empty if it is answered."""
    return await reason_of(caller.query(caller.statement(COMPANIES, PUBLIC)))


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: Any) -> Iterator[Nodes]:
    directory = tmp_path_factory.mktemp("nodes")
    first, second, registry, tax, metrics, more_metrics = free_ports(6)
    world = build_world(
        directory,
        gateway_port=first,
        registry_port=registry,
        tax_port=tax,
        metrics_port=metrics,
        company_count=50,
    )
    keep_details(world.deployment.config, directory)
    with ExitStack() as stack:
        address = stack.enter_context(running_postgres()).database()
        move_to_postgres(world.deployment.load(), address)
        config = world.deployment.config
        name_database(config, address)
        other = shutil.copytree(world.deployment.directory, directory / "second") / config.name
        renumber(other, {first: second, metrics: more_metrics})
        provider = stack.enter_context(running("provider", "--config", world.provider_configs[0]))
        provider.wait_for("provider.started")
        commands = tuple(stack.enter_context(running("serve", "--config", path)) for path in (config, other))
        for command in commands:
            command.wait_for("gateway.started")
        yield Nodes(world, address, world.deployment.load(), commands, (first, second))
        for command in commands:
            assert command.stop() == 0


def keep_details(config: Path, directory: Path) -> None:
    cards = []
    for name in ("chen", "lin"):
        cards.append(directory / f"{name}.card")
        cards[-1].write_bytes(Custodian.generate(name).card.to_json())
    listed = ", ".join(f'"{card}"' for card in cards)
    section = f'\n[details]\ndatabase = "data/details.sqlite"\ncustodians = [{listed}]\n'
    config.write_text(config.read_text() + section)


def renumber(config: Path, ports: dict[int, int]) -> None:
    text = config.read_text()
    for old, new in ports.items():
        text = text.replace(str(old), str(new))
    config.write_text(text)


async def test_both_gateways_write_one_log(nodes: Nodes) -> None:
    before = len(nodes.entries())
    for number in (0, 1):
        await nodes.ask(number)
    kinds = [entry.kind for entry in nodes.entries(before)]
    assert kinds == [EntryKind.EXCHANGE_REQUESTED, EntryKind.EXCHANGE_RELEASED] * 2


async def test_both_gateways_keep_details_in_the_one_database(nodes: Nodes) -> None:
    with open_store(nodes.config) as store:
        before, size = store.count(), len(nodes.entries())
        for number in (0, 1):
            await nodes.ask(number)
        await until(lambda: store.count() == before + 2)
        for entry in nodes.entries(size):
            if entry.kind is EntryKind.EXCHANGE_REQUESTED:
                [(stored, _)] = store.of_exchange(entry.exchange)
                verify_content(entry, stored)
    started = [entry for entry in nodes.entries() if entry.kind is EntryKind.GATEWAY_STARTED]
    assert len(started) >= 2
    nodes.examine()


async def test_a_statement_answered_by_one_is_refused_by_the_other(nodes: Nodes) -> None:
    async with nodes.callers() as (here, there):
        envelope = here.seal(here.statement(COMPANIES, PUBLIC))
        await here.query(envelope)
        assert await reason_of(there.query(envelope)) == "REPLAYED"
        assert await asked(there) == "", "the control: a fresh statement is answered"


@pytest.mark.timed
async def test_a_suspension_bites_within_a_second_on_both(nodes: Nodes) -> None:
    async with nodes.callers() as callers:
        assert [await asked(caller) for caller in callers] == ["", ""]
        await asyncio.to_thread(change_state, nodes.config, BANK, MemberState.SUSPENDED)
        begun = time.monotonic()
        for caller in callers:
            while not await asked(caller):
                assert time.monotonic() - begun < 1
        assert time.monotonic() - begun < 1
        await asyncio.to_thread(change_state, nodes.config, BANK, MemberState.ACTIVE)
        for number in (0, 1):
            await until(lambda number=number: nodes.answers(number))


async def test_a_worker_that_died_is_told_of_by_the_next_one_of_its_node(nodes: Nodes) -> None:
    def told(kind: EntryKind) -> list[str]:
        return [entry.detail["node"] for entry in nodes.entries() if entry.kind is kind]

    assert len(set(told(EntryKind.GATEWAY_STARTED))) == 2
    before = told(EntryKind.GATEWAY_CRASHED)
    started = [event for event in nodes.commands[0].events if event["event"] == "gateway.started"]
    os.kill(started[-1]["pid"], signal.SIGKILL)
    nodes.commands[0].wait_for("gateway.started")
    after = told(EntryKind.GATEWAY_CRASHED)
    assert len(after) == len(before) + 1
    assert after[-1] == told(EntryKind.GATEWAY_STARTED)[-1]


async def test_a_log_process_that_dies_stops_one_gateway_only_and_comes_back(nodes: Nodes) -> None:
    log = nodes.commands[0].below()[0]
    os.kill(log, signal.SIGKILL)
    assert await nodes.answers(1)
    assert nodes.commands[0].wait_for("process.ended")["role"] == "log"
    await until(lambda: nodes.answers(0), within_s=20)
    nodes.examine()


async def test_the_trust_file_of_before_the_move_verifies_both(nodes: Nodes) -> None:
    trust = Trust.load(nodes.world.deployment.trust)
    with PostgresReader(nodes.address) as reader:
        assert reader.identity() == (trust.origin, trust.log_keys[0])
