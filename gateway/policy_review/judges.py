"""Asking policy many questions at once: one engine in each process, all cores.

An engine lives on the thread that started it, so that each process keeps its own for its whole life. What
goes between processes is bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from typing import Any, Final, TypeVar

from gateway.policy.bundle import Bundle
from gateway.policy.embedded import EmbeddedEngine

Advance = Callable[[int, int | None], None]

_Task = TypeVar("_Task")
_Answer = TypeVar("_Answer")

_WAITING_TASKS: Final = 4
"""Tasks handed over for each process beyond the one it works on."""

SMALL: Final = 2000
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
        waiting: list[tuple[_Task, Any]] = []
        for task in tasks:
            waiting.append((task, self._pool.submit(_work, work, task)))
            if len(waiting) > self._processes * _WAITING_TASKS:
                done, future = waiting.pop(0)
                yield done, future.result()
        for done, future in waiting:
            yield done, future.result()


@contextmanager
def judging(prepare: Callable[[], Any], processes: int | None = None) -> Iterator[Judges]:
    """Start the processes (by default one for each core), each of which calls `prepare` once.

    With one process everything is done in this one. `prepare` must be picklable: a `functools.partial` of
    a function of a module.
    """
    count = processes or len(os.sched_getaffinity(0))
    if count == 1:
        yield Judges(None, 1, prepare())
        return
    # Spawned: a copy of this process would hold a copy of an engine made on another thread.
    with ProcessPoolExecutor(count, get_context("spawn"), initializer=partial(_prepare, prepare)) as pool:
        try:
            yield Judges(pool, count, None)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def in_chunks(items: Sequence[_Task], size: int) -> Iterator[Sequence[_Task]]:
    """Yield `items` in pieces of `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _prepare(prepare: Callable[[], Any]) -> None:
    _state["prepared"] = prepare()


def _work(work: Callable[[Any, Any], Any], task: Any) -> Any:
    return work(_state["prepared"], task)
