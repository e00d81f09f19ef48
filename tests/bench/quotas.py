"""What counting a release on the accounts of a contract costs: `make bench-quotas`."""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from gateway.ledger import Ledger, LedgerQueue, Reservation, Settlement
from gateway.ledger.contracts import charges_under
from gateway.ledger.sqlite import SqliteLedger
from gateway.ledger.store import LedgerUnavailableError
from gateway.model.contract import Contract, Per, Quota
from tests.simulators.contracts import GIVEN_DATASET, make_contract

CONTRACT: Contract = make_contract(
    Quota(records=10**9, per=Per.DAY, each="consumer"), Quota(records=10**10, per=Per.MONTH)
)


async def measure(ledger: Ledger, clients: int, exchanges: int) -> tuple[float, float]:
    """Return the microseconds, by the clock and of processor, of one exchange: reserved, and settled."""
    queue = LedgerQueue(ledger)
    now = datetime.now(UTC)
    each = exchanges // clients

    async def ask(client: int) -> None:
        for turn in range(each):
            exchange = f"{client}-{turn}"
            charges = tuple(charges_under(CONTRACT, f"bank-{client % 8}", GIVEN_DATASET, now))
            short = await queue.reserve(Reservation(exchange, 100, charges))
            if short is not None:
                raise LedgerUnavailableError("The quota of the benchmark is too small.")
            queue.settle(Settlement(exchange, 100))

    began, used = time.perf_counter(), time.process_time()
    await asyncio.gather(*map(ask, range(clients)))
    await queue.close()
    per_exchange = 1e6 / (each * clients)
    return (time.perf_counter() - began) * per_exchange, (time.process_time() - used) * per_exchange


def report(name: str, open_ledger: Callable[[], Ledger], as_json: bool) -> None:
    """Measure alone, and under load; print it."""
    for clients, exchanges in ((1, 2_000), (32, 20_000), (256, 40_000)):
        with closing(open_ledger()) as ledger:
            cost_us, processor_us = uvloop.run(measure(ledger, clients, exchanges))
        if as_json:
            figures = {"exchange_us": round(cost_us, 1), "processor_us": round(processor_us, 1)}
            print(json.dumps({"store": name, "clients": clients, **figures}))
        else:
            print(
                f"{name}, {clients:>3} clients: {cost_us:7.1f} µs an exchange, "
                f"{processor_us:.0f} µs of processor"
            )


def main() -> None:
    """Measure SQLite, and PostgreSQL where its wheel is installed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--postgres", action="store_true", help="measure a real PostgreSQL too")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        report("SQLite", lambda: SqliteLedger(Path(directory) / "ledger.db"), asked.json)
    if asked.postgres:
        from gateway.ledger.postgres import PostgresLedger
        from tests.simulators.postgres import running_postgres

        with running_postgres() as server:
            address = server.database()
            report("PostgreSQL", lambda: PostgresLedger(address), asked.json)


if __name__ == "__main__":
    main()
