"""A monthly statement over a million exchanges. `make bench-usage`.

Builds a log through the real store (two entries of each exchange, of the size that real ones have), and
measures how long the statement of one contributor takes that nobody has asked for before, and the next one
that is asked for when the log has grown a little. `--keep DIR` leaves the log for the next run.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from gateway.audit.checkpoint import Checkpoint, sign_checkpoint
from gateway.audit.note import Ed25519Signer
from gateway.audit.sqlite import SqliteStore
from gateway.audit.sqlite_reader import SqliteReader
from gateway.audit.store import LogIdentity, prepare_entry
from gateway.clock import rfc3339
from gateway.evidence.keys import SigningKey
from gateway.model import Entry, EntryKind
from gateway.model.contract import Per, Price, Quota
from gateway.usage.books import Books
from gateway.usage.period import CLOSING_TIME, month_of
from gateway.usage.statement import ContractTerms, figures, make_statement, sign_statement

ORIGIN = "audit.example.org/log/bench"
MONTH = "2026-10"
BATCH = 16_384
CONTRACT = "sha256:" + "ab" * 32
BANKS = [f"bank-{number}" for number in range(20)]
DATASETS = [f"members/amber/datasets/set-{number}" for number in range(5)]
PURPOSES = ["credit-check", "tender-check", "fraud-check"]
FIELDS = ("amount", "due", "name", "uscc")
DIGEST = "x" * 43 + "="
BUDGET_S = 5.0


def entries(exchanges: int) -> Iterator[Entry]:
    """Yield request and release of each exchange, spread over the month."""
    chance = random.Random(2026)
    begins = datetime(2026, 10, 1, tzinfo=UTC)
    step = timedelta(days=31) / max(1, exchanges)
    for number in range(exchanges):
        parts: dict[str, Any] = {
            "v": 1,
            "time": rfc3339(begins + step * number),
            "exchange": f"{chance.getrandbits(32):08x}-0000-7000-8000-{number:012x}",
            "consumer": chance.choice(BANKS),
            "provider": "amber",
            "operation": "query",
            "dataset": chance.choice(DATASETS),
            "tier": "restricted",
            "purpose": chance.choice(PURPOSES),
            "legal_basis": "consent",
            "contract": CONTRACT,
            "decision": "sha256:" + "cd" * 32,
            "bundle": "sha256:" + "ef" * 32,
            "envelope_key": "ab" * 32,
        }
        commitments = dict.fromkeys(("query", "subject", "details"), DIGEST)
        yield Entry(kind=EntryKind.EXCHANGE_REQUESTED, commitments=commitments, **parts)
        yield Entry(
            kind=EntryKind.EXCHANGE_RELEASED,
            sequence=0,
            released=FIELDS,
            obligations={"uscc": "pseudonymise"},
            records=chance.randrange(1, 50),
            pages=1,
            bytes=1234,
            duration_ms=12,
            commitments={**commitments, "records": DIGEST},
            fields={"root": DIGEST, "blind": DIGEST},
            provider_key="cd" * 32,
            **parts,
        )


def build(path: Path, signer: Ed25519Signer, exchanges: int) -> None:
    """Write the log at `path`, unless it is there."""
    if path.exists():
        return

    def sign(size: int, root: bytes) -> str:
        return sign_checkpoint(Checkpoint(ORIGIN, size, root), signer)

    with SqliteStore(path) as store:
        store.open(LogIdentity(ORIGIN, signer.verifier), sign)
        batch = []
        for entry in entries(exchanges):
            batch.append(prepare_entry(entry))
            if len(batch) == BATCH:
                store.append(batch, sign, datetime.now(UTC))
                store.maintain()
                batch = []
        if batch:
            store.append(batch, sign, datetime.now(UTC))


def measure(path: Path, signer: Ed25519Signer) -> dict[str, Any]:
    """Return how long statements of the log at `path` take."""
    period = month_of(MONTH)
    terms = ContractTerms(
        CONTRACT,
        "amber-payments",
        1,
        "2026-10-01T00:00:00Z",
        "2027-10-01T00:00:00Z",
        Price(currency="EUR", minor_units_per_thousand=250),
        (Quota(records=10**9, per=Per.MONTH), Quota(records=10**8, per=Per.DAY, each="consumer")),
    )
    key = SigningKey.generate()
    with SqliteReader(path) as reader:
        books = Books(reader)

        def statement() -> tuple[float, float, int, int]:
            began, worked = time.perf_counter(), time.process_time()
            size = reader.size()
            lines = books.lines("amber", period, period.begins, period.ends + CLOSING_TIME, size)
            counted = figures(period, lines, {CONTRACT: terms})
            made = make_statement(
                counted,
                member="amber",
                month=MONTH,
                since=period.begins,
                issued=datetime.now(UTC),
                checkpoint=reader.checkpoint_at(size),
                verifier=signer.verifier,
            )
            signed = sign_statement(made, key)
            took = time.perf_counter() - began, time.process_time() - worked
            return *took, made.totals.exchanges, len(signed.payload)

        first_s, cpu_s, exchanges, size = statement()
        again_s, _, _, _ = statement()
    return {
        "exchanges": exchanges,
        "first_s": round(first_s, 2),
        "first_cpu_s": round(cpu_s, 2),
        "again_s": round(again_s, 2),
        "bytes": size,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "within_budget": first_s <= BUDGET_S,
    }


def main() -> int:
    """Run the measurement; exit code 1 if a million exchanges take longer than they may."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exchanges", type=int, default=1_000_000)
    parser.add_argument("--keep", type=Path, metavar="DIR")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    signer = Ed25519Signer.from_seed(ORIGIN, bytes(32))
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"usage-{options.exchanges}.db"
        build(path, signer, options.exchanges)
        report = measure(path, signer)
    if options.json:
        print(json.dumps(report))
    else:
        for name, value in report.items():
            print(f"{name:<14} {value}")
    return 0 if report["within_budget"] or options.exchanges > 1_000_000 else 1


if __name__ == "__main__":
    sys.exit(main())
