"""The way of one exchange, step by step.

    1 admit       who calls                       4 decide      what policy grants
    2 open        the signed statement            5 record      that it was asked, durably
    3 resolve     datasets, fields, identifiers   6 fetch       at the provider, on a signed order
    7 transform   obligations, pseudonyms         8 record      what is released, durably; receipt
    9 only now the records leave

Whatever goes wrong on the way is a `GatewayError`; it leaves an entry before it reaches the caller.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from gateway.audit.receipt import Receipt
from gateway.errors import GatewayError, Reason
from gateway.evidence import dsse
from gateway.exchange.call import Call
from gateway.exchange.duties.cohort import bit, look_ahead
from gateway.exchange.duties.telling import told_page
from gateway.exchange.listing import AnsweredQuestion, Listing
from gateway.exchange.matching import is_match
from gateway.exchange.paging import Position
from gateway.exchange.state import Exchange
from gateway.exchange.steps import Collaborators, Steps, present
from gateway.exchange.streaming import StreamedPage, Streaming
from gateway.exchange.transform import ReleasedPage, TransformPlan
from gateway.model import NO_DUTIES, Operation

DEFAULT_PAGE_SIZE: Final = 100
MAX_PAGE_SIZE: Final = 1000
DEFAULT_STREAM_PAGE_SIZE: Final = 1000
MAX_STREAM_PAGE_SIZE: Final = 5000


@dataclass(frozen=True, slots=True)
class Answer:
    """What a unary query releases."""

    page: ReleasedPage
    fields: tuple[str, ...]
    next_page_token: str
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class MatchAnswer:
    """The one bit a match releases."""

    matched: bool
    seed: bytes
    receipt: Receipt


class ExchangeService:
    """Carries out exchanges. One instance serves all calls of a process, on its event loop."""

    def __init__(self, collaborators: Collaborators, *, moving_streams: int = 4) -> None:
        self._with = collaborators
        self._steps = Steps(collaborators)
        self._streaming = Streaming(collaborators, self._steps, moving_streams)
        self._listing = Listing(collaborators, self._steps)

    async def wait_until_idle(self, timeout_s: float) -> int:
        """Wait until every exchange has left its last entry; return how many have not after `timeout_s`."""
        await self._steps.under_way.wait_until_none(timeout_s)
        return self._steps.under_way.count

    def close(self) -> None:
        """End the thread that transforms pages; call it when no exchange is under way."""
        self._steps.close()

    async def query(self, call: Call, envelope: dsse.Envelope, page_size: int, page_token: str) -> Answer:
        """Answer with one page of records."""
        async with self._steps.exchange(call, Operation.QUERY) as exchange:
            plan = await self._steps.prepare(exchange, envelope)
            size = _page_size(page_size, DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
            position = self._position(exchange, plan, page_token)
            exchange.key_epoch = position.key_epoch
            size = self._with.duties.page_size(plan.duties, size, position.released)
            delivered, next_cursor = await self._steps.fetch(exchange, size, position.cursor)
            page = await self._steps.transform(exchange, plan, delivered, size, position.released)
            if plan.duties is not NO_DUTIES:
                page, next_cursor = await self._answer(exchange, plan, position, page, next_cursor)
            await self._steps.note_recipient(exchange, plan, page)
            exchange.count(page)
            receipt = await self._steps.release(exchange)
            token = self._next_token(exchange, plan, position.released + page.count, next_cursor)
            return Answer(page, plan.shown_fields, token, receipt)

    async def match(self, call: Call, envelope: dsse.Envelope) -> MatchAnswer:
        """Answer whether a subject's record has the stated attributes."""
        async with self._steps.exchange(call, Operation.MATCH) as exchange:
            plan = await self._steps.prepare(exchange, envelope)
            resolved = present(exchange.resolved)
            delivered, _ = await self._steps.fetch(exchange, 2, b"")
            matched = is_match(
                resolved.dataset,
                plan.read(delivered.records, self._steps.asked_for(exchange), self._steps.today()),
                resolved.match,
            )
            tokens = b""
            if matched and (namer := self._steps.namer(resolved.dataset)) is not None:
                asked, today = self._steps.asked_for(exchange), self._steps.today()
                tokens = plan.tokens(delivered.records, namer, asked, today)
            answer = bit(found=matched, tokens=tokens)
            await self._steps.note_recipient(exchange, plan, answer)
            exchange.count(answer)
            receipt = await self._steps.release(exchange)
            return MatchAnswer(matched, answer.seed, receipt)

    async def ask_lists(self, call: Call, envelope: dsse.Envelope) -> AnsweredQuestion:
        """Answer whether a subject is on a list, or on enough lists of a set."""
        return await self._listing.ask(call, envelope)

    async def stream(
        self, call: Call, envelope: dsse.Envelope, page_size: int
    ) -> AsyncGenerator[StreamedPage | Receipt, None]:
        """Yield all records in pages, each committed before it is yielded, and last the receipt.

        The next pages are prepared while the last one is on its way.
        """
        async with self._steps.exchange(call, Operation.STREAM) as exchange:
            plan = await self._steps.prepare(exchange, envelope)
            size = _page_size(page_size, DEFAULT_STREAM_PAGE_SIZE, MAX_STREAM_PAGE_SIZE)
            async with aclosing(self._streaming.pages(exchange, plan, size)) as pages:
                async for page in pages:
                    yield page
            yield await self._steps.release(exchange)

    async def _answer(
        self,
        exchange: Exchange,
        plan: TransformPlan,
        position: Position,
        page: ReleasedPage,
        next_cursor: bytes,
    ) -> tuple[ReleasedPage, bytes]:
        """Return what leaves of `page` under its duties, and where the next one begins."""
        tokens = page.tokens

        async def following(cursor: bytes, released: int) -> tuple[ReleasedPage, bytes]:
            nonlocal tokens
            delivered, after = await self._steps.fetch(exchange, MAX_PAGE_SIZE, cursor)
            # Looked at, and not part of the answer.
            exchange.deliveries.pop()
            page = await self._steps.transform(exchange, plan, delivered, MAX_PAGE_SIZE, released)
            tokens = tokens or page.tokens
            return page, after

        if not position.cursor:
            found = await look_ahead(plan.duties, page, next_cursor, following)
            if plan.duties.one_bit is not None:
                return bit(found=found, tokens=tokens), b""
        if not self._with.duties.left(plan.duties, position.released + page.count):
            next_cursor = b""
        return told_page(page, plan.duties), next_cursor

    def _position(self, exchange: Exchange, plan: TransformPlan, page_token: str) -> Position:
        if not page_token:
            return Position()
        position = self._with.page_tokens.open(
            page_token, present(exchange.consumer).id, present(exchange.statement).query, exchange.started
        )
        # What policy demands may have become stricter since the page before.
        if plan.duties.one_bit is not None or position.cohort < _cohort(plan):
            raise GatewayError(
                "Policy has changed since the page before; start again without the token.",
                reason=Reason.PAGE_TOKEN_INVALID,
            )
        return position

    def _next_token(self, exchange: Exchange, plan: TransformPlan, released: int, next_cursor: bytes) -> str:
        if not next_cursor:
            return ""
        return self._with.page_tokens.seal(
            Position(next_cursor, exchange.key_epoch, released, _cohort(plan)),
            present(exchange.consumer).id,
            present(exchange.statement).query,
            exchange.started,
        )


def _cohort(plan: TransformPlan) -> int:
    return plan.duties.smallest_cohort.records if plan.duties.smallest_cohort is not None else 0


def _page_size(asked: int, default: int, maximum: int) -> int:
    if asked < 0:
        raise GatewayError("page_size must not be negative.", reason=Reason.REQUEST_MALFORMED)
    return min(asked or default, maximum)
