"""Measures the audit log: appends, examination, and the disk beneath. `make bench-audit`.

All appends are real: each is flushed to the disk before it counts. The disk's own flush is measured in the
same folder, since every figure leans on it. Where `make foreign` has built it, Tessera's POSIX driver runs
on the same disk with entries of the same size.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from statistics import quantiles
from typing import Any

import uvloop

from gateway.audit.appender import Appender, Log
from gateway.audit.checkpoint import Checkpoint, sign_checkpoint
from gateway.audit.fsck import fsck
from gateway.audit.note import Ed25519Signer
from gateway.audit.numbering import AWAITED
from gateway.audit.remote import RemoteLog
from gateway.audit.service import LogService
from gateway.audit.sqlite import SqliteStore
from gateway.audit.store import LogIdentity, prepare_entry
from gateway.audit.writer import AuditLog
from gateway.clock import rfc3339, system_clock
from gateway.local_socket import listen_locally
from gateway.model.entry import Entry, EntryKind

ORIGIN = "bench.example/log"
SIGNER = Ed25519Signer.from_seed(ORIGIN, bytes(range(32)))
ENTRY_BYTES = 300
FLUSHES = 200
FLUSHED_BYTES = 16 * 1024
PROCESSES = 4
FILL_BATCH = 256
SWITCH_INTERVAL_S = 0.003
"""As `gateway serve` sets it."""
TESSERA = Path(__file__).parents[2] / ".tools" / "bin" / "tessera-bench"
TESSERA_LIMIT_S = 300
BEGAN = system_clock()


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-audit")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--entries", type=int, default=50_000, help="appends under load")
    parser.add_argument("--lone", type=int, default=1_000, help="appends of a lone client")
    parser.add_argument("--clients", type=int, default=64, help="clients that append at the same time")
    parser.add_argument("--examined", type=int, default=1_000_000, help="entries for fsck")
    parser.add_argument(
        "--directory", type=Path, help="where to work; the system's temporary folder otherwise"
    )
    options = parser.parse_args()
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True)  # noqa: E731
    with tempfile.TemporaryDirectory(prefix="sluicegate-bench-", dir=options.directory) as folder:
        found = measure(Path(folder), options, say)
    if options.json:
        print(json.dumps(found))
        return
    for name, figures in found.items():
        print(f"{name:<22}" + "  ".join(f"{key} {_shown(value)}" for key, value in figures.items()))


def measure(
    folder: Path, options: argparse.Namespace, say: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """Return all figures by name."""
    found: dict[str, dict[str, Any]] = {
        "machine": {"cores": os.cpu_count(), "entry_bytes": len(prepare_entry(_entry(0)).data)}
    }
    say("flushing ...")
    found["disk_flush"] = flush_times(folder)
    say("a lone client ...")
    found["lone_client"] = append(folder / "lone.db", options.lone, 1)
    say(f"{options.clients} clients ...")
    found["many_clients"] = append(folder / "many.db", options.entries, options.clients)
    say(f"{PROCESSES} processes through one that writes ...")
    found["processes"] = append_from_processes(folder / "shared.db", options.entries, options.clients)
    say("fsck ...")
    found["fsck"] = examine(folder / "examined.db", options.examined)
    if TESSERA.exists():
        say("Tessera's POSIX driver ...")
        found["tessera_posix"] = run_tessera(folder / "tessera", options)
    else:
        say("Tessera's POSIX driver is not built (make foreign): left out")
    return found


def flush_times(folder: Path) -> dict[str, float]:
    """Append a small block and flush it, many times."""
    took = []
    with (folder / "flush").open("wb", buffering=0) as file:
        for _ in range(FLUSHES):
            file.write(os.urandom(FLUSHED_BYTES))
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - started)
    return _percentiles(took)


def append(path: Path, count: int, clients: int) -> dict[str, float]:
    """Append `count` entries from tasks of one event loop, as the gateway does."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    entries = _make(count)
    with SqliteStore(path) as store, AuditLog(store, SIGNER, origin=ORIGIN) as log:
        began = time.perf_counter()
        took = uvloop.run(_append_all(log, entries, clients))
        seconds = time.perf_counter() - began
    return {"entries": count, "clients": clients, "per_s": count / seconds, **_percentiles(took)}


async def _append_all(log: Log, entries: Sequence[Entry], clients: int) -> list[float]:
    waiting = iter(entries)
    took: list[float] = []

    async def client() -> None:
        for entry in waiting:
            started = time.perf_counter()
            await log.append(entry)
            took.append(time.perf_counter() - started)

    await asyncio.gather(*(client() for _ in range(clients)))
    return took


def append_from_processes(path: Path, count: int, clients: int) -> dict[str, float]:
    """Append from several processes through the log's own, each with its share of the clients.

    This is the shape of `gateway serve --workers`: one process holds key and file, the others ask it.
    """
    listener, address = listen_locally()
    context = multiprocessing.get_context("spawn")
    with listener, _log_process(path, listener), context.Pool(PROCESSES) as pool:
        each = clients // PROCESSES
        # The first round imports what each process needs.
        pool.map(_append_some, [(address, each, each)] * PROCESSES, chunksize=1)
        began = time.perf_counter()
        took = pool.map(_append_some, [(address, count // PROCESSES, each)] * PROCESSES, chunksize=1)
        seconds = time.perf_counter() - began
    together = [value for part in took for value in part]
    figures = {"processes": PROCESSES, "clients_each": each, "per_s": len(together) / seconds}
    return {**figures, **_percentiles(together), "max_ms": max(together) * 1000}


@contextmanager
def _log_process(path: Path, listener: socket.socket) -> Iterator[None]:
    process = multiprocessing.get_context("fork").Process(target=_serve_log, args=(path, listener))
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join()


def _serve_log(path: Path, listener: socket.socket) -> None:
    async def serve() -> None:
        stopped = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
        with SqliteStore(path) as store:
            service = LogService(Appender(store, SIGNER, origin=ORIGIN))
            await service.start(listener)
            await stopped.wait()
            await service.stop()

    uvloop.run(serve())


def _append_some(work: tuple[bytes, int, int]) -> list[float]:
    address, count, clients = work
    entries = _make(count)

    async def append() -> list[float]:
        log = RemoteLog(address, queue_limit=clients)
        await log.wait_until_open(10)
        try:
            return await _append_all(log, entries, clients)
        finally:
            await log.close()

    return uvloop.run(append())


def examine(path: Path, count: int) -> dict[str, float]:
    """Fill a log, then examine it; the rate is of processor time, as one core would do it."""
    with SqliteStore(path) as store:
        store.open(LogIdentity(ORIGIN, SIGNER.verifier), _sign)
        for first in range(0, count, FILL_BATCH):
            numbers = range(first, min(first + FILL_BATCH, count))
            batch = [prepare_entry(_entry(number, numbered=True)) for number in numbers]
            store.append(batch, _sign, BEGAN)
            store.maintain()
    began, busy = time.perf_counter(), time.process_time()
    report = fsck(path, SIGNER.verifier)
    busy, seconds = time.process_time() - busy, time.perf_counter() - began
    if report.findings or report.entries != count:
        raise SystemExit("The log that was just written is not sound; the figures are worth nothing.")
    return {"entries": count, "per_s": count / seconds, "per_core_s": count / busy}


def run_tessera(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run Tessera's POSIX driver on the same disk."""
    folder.mkdir()
    command = [TESSERA, "-dir", folder, "-entries", options.entries // 5, "-clients", options.clients]
    done = subprocess.run(
        [*map(str, command), "-size", str(ENTRY_BYTES)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
        timeout=TESSERA_LIMIT_S,
    )
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def _make(count: int) -> list[Entry]:
    """Return entries made before the clock runs: making them is the load's work, not the log's.

    Nor is it the log's that the garbage collector looks at them again and again: `gateway serve` as well
    has it leave alone what was there at the start.
    """
    entries = [_entry(number) for number in range(count)]
    gc.freeze()
    return entries


def _entry(number: int, *, numbered: bool = False) -> Entry:
    """Return an entry of `ENTRY_BYTES`; if `numbered`, with the number of its release in another's place."""
    released = number % 2 == 1
    return Entry(
        v=1,
        kind=EntryKind.EXCHANGE_RELEASED if released else EntryKind.EXCHANGE_REQUESTED,
        time=rfc3339(BEGAN + timedelta(milliseconds=number)),
        exchange=f"0195512e-0000-7000-8000-{number:012x}",
        consumer=f"bank-{number % 7}",
        provider="registry",
        dataset=f"members/registry/datasets/set-{number % 5}",
        tier="restricted",
        purpose="credit-check",
        memorandum="" if numbered and released else "m1",
        sequence=AWAITED if numbered and released else None,
        released=("name", "status"),
        records=number % 3,
    )


def _sign(size: int, root: bytes) -> str:
    return sign_checkpoint(Checkpoint(ORIGIN, size, root), SIGNER)


def _percentiles(seconds: Sequence[float]) -> dict[str, float]:
    if len(seconds) < 2:
        return {"p50_ms": seconds[0] * 1000, "p99_ms": seconds[0] * 1000}
    cuts = quantiles(seconds, n=100)
    return {"p50_ms": cuts[49] * 1000, "p99_ms": cuts[98] * 1000}


def _shown(value: Any) -> str:
    return f"{value:,.2f}" if isinstance(value, float) and value < 100 else f"{value:,.0f}"


if __name__ == "__main__":
    main()
