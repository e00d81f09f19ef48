"""`gateway serve` as operators run it: which process holds what, and what becomes of it when one dies."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import urllib.request
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.audit.fsck import fsck
from gateway.audit.note import Ed25519Verifier
from gateway.audit.sqlite_reader import SqliteReader
from gateway.client import AsyncClient, ClientError
from gateway.demo.processes import free_ports
from gateway.demo.world import COMPANIES, World, build_world
from gateway.evidence.keys import SigningKey
from gateway.model import EntryKind
from tests.simulators.commands import Command, running
from tests.simulators.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

PUBLIC = "public-lookup"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    names = ("gateway_port", "registry_port", "tax_port", "metrics_port")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
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


async def test_a_worker_cannot_answer_in_the_place_of_the_log(world: World, gateway: Command) -> None:
    """None but the log process, and the supervisor that starts it anew, holds the socket that is asked."""
    log, *workers = gateway.below()
    asked = listening()
    assert asked & sockets(log)
    for worker in workers:
        # Each listens for its own metrics at most.
        others = set().union(*(sockets(each) for each in (log, *workers) if each != worker))
        assert not asked & sockets(worker) & others
    assert gateway.stop() == 0


def listening() -> set[str]:
    """Return the inodes of all local sockets that take connections."""
    lines = Path("/proc/net/unix").read_text().splitlines()
    return {words[6] for words in map(str.split, lines) if words[3] == "00010000"}


def sockets(pid: int) -> set[str]:
    """Return the inodes of the sockets that a process holds."""
    links = [str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()]
    return {link[len("socket:[") : -1] for link in links if link.startswith("socket:[")}


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


async def scrape(world: World) -> dict[str, float]:
    """Return the metrics without labels and the number of exchanges, from whichever worker is asked."""
    port = world.deployment.load().metrics.port

    def fetch() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            return str(answer.read(), "utf-8")

    values: dict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(await asyncio.to_thread(fetch)):
        for sample in family.samples:
            if not sample.labels or sample.name == "sluicegate_exchanges_total":
                values[sample.name] += sample.value
    return values


async def test_metrics_are_those_of_all_workers_and_outlive_each(world: World, gateway: Command) -> None:
    workers = gateway.below()[1:]
    for _ in range(6):
        assert await ask(world) == ""
    seen = [await scrape(world) for _ in range(8)]
    assert {values["sluicegate_exchanges_total"] for values in seen} == {6}
    assert {values["sluicegate_workers"] for values in seen} == {len(workers)}

    os.kill(workers[-1], signal.SIGKILL)
    gateway.wait_for("process.ended")
    if len(workers) > 1:
        while_one_is_missing = await scrape(world)
        assert while_one_is_missing["sluicegate_exchanges_total"] == 6
    gateway.wait_for("gateway.started")
    assert await ask(world) == ""
    seen = [await scrape(world) for _ in range(8)]
    # One worker alone begins at zero, as it always has: Prometheus sees the restart.
    assert {values["sluicegate_exchanges_total"] for values in seen} == {7 if len(workers) > 1 else 1}
    assert {values["sluicegate_workers"] for values in seen} == {len(workers)}
    assert gateway.stop() == 0


async def test_a_metrics_port_that_is_taken_is_said_and_ends_all(world: World, gateway: Command) -> None:
    assert gateway.stop() == 0
    with socket.create_server(("127.0.0.1", world.deployment.load().metrics.port)):
        for workers in (1, 2):
            with running("serve", "--config", world.deployment.config, "--workers", workers) as second:
                _, errors = second.process.communicate(timeout=30)
                assert second.process.returncode == 2
                assert errors.count("error") == 1
                assert "free" in errors


@pytest.mark.parametrize("reaches_all", [False, True])
async def test_a_stop_lets_every_worker_write_its_last_entry(
    world: World, gateway: Command, reaches_all: bool
) -> None:
    """Also one that reaches all processes at once, as from a service manager."""
    workers = len(gateway.below()) - 1
    database = world.deployment.load().log.database
    with SqliteReader(database) as reader:
        size = reader.size()
    for pid in gateway.below() if reaches_all else ():
        os.kill(pid, signal.SIGTERM)
    assert gateway.stop() == 0
    with SqliteReader(database) as reader:
        kinds = [json.loads(reader.entry(index).data)["kind"] for index in range(size, reader.size())]
    assert kinds == [EntryKind.GATEWAY_STOPPED] * workers
    examine(world)


async def test_a_port_that_is_taken_is_said_and_ends_all(world: World, gateway: Command) -> None:
    config = world.deployment.config.with_name("no-metrics.toml")
    config.write_text(world.deployment.config.read_text().replace("[metrics]", "[metrics]\nenabled = false"))
    for workers in (1, 2):
        with running("serve", "--config", config, "--workers", workers) as second:
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
