"""The n-th call to the system fails, for every n of opening a log and appending to it.

`strace` makes it fail (EIO, ENOSPC), or kills the process at it. The appender runs on one thread, as the
log process does, so that n counts all its calls in their order.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.simulators.campaign import scaled
from tests.simulators.log_process import FAULTS, acknowledged, lost, start_appender, traced

CALLS = ("pwrite64", "write", "fdatasync", "fsync", "ftruncate", "openat", "pread64", "unlink")
FAULT_KINDS = {"EIO": "error=EIO", "ENOSPC": "error=ENOSPC", "killed": "signal=KILL"}
APPENDS = 3
AT_MOST = scaled(2, 1000)
"""So many places of each call and fault, spread evenly."""


@cache
def why_not_traced() -> str:
    """Return why calls cannot be made to fail here; empty if they can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    done = subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], capture_output=True, check=False)
    return "strace may not trace here" if done.returncode else ""


@pytest.fixture(autouse=True)
def tracing() -> None:
    if reason := why_not_traced():
        pytest.skip(reason)


def count_calls(path: Path, tmp_path: Path) -> Counter[str]:
    """Return how often opening and `APPENDS` appends make each call."""
    out = tmp_path / "trace"
    under = traced(path, "-o", str(out), "-e", f"trace={','.join(CALLS)}")
    output, _ = start_appender(path, str(APPENDS), "direct", under=under).communicate(timeout=60)
    assert len(acknowledged(output.splitlines())) == APPENDS
    return Counter(re.findall(r"^\d+ +(\w+)\(", out.read_text(), re.MULTILINE))


def append_with(path: Path, call: str, fault: str, when: int, *options: str) -> tuple[int, list[str]]:
    """Append with the call failing for the `when`-th time; return exit code and what was said."""
    injection = f"inject={call}:{fault}:when={when}"
    under = traced(path, "-o", "/dev/null", "-e", f"trace={call}", "-e", injection)
    process = start_appender(path, str(APPENDS), "direct", *options, under=under)
    output, _ = process.communicate(timeout=60)
    return process.returncode, [line for line in output.splitlines(keepends=True) if line.endswith("\n")]


def places(count: int) -> list[int]:
    step = max(1, -(-count // AT_MOST))
    return list(range(1, count + 1, step))


def test_a_log_uses_the_calls_that_are_made_to_fail(
    path: Path, tmp_path: Path, assert_sound: Callable[..., None]
) -> None:
    """If SQLite came to write by other calls, the tests below would make none of them fail."""
    assert_sound(path, [])
    seen = count_calls(path, tmp_path)
    assert min(seen["pwrite64"], seen["fdatasync"]) >= APPENDS
    assert seen["openat"] >= 3
    out = tmp_path / "all"
    start_appender(path, str(APPENDS), "direct", under=traced(path, "-o", str(out))).communicate(timeout=60)
    writing = set(
        re.findall(r"^\d+ +(\w*(?:write|sync|trunc|alloc|splice)\w*)\(", out.read_text(), re.MULTILINE)
    )
    assert writing <= set(CALLS)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", FAULT_KINDS)
def test_a_call_that_fails_at_any_place_loses_nothing(
    path: Path, tmp_path: Path, assert_sound: Callable[..., None], kind: str
) -> None:
    struck: Counter[str] = Counter()
    assert_sound(path, [])
    counts = count_calls(path, tmp_path)
    assert_sound(path, [])
    for call in CALLS:
        for when in places(counts[call]):
            code, said = append_with(path, call, FAULT_KINDS[kind], when)
            acks = acknowledged(said)
            if code == 0:
                assert len(acks) == APPENDS
                struck["append"] += any(FAULTS.fullmatch(line.strip()) for line in said)
            elif kind == "killed":
                struck["append" if "open\n" in said else "open"] += 1
            else:
                # The fault struck while the log was opened: it refused to start.
                assert said == []
                struck["open"] += 1
            assert_sound(path, acks)
    assert struck["append"], f"too few faults have struck an append: {struck}"


def test_the_control_a_careless_log_loses_what_it_acknowledges(
    path: Path, tmp_path: Path, assert_sound: Callable[..., None]
) -> None:
    assert_sound(path, [])
    losses = 0
    for when in places(count_calls(path, tmp_path)["pwrite64"]):
        assert_sound(path, [])
        _, said = append_with(path, "pwrite64", FAULT_KINDS["EIO"], when, "careless")
        losses += len(lost(path, acknowledged(said)))
    assert losses
