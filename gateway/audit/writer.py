"""Appending to the log from within a process: many callers, one writer thread, one flush for all that wait.

Whatever is queued when a transaction ends goes into the next; there is no timer. A lone caller waits
for one flush, and a crowd shares one. `gateway serve` has a process of its own for this instead
(`gateway.audit.service`).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Final, Self

from gateway.audit.appender import BATCH_LIMIT, Appender, LogHooks, Outcome
from gateway.audit.committed import Committed
from gateway.audit.errors import LogOverloadedError, LogUnavailableError
from gateway.audit.guards import Guards
from gateway.audit.note import Ed25519Signer
from gateway.audit.store import AuditStore, Once, PendingEntry, prepare_entry
from gateway.clock import Clock, system_clock
from gateway.model.entry import Entry

__all__ = ["AuditLog"]

DEFAULT_QUEUE_LIMIT: Final = 4096


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An entry on its way, and who waits for it: a task of a loop, or (`loop` is None) a thread."""

    pending: PendingEntry
    future: Future[Committed] | asyncio.Future[Committed]
    loop: asyncio.AbstractEventLoop | None


class AuditLog:
    """An audit log with its writer thread; see `gateway.audit.appender` for what opening checks.

    While the log cannot append, it is tried again at least once a second until it works.

    A process whose event loop is busy should call `sys.setswitchinterval(0.0001)`: with CPython's
    default of 5 ms a loop that never pauses so long can starve the writer thread for seconds.
    """

    def __init__(
        self,
        store: AuditStore,
        signer: Ed25519Signer,
        *,
        origin: str,
        clock: Clock = system_clock,
        hooks: LogHooks | None = None,
        queue_limit: int = DEFAULT_QUEUE_LIMIT,
        batch_limit: int = BATCH_LIMIT,
        guards: Guards | None = None,
    ) -> None:
        self.origin = origin
        self.verifier = signer.verifier
        self._appender = Appender(store, signer, origin=origin, clock=clock, hooks=hooks, guards=guards)
        self._queue_limit = queue_limit
        self._batch_limit = batch_limit
        self._queue: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._gate = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="audit-log", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def healthy(self) -> bool:
        """Whether the last attempt to write succeeded."""
        return self._appender.healthy

    @property
    def depth(self) -> int:
        """How many entries wait."""
        return self._queue.qsize()

    def append(self, entry: Entry, once: Once | None = None) -> asyncio.Future[Committed]:
        """See `gateway.audit.appender.Log`."""
        pending = prepare_entry(entry, once)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Committed] = loop.create_future()
        self._enqueue(_Waiting(pending, future, loop))
        return future

    def append_sync(self, entry: Entry, once: Once | None = None) -> Committed:
        """Do the same from a thread without an event loop."""
        future: Future[Committed] = Future()
        self._enqueue(_Waiting(prepare_entry(entry, once), future, None))
        return future.result()

    def close(self) -> None:
        """Write what is queued, then stop the writer and close the store. May be called twice."""
        with self._gate:
            first, self._closed = not self._closed, True
            if first:
                self._queue.put(None)
        self._thread.join()

    def _enqueue(self, waiting: _Waiting) -> None:
        with self._gate:
            if self._closed:
                raise LogUnavailableError("The audit log is closed; the gateway is stopping.")
            if self._queue.qsize() >= self._queue_limit:
                raise LogOverloadedError(
                    "Too many exchanges wait for the audit log; try again shortly.", limit=self._queue_limit
                )
            self._queue.put(waiting)

    def _run(self) -> None:
        appender = self._appender
        while True:
            try:
                first = self._queue.get(timeout=None if appender.healthy else appender.probe_s)
            except Empty:
                appender.probe()
                continue
            batch, ends = self._drain(first)
            if batch:
                _settle(batch, appender.append([item.pending for item in batch]))
            if ends:
                break
            appender.maintain()
        appender.close()

    def _drain(self, first: _Waiting | None) -> tuple[list[_Waiting], bool]:
        """Return what waits now, and whether the end of the queue is reached for good."""
        batch: list[_Waiting] = []
        item = first
        while item is not None:
            batch.append(item)
            if len(batch) == self._batch_limit:
                return batch, False
            try:
                item = self._queue.get_nowait()
            except Empty:
                return batch, False
        return batch, True


def _settle(batch: Sequence[_Waiting], outcomes: Sequence[Outcome]) -> None:
    """Hand each outcome to who waits for it, with one call into each event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Committed], Outcome]]] = {}
    for item, outcome in zip(batch, outcomes, strict=True):
        if item.loop is None:
            _resolve(item.future, outcome)
        else:
            assert isinstance(item.future, asyncio.Future)
            by_loop.setdefault(item.loop, []).append((item.future, outcome))
    for loop, settled in by_loop.items():
        # A loop that is closed has nobody left who waits.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_resolve_all, settled)


def _resolve_all(settled: list[tuple[asyncio.Future[Committed], Outcome]]) -> None:
    for future, outcome in settled:
        _resolve(future, outcome)


def _resolve(future: Future[Committed] | asyncio.Future[Committed], outcome: Outcome) -> None:
    if future.done():
        return
    if isinstance(outcome, Committed):
        future.set_result(outcome)
    else:
        future.set_exception(outcome)
