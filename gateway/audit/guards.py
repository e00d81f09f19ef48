"""What a log is guarded against while it runs: a clock that errs, and a disk that fills.

An entry's time is evidence, and the freshness of signed statements rests on the clock. So entry times
never go back silently: while the clock lies before the log's latest entry by more than a tolerance,
nothing is appended; and when it jumps, either way, an entry `clock.jumped` says so before any other.
A disk is not filled to the last byte by exchanges: near its end new ones are refused, so that there is
room for the entries of those under way, of refusals and of what operators do.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol

import msgspec

from gateway.audit.errors import LogUnavailableError
from gateway.audit.store import AuditReader, PendingEntry, prepare_entry
from gateway.clock import rfc3339
from gateway.errors import GatewayError
from gateway.evidence.canonical import DECODE_ERRORS
from gateway.model.entry import ENTRY_VERSION, Entry, EntryKind

DEFAULT_CLOCK_TOLERANCE: Final = timedelta(seconds=60)

LATEST_LOOKED_AT: Final = 256
"""How many of the newest entries the latest time is sought in: neighbours may be out of order."""

_DISK_INTERVAL_S: Final = 1.0
_JUMPS_KEPT: Final = 16

_decoder: Final = msgspec.json.Decoder(Entry)


def steady_s() -> float:
    """Return seconds on a clock that nobody sets, and that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Admission:
    """What of a batch may be appended."""

    admitted: Sequence[PendingEntry]
    refused: Mapping[int, GatewayError] = field(default_factory=dict)
    """Position in the batch to the reason why that entry may not."""
    own: tuple[PendingEntry, ...] = ()
    """Entries that the guards have to make first."""


class Guards(Protocol):
    """Decides what may be appended now. Called by the one thread that appends."""

    def check(self, now: datetime) -> None:
        """Raise `LogUnavailableError` while nothing may be appended."""
        ...

    def admit(self, batch: Sequence[PendingEntry], now: datetime) -> Admission:
        """Return what may be appended of `batch`; raise `LogUnavailableError` if nothing may."""
        ...

    def committed(self, admission: Admission) -> None:
        """Take note that what was admitted is durable."""
        ...


class Unguarded:
    """Admits everything."""

    def check(self, now: datetime) -> None:
        """Do nothing."""

    def admit(self, batch: Sequence[PendingEntry], now: datetime) -> Admission:  # noqa: ARG002
        """Admit all of `batch`."""
        return Admission(batch)

    def committed(self, admission: Admission) -> None:
        """Do nothing."""


class DiskState(StrEnum):
    """How full the log's disk is."""

    SPACIOUS = "spacious"
    FILLING = "filling"
    """Somebody should make room."""
    FULL = "full"
    """New exchanges are refused; what is left of it is for everything else."""


def used_ratio(path: Path) -> float:
    """Return how much of the file system at `path` is used, from 0 to 1, as `df` counts.

    Blocks that only root may use are neither used nor there. Raises `OSError`.
    """
    status = os.statvfs(path)
    used = status.f_blocks - status.f_bfree
    total = used + status.f_bavail
    return used / total if total else 1.0


@dataclass(frozen=True, slots=True)
class DiskLimits:
    """From which used part of the log's disk on it counts as filling, and as full."""

    path: Path
    filling: float = 0.75
    full: float = 0.95

    def state(self, ratio: float) -> DiskState:
        """Return what the ratio means."""
        if ratio >= self.full:
            return DiskState.FULL
        return DiskState.FILLING if ratio >= self.filling else DiskState.SPACIOUS


def _ignore(*_: object) -> None:
    """Take no notice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardHooks:
    """Callbacks for the operators' log; they must be quick."""

    clock_jumped: Callable[[float], None] = _ignore
    """By how many seconds, negative for back."""
    disk_changed: Callable[[DiskState, float], None] = _ignore
    """The new state, and how much is used."""


class LogGuards:
    """The guards of one log.

    With `steady` (see `steady_s`) jumps of the clock against it by `jump` or more are told. With
    `accepts_clock` an entry `clock.jumped` among what is to be appended makes the clock count as it is:
    a person vouches for it.
    """

    def __init__(
        self,
        reader: AuditReader,
        *,
        tolerance: timedelta = DEFAULT_CLOCK_TOLERANCE,
        jump: timedelta = timedelta(seconds=5),
        steady: Callable[[], float] | None = None,
        disk: DiskLimits | None = None,
        measure: Callable[[Path], float] = used_ratio,
        accepts_clock: bool = False,
        hooks: GuardHooks | None = None,
    ) -> None:
        """Take the log to guard, and what counts as too much; raise `LogUnavailableError` if unreadable."""
        self._reader = reader
        self._tolerance = tolerance
        self._jump_s = jump.total_seconds()
        self._steady = steady
        self._offset_s: float | None = None
        self._jumps: list[float] = []
        self._disk = disk
        self._measure = measure
        self._disk_state = DiskState.SPACIOUS
        self._disk_due_s = 0.0
        self._accepts_clock = accepts_clock
        self._hooks = hooks or GuardHooks()
        self._latest = ""
        self._read_at_size = -1
        self._read_latest()

    def check(self, now: datetime) -> None:
        """Raise `LogUnavailableError` while the clock lies too far before the latest entry."""
        self._watch_clock(now)
        self._check_latest(now)

    def admit(self, batch: Sequence[PendingEntry], now: datetime) -> Admission:
        """Return what may be appended of `batch`; raise `LogUnavailableError` if nothing may."""
        self._watch_clock(now)
        if not self._vouched_for(batch):
            self._check_latest(now)
        own = tuple(self._jump_entry(seconds, now) for seconds in self._jumps)
        earliest, latest = rfc3339(now - self._tolerance), rfc3339(now + self._tolerance)
        full = self._is_disk_full()
        refused: dict[int, GatewayError] = {}
        for at, item in enumerate(batch):
            row = item.row
            if not earliest <= row.time <= latest:
                refused[at] = LogUnavailableError(
                    "The time of the entry is not that of the log; do the clocks of its processes agree?"
                )
            elif full and row.kind == EntryKind.EXCHANGE_REQUESTED.value:
                refused[at] = LogUnavailableError(
                    "The audit log's disk is almost full, and new exchanges are refused; make room, and the "
                    "gateway goes on by itself."
                )
            elif row.kind == EntryKind.CLOCK_JUMPED.value and not self._accepts_clock:
                refused[at] = LogUnavailableError("Only the log itself tells of jumps of the clock.")
        admitted = [item for at, item in enumerate(batch) if at not in refused] if refused else batch
        return Admission(admitted, refused, own)

    def committed(self, admission: Admission) -> None:
        """Take note that what was admitted is durable."""
        if admission.own:
            self._jumps.clear()
            self._latest = ""
        for item in (*admission.own, *admission.admitted):
            self._latest = max(self._latest, item.row.time)

    def _watch_clock(self, now: datetime) -> None:
        """Compare the clock's way since the last look with that of a clock that nobody sets."""
        if self._steady is None:
            return
        offset_s = now.timestamp() - self._steady()
        known, self._offset_s = self._offset_s, offset_s
        if known is not None and abs(jumped := offset_s - known) >= self._jump_s:
            self._jumps = [*self._jumps, jumped][-_JUMPS_KEPT:]
            self._hooks.clock_jumped(jumped)

    def _check_latest(self, now: datetime) -> None:
        limit = rfc3339(now + self._tolerance)
        if self._latest > limit:
            # Somebody may have vouched for the clock meanwhile, by an entry.
            self._read_latest()
        if self._latest > limit:
            raise LogUnavailableError(
                f"The clock lies more than {self._tolerance.total_seconds():.0f} seconds before the latest "
                "entry of the audit log. Set the clock, and the gateway goes on by itself; if the entry's "
                "time is the wrong one, run `gateway audit accept-clock`."
            )

    def _vouched_for(self, batch: Sequence[PendingEntry]) -> bool:
        return self._accepts_clock and any(item.row.kind == EntryKind.CLOCK_JUMPED.value for item in batch)

    def _read_latest(self) -> None:
        size = self._reader.size()
        if size != self._read_at_size:
            self._latest = latest_time(self._reader, size)
            self._read_at_size = size

    def _jump_entry(self, seconds: float, now: datetime) -> PendingEntry:
        return prepare_entry(
            Entry(
                v=ENTRY_VERSION,
                kind=EntryKind.CLOCK_JUMPED,
                time=rfc3339(now),
                detail={"seconds": f"{seconds:+.3f}"},
            )
        )

    def _is_disk_full(self) -> bool:
        if self._disk is None:
            return False
        now_s = time.monotonic()
        if now_s >= self._disk_due_s:
            self._disk_due_s = now_s + _DISK_INTERVAL_S
            ratio = self._measure(self._disk.path.parent)
            state = self._disk.state(ratio)
            if state is not self._disk_state:
                self._disk_state = state
                self._hooks.disk_changed(state, ratio)
        return self._disk_state is DiskState.FULL


def latest_time(reader: AuditReader, size: int) -> str:
    """Return the latest time among the newest entries of the tree of `size`; empty if it is empty.

    What lies before an entry `clock.jumped` does not count: that entry says that time begins anew.
    """
    latest = ""
    for index in range(size - 1, max(-1, size - 1 - LATEST_LOOKED_AT), -1):
        try:
            entry = _decoder.decode(reader.entry(index).data)
        except DECODE_ERRORS as error:
            raise LogUnavailableError(
                "The newest entries of the audit log cannot be read; run `gateway audit fsck`."
            ) from error
        latest = max(latest, entry.time)
        if entry.kind is EntryKind.CLOCK_JUMPED:
            break
    return latest
