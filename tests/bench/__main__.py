"""Runs the benchmark and prints its report. See README.md beside this file."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

from gateway.pki.tls13 import require_tls13

require_tls13()  # before gRPC is imported

import grpc  # noqa: E402
import msgspec  # noqa: E402
import uvloop  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from gateway.api.v1 import evidence_pb2  # noqa: E402
from gateway.api.v1 import exchange_service_pb2 as api  # noqa: E402
from gateway.api.v1 import provider_service_pb2 as provider_api  # noqa: E402
from gateway.client.statement import build_query, seal_query  # noqa: E402
from gateway.clock import rfc3339, system_clock  # noqa: E402
from gateway.demo.world import ORIGIN  # noqa: E402
from gateway.evidence import dsse  # noqa: E402
from gateway.evidence.keys import SigningKey  # noqa: E402
from gateway.evidence.order import ORDER_TYPE, FetchOrder, encode_order  # noqa: E402
from gateway.exchange.state import new_exchange_id  # noqa: E402
from gateway.model import Operation, Subject  # noqa: E402
from gateway.pki.reload import channel_credentials  # noqa: E402
from tests.bench import bulk, relay  # noqa: E402
from tests.bench.load import Round, percentile_ms, run_round  # noqa: E402
from tests.bench.world import (  # noqa: E402
    DATASET,
    FIELDS,
    LEGAL_BASIS,
    LOOKUP_LEGAL_BASIS,
    LOOKUP_PURPOSE,
    MEMORANDUM,
    PURPOSE,
    BenchWorld,
    build,
    records,
)

QUERY = "/gateway.api.v1.ExchangeService/Query"
STEPS = (
    "identity",
    "envelope",
    "resolve",
    "policy",
    "log_requested",
    "provider",
    "transform",
    "log_released",
    "receipt",
    "total",
)


class Report(msgspec.Struct):
    """The figures. Ratios are of rounds that ran side by side; medians over rounds."""

    cores: int
    workers: int
    relay_rps: float
    gateway_rps: float
    ratio: float
    relay_p50_ms: float
    relay_p99_ms: float
    gateway_p50_ms: float
    gateway_p99_ms: float
    unloaded_relay_p50_ms: float
    unloaded_gateway_p50_ms: float
    added_p50_ms: float
    bulk_records: int
    bulk_records_per_s: float
    bulk_floor_records_per_s: float
    bulk_floor_ratio: float
    start_s: float
    idle_streams: int
    idle_streams_memory_mib: float
    memory_mib: float
    steps_us: dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--requests", type=int, default=2000, help="requests a round")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of relay and gateway, alternating")
    parser.add_argument("--in-flight", type=int, default=32, help="requests in flight")
    parser.add_argument("--workers", type=int, default=1, help="worker processes of the gateway")
    parser.add_argument("--bulk", type=int, default=200_000, help="records of the bulk answer")
    parser.add_argument("--idle-streams", type=int, default=1000, help="streams left open and unread")
    options = parser.parse_args()
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True)  # noqa: E731
    with tempfile.TemporaryDirectory(prefix="sluicegate-bench-") as folder, ExitStack() as stack:
        ports = _free_ports(4)
        say("making the deployment ...")
        world = build(Path(folder), ports[0], ports[1], ports[3])
        say("starting provider, relay and gateway ...")
        members = world.provider.directory
        stack.enter_context(_process("tests.bench.provider", str(members), str(ports[1]), str(options.bulk)))
        stack.enter_context(
            _process("tests.bench.relay", str(world.deployment.directory), str(ports[2]), str(ports[1]))
        )
        started = time.perf_counter()
        gateway = stack.enter_context(
            _process(
                *("gateway", "serve", "--config", str(world.deployment.config)),
                *("--workers", str(options.workers)),
                wait="gateway.started",
                times=options.workers,
            )
        )
        start_s = time.perf_counter() - started
        report = uvloop.run(_measure(world, ports, gateway.pid, start_s, options, say))
    if options.json:
        print(msgspec.json.encode(report).decode())
    else:
        _show(report)


async def _measure(
    world: BenchWorld,
    ports: list[int],
    pid: int,
    start_s: float,
    options: argparse.Namespace,
    say: Callable[[str], None],
) -> Report:
    consumer = world.consumer
    credentials = channel_credentials(consumer.directory / "ca.pem", consumer.certificate, consumer.tls_key)
    key = SigningKey.load(consumer.signing_key)
    channels = [_channel(ports[0], credentials, number) for number in range(4)]
    relay_channels = [_channel(ports[2], credentials, number) for number in range(4)]
    keys, _ = records(5000)
    orders = _Orders(world, keys)
    queries = _Queries(key, keys)

    say("warming up ...")
    await run_round(relay_channels, relay.METHOD, orders.make(300), options.in_flight)
    await run_round(channels, QUERY, queries.make(300), options.in_flight)
    unloaded: list[tuple[Round, Round]] = [
        (
            await run_round(relay_channels[:1], relay.METHOD, orders.make(300), 1),
            await run_round(channels[:1], QUERY, queries.make(300), 1),
        )
        for _ in range(3)
    ]
    before = _steps(ports[3])
    loaded: list[tuple[Round, Round]] = []
    for number in range(options.rounds):
        say(f"round {number + 1} of {options.rounds} ...")
        relay_requests, queries_sealed = orders.make(options.requests), queries.make(options.requests)
        loaded.append(
            (
                await run_round(relay_channels, relay.METHOD, relay_requests, options.in_flight),
                await run_round(channels, QUERY, queries_sealed, options.in_flight),
            )
        )
    steps = _difference(before, _steps(ports[3]))
    say("bulk ...")
    rates = []
    for _ in range(3):
        count, seconds = await bulk.stream_once(channels[0], queries.stream(bulk.PAGE))
        if count != options.bulk:
            raise RuntimeError("the bulk answer is not complete")
        rates.append(count / seconds)
    memory_mib = _memory_mib(pid)
    say("idle streams ...")
    idle_memory = await _idle_streams(ports, credentials, queries, options.idle_streams, pid)
    for channel in (*channels, *relay_channels):
        await channel.close()
    say("floor ...")
    floor = median(bulk.floor_records_per_s(min(options.bulk, 50_000)) for _ in range(3))
    relay_all = [value for pair in loaded for value in pair[0].latencies_s]
    gateway_all = [value for pair in loaded for value in pair[1].latencies_s]
    unloaded_relay = median(percentile_ms(pair[0].latencies_s, 50) for pair in unloaded)
    unloaded_gateway = median(percentile_ms(pair[1].latencies_s, 50) for pair in unloaded)
    return Report(
        cores=os.cpu_count() or 0,
        workers=options.workers,
        relay_rps=round(median(pair[0].per_second for pair in loaded), 1),
        gateway_rps=round(median(pair[1].per_second for pair in loaded), 1),
        ratio=round(median(pair[1].per_second / pair[0].per_second for pair in loaded), 3),
        relay_p50_ms=round(percentile_ms(relay_all, 50), 2),
        relay_p99_ms=round(percentile_ms(relay_all, 99), 2),
        gateway_p50_ms=round(percentile_ms(gateway_all, 50), 2),
        gateway_p99_ms=round(percentile_ms(gateway_all, 99), 2),
        unloaded_relay_p50_ms=round(unloaded_relay, 3),
        unloaded_gateway_p50_ms=round(unloaded_gateway, 3),
        added_p50_ms=round(
            median(
                percentile_ms(pair[1].latencies_s, 50) - percentile_ms(pair[0].latencies_s, 50)
                for pair in unloaded
            ),
            3,
        ),
        bulk_records=options.bulk,
        bulk_records_per_s=round(median(rates)),
        bulk_floor_records_per_s=round(floor),
        bulk_floor_ratio=round(median(rates) / floor, 3),
        start_s=round(start_s, 2),
        idle_streams=options.idle_streams,
        idle_streams_memory_mib=round(idle_memory, 1),
        memory_mib=round(memory_mib, 1),
        steps_us=steps,
    )


class _Queries:
    """Seals queries: each with its own nonce and signature."""

    def __init__(self, key: SigningKey, keys: list[str]) -> None:
        self._key = key
        self._keys = keys
        self._next = 0

    def make(self, count: int) -> list[bytes]:
        return [self._one() for _ in range(count)]

    def stream(self, page_size: int) -> bytes:
        query = build_query(
            ORIGIN,
            Operation.STREAM,
            DATASET,
            PURPOSE,
            clock=system_clock,
            legal_basis=LEGAL_BASIS,
            memorandum=MEMORANDUM,
        )
        request = api.StreamQueryRequest(envelope=_wire(seal_query(query, self._key)), page_size=page_size)
        return request.SerializeToString()

    def _one(self) -> bytes:
        self._next = (self._next + 1) % len(self._keys)
        query = build_query(
            ORIGIN,
            Operation.QUERY,
            DATASET,
            LOOKUP_PURPOSE,
            clock=system_clock,
            subjects=[Subject("uscc", self._keys[self._next])],
            legal_basis=LOOKUP_LEGAL_BASIS,
            memorandum=MEMORANDUM,
        )
        return api.QueryRequest(envelope=_wire(seal_query(query, self._key))).SerializeToString()


class _Orders:
    """Seals fetch orders with the gateway's key, for the relay, which signs nothing itself."""

    def __init__(self, world: BenchWorld, keys: list[str]) -> None:
        self._key = SigningKey.load(world.deployment.load().keys.signing)
        self._keys = keys
        self._next = 0

    def make(self, count: int) -> list[bytes]:
        return [self._one() for _ in range(count)]

    def _one(self) -> bytes:
        self._next = (self._next + 1) % len(self._keys)
        now = datetime.now(UTC)
        order = FetchOrder(
            gateway=ORIGIN,
            exchange=new_exchange_id(now),
            consumer="harbour-bank",
            dataset=DATASET,
            subject_field="uscc",
            subject_values=(self._keys[self._next],),
            fields=FIELDS,
            purpose=LOOKUP_PURPOSE,
            legal_basis=LOOKUP_LEGAL_BASIS,
            memorandum=MEMORANDUM,
            decision="d-" + "0" * 32,
            bundle="sha256:" + "0" * 64,
            tier="limited",
            time=rfc3339(now),
            expires=rfc3339(now + timedelta(minutes=5)),
        )
        envelope = dsse.sign(encode_order(order), ORDER_TYPE, [self._key])
        return provider_api.FetchRecordsRequest(order=_wire(envelope), page_size=100).SerializeToString()


async def _idle_streams(
    ports: list[int], credentials: grpc.ChannelCredentials, queries: _Queries, count: int, pid: int
) -> float:
    """Open `count` bulk streams, read nothing, and return the server's MiB once all are logged."""
    channels = [_channel(ports[0], credentials, 100 + number) for number in range(max(1, count // 100))]
    calls = []
    for number in range(count):
        stream = channels[number % len(channels)].unary_stream(bulk.STREAM)
        calls.append(stream(queries.stream(bulk.PAGE), timeout=600))
        if number % 50 == 49:
            await asyncio.sleep(0.1)
    deadline = time.monotonic() + 30
    while _open_streams(ports[3]) < count and time.monotonic() < deadline:  # noqa: ASYNC110 - another process tells
        await asyncio.sleep(0.2)
    memory = _memory_mib(pid)
    if _open_streams(ports[3]) != count:
        raise RuntimeError("not all streams are open")
    for call in calls:
        call.cancel()
    for channel in channels:
        await channel.close()
    return memory


def _channel(port: int, credentials: grpc.ChannelCredentials, number: int) -> grpc.aio.Channel:
    return grpc.aio.secure_channel(
        f"localhost:{port}",
        credentials,
        options=(
            ("grpc.channel_id", number),  # a connection of its own
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.ssl_target_name_override", "localhost"),
            ("grpc.max_receive_message_length", 16 * 1024 * 1024),
        ),
    )


def _wire(envelope: dsse.Envelope) -> evidence_pb2.Envelope:
    return evidence_pb2.Envelope(
        payload=envelope.payload,
        payload_type=envelope.payload_type,
        signatures=[evidence_pb2.Signature(keyid=item.keyid, sig=item.sig) for item in envelope.signatures],
    )


def _metrics(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return answer.read().decode()


def _open_streams(port: int) -> int:
    match = re.search(r"^sluicegate_open_streams (\S+)", _metrics(port), re.MULTILINE)
    return int(float(match[1])) if match else 0


def _steps(port: int) -> dict[str, tuple[float, float]]:
    """Return (seconds, count) of each step, from the gateway's own metrics."""
    text = _metrics(port)
    found = {}
    for step in STEPS:
        values = [
            re.search(rf'^sluicegate_step_seconds_{part}{{step="{step}"}} (\S+)', text, re.MULTILINE)
            for part in ("sum", "count")
        ]
        found[step] = tuple(float(value[1]) if value else 0.0 for value in values)
    return found  # type: ignore[return-value]


def _difference(
    before: dict[str, tuple[float, float]], after: dict[str, tuple[float, float]]
) -> dict[str, float]:
    steps = {}
    for step, (seconds, count) in after.items():
        if count > before[step][1]:
            steps[step] = round((seconds - before[step][0]) / (count - before[step][1]) * 1e6, 1)
    return steps


def _memory_mib(pid: int) -> float:
    """Return the memory of a process and all below it; what several share is counted once (PSS)."""
    match = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return (int(match[1]) / 1024 if match else 0.0) + sum(_memory_mib(int(child)) for child in below)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [item.getsockname()[1] for item in sockets]
    for item in sockets:
        item.close()
    return ports


@contextmanager
def _process(
    module: str, *arguments: str, wait: str = "serving", times: int = 1
) -> Iterator[subprocess.Popen[str]]:
    """Run a module until the block ends; the block begins when it has said `wait` so many times."""
    process = subprocess.Popen([sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        stdout = process.stdout
        assert stdout is not None
        for line in stdout:
            times -= wait in line
            if not times:
                break
        else:
            raise RuntimeError(f"{module} ended before it served")
        drain = subprocess.Popen(["cat"], stdin=stdout, stdout=subprocess.DEVNULL)
        yield process
        process.terminate()
        process.wait(20)
        drain.wait(5)
    finally:
        process.kill()
        process.wait()


def _show(report: Report) -> None:
    console = Console()
    table = Table(title=f"Single-record queries, {report.cores} cores, {report.workers} gateway workers")
    for column in ("", "requests/s", "p50 ms", "p99 ms", "unloaded p50 ms"):
        table.add_column(column, justify="right" if column else "left")
    table.add_row(
        "bare relay",
        f"{report.relay_rps:.0f}",
        f"{report.relay_p50_ms}",
        f"{report.relay_p99_ms}",
        f"{report.unloaded_relay_p50_ms}",
    )
    table.add_row(
        "gateway",
        f"{report.gateway_rps:.0f}",
        f"{report.gateway_p50_ms}",
        f"{report.gateway_p99_ms}",
        f"{report.unloaded_gateway_p50_ms}",
    )
    console.print(table)
    console.print(f"ratio {report.ratio}, added p50 {report.added_p50_ms} ms")
    steps = Table(title="Steps of an exchange under load")
    steps.add_column("step")
    steps.add_column("µs", justify="right")
    for step, microseconds in report.steps_us.items():
        steps.add_row(step, f"{microseconds:.0f}")
    console.print(steps)
    console.print(
        f"bulk: {report.bulk_records} records, {report.bulk_records_per_s:.0f} records/s, "
        f"{report.bulk_floor_ratio} of the floor ({report.bulk_floor_records_per_s:.0f} records/s)"
    )
    console.print(
        f"start to serving {report.start_s} s; memory {report.memory_mib} MiB, with {report.idle_streams} "
        f"open streams idle {report.idle_streams_memory_mib} MiB"
    )


if __name__ == "__main__":
    main()
