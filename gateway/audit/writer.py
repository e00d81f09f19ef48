"""Appending to the log: many callers, one writer thread, one flush for all that wait.

Whatever is queued when a transaction ends goes into the next; there is no timer. A lone caller waits
for one flush, and a crowd shares one.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Final, Self

import structlog

from gateway.audit.checkpoint import Checkpoint, sign_checkpoint
from gateway.audit.committed import Committed
from gateway.audit.errors import LogOverloadedError, LogUnavailableError, OnceTakenError
from gateway.audit.note import Ed25519Signer
from gateway.audit.store import Appended, AuditStore, LogIdentity, Once, PendingEntry, prepare_entry
from gateway.clock import Clock, system_clock
from gateway.errors import GatewayError
from gateway.model.entry import Entry

__all__ = ["AuditLog", "Committed", "LogHooks"]

DEFAULT_QUEUE_LIMIT: Final = 4096
DEFAULT_BATCH_LIMIT: Final = 512

_log: Final = structlog.get_logger()

_FIRST_PROBE_S: Final = 0.05
_MAX_PROBE_S: Final = 1.0


def _ignore(*_: object) -> None:
    """Take no notice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogHooks:
    """Callbacks for metrics and health. Called in the writer thread; they must be quick."""

    committed: Callable[[int, float], None] = _ignore
    """Entries of a batch, and the seconds its transaction took."""
    failed: Callable[[Exception], None] = _ignore
    """Why a batch, a probe or the housekeeping failed."""
    health_changed: Callable[[bool], None] = _ignore
    """Whether the log can append; called when that changes, and not for the healthy start."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An entry on its way, and who waits for it: a task of a loop, or (`loop` is None) a thread."""

    pending: PendingEntry
    future: Future[Committed] | asyncio.Future[Committed]
    loop: asyncio.AbstractEventLoop | None


_Outcome = Committed | GatewayError


class AuditLog:
    """The audit log of this process.

    Opening verifies an existing log against `origin` and the signer's key and raises
    `LogMismatchError`, `LogUnavailableError` or `ConfigError` (see `AuditStore.open`); a new one is
    made. When an append returns, its entry is durable and under a signed checkpoint; when it raises,
    nothing may be released on its account.

    While the log cannot append, every append fails with `LogUnavailableError`, and the log is tried
    again with each append, and at least once a second without any, until it works.

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
        batch_limit: int = DEFAULT_BATCH_LIMIT,
    ) -> None:
        self.origin = origin
        self.verifier = signer.verifier
        self._store = store
        self._signer = signer
        self._clock = clock
        self._hooks = hooks or LogHooks()
        self._queue_limit = queue_limit
        self._batch_limit = batch_limit
        self._queue: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._gate = threading.Lock()
        self._closed = False
        self._healthy = True
        store.open(LogIdentity(origin, signer.verifier), self._sign)
        self._thread = threading.Thread(target=self._run, name="audit-log", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def healthy(self) -> bool:
        """Whether the last attempt to write succeeded."""
        return self._healthy

    @property
    def depth(self) -> int:
        """How many entries wait."""
        return self._queue.qsize()

    async def append(self, entry: Entry, once: Once | None = None) -> Committed:
        """Append `entry` and return when it is durable.

        A caller that is cancelled while it waits leaves its entry in the log. Raises
        `LogUnavailableError`, `LogOverloadedError`, `OnceTakenError` (then there is no entry) and
        what `prepare_entry` raises.
        """
        pending = prepare_entry(entry, once)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Committed] = loop.create_future()
        self._enqueue(_Waiting(pending, future, loop))
        return await future

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

    def _sign(self, size: int, root: bytes) -> str:
        return sign_checkpoint(Checkpoint(self.origin, size, root), self._signer)

    def _run(self) -> None:
        probe_s = _FIRST_PROBE_S
        while True:
            try:
                first = self._queue.get(timeout=None if self._healthy else probe_s)
            except Empty:
                self._attempt(self._store.probe)
                probe_s = min(2 * probe_s, _MAX_PROBE_S)
                continue
            batch, ends = self._drain(first)
            if batch:
                self._commit(batch)
            if ends:
                break
            if self._healthy:
                probe_s = _FIRST_PROBE_S
                self._attempt(self._store.maintain)
        self._store.close()

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

    def _commit(self, batch: list[_Waiting]) -> None:
        started = time.perf_counter()
        appended: Appended | None = None

        def append() -> None:
            nonlocal appended
            appended = self._store.append([item.pending for item in batch], self._sign, self._clock())

        fault = self._attempt(append)
        if appended is None:
            assert fault is not None
            _settle(batch, [_refusal(fault) for _ in batch])
            return
        seconds = time.perf_counter() - started
        _tell(self._hooks.committed, len(batch) - len(appended.refused), seconds)
        _settle(batch, _outcomes(batch, appended))

    def _attempt(self, action: Callable[[], None]) -> Exception | None:
        """Run `action` of the store, note how the log fares, and return what went wrong, if anything."""
        fault: Exception | None = None
        try:
            action()
        except Exception as error:  # noqa: BLE001 -- the writer outlives every fault, and all who wait hear of it
            fault = error
            _tell(self._hooks.failed, error)
        healthy = fault is None
        if healthy != self._healthy:
            self._healthy = healthy
            _tell(self._hooks.health_changed, healthy)
        return fault


def _tell(hook: Callable[..., None], *what: object) -> None:
    """Call a hook. Its fault is reported, but must not end the writer and leave its callers waiting."""
    try:
        hook(*what)
    except Exception:  # noqa: BLE001 - a metric that fails must not end the log
        _log.exception("hook.failed")


def _refusal(fault: Exception) -> GatewayError:
    """Return an error for one of those who waited; each gets its own, as each will be raised."""
    if isinstance(fault, LogUnavailableError):
        refusal: GatewayError = type(fault)(fault.message)
    else:
        refusal = LogUnavailableError("The audit log failed in a way it should not; see the gateway's log.")
    refusal.__cause__ = fault
    return refusal


def _outcomes(batch: Sequence[_Waiting], appended: Appended) -> list[_Outcome]:
    outcomes: list[_Outcome] = []
    done = appended.batch
    offset = 0
    for at, item in enumerate(batch):
        if at in appended.refused:
            outcomes.append(OnceTakenError("This was seen before; sign a new query with a fresh nonce."))
            continue
        assert done is not None
        outcomes.append(
            Committed(done.first + offset, item.pending.leaf_hash, done.frontier.size, appended.note, done)
        )
        offset += 1
    return outcomes


def _settle(batch: Sequence[_Waiting], outcomes: Sequence[_Outcome]) -> None:
    """Hand each outcome to who waits for it, with one call into each event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Committed], _Outcome]]] = {}
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


def _resolve_all(settled: list[tuple[asyncio.Future[Committed], _Outcome]]) -> None:
    for future, outcome in settled:
        _resolve(future, outcome)


def _resolve(future: Future[Committed] | asyncio.Future[Committed], outcome: _Outcome) -> None:
    if future.done():
        return
    if isinstance(outcome, Committed):
        future.set_result(outcome)
    else:
        future.set_exception(outcome)
