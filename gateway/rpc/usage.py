"""UsageService over gRPC: what a contributor sees of the use of its records."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import Message

from gateway.api.v1 import usage_service_pb2 as api
from gateway.audit.filter import And, Field, Has, Or
from gateway.audit.following import Follower
from gateway.audit.store import AuditReader, StoredEntry
from gateway.clock import Clock
from gateway.errors import GatewayError, Reason
from gateway.evidence import dsse
from gateway.exchange.admission import admit
from gateway.exchange.call import Call
from gateway.members import Directory
from gateway.model import Member
from gateway.rpc.calls import describe_call, parse_request
from gateway.rpc.convert import envelope_from_wire
from gateway.rpc.status import abort
from gateway.usage.grouping import Dimension, sum_up
from gateway.usage.issuing import Accounts
from gateway.usage.period import period_of
from gateway.usage.seen import COUNTED, names, see
from gateway.usage.setting import open_webhook
from gateway.usage.store import KeptNotice, UsageStore

TIMEOUT_S: Final = 120.0
"""Of calls that count: the first statement of a long log takes some seconds."""
WATCH_TIMEOUT_S: Final = 3600.0
WATCH_INTERVAL_S: Final = 0.5
DEFAULT_PAGE_SIZE: Final = 50
MAX_PAGE_SIZE: Final = 1000
MAX_ROWS: Final = 10_000
MAX_WATCHES: Final = 256
"""Watches of one process at the same time; each looks at the log twice a second."""
_EVENTS_AT_ONCE: Final = 500

_DIMENSIONS: Final = {getattr(api, f"USAGE_DIMENSION_{dimension.name}"): dimension for dimension in Dimension}

_Request = TypeVar("_Request", bound=Message)
_Answer = TypeVar("_Answer")


class UsageServicer:
    """Answers each member for itself: whose usage it is, the certificate says and nothing else."""

    def __init__(
        self,
        accounts: Accounts,
        store: UsageStore,
        reader: AuditReader,
        directory: Directory,
        clock: Clock,
        origin: str,
    ) -> None:
        self._accounts = accounts
        self._store = store
        self._reader = reader
        self._directory = directory
        self._clock = clock
        self._origin = origin
        self._watches = 0

    async def GetUsage(  # noqa: N802 - named by the proto file, like the methods below
        self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> api.GetUsageResponse:
        """Answer with the sums of a period."""

        async def answer(request: api.GetUsageRequest, member: Member) -> api.GetUsageResponse:
            period = period_of(request.first_day, request.last_day)
            by = _dimensions(request.group_by)
            lines, size = await self._accounts.usage(member.id, period)
            rows = await asyncio.to_thread(sum_up, lines, by)
            if len(rows) > MAX_ROWS:
                raise GatewayError(
                    f"This would be more than {MAX_ROWS} rows; ask for a shorter period, or group by less.",
                    reason=Reason.REQUEST_MALFORMED,
                    limit=MAX_ROWS,
                )
            return api.GetUsageResponse(
                rows=[
                    api.UsageRow(
                        values=list(row.by.values()),
                        exchanges=row.exchanges,
                        released=row.released,
                        denied=row.denied,
                        failed=row.failed,
                        open=row.open,
                        records=row.records,
                    )
                    for row in rows
                ],
                tree_size=size,
            )

        return await self._answer(body, context, api.GetUsageRequest, answer)

    async def GetStatement(  # noqa: N802
        self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> api.GetStatementResponse:
        """Answer with the signed statement of a month."""

        async def answer(request: api.GetStatementRequest, member: Member) -> api.GetStatementResponse:
            envelope = await self._accounts.statement(member.id, request.month, so_far=request.so_far)
            return api.GetStatementResponse(envelope=dsse.envelope_to_json(envelope))

        return await self._answer(body, context, api.GetStatementRequest, answer)

    async def ListNotices(  # noqa: N802
        self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> api.ListNoticesResponse:
        """Answer with a page of notices."""

        async def answer(request: api.ListNoticesRequest, member: Member) -> api.ListNoticesResponse:
            if request.page_size < 0:
                raise GatewayError("page_size must not be negative.", reason=Reason.REQUEST_MALFORMED)
            size = min(request.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
            found = await asyncio.to_thread(self._store.notices, member.id, request.after, size + 1)
            return api.ListNoticesResponse(notices=list(map(_notice, found[:size])), more=len(found) > size)

        return await self._answer(body, context, api.ListNoticesRequest, answer)

    async def SetWebhook(  # noqa: N802
        self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> api.SetWebhookResponse:
        """Keep where the member wants its notices sent."""

        async def answer(request: api.SetWebhookRequest, member: Member) -> api.SetWebhookResponse:
            keys = self._directory.signing_keys(member.id)
            webhook = open_webhook(
                envelope_from_wire(request.envelope), member.id, keys, self._origin, self._clock()
            )
            if not await asyncio.to_thread(self._store.set_webhook, member.id, webhook):
                raise GatewayError(
                    "A webhook setting that was signed then or later is in force; sign it anew.",
                    reason=Reason.REPLAYED,
                )
            return api.SetWebhookResponse(url=webhook.url)

        return await self._answer(body, context, api.SetWebhookRequest, answer)

    async def WatchUsage(  # noqa: N802
        self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        """Write an event for each entry that tells of use, as it comes."""

        async def watch(request: api.WatchUsageRequest, member: Member, call: Call) -> None:
            if request.from_index < 0:
                raise GatewayError("from_index must not be negative.", reason=Reason.REQUEST_MALFORMED)
            wanted = And(
                (Has(Field.PROVIDER, member.id), Or(tuple(Has(Field.KIND, kind) for kind in COUNTED)))
            )
            start = request.from_index or await asyncio.to_thread(self._reader.size)
            follower = Follower(self._reader, wanted, start)
            while True:
                entries = await asyncio.to_thread(_take, follower)
                self._require_still(call)
                for entry in entries:
                    await context.write(_event(entry))
                if len(entries) < _EVENTS_AT_ONCE:
                    await asyncio.sleep(WATCH_INTERVAL_S)

        await self._watch(body, context, api.WatchUsageRequest, watch)

    async def WatchNotices(  # noqa: N802
        self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        """Write notices as they are found."""

        async def watch(request: api.WatchNoticesRequest, member: Member, call: Call) -> None:
            after = request.after
            while True:
                found = await asyncio.to_thread(self._store.notices, member.id, after, MAX_PAGE_SIZE)
                self._require_still(call)
                for notice in found:
                    await context.write(_notice(notice))
                    after = notice.id
                if len(found) < MAX_PAGE_SIZE:
                    await asyncio.sleep(WATCH_INTERVAL_S)

        await self._watch(body, context, api.WatchNoticesRequest, watch)

    async def _answer(
        self,
        body: bytes,
        context: grpc.aio.ServicerContext[Any, Any],
        request_type: type[_Request],
        answer: Callable[[_Request, Member], Awaitable[_Answer]],
    ) -> _Answer:
        try:
            call = describe_call(context, body, TIMEOUT_S)
            member = self._caller(call)
            return await answer(parse_request(body, request_type), member)
        except GatewayError as error:
            await abort(context, error)
            raise

    async def _watch(
        self,
        body: bytes,
        context: grpc.aio.ServicerContext[Any, Any],
        request_type: type[_Request],
        watch: Callable[[_Request, Member, Call], Awaitable[None]],
    ) -> None:
        """Run `watch`, which never ends by itself, until the caller's deadline."""
        if self._watches >= MAX_WATCHES:
            await abort(
                context,
                GatewayError("Too many watches are open; try again later.", reason=Reason.OVERLOADED),
            )
        self._watches += 1
        try:
            call = describe_call(context, body, WATCH_TIMEOUT_S)
            member = self._caller(call)
            async with asyncio.timeout(call.timeout_s):
                await watch(parse_request(body, request_type), member, call)
        except TimeoutError:
            return
        except GatewayError as error:
            await abort(context, error)
        finally:
            self._watches -= 1

    def _caller(self, call: Call) -> Member:
        member = admit(call, self._directory, self._clock(), role=None)
        if call.fault is not None:
            raise call.fault
        return member

    def _require_still(self, call: Call) -> None:
        """Raise once the caller would not be let in any more: a suspension ends watches, too."""
        admit(call, self._directory, self._clock(), role=None)


def _dimensions(asked: Any) -> list[Dimension]:
    found = [_DIMENSIONS.get(number) for number in asked]
    known = [dimension for dimension in found if dimension is not None]
    if len(known) != len(found) or len(set(known)) != len(known):
        raise GatewayError(
            "group_by takes each of the known dimensions at most once.", reason=Reason.REQUEST_MALFORMED
        )
    return known


def _take(follower: Follower) -> list[StoredEntry]:
    found = []
    for entry in follower.take():
        found.append(entry)
        if len(found) == _EVENTS_AT_ONCE:
            break
    return found


def _event(stored: StoredEntry) -> api.UsageEvent:
    entry = see(stored.data)
    return api.UsageEvent(
        entry=f"entries/{stored.index}",
        time=entry.time,
        kind=entry.kind,
        exchange=entry.exchange,
        consumer=entry.consumer,
        dataset=entry.dataset,
        purpose=entry.purpose,
        contract=entry.contract,
        fields=names(bytes(entry.released)),
        reasons=names(bytes(entry.reasons)),
        records=entry.records,
        withdraws=entry.withdraws,
    )


def _notice(kept: KeptNotice) -> api.Notice:
    finding = kept.finding
    return api.Notice(
        id=kept.id,
        time=kept.time,
        kind=finding.kind.value,
        contract=finding.contract,
        consumer=finding.consumer,
        dataset=finding.dataset,
        detail=finding.detail,
    )
