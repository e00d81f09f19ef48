"""How much memory processes have had at most, as the kernel counts it."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

_LOOK_S = 0.02


def peak_mib(pid: int) -> float:
    """Return the most memory (resident) that a running process has had; 0 once it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    match = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(match[1]) / 1024 if match else 0.0


def watch(process: subprocess.Popen[str], timeout_s: float) -> tuple[str, float]:
    """Let a process end; fail unless it succeeds; return what it printed and its peak in MiB."""
    peak, until = 0.0, time.monotonic() + timeout_s
    while process.poll() is None:
        assert time.monotonic() < until, "it takes too long"
        peak = max(peak, peak_mib(process.pid))
        time.sleep(_LOOK_S)
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    return out, peak
