"""Appending to a log in PostgreSQL from several nodes: `python -m tests.bench.postgres [--json]`.

Each node is a process of its own with as many callers as it is given; the server is a real one, on the
same disk. The time of a flush stands beside the figures: nothing commits faster than that.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta

import uvloop

from gateway.audit.note import Ed25519Signer
from gateway.audit.postgres import PostgresStore
from gateway.audit.store import Once, prepare_entry
from gateway.audit.writer import AuditLog, LogHooks
from gateway.clock import rfc3339
from gateway.database import PostgresAddress
from tests.simulators.entries import ORIGIN, make_entry

SECONDS = 4.0
RUNS = ((1, 1, False), (1, 64, False), (2, 64, False), (2, 64, True))
"""Nodes, callers on each, and whether each entry claims a once-key."""

SIGNER = Ed25519Signer.from_seed(ORIGIN, bytes(32))


def entry(number: int) -> object:
    """Return an entry of about 300 bytes."""
    return make_entry(number, time=rfc3339(datetime.now(UTC)), purpose="x" * 60)


async def drive(log: AuditLog, callers: int, seconds: float, *, claims: bool) -> list[float]:
    """Append from `callers` tasks for `seconds`; return how long each append took."""
    took: list[float] = []
    end = time.perf_counter() + seconds

    async def call(caller: int) -> None:
        number = caller * 1_000_000
        while (begun := time.perf_counter()) < end:
            number += 1
            until = datetime.now(UTC) + timedelta(minutes=5)
            once = Once(os.urandom(16), until) if claims else None
            await log.append(entry(number), once)  # type: ignore[arg-type]
            took.append(time.perf_counter() - begun)

    await asyncio.gather(*(call(caller) for caller in range(callers)))
    return took


def run_node(url: str, callers: int, *, claims: bool) -> None:
    """Be one node; print what it has measured."""
    sys.setswitchinterval(0.0005)
    batches: list[int] = []
    hooks = LogHooks(committed=lambda entries, _seconds: batches.append(entries))
    store = PostgresStore(PostgresAddress.parse(url))
    with (
        AuditLog(store, SIGNER, origin=ORIGIN, hooks=hooks) as log,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(drive(log, callers, 1.0, claims=claims))
        batches.clear()
        took = sorted(runner.run(drive(log, callers, SECONDS, claims=claims)))
    print(
        json.dumps(
            {
                "entries_per_s": round(len(took) / SECONDS),
                "p50_ms": round(took[len(took) // 2] * 1000, 2),
                "p99_ms": round(took[len(took) * 99 // 100] * 1000, 2),
                "batch": round(statistics.mean(batches), 1),
            }
        )
    )


def flush_ms() -> float:
    """Return the median time of a flush of 4 KiB on the disk of temporary files."""
    took = []
    with tempfile.TemporaryFile() as file:
        for _ in range(200):
            file.write(b"x" * 4096)
            file.flush()
            begun = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - begun)
    return round(statistics.median(took) * 1000, 3)


def measure() -> dict[str, object]:
    """Run every combination against a server of its own."""
    # Only here: nodes do not need the server's package.
    from tests.simulators.postgres import running_postgres

    found = []
    with running_postgres() as server:
        for nodes, callers, claims in RUNS:
            command = [sys.executable, "-m", "tests.bench.postgres", "--node", server.database().url]
            command += ["--callers", str(callers), *(["--claims"] if claims else [])]
            processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(nodes)]
            answers = [json.loads(process.communicate()[0]) for process in processes]
            found.append(
                {
                    "nodes": nodes,
                    "callers": callers,
                    "claims": claims,
                    "entries_per_s": sum(answer["entries_per_s"] for answer in answers),
                    "of_each": answers,
                }
            )
    size = len(prepare_entry(entry(1)).data)  # type: ignore[arg-type]
    return {"flush_ms": flush_ms(), "entry_bytes": size, "load": os.getloadavg()[0], "runs": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--node", help=argparse.SUPPRESS)
    parser.add_argument("--callers", type=int, default=64, help=argparse.SUPPRESS)
    parser.add_argument("--claims", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.node:
        run_node(options.node, options.callers, claims=options.claims)
        return
    report = measure()
    if options.json:
        print(json.dumps(report))
        return
    print(f"a flush takes {report['flush_ms']} ms; entries of {report['entry_bytes']} bytes")
    for run in report["runs"]:  # type: ignore[attr-defined]
        each = run["of_each"][0]
        claims = ", each with a once-key" if run["claims"] else ""
        print(
            f"{run['nodes']} nodes x {run['callers']} callers{claims}: {run['entries_per_s']} entries/s, "
            f"p50 {each['p50_ms']} ms, p99 {each['p99_ms']} ms, {each['batch']} in a batch"
        )


if __name__ == "__main__":
    main()
