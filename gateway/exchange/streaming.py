"""Bulk answers: pages prepared a few ahead of their reader, each committed before it leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final

from gateway.errors import GatewayError, Reason
from gateway.exchange.duties.cohort import as_one_bit, held_back
from gateway.exchange.duties.telling import told_page
from gateway.exchange.state import Exchange
from gateway.exchange.steps import STALL_TIMEOUT_S, Collaborators, Steps, present
from gateway.exchange.transform import ReleasedPage, TransformPlan

TURN_TIMEOUT_S: Final = 60.0
"""How long a bulk answer may wait for its turn."""
PAGES_AHEAD: Final = 1
"""Pages of a stream that may be fetched, transformed and committed before their turn to leave."""


@dataclass(frozen=True, slots=True)
class StreamedPage:
    """One page of a stream, already committed."""

    page: ReleasedPage
    fields: tuple[str, ...]
    number: int
    entry_index: int


_Ready = asyncio.Queue["asyncio.Task[StreamedPage] | None"]


class Streaming:
    """Moves the pages of bulk answers; one for all streams of a process."""

    def __init__(self, collaborators: Collaborators, steps: Steps, moving: int) -> None:
        """Take how many streams may fetch and send at the same time: what bounds the pages in memory."""
        self._with = collaborators
        self._steps = steps
        self._turns = asyncio.Semaphore(moving)

    async def pages(
        self, exchange: Exchange, plan: TransformPlan, size: int
    ) -> AsyncGenerator[StreamedPage, None]:
        """Yield the pages of an exchange that has been recorded as requested.

        Each is committed, and the caller still permitted, when it is yielded.
        """
        async with self._turn(exchange):
            ready: _Ready = asyncio.Queue(PAGES_AHEAD)
            producer = asyncio.create_task(self._produce(exchange, plan, size, ready))
            try:
                while (
                    task := await self._steps.while_in_force(exchange, _next_ready(ready, producer))
                ) is not None:
                    page = await task
                    self._steps.still_permitted(exchange)
                    # Counted as left before it is handed over: the entries never say too little.
                    exchange.count(page.page)
                    with _reader_must_go_on(exchange):
                        yield page
                await producer
            finally:
                await _stop(producer, ready)

    @asynccontextmanager
    async def _turn(self, exchange: Exchange) -> AsyncIterator[None]:
        """Hold one of the places for streams that move; pages in memory are bounded by their number.

        The others are open and wait. Raises `GatewayError` with `OVERLOADED`.
        """
        try:
            async with asyncio.timeout(min(TURN_TIMEOUT_S, max(exchange.remaining_s(), 0))):
                await self._turns.acquire()
        except TimeoutError as error:
            raise GatewayError(
                "Too many bulk answers are under way; try again later.", reason=Reason.OVERLOADED
            ) from error
        try:
            yield
        finally:
            self._turns.release()

    async def _produce(
        self,
        exchange: Exchange,
        plan: TransformPlan,
        size: int,
        ready: _Ready,
    ) -> None:
        """Fetch, transform and commit the pages of a stream, a few ahead of the reader."""
        pages = held_back(plan.duties, self._transformed(exchange, plan, size))
        if plan.duties.one_bit is not None:
            pages = as_one_bit(pages)
        number = 0
        async with aclosing(pages):
            async for page in pages:
                commit = asyncio.create_task(self._commit(exchange, plan, page, number))
                try:
                    await ready.put(commit)
                except asyncio.CancelledError:
                    # Nobody else knows of it yet: what it records and counts must be over when the stream is.
                    await asyncio.gather(commit, return_exceptions=True)
                    raise
                number += 1
        await ready.put(None)

    async def _transformed(
        self, exchange: Exchange, plan: TransformPlan, size: int
    ) -> AsyncGenerator[ReleasedPage, None]:
        """Yield the pages as they may leave, until all have or no more records may."""
        provider, duties = present(exchange.provider), self._with.duties
        number, last, released = 0, False, 0
        size = duties.page_size(plan.duties, size, released)
        records = self._with.providers.records(present(exchange.resolved).dataset)
        deliveries = records.stream(provider, self._steps.order(exchange, plan), size, exchange.remaining_s())
        async with aclosing(deliveries):
            async for delivered in deliveries:
                if last:
                    raise GatewayError(
                        "The provider sent more after the page it called the last.",
                        reason=Reason.PROVIDER_SCHEMA,
                    )
                last = self._steps.verify_delivery(exchange, delivered, number)
                page = await self._steps.transform(exchange, plan, delivered, size, released)
                released += page.count
                yield told_page(page, plan.duties)
                if not duties.left(plan.duties, released):
                    return
                number += 1
        if not last:
            raise GatewayError(
                "The provider's answer ended before the page it would call the last; what was sent "
                "so far is in the log.",
                reason=Reason.PROVIDER_UNAVAILABLE,
                provider=provider.id,
            )

    async def _commit(
        self, exchange: Exchange, plan: TransformPlan, page: ReleasedPage, number: int
    ) -> StreamedPage:
        await self._with.duties.begin_page(exchange, plan, page.count)
        await self._steps.note_recipient(exchange, plan, page, number)
        committed = await self._with.journal.page(exchange, page, number)
        await self._steps.witness(exchange, committed)
        return StreamedPage(page, plan.shown_fields, number, committed.index)


@contextmanager
def _reader_must_go_on(exchange: Exchange) -> Iterator[None]:
    """Cancel the stream if the reader does not take what is handed over in time."""

    def cut(task: asyncio.Task[object] | None) -> None:
        exchange.stalled = True
        if task is not None:
            task.cancel()

    loop = asyncio.get_running_loop()
    timer = loop.call_later(STALL_TIMEOUT_S, cut, asyncio.current_task())
    try:
        yield
    finally:
        timer.cancel()


async def _next_ready(ready: _Ready, producer: asyncio.Task[None]) -> asyncio.Task[StreamedPage] | None:
    """Return the next page's commit, or raise what stopped the producer."""
    if ready.empty() and not producer.done():
        getter = asyncio.ensure_future(ready.get())
        try:
            await asyncio.wait({getter, producer}, return_when=asyncio.FIRST_COMPLETED)
            if getter.done():
                return getter.result()
        finally:
            getter.cancel()
    if ready.empty():
        await producer
    return ready.get_nowait()


async def _stop(producer: asyncio.Task[None], ready: _Ready) -> None:
    """End the producer and wait for commits that are under way, whatever became of the stream."""
    producer.cancel()
    commits: list[Awaitable[object]] = [producer]
    while not ready.empty():
        task = ready.get_nowait()
        if task is not None:
            commits.append(task)
    await asyncio.gather(*commits, return_exceptions=True)
