"""`gateway serve` as operators run it: which process holds what, and what becomes of it when one dies."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from gateway.audit.fsck import fsck
from gateway.audit.note import Ed25519Verifier
from gateway.audit.sqlite_reader import SqliteReader
from gateway.client import AsyncClient, ClientError
from gateway.demo.processes import free_ports
from gateway.demo.world import COMPANIES, World, build_world
from gateway.evidence.keys import SigningKey
from gateway.model import EntryKind
from tests.simulators.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

PUBLIC = "public-lookup"


class Command:
    """A running `gateway` command, and the events it has told of."""

    def __init__(self, *words: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from gateway.cli.main import run; run()", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={name: value for name, value in os.environ.items() if not name.startswith("SLUICEGATE_")},
        )
        self.events: list[dict[str, Any]] = []
        self._new: Queue[dict[str, Any] | None] = Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._new.put(json.loads(line))
        self._new.put(None)

    def wait_for(self, name: str) -> dict[str, Any]:
        """Return the next event of this name."""
        while (event := self._new.get(timeout=60)) is not None:
            self.events.append(event)
            if event["event"] == name:
                return event
        assert self.process.stderr is not None
        raise AssertionError(self.process.stderr.read())

    def below(self) -> list[int]:
        """Return the processes it has started: the log process first."""
        pid = self.process.pid
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def stop(self) -> int:
        self.process.terminate()
        self.process.wait(30)
        return self.process.returncode


@contextmanager
def running(*words: object) -> Iterator[Command]:
    command = Command(*words)
    try:
        yield command
    finally:
        command.process.kill()
        command.process.communicate()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    ports = dict(zip(("gateway_port", "registry_port", "tax_port"), free_ports(3), strict=True))
    world = build_world(tmp_path_factory.mktemp("processes"), **ports, company_count=50)
    with running("provider", "--config", world.provider_configs[0]) as registry:
        registry.wait_for("provider.started")
        yield world


@pytest.fixture(params=[1, 2], ids=["one worker", "two workers"])
def gateway(world: World, request: pytest.FixtureRequest) -> Iterator[Command]:
    with (
        running("serve", "--config", world.deployment.config, "--workers", request.param) as command,
        ExitStack(),
    ):
        for _ in range(request.param):
            command.wait_for("gateway.started")
        yield command


@asynccontextmanager
async def bank(world: World) -> AsyncIterator[AsyncClient]:
    client = AsyncClient.from_config(world.members["harbour-bank"].directory / "client.toml")
    try:
        yield client
    finally:
        await client.close()


async def ask(world: World) -> str:
    """Return "" for an answer whose receipt verifies, the reason of a refusal otherwise."""
    async with bank(world) as client:
        try:
            page = await client.query(COMPANIES, purpose=PUBLIC, filters={"uscc": world.companies[0].uscc})
        except ClientError as error:
            return error.reason or type(error).__name__
    assert len(page.records) == 1
    return ""


def holds(pid: int, secret: bytes) -> bool:
    """Return whether `secret` lies anywhere in the writable memory of a process."""
    with Path(f"/proc/{pid}/mem").open("rb", 0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            found = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
            if found and "[v" not in line:
                memory.seek(int(found[1], 16))
                if secret in memory.read(int(found[2], 16) - int(found[1], 16)):
                    return True
    return False


def examine(world: World) -> None:
    config = world.deployment.load()
    key = SigningKey.load(config.log.key)
    verifier = Ed25519Verifier(config.log.origin, key.verify_key.public)
    assert fsck(config.log.database, verifier).findings == ()


async def test_only_the_log_process_holds_the_logs_key(world: World, gateway: Command) -> None:
    """Checkpoints are out of reach for who breaks into a process that faces the network."""
    log, *workers = gateway.below()
    assert await ask(world) == ""
    config = world.deployment.load()
    log_key, signing_key = (SigningKey.load(path).seed() for path in (config.log.key, config.keys.signing))
    assert holds(log, log_key)
    assert not holds(gateway.process.pid, log_key)
    for worker in workers:
        # The control: what a worker does hold is found.
        assert holds(worker, signing_key)
        assert not holds(worker, log_key)
    assert not holds(log, signing_key)
    assert gateway.stop() == 0


async def test_without_the_log_process_nothing_is_released_and_it_comes_back(
    world: World, gateway: Command
) -> None:
    log = gateway.below()[0]
    os.kill(log, signal.SIGSTOP)  # it hangs: nobody may be answered
    asking = [asyncio.ensure_future(ask(world)) for _ in range(8)]
    await asyncio.sleep(0.2)
    assert not any(task.done() for task in asking)
    os.kill(log, signal.SIGKILL)
    outcomes = set(await asyncio.gather(*asking))
    assert outcomes == {"LOG_UNAVAILABLE"}
    assert gateway.wait_for("process.ended")["role"] == "log"
    await until(lambda: _answered(world), within_s=20)
    assert gateway.stop() == 0
    examine(world)


async def _answered(world: World) -> bool:
    return await ask(world) == ""


async def test_a_worker_that_dies_is_replaced(world: World, gateway: Command) -> None:
    worker = gateway.below()[1]
    os.kill(worker, signal.SIGKILL)
    assert gateway.wait_for("process.ended")["role"] == "worker 1"
    gateway.wait_for("gateway.started")
    assert await ask(world) == ""
    assert gateway.stop() == 0
    examine(world)


async def test_a_stop_lets_every_worker_write_its_last_entry(world: World, gateway: Command) -> None:
    workers = len(gateway.below()) - 1
    database = world.deployment.load().log.database
    with SqliteReader(database) as reader:
        size = reader.size()
    assert gateway.stop() == 0
    with SqliteReader(database) as reader:
        kinds = [json.loads(reader.entry(index).data)["kind"] for index in range(size, reader.size())]
    assert kinds == [EntryKind.GATEWAY_STOPPED] * workers
    examine(world)


async def test_a_port_that_is_taken_is_said_and_ends_all(world: World, gateway: Command) -> None:
    for workers in (1, 2):
        with running("serve", "--config", world.deployment.config, "--workers", workers) as second:
            _, errors = second.process.communicate(timeout=30)
            assert second.process.returncode == 2
            assert "is the port free" in errors
            assert errors.count("error") == 1
    assert await ask(world) == ""
    assert gateway.stop() == 0


async def test_receipts_of_all_workers_are_numbered_in_one_sequence(world: World, gateway: Command) -> None:
    """The log process gives the numbers; each worker's receipt proves its own, and can be acknowledged."""
    before = await numbered(world, 1)
    each = await asyncio.gather(*(numbered(world, 5) for _ in range(4)))
    found = [number for numbers in each for number in numbers]
    assert sorted(found) == list(range(before[0] + 1, before[0] + 21))
    gateway.stop()
    examine(world)


async def numbered(world: World, count: int) -> list[int]:
    """Return the numbers of so many releases over a connection of its own, each acknowledged."""
    numbers = []
    async with bank(world) as client:
        for _ in range(count):
            page = await client.query(
                COMPANIES, purpose=PUBLIC, filters={"uscc": world.companies[0].uscc}, acknowledge=True
            )
            assert page.verified is not None
            assert page.acknowledged is not None
            assert page.acknowledged.entry.acknowledges == page.verified.index
            assert page.verified.entry.sequence is not None
            numbers.append(page.verified.entry.sequence)
    return numbers
