"""`make bench-contribute`: records a second through all checks over one stream, and what each step costs."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from gateway.pki.tls13 import require_tls13

# Before gRPC is loaded by anything below.
require_tls13()

from gateway.audit.contribution import BatchDigest  # noqa: E402
from gateway.catalogue import describe_dataset  # noqa: E402
from gateway.client.contributing import pages_of  # noqa: E402
from gateway.contributions.checks import RecordChecker  # noqa: E402
from tests.simulators.contributing import (  # noqa: E402
    COMPANY,
    CONTRACT,
    FIELDS,
    TIERS,
    describe,
    lines,
    make_contract,
    records,
)
from tests.simulators.system import System, run_system  # noqa: E402


def upload(rows: list[bytes]) -> float:
    """Return the seconds that a batch takes into the vault of a gateway of real processes, to its receipt."""
    parties = (COMPANY, "inspectorate")
    with (
        tempfile.TemporaryDirectory() as folder,
        run_system(System(consumers=parties), Path(folder)) as system,
    ):
        terms = make_contract().terms
        system.client(COMPANY).contracts.propose(terms)
        assert system.client("inspectorate").contracts.sign(terms).in_force
        started = time.perf_counter()
        done = system.client(COMPANY).contribute(
            lambda: iter(rows), contract=CONTRACT, dataset="customers", batch="bench"
        )
        seconds = time.perf_counter() - started
        assert done.accepted
        [held] = json.loads(system.officer("vault", "status", "--output", "json"))
        assert held["records"] == len(rows)
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = lines(records(options.records))
    pages = list(pages_of(rows))
    checker = RecordChecker(describe_dataset(describe(FIELDS), "bench", TIERS), ("uscc",), bytes(32))
    started = time.perf_counter()
    for page in pages:
        assert len(checker.check(page).valid) == len(page)
    checks_s = time.perf_counter() - started
    started = time.perf_counter()
    digest = BatchDigest()
    for page in pages:
        digest, _ = digest.add_page(page, bytes(32))
    digests_s = time.perf_counter() - started
    seconds = upload(rows)
    found = {
        "records": len(rows),
        "bytes": digest.size_bytes,
        "records_per_s": round(len(rows) / seconds),
        "checks_us_per_record": round(checks_s / len(rows) * 1e6, 2),
        "digests_us_per_record": round(digests_s / len(rows) * 1e6, 2),
        "upload_us_per_record": round(seconds / len(rows) * 1e6, 2),
    }
    if options.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:<24}{value:>14,}")


if __name__ == "__main__":
    main()
