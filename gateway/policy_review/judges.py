"""Asking policy many questions at once: one engine in each process, all cores.

An engine lives on the thread that started it, so that each process keeps its own for its whole life. What
goes between processes is bytes.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Any, Final, TypeVar

from gateway.errors import Reason
from gateway.policy.bundle import Bundle
from gateway.policy.embedded import EmbeddedEngine
from gateway.policy.errors import PolicyError

Advance = Callable[[int, int | None], None]

_Task = TypeVar("_Task")
_Answer = TypeVar("_Answer")

_WAITING_TASKS: Final = 4
"""Tasks handed over for each process beyond the one it works on."""

SMALL: Final = 4000
"""Below so many questions other processes would take longer to start than to answer."""

_state: dict[str, Any] = {}


def start_engine(bundle: Bundle, beside: Mapping[str, str] | None = None) -> EmbeddedEngine:
    """Return a started engine; use it on this thread. Raises `PolicyError`.

    `beside` as for `EmbeddedEngine`.
    """
    engine = EmbeddedEngine(bundle, beside=beside)
    starting = engine.start()
    try:
        # It never waits for anything, so that it needs no event loop, and may be called beneath one.
        starting.send(None)
    except StopIteration:
        return engine
    raise RuntimeError("the embedded engine waits for something while it starts")


class Judges:
    """Works on tasks in several processes, with what `prepare` has made in each."""

    def __init__(self, pool: ProcessPoolExecutor | None, processes: int, prepared: Any) -> None:
        self._pool = pool
        self._processes = processes
        self._prepared = prepared

    def map(
        self, work: Callable[[Any, _Task], _Answer], tasks: Iterable[_Task]
    ) -> Iterator[tuple[_Task, _Answer]]:
        """Yield each task with `work(prepared, task)`, in order; only a few are under way at a time."""
        if self._pool is None:
            for task in tasks:
                yield task, work(self._prepared, task)
            return
        waiting: deque[tuple[_Task, Future[_Answer]]] = deque()
        for task in tasks:
            # A process starts when it is first needed, and takes over what this thread blocks: Ctrl-C, which
            # a terminal sends to all of them, is for this one alone.
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                waiting.append((task, self._pool.submit(_work, work, task)))
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            if len(waiting) > self._processes * _WAITING_TASKS:
                done, future = waiting.popleft()
                yield done, future.result()
        for done, future in waiting:
            yield done, future.result()


@contextmanager
def judging(prepare: Callable[[], Any], processes: int | None = None) -> Iterator[Judges]:
    """Start the processes (by default one for each core), each of which calls `prepare` once.

    With one process everything is done in this one. `prepare` must be picklable: a `functools.partial` of
    a function of a module. What it raises there is raised here, as is what the work raises; `PolicyError` if
    a process ends by itself. None outlives this one.
    """
    count = processes or len(os.sched_getaffinity(0))
    if count == 1:
        yield Judges(None, 1, prepare())
        return
    # Spawned: a copy of this process would hold a copy of an engine made on another thread.
    with ProcessPoolExecutor(count, get_context("spawn"), initializer=partial(_prepare, prepare)) as pool:
        try:
            yield Judges(pool, count, None)
        except BrokenProcessPool as fault:
            raise PolicyError(
                "A process that asks policy has ended by itself; memory may be short. Run this again with "
                "fewer --processes.",
                reason=Reason.POLICY_UNAVAILABLE,
            ) from fault
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def in_chunks(items: Sequence[_Task], size: int) -> Iterator[Sequence[_Task]]:
    """Yield `items` in pieces of `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _prepare(prepare: Callable[[], Any]) -> None:
    Thread(target=_end_with_parent, daemon=True).start()
    try:
        _state["prepared"] = prepare()
    except Exception as fault:  # noqa: BLE001 - raised by the first task: here it would be told as a broken pool
        _state["fault"] = fault


def _end_with_parent() -> None:
    """End this process when the one that started it is gone: it would wait for tasks for ever."""
    parent = parent_process()
    assert parent is not None, "this process was started by another"
    parent.join()
    os._exit(1)


def _work(work: Callable[[Any, Any], Any], task: Any) -> Any:
    if "fault" in _state:
        raise _state["fault"]
    return work(_state["prepared"], task)
