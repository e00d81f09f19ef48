"""A file that is far larger than memory should be goes through all processes in constant memory."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.pki.tls13 import require_tls13
from tests.simulators.campaign import scaled
from tests.simulators.commands import start_command
from tests.simulators.contributing import COMPANY, CONTRACT, make_contract
from tests.simulators.large_files import write_large
from tests.simulators.memory import peak_mib, watch
from tests.simulators.system import RunningSystem, System, run_system

require_tls13()

SMALL = 15_000_000
"""Bytes: enough to fill what databases keep in memory on purpose."""
LARGE = 25_000_000
HUGE = scaled(LARGE, 1_000_000_000)
MAY_GROW_MIB = 24.0
HOURS = 6 * 3600

KEEPS_LINES = """
from gateway.client.files import RecordFile
_lines = RecordFile.lines
RecordFile.lines = lambda self: iter(list(_lines(self)))
"""
KEEPS_PAGES = """
from gateway.contributions.staging import Staging
_kept, _take = [], Staging.take
def _keeping(self, first, text):
    _kept.append(bytes(text))
    _take(self, first, text)
Staging.take = _keeping
"""

Peaks = dict[str, float]
"""Process to MiB."""


@contextmanager
def gateway_under_contract(folder: Path, before: str = "") -> Iterator[RunningSystem]:
    """Yield a gateway with its real vault, and one contract in force."""
    parties = (COMPANY, "inspectorate")
    with run_system(System(consumers=parties, before=before), folder) as system:
        terms = make_contract().terms
        system.client(COMPANY).contracts.propose(terms)
        assert system.client("inspectorate").contracts.sign(terms).in_force
        yield system


def peaks_of(system: RunningSystem, file: Path, size: int, before: str = "") -> Peaks:
    """Contribute a file of so many bytes by the command; return the peaks of all processes until then."""
    count = write_large(file, size)
    begun = time.perf_counter()
    give = ("contribute", file, "--contract", CONTRACT, "--dataset", "customers", "--output", "json")
    config = system.members[COMPANY].client_config
    out, client = watch(start_command(*give, "--config", config, before=before), HOURS)
    seconds = time.perf_counter() - begun
    file.unlink()
    told = json.loads(out)
    assert (told["records_accepted"], told["rejected"]) == (count, 0)
    log, worker = system.gateway.below()
    peaks = {"client": client, "worker": peak_mib(worker), "log": peak_mib(log)}
    shown = ", ".join(f"{name} {mib:.0f} MiB" for name, mib in peaks.items())
    sys.stdout.write(f"{size} bytes {file.suffix}, {count / seconds:.0f} records/s: {shown}\n")
    return peaks


def grown(small: Peaks, large: Peaks) -> set[str]:
    """Return the processes that needed more for the large file."""
    return {name for name in small if large[name] > small[name] + MAY_GROW_MIB}


@pytest.mark.timeout(HOURS)
def test_no_process_needs_more_memory_for_a_larger_file(tmp_path: Path) -> None:
    """Control: of a client and a gateway that keep records until the end both do."""
    with gateway_under_contract(tmp_path / "system") as system:
        small = peaks_of(system, tmp_path / "small.csv", SMALL)
        for name, size in (("large.jsonl", LARGE), ("huge.csv", HUGE)):
            assert grown(small, peaks_of(system, tmp_path / name, size)) == set()
    with gateway_under_contract(tmp_path / "careless", KEEPS_PAGES) as careless:
        large = peaks_of(careless, tmp_path / "large.csv", LARGE, KEEPS_LINES)
    assert grown(small, large) == {"client", "worker"}
