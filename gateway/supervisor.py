"""One command, several processes: each started, watched, begun anew when it dies, and stopped in order.

The supervisor does nothing else: it has no thread, no connection, no file and no key, so that a new
process can be forked from it at any time.
"""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NoReturn

import structlog

from gateway.process import STOP

_log: Final = structlog.get_logger()

_SIGNALS: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGCHLD})
_HELD_BACK: Final = _SIGNALS | {STOP}
"""In a new process, too, until it listens."""
_FIRST_DELAY_S: Final = 0.1
_MAX_DELAY_S: Final = 5.0
_STABLE_S: Final = 30.0
"""A process that has run for so long is started again without delay."""

_UNREACHED: Final = 4
_INTERNAL: Final = 5
"""Exit codes after which starting again may help: something else is not there, a fault of this product.

What is not there may come back only if it was: all was there once, or a process crashed of which this one
may have had need.
"""

_PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True, slots=True)
class Role:
    """What one process does."""

    name: str
    run: Callable[[], int]
    """Called in the new process; returns its exit code when it is told to stop, or cannot go on."""


class SharedMark:
    """A mark that any process forked from this one can set, for all of them; it stays set."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, 1)

    def set(self) -> None:
        """Set it."""
        self._page[0] = 1

    def is_set(self) -> bool:
        """Return whether any of them has set it."""
        return self._page[0] == 1


@dataclass(slots=True)
class _Process:
    role: Role
    pid: int = 0
    """0 while it does not run."""
    started_s: float = 0.0
    due_s: float = 0.0
    """When it is to be started, while it does not run."""
    delay_s: float = _FIRST_DELAY_S
    told: bool = False
    """Whether it was told to stop: a second signal could cut its last steps short."""


class Supervisor:
    """Runs the roles of a command, each in a process of its own."""

    def __init__(self, stages: Sequence[Sequence[Role]], served: SharedMark) -> None:
        """Take the roles: stages are started in this order, and stopped in the reverse.

        `served` is set by a role when all that it needs is there, its own stage and those before it too.
        """
        self._served = served
        self._stages = [[_Process(role) for role in stage] for stage in stages]
        self._all = [process for stage in self._stages for process in stage]
        self._stopping = False
        self._code = 0
        self._crashed = False

    def run(self) -> int:
        """Run until SIGTERM or SIGINT, or until a process ends that starting again cannot help.

        Returns the exit code for the whole: 0 after a stop, that of the process otherwise. A second
        signal kills what has not stopped yet.
        """
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK)
        # What is loaded by now stays in memory that all processes share.
        gc.collect()
        gc.freeze()
        for process in self._all:
            self._start(process)
        while any(process.pid for process in self._all) or not self._stopping:
            received = signal.sigtimedwait(_SIGNALS, self._wait_s())
            if received is not None and received.si_signo != signal.SIGCHLD:
                self._stop(again=self._stopping)
            self._reap()
            self._start_due()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return self._code

    def _wait_s(self) -> float:
        if self._stopping:
            return 3600.0
        due = [process.due_s for process in self._all if not process.pid]
        return max(0.0, min(due) - time.monotonic()) if due else 3600.0

    def _start(self, process: _Process) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        supervisor = os.getpid()
        pid = os.fork()
        if not pid:
            _become(process.role, supervisor)
        process.pid, process.started_s = pid, time.monotonic()

    def _start_due(self) -> None:
        if not self._stopping:
            now = time.monotonic()
            for process in self._all:
                if not process.pid and process.due_s <= now:
                    self._start(process)

    def _reap(self) -> None:
        ended: list[tuple[_Process, int]] = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if not pid:
                break
            for process in self._all:
                if process.pid == pid:
                    process.pid = 0
                    ended.append((process, os.waitstatus_to_exitcode(status)))
        # Crashes first: who did not reach a process that crashed is told of in any order.
        for process, code in sorted(ended, key=lambda end: not _is_crash(end[1])):
            self._ended(process, code)
        if self._stopping:
            self._stop_next_stage()

    def _ended(self, process: _Process, code: int) -> None:
        if self._stopping:
            if code > 0 and not self._code:
                self._code = code
            return
        missed = code == _UNREACHED and (self._crashed or self._served.is_set())
        if not (_is_crash(code) or missed):
            # It has said why; a wrong configuration or a log that does not verify stays so.
            self._code = code or _INTERNAL
            self._stop(again=False)
            return
        self._crashed = True
        if time.monotonic() - process.started_s > _STABLE_S:
            process.delay_s = _FIRST_DELAY_S
        process.due_s = time.monotonic() + process.delay_s
        _log.error(
            "process.ended", role=process.role.name, status=code, delay_ms=round(process.delay_s * 1000)
        )
        process.delay_s = min(2 * process.delay_s, _MAX_DELAY_S)

    def _stop(self, *, again: bool) -> None:
        self._stopping = True
        if again:
            for process in self._all:
                _send(process, signal.SIGKILL)
        self._stop_next_stage()

    def _stop_next_stage(self) -> None:
        """Tell the last stage that still runs to stop; those before it serve it until it has."""
        for stage in reversed(self._stages):
            running = [process for process in stage if process.pid]
            if running:
                for process in running:
                    if not process.told:
                        process.told = True
                        _send(process, STOP)
                return


def _is_crash(code: int) -> bool:
    """Whether a process was killed, or met a fault of this product: starting it again may help."""
    return code < 0 or code == _INTERNAL


def _send(process: _Process, number: signal.Signals) -> None:
    # It cannot have gone: until it is reaped here, its number is nobody else's.
    if process.pid:
        os.kill(process.pid, number)


def _become(role: Role, supervisor: int) -> NoReturn:
    """Play `role` and end: nothing that the supervisor was in the middle of happens here as well."""
    code = _INTERNAL
    try:
        _die_with(supervisor)
        code = role.run()
    except BaseException:  # noqa: BLE001 - it is told of, and the process ends
        sys.excepthook(*sys.exc_info())
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _die_with(supervisor: int) -> None:
    """Let the kernel kill this process when the supervisor dies, however it dies (prctl(2))."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != supervisor:
        os.kill(os.getpid(), signal.SIGKILL)
