"""Reading a long log: a page of a search, the proof of any entry, opening. `make bench-search`.

Builds a log of as many entries as are asked for (ten million by default, about 9 GiB) through the real
store in large batches, and measures what a reader waits for. `--keep DIR` leaves it for the next run.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from gateway.audit.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from gateway.audit.filter_parser import parse_filter
from gateway.audit.note import Ed25519Signer
from gateway.audit.paging import open_page_token, page_token
from gateway.audit.proof import verify_inclusion
from gateway.audit.sqlite import SqliteStore
from gateway.audit.sqlite_reader import SqliteReader
from gateway.audit.store import LogIdentity, PendingEntry, prepare_entry
from gateway.audit.tree import leaf_hash
from gateway.clock import rfc3339
from gateway.model import Entry, EntryKind

ORIGIN = "audit.example.org/log/bench"
START = datetime(2026, 1, 1, tzinfo=UTC)
BATCH = 16_384
PAGE = 50
ROUNDS = 20

BANKS = [f"bank-{number}" for number in range(60)]
AGENCIES = ["registry", "tax-office", "customs", "courts"]
DATASETS = {agency: [f"members/{agency}/datasets/set-{number}" for number in range(5)] for agency in AGENCIES}
TIERS = ["open", "shared", "restricted", "closed"]
PURPOSES = [f"purpose-{number}" for number in range(25)]
REASONS = ["PURPOSE_NOT_PERMITTED", "FIELD_ABOVE_TIER", "LEGAL_BASIS_MISSING", "PROVIDER_TIMEOUT"]

Report = dict[str, Any]


@dataclass(frozen=True)
class Log:
    path: Path
    signer: Ed25519Signer

    def sign(self, size: int, root: bytes) -> str:
        return sign_checkpoint(Checkpoint(ORIGIN, size, root), self.signer)

    @property
    def identity(self) -> LogIdentity:
        return LogIdentity(ORIGIN, self.signer.verifier)

    def bytes(self) -> int:
        return sum(file.stat().st_size for file in self.path.parent.glob(f"{self.path.name}*"))


def entries(count: int) -> Iterator[Entry]:
    """Yield pairs of a request and its outcome, a year of them, with what is rare kept to a few places."""
    chance = random.Random(2026)
    step = timedelta(days=365) / max(count, 1)
    for number in range(count):
        if number % 2 == 0:
            agency = chance.choice(AGENCIES)
            exchange = f"{chance.getrandbits(32):08x}-0000-7000-8000-{number:012x}"
            parts = {
                "consumer": chance.choice(BANKS),
                "provider": agency,
                "dataset": chance.choice(DATASETS[agency]),
                # Two purposes that no entry of the first tier has: a search for both finds nothing.
                "tier": (tier := chance.choice(TIERS)),
                "purpose": chance.choice(PURPOSES[2:] if tier == TIERS[0] else PURPOSES),
                "operation": "query",
                "bundle": "5e6b2cf9d1a04d7e8a63",
                "envelope_key": "9a1c" * 8,
            }
            kind, more = EntryKind.EXCHANGE_REQUESTED, {}
        else:
            refused = chance.random() < 0.05
            kind = EntryKind.EXCHANGE_FAILED if refused else EntryKind.EXCHANGE_RELEASED
            more = (
                {"reasons": (chance.choice(REASONS),)}
                if refused
                else {"records": 1, "pages": 1, "bytes": 412, "duration_ms": 7}
            )
        if number == count // 1000:
            parts = {**parts, "consumer": "once-only-bank"}
        yield Entry(v=1, kind=kind, time=rfc3339(START + number * step), exchange=exchange, **parts, **more)


def build(log: Log, count: int, progress: Callable[[int], None]) -> float:
    """Fill the log; return the seconds it took."""
    started = time.perf_counter()
    with SqliteStore(log.path) as store:
        store.open(log.identity, log.sign)
        batch: list[PendingEntry] = []
        done = 0
        for entry in entries(count):
            batch.append(prepare_entry(entry))
            if len(batch) == BATCH or done + len(batch) == count:
                store.append(batch, log.sign, START)
                store.maintain()
                done += len(batch)
                batch = []
                progress(done)
    return time.perf_counter() - started


def filters(count: int) -> dict[str, str]:
    """Return the searches that are measured, by what makes them hard."""
    middle = rfc3339(START + timedelta(days=180))
    soon = rfc3339(START + timedelta(days=180, minutes=10))
    exchange = next(entry.exchange for at, entry in enumerate(entries(count)) if at == min(count - 1, 1000))
    return {
        "everything": "",
        "common": "kind = exchange.released",
        "common, refused": "kind = exchange.failed AND reason:FIELD_ABOVE_TIER",
        "rare (one pair, old)": "member = once-only-bank",
        "absent": "member = nobody-at-all",
        "absent with common": "member = nobody-at-all AND kind = exchange.released",
        "two common, never together": f"tier = {TIERS[0]} AND purpose = {PURPOSES[0]}",
        "four common, never together": (
            f"(purpose = {PURPOSES[0]} OR purpose = {PURPOSES[1]}) AND tier = {TIERS[0]} "
            "AND kind = exchange.*"
        ),
        "negation that leaves nothing": "NOT kind = exchange.*",
        "old, by time": "time < 2026-01-02",
        "ten minutes in the middle": f'time >= "{middle}" AND time < "{soon}"',
        "member in ten minutes": f'member = bank-7 AND time >= "{middle}" AND time < "{soon}"',
        "an exchange": f"exchange = {exchange}",
        "sixty conditions": " AND ".join(f"NOT consumer = {bank}" for bank in ["nobody", *BANKS]),
        "deep: member, tier, purpose, dataset": (
            f"consumer = bank-7 AND tier = closed AND purpose = {PURPOSES[9]} AND dataset = courts/set-1"
        ),
    }


@dataclass(frozen=True)
class Timed:
    """Milliseconds of some runs: on the clock, and of the processor."""

    p50_ms: float
    max_ms: float
    processor_ms: float
    """The median: what a run takes when nobody else wants the processor."""
    answer: Any
    """That of the last run."""


def timed(action: Callable[[], Any], rounds: int) -> Timed:
    times, busy = [], []
    answer: Any = None
    for _ in range(rounds):
        started, busy_before = time.perf_counter(), time.thread_time()
        answer = action()
        busy.append((time.thread_time() - busy_before) * 1000)
        times.append((time.perf_counter() - started) * 1000)
    return Timed(median(times), max(times), median(busy), answer)


def measure(log: Log, count: int, rounds: int) -> Report:
    started = time.perf_counter()
    with SqliteStore(log.path) as store:
        store.open(log.identity, log.sign)
        opened_s = time.perf_counter() - started
    report: Report = {"entries": count, "bytes": log.bytes(), "open_s": opened_s, "searches": {}}
    with SqliteReader(log.path) as reader:
        for name, text in filters(count).items():
            wanted = parse_filter(text)
            first = timed(lambda wanted=wanted: reader.page(wanted, PAGE), rounds)
            found = first.answer.entries
            figures = {
                "p50_ms": first.p50_ms,
                "max_ms": first.max_ms,
                "processor_ms": first.processor_ms,
                "found": len(found),
                "complete": len(found) == PAGE or first.answer.before is None,
            }
            if len(found) == PAGE:
                # A page from the middle of the answer costs what the first one does.
                before = open_page_token(page_token(wanted, found[-1].index // 2), wanted)
                later = timed(lambda wanted=wanted, at=before: reader.page(wanted, PAGE, at), rounds)
                figures |= {"later_p50_ms": later.p50_ms, "later_max_ms": later.max_ms}
            report["searches"][name] = figures
        report["proof"] = _proofs(reader, log, count, rounds * 10)
    return report


def _proofs(reader: SqliteReader, log: Log, count: int, rounds: int) -> Report:
    checkpoint = open_checkpoint(reader.checkpoint(), [log.signer.verifier])
    chance = random.Random(7)
    indices = iter([chance.randrange(count) for _ in range(rounds)])
    proven: list[tuple[int, tuple[bytes, ...]]] = []

    def prove() -> None:
        index = next(indices)
        proven.append((index, reader.inclusion_proof(index, count)))

    took = timed(prove, rounds)
    for index, hashes in proven:
        verify_inclusion(leaf_hash(reader.entry(index).data), index, count, hashes, checkpoint.root)
    figures = {"p50_ms": took.p50_ms, "max_ms": took.max_ms, "processor_ms": took.processor_ms}
    return {**figures, "verified": len(proven)}


def tell(report: Report) -> None:
    print(f"{report['entries']:,} entries, {report['bytes'] / 2**30:.2f} GiB on disk")
    if "build_s" in report:
        rate = report["entries"] / report["build_s"]
        print(f"written in {report['build_s']:.0f} s: {rate:,.0f} entries/s in batches of {BATCH:,}")
    print(f"opened for writing, with its head verified, in {report['open_s'] * 1000:.0f} ms (budget 5,000)")
    heading = "".join(f"{word:>12}" for word in ("p50", "max", "processor", "later p50", "max", "found"))
    print(f"\npage of {PAGE}, newest first (budget 50 ms){'':<6}{heading}")
    for name, found in report["searches"].items():
        times = [
            found.get(key) for key in ("p50_ms", "max_ms", "processor_ms", "later_p50_ms", "later_max_ms")
        ]
        cells = "".join("           -" if time is None else f"{time:>12.2f}" for time in times)
        shortened = "" if found["complete"] else "  so far"
        print(f"  {name:<42}{cells}{found['found']:>12}{shortened}")
    proof = report["proof"]
    times = "".join(f"{proof[key]:>12.2f}" for key in ("p50_ms", "max_ms", "processor_ms"))
    print(f"\n{'proof of any entry (budget 1 ms)':<44}{times}  ms")


def run(
    count: int, folder: Path, rounds: int = ROUNDS, progress: Callable[[int], None] = lambda _done: None
) -> Report:
    """Build the log in `folder` unless it stands there, and measure."""
    log = Log(folder / f"search-{count}.db", Ed25519Signer.from_seed(ORIGIN, bytes(range(32))))
    build_s = None
    if not log.path.exists():
        part = Log(folder / "part.db", log.signer)
        build_s = build(part, count, progress)
        for file in folder.glob("part.db*"):
            file.rename(folder / file.name.replace("part.db", log.path.name))
    report = measure(log, count, rounds)
    if build_s is not None:
        report["build_s"] = build_s
    return report


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-search", description=__doc__)
    parser.add_argument("--entries", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--keep", type=Path, help="folder in which the log is kept for the next run")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    folder = options.keep or Path(tempfile.mkdtemp(prefix="sluicegate-search-"))
    folder.mkdir(parents=True, exist_ok=True)

    def progress(done: int) -> None:
        print(f"\r{done:,} of {options.entries:,}", end="", file=sys.stderr, flush=True)

    try:
        report = run(options.entries, folder, options.rounds, progress)
        print(file=sys.stderr)
        if options.json:
            print(msgspec.json.encode(report).decode())
        else:
            tell(report)
    finally:
        if options.keep is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
