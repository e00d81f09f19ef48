"""The way of one exchange, step by step.

    1 admit       who calls                       4 decide      what policy grants
    2 open        the signed statement            5 record      that it was asked, durably
    3 resolve     datasets, fields, identifiers   6 fetch       at the provider, on a signed order
    7 transform   obligations, pseudonyms         8 record      what is released, durably; receipt
    9 only now the records leave

Whatever goes wrong on the way is a `GatewayError`; it leaves an entry before it reaches the caller.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, TypeVar

from gateway.audit.errors import OnceTakenError
from gateway.audit.receipt import Receipt, issue_receipt
from gateway.catalogue import Catalogue
from gateway.clock import Clock, parse_rfc3339, rfc3339
from gateway.errors import GatewayError, Reason
from gateway.evidence import dsse
from gateway.evidence.delivery import (
    DELIVERY_TYPE,
    DeliveryError,
    parse_delivery,
    verify_delivery,
    verify_records,
)
from gateway.evidence.keys import SignatureError, SigningKey
from gateway.evidence.order import ORDER_TYPE, FetchOrder, encode_order
from gateway.evidence.records import SEED_BYTES
from gateway.exchange.admission import admit
from gateway.exchange.call import Call
from gateway.exchange.journal import Journal
from gateway.exchange.matching import is_match
from gateway.exchange.paging import PageTokens, Position
from gateway.exchange.providers import DeliveredPage, RecordProvider
from gateway.exchange.resolution import policy_input, resolve
from gateway.exchange.state import Exchange, new_exchange_id
from gateway.exchange.statement import open_statement
from gateway.exchange.transform import ReleasedPage, TransformPlan, plan_transform
from gateway.members import Directory
from gateway.model import Member, Operation
from gateway.policy.engine import PolicyEngine
from gateway.pseudonym import DomainPseudonymiser, Pseudonymiser
from gateway.recent import Recent
from gateway.telemetry.metrics import Metrics

DEFAULT_PAGE_SIZE: Final = 100
MAX_PAGE_SIZE: Final = 1000
DEFAULT_STREAM_PAGE_SIZE: Final = 1000
MAX_STREAM_PAGE_SIZE: Final = 5000
INLINE_RECORDS: Final = 20
"""Pages up to this size are transformed on the event loop: handing over costs more than doing it."""
ORDER_LIFETIME: Final = timedelta(minutes=5)
PAGES_AHEAD: Final = 2
"""Pages of a stream that may be fetched, transformed and committed before their turn to leave."""

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a unary query releases."""

    page: ReleasedPage
    fields: tuple[str, ...]
    next_page_token: str
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class StreamedPage:
    """One page of a stream, already committed."""

    page: ReleasedPage
    fields: tuple[str, ...]
    number: int
    entry_index: int


@dataclass(frozen=True, slots=True)
class MatchAnswer:
    """The one bit a match releases."""

    matched: bool
    seed: bytes
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Collaborators:
    """Everything the use case works with."""

    origin: str
    clock: Clock
    directory: Directory
    catalogue: Catalogue
    policy: PolicyEngine
    journal: Journal
    providers: RecordProvider
    pseudonymiser: Pseudonymiser
    signing_key: SigningKey
    page_tokens: PageTokens
    metrics: Metrics
    on_outcome: Callable[[Exchange, GatewayError | None, int], None]
    """Told of each ended exchange: its state, what refused it, the index of its closing entry."""


class ExchangeService:
    """Carries out exchanges. One instance serves all calls of a process, on its event loop."""

    def __init__(self, collaborators: Collaborators) -> None:
        self._with = collaborators
        # A decision id covers the query's shape and the dataset's description: one id, one plan.
        self._plans: Recent[str, TransformPlan] = Recent(1024)
        self._transformer = ThreadPoolExecutor(1, thread_name_prefix="transform")

    def close(self) -> None:
        self._transformer.shutdown(wait=True)

    async def query(self, call: Call, envelope: dsse.Envelope, page_size: int, page_token: str) -> Answer:
        """Answer with one page of records."""
        async with self._exchange(call, Operation.QUERY) as exchange:
            plan = await self._prepare(exchange, envelope)
            size = _page_size(page_size, DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
            position = self._position(exchange, page_token)
            exchange.key_epoch = position.key_epoch
            delivered, next_cursor = await self._fetch(exchange, plan, size, position.cursor)
            page = await self._transform(exchange, plan, delivered, size)
            self._count(exchange, page)
            receipt = await self._release(exchange)
            token = self._next_token(exchange, next_cursor)
            return Answer(page, plan.fields, token, receipt)

    async def match(self, call: Call, envelope: dsse.Envelope) -> MatchAnswer:
        """Answer whether a subject's record has the stated attributes."""
        async with self._exchange(call, Operation.MATCH) as exchange:
            plan = await self._prepare(exchange, envelope)
            resolved = _present(exchange.resolved)
            delivered, _ = await self._fetch(exchange, plan, 2, b"")
            matched = is_match(resolved.dataset, plan.read(delivered.records), resolved.match)
            answer = ReleasedPage.of_line(
                b'{"match":true}' if matched else b'{"match":false}', secrets.token_bytes(SEED_BYTES)
            )
            self._count(exchange, answer)
            receipt = await self._release(exchange)
            return MatchAnswer(matched, answer.seed, receipt)

    async def stream(
        self, call: Call, envelope: dsse.Envelope, page_size: int
    ) -> AsyncIterator[StreamedPage | Receipt]:
        """Yield all records in pages, each committed before it is yielded, and last the receipt.

        The next pages are prepared while the last one is on its way.
        """
        async with self._exchange(call, Operation.STREAM) as exchange:
            plan = await self._prepare(exchange, envelope)
            size = _page_size(page_size, DEFAULT_STREAM_PAGE_SIZE, MAX_STREAM_PAGE_SIZE)
            ready: asyncio.Queue[asyncio.Task[StreamedPage] | None] = asyncio.Queue(PAGES_AHEAD)
            producer = asyncio.create_task(self._produce(exchange, plan, size, ready))
            try:
                while (task := await _next_ready(ready, producer)) is not None:
                    page = await task
                    self._still_permitted(exchange)
                    # Counted as left before it is handed over: the entries never say too little.
                    self._count(exchange, page.page)
                    yield page
                await producer
            finally:
                await _stop(producer, ready)
            yield await self._release(exchange)

    # -- the steps -------------------------------------------------------------------------------

    @asynccontextmanager
    async def _exchange(self, call: Call, operation: Operation) -> AsyncIterator[Exchange]:
        """Hold one exchange: whatever ends it, it leaves its entry and is counted."""
        now = self._with.clock()
        exchange = Exchange(new_exchange_id(now), operation, call, now, self._with.metrics.stopwatch())
        try:
            yield exchange
        except GatewayError as error:
            await self._refuse(exchange, error)
            raise
        except (asyncio.CancelledError, GeneratorExit):
            cancelled = GatewayError("The caller cancelled the call.", reason=Reason.CANCELLED)
            await asyncio.shield(self._refuse(exchange, cancelled))
            raise
        except Exception as error:
            internal = GatewayError(
                "The gateway failed; give the exchange id to its operator.", reason=Reason.INTERNAL
            )
            await self._refuse(exchange, internal)
            raise internal from error

    async def _prepare(self, exchange: Exchange, envelope: dsse.Envelope) -> TransformPlan:
        """Steps 1 to 5."""
        self._admit(exchange)
        self._open(exchange, envelope)
        self._resolve(exchange)
        await self._decide(exchange)
        plan = self._plan(exchange)
        await self._record_request(exchange)
        return plan

    def _admit(self, exchange: Exchange) -> None:
        exchange.consumer = admit(exchange.call, self._with.directory, exchange.started)
        if exchange.call.fault is not None:
            raise exchange.call.fault
        exchange.stopwatch.mark("identity")

    def _open(self, exchange: Exchange, envelope: dsse.Envelope) -> None:
        consumer = _present(exchange.consumer)
        exchange.statement = open_statement(
            envelope,
            self._with.directory.signing_keys(consumer.id),
            self._with.origin,
            exchange.operation,
            exchange.started,
        )
        exchange.stopwatch.mark("envelope")

    def _resolve(self, exchange: Exchange) -> None:
        statement = _present(exchange.statement)
        exchange.resolved = resolve(statement.query, self._with.catalogue)
        exchange.provider = self._with.directory.provider(exchange.resolved.dataset.provider)
        exchange.stopwatch.mark("resolve")

    async def _decide(self, exchange: Exchange) -> None:
        statement, resolved = _present(exchange.statement), _present(exchange.resolved)
        facts = policy_input(
            resolved,
            _present(exchange.consumer),
            _present(exchange.provider).member_class,
            signed=bool(statement.key_id),
            now=exchange.started,
        )
        decision = exchange.decision = await self._with.policy.decide(facts)
        exchange.stopwatch.mark("policy")
        if not decision.allow:
            raise _denial(decision.reasons)

    def _plan(self, exchange: Exchange) -> TransformPlan:
        resolved, decision = _present(exchange.resolved), _present(exchange.decision)
        exchange.plan = self._plans.get(decision.id)
        if exchange.plan is None:
            is_match = exchange.operation is Operation.MATCH
            requested = tuple(resolved.match) if is_match else resolved.query.fields
            exchange.plan = plan_transform(resolved.dataset, decision, requested)
            self._plans.put(decision.id, exchange.plan)
        if not exchange.plan.fields:
            raise GatewayError(
                "Policy leaves nothing of this query to release.", reason=Reason.NOTHING_PERMITTED
            )
        return exchange.plan

    async def _record_request(self, exchange: Exchange) -> None:
        try:
            await self._with.journal.requested(exchange)
        except OnceTakenError as error:
            raise GatewayError(
                "This signed statement was used before; sign each query anew, with a fresh nonce.",
                reason=Reason.REPLAYED,
            ) from error
        exchange.stopwatch.mark("log_requested")

    def _order(self, exchange: Exchange, plan: TransformPlan) -> dsse.Envelope:
        resolved, decision = _present(exchange.resolved), _present(exchange.decision)
        query = resolved.query
        order = FetchOrder(
            gateway=self._with.origin,
            exchange=exchange.id,
            consumer=_present(exchange.consumer).id,
            dataset=resolved.dataset.name,
            subject_field=resolved.subject_field,
            subject_values=resolved.subjects,
            filters=resolved.filters,
            fields=plan.fields,
            purpose=query.purpose,
            legal_basis=query.legal_basis,
            memorandum=query.memorandum,
            tier=decision.tier,
            decision=decision.id,
            bundle=decision.bundle_digest,
            time=rfc3339(exchange.started),
            expires=rfc3339(exchange.started + ORDER_LIFETIME),
        )
        return dsse.sign(encode_order(order), ORDER_TYPE, [self._with.signing_key])

    async def _fetch(
        self, exchange: Exchange, plan: TransformPlan, size: int, cursor: bytes
    ) -> tuple[DeliveredPage, bytes]:
        provider = _present(exchange.provider)
        asked_s = time.monotonic()
        try:
            delivered, next_cursor = await self._with.providers.fetch(
                provider, self._order(exchange, plan), size, cursor, exchange.remaining_s()
            )
        finally:
            exchange.provider_seconds = time.monotonic() - asked_s
        self._verify_delivery(exchange, delivered, 0)
        exchange.stopwatch.mark("provider")
        return delivered, next_cursor

    def _verify_delivery(self, exchange: Exchange, delivered: DeliveredPage, number: int) -> bool:
        """Check the provider's signature over the page; return whether it says this is the last."""
        provider, resolved = _present(exchange.provider), _present(exchange.resolved)
        try:
            payload, exchange.provider_key = dsse.verify(
                delivered.delivery, DELIVERY_TYPE, self._with.directory.signing_keys(provider.id)
            )
            statement = parse_delivery(payload)
            verify_delivery(
                statement,
                exchange=exchange.id,
                dataset=resolved.dataset.name,
                page=number,
                at=self._with.clock(),
            )
            verify_records(statement, delivered.salt, delivered.records)
        except (SignatureError, DeliveryError) as error:
            raise GatewayError(
                "The provider's answer does not carry its valid signature; nothing was released.",
                reason=Reason.PROVIDER_SIGNATURE,
                provider=provider.id,
            ) from error
        exchange.deliveries.append(delivered.delivery)
        return statement.last

    async def _transform(
        self, exchange: Exchange, plan: TransformPlan, delivered: DeliveredPage, size: int
    ) -> ReleasedPage:
        pseudonymiser = self._pseudonymiser(exchange, plan)
        seed = secrets.token_bytes(SEED_BYTES)
        if delivered.count <= INLINE_RECORDS and len(delivered.records) <= INLINE_RECORDS * 1024:
            page = plan.apply(delivered.records, pseudonymiser, seed, size)
        else:
            page = await asyncio.get_running_loop().run_in_executor(
                self._transformer, plan.apply, delivered.records, pseudonymiser, seed, size
            )
        if exchange.operation is not Operation.STREAM:
            exchange.stopwatch.mark("transform")
        return page

    def _pseudonymiser(self, exchange: Exchange, plan: TransformPlan) -> DomainPseudonymiser | None:
        if not plan.pseudonymises:
            return None
        domain = self._with.pseudonymiser.for_exchange(
            _present(exchange.consumer).id,
            _present(exchange.resolved).query.purpose,
            exchange.started,
            epoch=exchange.key_epoch or None,
        )
        exchange.key_epoch = domain.epoch
        return domain

    async def _release(self, exchange: Exchange) -> Receipt:
        """Step 8: the entry that says what is released; when this returns, records may leave."""
        entry, committed = await self._with.journal.released(exchange)
        exchange.stopwatch.mark("log_released")
        receipt = issue_receipt(
            entry,
            committed,
            origin=self._with.origin,
            openings=exchange.openings,
            page_digests=exchange.page_digests,
            deliveries=exchange.deliveries,
            signer=self._with.signing_key,
        )
        exchange.stopwatch.mark("receipt")
        self._with.on_outcome(exchange, None, committed.index)
        return receipt

    async def _refuse(self, exchange: Exchange, error: GatewayError) -> None:
        """Record the refusal; if even that fails, the caller is told so instead."""
        error.details["exchange"] = exchange.id
        try:
            committed = await self._with.journal.refused(exchange, error)
        except GatewayError as log_error:
            log_error.details["exchange"] = exchange.id
            self._with.on_outcome(exchange, log_error, -1)
            raise log_error from error
        error.details["entry"] = str(committed.index)
        self._with.on_outcome(exchange, error, committed.index)

    # -- pages -----------------------------------------------------------------------------------

    async def _produce(
        self,
        exchange: Exchange,
        plan: TransformPlan,
        size: int,
        ready: asyncio.Queue[asyncio.Task[StreamedPage] | None],
    ) -> None:
        """Fetch, transform and commit the pages of a stream, a few ahead of the reader."""
        provider = _present(exchange.provider)
        number, last = 0, False
        async for delivered in self._with.providers.stream(
            provider, self._order(exchange, plan), size, exchange.remaining_s()
        ):
            if last:
                raise GatewayError(
                    "The provider sent more after the page it called the last.",
                    reason=Reason.PROVIDER_SCHEMA,
                )
            last = self._verify_delivery(exchange, delivered, number)
            page = await self._transform(exchange, plan, delivered, size)
            await ready.put(asyncio.create_task(self._commit(exchange, plan, page, number)))
            number += 1
        if not last:
            raise GatewayError(
                "The provider's answer ended before the page it would call the last; what was sent "
                "so far is in the log.",
                reason=Reason.PROVIDER_UNAVAILABLE,
                provider=provider.id,
            )
        await ready.put(None)

    async def _commit(
        self, exchange: Exchange, plan: TransformPlan, page: ReleasedPage, number: int
    ) -> StreamedPage:
        committed = await self._with.journal.page(exchange, page, number)
        return StreamedPage(page, plan.fields, number, committed.index)

    def _still_permitted(self, exchange: Exchange) -> None:
        """Ask again, for each page, what may have changed since the stream began."""
        now = self._with.clock()
        admit(exchange.call, self._with.directory, now)
        valid_until = _present(exchange.decision).valid_until
        if valid_until is not None and now > parse_rfc3339(valid_until):
            raise GatewayError(
                "What policy granted has ended while the stream was running.",
                reason=Reason.MEMORANDUM_NOT_IN_FORCE,
            )

    def _count(self, exchange: Exchange, page: ReleasedPage) -> None:
        exchange.page_digests.append(page.digest)
        exchange.records += page.count
        exchange.pages += 1
        exchange.bytes += len(page.records)
        exchange.unknown_fields += page.unknown_fields
        for name, count in page.invalid_identifiers.items():
            exchange.invalid_identifiers[name] = exchange.invalid_identifiers.get(name, 0) + count

    def _position(self, exchange: Exchange, page_token: str) -> Position:
        if not page_token:
            return Position()
        return self._with.page_tokens.open(
            page_token, _present(exchange.consumer).id, _present(exchange.statement).query, exchange.started
        )

    def _next_token(self, exchange: Exchange, next_cursor: bytes) -> str:
        if not next_cursor:
            return ""
        return self._with.page_tokens.seal(
            Position(next_cursor, exchange.key_epoch),
            _present(exchange.consumer).id,
            _present(exchange.statement).query,
            exchange.started,
        )


async def _next_ready(
    ready: asyncio.Queue[asyncio.Task[StreamedPage] | None], producer: asyncio.Task[None]
) -> asyncio.Task[StreamedPage] | None:
    """Return the next page's commit, or raise what stopped the producer."""
    if ready.empty() and not producer.done():
        getter = asyncio.ensure_future(ready.get())
        await asyncio.wait({getter, producer}, return_when=asyncio.FIRST_COMPLETED)
        if getter.done():
            return getter.result()
        getter.cancel()
    if ready.empty():
        await producer
    return ready.get_nowait()


async def _stop(
    producer: asyncio.Task[None], ready: asyncio.Queue[asyncio.Task[StreamedPage] | None]
) -> None:
    """End the producer and wait for commits that are under way, whatever became of the stream."""
    producer.cancel()
    commits: list[Awaitable[object]] = [producer]
    while not ready.empty():
        task = ready.get_nowait()
        if task is not None:
            commits.append(task)
    await asyncio.gather(*commits, return_exceptions=True)


def _page_size(asked: int, default: int, maximum: int) -> int:
    if asked < 0:
        raise GatewayError("page_size must not be negative.", reason=Reason.REQUEST_MALFORMED)
    return min(asked or default, maximum)


def _denial(reasons: tuple[str, ...]) -> GatewayError:
    """Return the error for a denial; its reason is the first of the policy's in the order of `Reason`."""
    known = [reason for reason in Reason if reason.value in reasons]
    return GatewayError(
        "Policy denies this query; the reasons are in `reasons`. CatalogService.GetDataset says what "
        "this member may ask for.",
        reason=known[0] if known else Reason.POLICY_FAILED,
        reasons=",".join(reasons),
    )


def _present(value: _Value | None) -> _Value:
    """Return what an earlier step has set."""
    if value is None:
        raise RuntimeError("a step ran before the one it builds on")
    return value
