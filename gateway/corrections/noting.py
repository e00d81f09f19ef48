"""Noting recipients while exchanges run: one thread writes, and what waits together is flushed together."""

from __future__ import annotations

import asyncio
import secrets
import threading
from functools import lru_cache
from queue import Empty, SimpleQueue
from typing import Final

from gateway.clock import Clock, rfc3339
from gateway.corrections.errors import CorrectionsUnavailableError
from gateway.corrections.register import BIT, ReceivedPage, Register
from gateway.corrections.tokens import TOKEN_BYTES, CorrectionKeys, RecordNamer
from gateway.errors import GatewayError
from gateway.exchange.state import Exchange
from gateway.exchange.transform import ReleasedPage, TransformPlan
from gateway.model import Dataset, Operation, Treatment

MAX_BATCH: Final = 256
MAX_WAITING: Final = 4096
"""Pages that may wait to be noted; beyond it their exchanges are refused."""

_Waiting = tuple[ReceivedPage, bytes, asyncio.AbstractEventLoop, "asyncio.Future[None]"]


class RecipientNoter:
    """See `gateway.exchange.recipients.RecipientRegister`. One instance a process, for its event loop."""

    def __init__(self, register: Register, keys: CorrectionKeys, clock: Clock) -> None:
        self._register = register
        self._clock = clock
        self._namer = lru_cache(maxsize=1024)(keys.namer)
        self._queue: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._depth = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="recipients", daemon=True)
        self._thread.start()

    def namer(self, dataset: Dataset) -> RecordNamer:
        """Return what makes the tokens of the dataset's records."""
        return self._namer(dataset.name)

    async def note(self, exchange: Exchange, plan: TransformPlan, page: ReleasedPage, number: int) -> None:
        """Keep who receives `page`; durable when this returns. See the port."""
        is_bit = exchange.operation in {Operation.MATCH, Operation.LIST} or plan.duties.one_bit is not None
        tokens = page.tokens
        if is_bit:
            # A no is written as a yes about a record that nobody can name.
            tokens = tokens or secrets.token_bytes(TOKEN_BYTES)
        if not tokens:
            return
        if self._closed or self._depth >= MAX_WAITING:
            raise CorrectionsUnavailableError(
                "It cannot be kept now who receives these records, so they do not leave; try again shortly."
            )
        waiting = asyncio.get_running_loop().create_future()
        form = BIT if is_bit else ",".join(plan.key_forms)
        row = _row(exchange, form, number, rfc3339(self._clock()))
        self._depth += 1
        self._queue.put((row, tokens, asyncio.get_running_loop(), waiting))
        try:
            await waiting
        finally:
            self._depth -= 1

    def close(self) -> None:
        """Write what waits and end the thread. May be called twice."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        ends = False
        while not ends:
            batch, ends = self._collect()
            if not batch:
                continue
            fault: Exception | None = None
            try:
                self._register.add([(row, tokens) for row, tokens, _, _ in batch])
            except Exception as error:  # noqa: BLE001 - whoever waits raises it
                fault = error
            for _, _, loop, waiting in batch:
                loop.call_soon_threadsafe(_answer, waiting, fault)

    def _collect(self) -> tuple[list[_Waiting], bool]:
        """Return what waits, at least one, and whether that is the end."""
        batch: list[_Waiting] = []
        item = self._queue.get()
        while item is not None:
            batch.append(item)
            if len(batch) == MAX_BATCH:
                return batch, False
            try:
                item = self._queue.get_nowait()
            except Empty:
                return batch, False
        return batch, True


def _row(exchange: Exchange, form: str, number: int, now: str) -> ReceivedPage:
    resolved, consumer = exchange.resolved, exchange.consumer
    if resolved is None or consumer is None:
        raise RuntimeError("a page is noted after its exchange is resolved")
    return ReceivedPage(
        exchange=exchange.id,
        page=number,
        consumer=consumer.id,
        provider=resolved.dataset.provider,
        dataset=resolved.dataset.name,
        purpose=resolved.query.purpose,
        key_epoch=exchange.key_epoch if Treatment.PSEUDONYMISE.value in form.split(",") else "",
        form=form,
        time=now,
    )


def _answer(waiting: asyncio.Future[None], fault: Exception | None) -> None:
    if waiting.done():
        return
    if isinstance(fault, GatewayError):
        # One for each: a caller adds to its error what it knows of its exchange.
        waiting.set_exception(type(fault)(fault.message))
    elif fault is not None:
        waiting.set_exception(fault)
    else:
        waiting.set_result(None)
