"""SIGKILL at random to the gateway, to one of its processes, or to its database, under eight clients.

Each client keeps its receipts and sends a question of unknown outcome again, word for word, until it is
answered or refused as seen before: so it is known of each statement whether it may stand in the log as
released.
"""

from __future__ import annotations

import asyncio
import functools
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import msgspec
import pytest

from gateway.audit.checkpoint import parse_checkpoint
from gateway.audit.note import Ed25519Verifier, parse_note
from gateway.audit.receipt import VerifiedReceipt
from gateway.audit.store import MAX_PAGE_SIZE
from gateway.audit.stores import examine, open_reader
from gateway.client import AsyncClient, ClientError
from gateway.demo.processes import free_ports
from gateway.demo.world import COMPANIES, World, build_world
from gateway.deployment.move import move_to_postgres
from gateway.evidence.canonical import encode_canonical
from gateway.evidence.dsse import Envelope
from gateway.evidence.trust import Trust
from gateway.model import Entry, EntryKind, Operation
from tests.simulators.campaign import scaled
from tests.simulators.commands import Command, running
from tests.simulators.postgres import PostgresServer, name_database, running_postgres
from tests.simulators.waiting import until

CYCLES = {"sqlite": scaled(3, 300), "postgres": scaled(4, 100)}
CLIENTS = 8
WORKERS = 2
VICTIMS = ("gateway", "log", "worker")
EXAMINED_EVERY = {"sqlite": 1, "postgres": 10}
"""Cycles from one `fsck` to the next: a log in PostgreSQL is copied for it."""
SERVES_AGAIN_WITHIN_S = 60.0
COMMIT_LATE = "from tests.simulators.late_commit import commit_late; commit_late()"

TOLERATED = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"}
"""What a client may be told while a process is gone, by the gateway or by its own connection."""


@dataclass(frozen=True)
class Setting:
    """A deployment, and the database server below it if there is one."""

    world: World
    engine: str
    server: PostgresServer | None

    @property
    def victims(self) -> tuple[str, ...]:
        return VICTIMS if self.server is None else (*VICTIMS, "database")


class Ledger:
    """What clients hold of their exchanges, held against the log."""

    def __init__(self, world: World) -> None:
        self.database = world.deployment.load().log.database
        trust = Trust.load(world.members["harbour-bank"].directory / "trust.json")
        self._verifier = Ed25519Verifier.from_vkey(trust.log_keys[0])
        self.receipts: list[VerifiedReceipt] = []
        self.refused_as_seen = 0
        self.failures = 0
        self._examined = 0
        self._released: set[str] = set()
        self._size = 0

    def lost(self, receipts: list[VerifiedReceipt]) -> list[VerifiedReceipt]:
        """Return the receipts that the log does not bear out."""
        with open_reader(self.database) as reader:
            size = reader.size()
            return [
                receipt
                for receipt in receipts
                if receipt.checkpoint.size > size
                or reader.entry(receipt.index).data != encode_canonical(receipt.entry)
                or parse_checkpoint(parse_note(reader.checkpoint_at(receipt.checkpoint.size)).text)
                != receipt.checkpoint
            ]

    def verify(self) -> None:
        """Fail unless the log holds every receipt so far, each exchange once."""
        self._read_releases()
        new = self.receipts[self._examined :]
        self._examined += len(new)
        assert self.lost(new) == []
        assert {receipt.entry.exchange for receipt in new} <= self._released, "released but not logged"

    def examine(self) -> None:
        """Fail unless the log is sound."""
        assert examine(self.database, self._verifier).findings == ()

    def verify_end(self, asked: int) -> None:
        """Fail unless, now that every question has an outcome, the log holds each release once."""
        self.verify()
        self.examine()
        assert self.lost(self.receipts) == []
        indices = {receipt.index for receipt in self.receipts}
        assert len(indices) == len(self.receipts), "two receipts for one entry"
        assert asked == len(self.receipts) + self.refused_as_seen
        assert len(self.receipts) <= len(self._released) <= asked

    def _read_releases(self) -> None:
        with open_reader(self.database) as reader:
            size = reader.size()
            for start in range(self._size, size, MAX_PAGE_SIZE):
                for data in reader.entries(start, min(start + MAX_PAGE_SIZE, size)):
                    entry = msgspec.json.decode(data, type=Entry)
                    if entry.kind is EntryKind.EXCHANGE_RELEASED:
                        assert entry.exchange not in self._released, "an exchange stands in the log twice"
                        self._released.add(entry.exchange)
            self._size = size


class Crowd:
    """Eight clients that ask without pause."""

    def __init__(self, world: World, ledger: Ledger) -> None:
        self.asked = 0
        self._world = world
        self._ledger = ledger
        self._stopping = False

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        """Ask until the block ends; then every question under way gets its outcome."""
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(self._ask())
            try:
                yield
            finally:
                self._stopping = True

    async def more_answers(self, count: int) -> None:
        """Return when `count` more questions were answered: the gateway serves."""
        goal = len(self._ledger.receipts) + count
        await until(lambda: len(self._ledger.receipts) >= goal, within_s=SERVES_AGAIN_WITHIN_S)

    async def _ask(self) -> None:
        settings = self._world.members["harbour-bank"].directory / "client.toml"
        filters = {"uscc": self._world.companies[0].uscc}
        async with AsyncClient.from_config(settings) as client:
            while not self._stopping:
                _, envelope = client.statement(Operation.QUERY, COMPANIES, "public-lookup", filters=filters)
                self.asked += 1
                settled = functools.partial(self._is_settled, client, envelope)
                await until(settled, within_s=SERVES_AGAIN_WITHIN_S)

    async def _is_settled(self, client: AsyncClient, envelope: Envelope) -> bool:
        """Send a question; return whether its outcome is known now."""
        try:
            page = await client.send_query(envelope)
        except ClientError as error:
            self._ledger.failures += 1
            if error.reason == "REPLAYED":
                self._ledger.refused_as_seen += 1
                return True
            if error.code not in TOLERATED:
                raise
            return False
        assert page.verified is not None
        self._ledger.receipts.append(page.verified)
        return True


class Service:
    """The gateway, and what a service manager does: start it anew when it has ended."""

    def __init__(self, setting: Setting, before: str = "") -> None:
        self._world = setting.world
        self._server = setting.server
        self._before = before
        self._stack = ExitStack()
        self._command: Command

    def start(self) -> None:
        config = self._world.deployment.config
        self._stack.close()
        self._command = self._stack.enter_context(
            running("serve", "--config", config, "--workers", WORKERS, before=self._before)
        )

    def tell(self) -> None:
        """Print what it said last: pytest shows it of a test that failed."""
        for event in self._command.told()[-40:]:
            sys.stdout.write(f"{event}\n")
        code, errors = self._command.process.poll(), self._command.process.stderr
        if code is not None and errors is not None:
            sys.stdout.write(f"It had ended with {code}: {errors.read()}\n")

    def stop(self) -> int:
        """Stop it in order; return its exit code."""
        with self._stack:
            return self._command.stop()

    async def kill(self, victim: str, chance: random.Random) -> None:
        """Kill a process, and see to it that what operators must do is done."""
        below = self._command.below()
        if victim == "database":
            assert self._server is not None
            await asyncio.to_thread(self._server.kill)
            await asyncio.to_thread(self._server.start)
            return
        if victim == "gateway":
            self._command.process.kill()
            await until(lambda: not any(map(is_alive, below)))
            self.start()
            return
        # Whoever does not say that it serves is the log's process, or a worker that has only begun.
        workers = {event["pid"] for event in self._command.told() if event["event"] == "gateway.started"}
        dead = chance.choice([pid for pid in below if (pid in workers) == (victim == "worker")])
        os.kill(dead, signal.SIGKILL)
        await until(lambda: not is_alive(dead))


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each client have its own connection, and try again at once: gRPC would wait ever longer."""
    impatient = [
        ("grpc.use_local_subchannel_pool", 1),
        *((f"grpc.{which}_reconnect_backoff_ms", 100) for which in ("initial", "min", "max")),
    ]
    connect = grpc.aio.secure_channel

    def secure_channel(address: str, credentials: grpc.ChannelCredentials, *, options: Any) -> Any:
        return connect(address, credentials, options=[*options, *impatient])

    monkeypatch.setattr(grpc.aio, "secure_channel", secure_channel)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def setting(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Setting]:
    names = ("gateway_port", "registry_port", "tax_port", "metrics_port")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    world = build_world(tmp_path, **ports, company_count=50)
    with ExitStack() as stack:
        server = None
        if request.param == "postgres":
            server = stack.enter_context(running_postgres())
            address = server.database()
            move_to_postgres(world.deployment.load(), address)
            name_database(world.deployment.config, address)
        registry = stack.enter_context(running("provider", "--config", world.provider_configs[0]))
        registry.wait_for("provider.started")
        yield Setting(world, request.param, server)


@pytest.mark.timeout(7200)
async def test_a_gateway_killed_again_and_again_loses_and_doubles_nothing(setting: Setting) -> None:
    chance = random.Random(5)
    ledger, service = Ledger(setting.world), Service(setting)
    crowd = Crowd(setting.world, ledger)
    victims, cycles = setting.victims, CYCLES[setting.engine]
    service.start()
    try:
        async with crowd.asking():
            for cycle in range(cycles):
                if cycle % len(victims) == 0:
                    order = chance.sample(victims, len(victims))
                await crowd.more_answers(chance.randrange(1, 60))
                await service.kill(order[cycle % len(victims)], chance)
                ledger.verify()
                if cycle % EXAMINED_EVERY[setting.engine] == 0:
                    ledger.examine()
            await crowd.more_answers(CLIENTS)
    finally:
        service.tell()
    assert service.stop() == 0
    ledger.verify_end(crowd.asked)
    assert ledger.failures >= cycles, "the kills struck nobody"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("setting", ["sqlite"], indirect=True)
async def test_the_control_a_log_that_answers_before_its_commit_loses_receipts(setting: Setting) -> None:
    ledger, service = Ledger(setting.world), Service(setting, before=COMMIT_LATE)
    crowd = Crowd(setting.world, ledger)
    service.start()
    async with crowd.asking():
        await crowd.more_answers(20)
        held = list(ledger.receipts)
        await service.kill("log", random.Random(6))
        losses = ledger.lost(held)
    service.stop()
    assert losses
