"""How long fault tests go on: briefly in `make test`, in earnest in `make fault`."""

from __future__ import annotations

import os


def scaled(short: int, full: int) -> int:
    """Return `short`, or `full` times SLUICEGATE_FAULT_SCALE where that is set: `make fault` sets it."""
    scale = os.environ.get("SLUICEGATE_FAULT_SCALE")
    return short if scale is None else max(1, round(full * float(scale)))
