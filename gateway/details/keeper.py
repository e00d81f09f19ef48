"""Keeping details while the gateway serves: sealed at once, written a moment later by a thread.

`seal` runs on the caller's event loop: one encryption and one digest, which the entry then commits
to. `keep` hands over what was sealed once the entry is in the log. What costs more (the shares of the
custodians, the blind tokens, the flush) happens on the thread, for all entries of 20 ms together.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Final, Self

from gateway.details.blind_index import BlindIndex
from gateway.details.content import Details
from gateway.details.custodians import Custodians
from gateway.details.errors import DetailsUnavailableError
from gateway.details.sealing import Batch, Context, SealedContent, content_digest, seal_content
from gateway.details.store import DetailsStore, StoredDetails

DEFAULT_QUEUE_LIMIT: Final = 4096
COLLECT_S: Final = 0.02
"""How long the thread collects: what a crash can lose, and what makes a busy gateway's batches large."""
MAX_BATCH: Final = 512
LAST_ATTEMPTS: Final = 3
"""How often a stop tries to write what is left."""

_FIRST_RETRY_S: Final = 0.1
_MAX_RETRY_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Term:
    """An identifier that an entry concerns, by which the blind index finds the entry."""

    kind: str
    """Kind of identifier."""
    value: str = field(repr=False)
    """Normalised."""


@dataclass(frozen=True, slots=True)
class SealedDetails:
    """Details on their way into the store."""

    context: Context
    day: str
    sealed: SealedContent
    terms: tuple[Term, ...]

    @property
    def commitment(self) -> str:
        """What the entry commits to as `details`."""
        return content_digest(self.sealed.content)


def _ignore(*_: object) -> None:
    """Take no notice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeeperHooks:
    """Callbacks for the operators' log. Called in the keeper's thread; they must be quick."""

    health_changed: Callable[[bool], None] = _ignore
    """Whether details can be written; called when that changes, and not for the healthy start."""
    lost: Callable[[int], None] = _ignore
    """Of how many entries the details could not be written before the stop."""


class DetailsKeeper:
    """Seals details and writes them. One instance a process.

    While the store cannot be written, details wait in memory and the store is tried again; when the
    queue is full, `seal` refuses, and with it the exchange: nobody could ever say whom it concerned.
    """

    def __init__(
        self,
        store: DetailsStore,
        custodians: Custodians,
        index: BlindIndex,
        *,
        origin: str,
        hooks: KeeperHooks | None = None,
        queue_limit: int = DEFAULT_QUEUE_LIMIT,
    ) -> None:
        self.custodians: Final = custodians
        self._store = store
        self._index = index
        self._origin = origin
        self._hooks = hooks or KeeperHooks()
        self._queue_limit = queue_limit
        self._queue: SimpleQueue[SealedDetails | None] = SimpleQueue()
        self._handed_over = 0
        self._settled = 0
        self._healthy = True
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="details", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def depth(self) -> int:
        """Of how many entries the details wait to be written."""
        return self._handed_over - self._settled

    def seal(
        self, exchange: str, kind: str, day: str, details: Details, terms: Sequence[Term]
    ) -> SealedDetails:
        """Return `details` sealed for the entry of `kind` of `exchange`; `day` is `YYYY-MM-DD`.

        Raises `DetailsUnavailableError` while too many wait, and when the keeper is closed.
        """
        if self._closing.is_set() or self.depth >= self._queue_limit:
            raise DetailsUnavailableError(
                "What is asked cannot be kept for the officers now, so the exchange does not begin; try "
                "again shortly."
            )
        context = Context(self._origin, exchange, kind)
        return SealedDetails(context, day, seal_content(details.encode(), context), tuple(terms))

    def keep(self, sealed: SealedDetails) -> None:
        """Hand over what was sealed, as its entry is in the log; returns at once. For one thread."""
        if self._closing.is_set():
            self._hooks.lost(1)
        else:
            self._handed_over += 1
            self._queue.put(sealed)

    def close(self) -> None:
        """Write what waits, then end the thread and close the store. May be called twice."""
        if not self._closing.is_set():
            self._closing.set()
            self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        self._finish_erasing()
        ends = False
        while not ends:
            batch, ends = self._collect()
            if batch:
                self._write_until_done(batch)
            self._settled += len(batch)
        self._store.close()

    def _finish_erasing(self) -> None:
        try:
            if self._store.scrub_pending:
                self._store.scrub()
        except DetailsUnavailableError:
            self._set_healthy(healthy=False)

    def _collect(self) -> tuple[list[SealedDetails], bool]:
        """Return what came within `COLLECT_S` of the first, and whether that is the end of the queue."""
        batch: list[SealedDetails] = []
        item = self._queue.get()
        until = time.monotonic() + COLLECT_S
        while item is not None:
            batch.append(item)
            if len(batch) == MAX_BATCH:
                return batch, False
            try:
                item = self._queue.get(timeout=max(0.0, until - time.monotonic()))
            except Empty:
                return batch, False
        return batch, True

    def _write_until_done(self, batch: list[SealedDetails]) -> None:
        retry_s = _FIRST_RETRY_S
        attempts = 0
        while True:
            try:
                write_batch(self._store, Batch(self._origin, self.custodians), self._index, batch)
            except DetailsUnavailableError:
                self._set_healthy(healthy=False)
            else:
                self._set_healthy(healthy=True)
                return
            attempts = attempts + 1 if self._closing.is_set() else 0
            if attempts == LAST_ATTEMPTS:
                self._hooks.lost(len(batch))
                return
            self._closing.wait(retry_s)
            retry_s = min(2 * retry_s, _MAX_RETRY_S)

    def _set_healthy(self, *, healthy: bool) -> None:
        if healthy != self._healthy:
            self._healthy = healthy
            self._hooks.health_changed(healthy)


def write_batch(store: DetailsStore, keys: Batch, index: BlindIndex, batch: Sequence[SealedDetails]) -> None:
    """Write sealed details under the shares of one batch; when this returns, they are durable."""
    store.add(
        keys.keys,
        [
            StoredDetails(
                exchange=item.context.exchange,
                kind=item.context.kind,
                day=item.day,
                content=item.sealed.content,
                wraps=keys.wrap(item.sealed.key, item.context),
                tokens=tuple(index.token(term.kind, item.day, term.value) for term in item.terms),
            )
            for item in batch
        ],
    )
