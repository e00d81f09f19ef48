"""ProviderService over gRPC: the holder's side, around `gateway.sources`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import grpc
import msgspec

from gateway.api.v1 import evidence_pb2
from gateway.api.v1 import provider_service_pb2 as api
from gateway.clock import Clock
from gateway.errors import GatewayError, Reason
from gateway.evidence import dsse
from gateway.evidence.delivery import DELIVERY_TYPE, build_delivery
from gateway.evidence.keys import SigningKey, VerifyKey
from gateway.evidence.order import ORDER_TYPE, FetchOrder, decode_order
from gateway.rpc.calls import describe_call, parse_request
from gateway.rpc.convert import envelope_from_wire, envelope_to_wire
from gateway.rpc.status import abort
from gateway.sources.deliveries import DeliveryFile
from gateway.sources.mapping import ProviderMapping
from gateway.sources.order import check_order, to_request
from gateway.sources.source import RecordSource, SourcePage

TIMEOUT_S: Final = 900.0
MAX_PAGE_SIZE: Final = 5000


@dataclass(frozen=True, slots=True)
class ProviderIdentity:
    """Who serves, and whom."""

    gateway: str
    """Origin of the one gateway whose orders are served."""
    gateway_uri: str
    """The URI in the gateway's certificate."""
    gateway_keys: Mapping[str, VerifyKey]
    signing_key: SigningKey


class ProviderServicer:
    """Serves records on signed orders of one gateway. Sources block, so they run on threads."""

    def __init__(
        self,
        identity: ProviderIdentity,
        mapping: ProviderMapping,
        sources: Mapping[str, RecordSource],
        clock: Clock,
        deliveries: DeliveryFile | None = None,
    ) -> None:
        """Take who serves, what, from where; and where to keep what is delivered, if that is wanted."""
        self._identity = identity
        self._mapping = mapping
        self._sources = sources
        self._clock = clock
        self._deliveries = deliveries

    async def FetchRecords(  # noqa: N802 - named by the proto file, like the method below
        self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> api.FetchRecordsResponse:
        """Answer with one page of records, signed."""
        try:
            request = parse_request(body, api.FetchRecordsRequest)
            order, source, timeout_s = self._accept(context, body, request.order)
            page = await asyncio.to_thread(
                source.fetch,
                to_request(
                    order,
                    page_size=_page_size(request.page_size),
                    cursor=request.cursor or None,
                    timeout_s=timeout_s,
                ),
            )
            total = None
            if order.list_question is not msgspec.UNSET:
                total = await asyncio.to_thread(source.count_records)
            return api.FetchRecordsResponse(
                page=await self._sign(order, page, 0, last=True, total=total),
                next_cursor=page.next_cursor or b"",
            )
        except GatewayError as error:
            await abort(context, error)
            raise

    async def StreamRecords(  # noqa: N802
        self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        """Write page after page, each signed, the last marked as the last."""
        pages: Iterator[SourcePage] | None = None
        try:
            request = parse_request(body, api.StreamRecordsRequest)
            order, source, timeout_s = self._accept(context, body, request.order)
            wanted = to_request(order, page_size=_page_size(request.page_size), timeout_s=timeout_s)
            pages = source.stream(wanted)
            page = await asyncio.to_thread(next, pages, None)
            number = 0
            while page is not None:
                # The next page is read while this one is on its way.
                following = asyncio.create_task(asyncio.to_thread(next, pages, None))
                try:
                    await context.write(
                        api.StreamRecordsResponse(
                            page=await self._sign(order, page, number, last=page.next_cursor is None)
                        )
                    )
                finally:
                    # A generator that runs on a thread cannot be closed: wait for it first.
                    page = await asyncio.shield(following)
                number += 1
        except GatewayError as error:
            await abort(context, error)
            raise
        finally:
            close = getattr(pages, "close", None)
            if close is not None:
                await asyncio.to_thread(close)

    def _accept(
        self, context: grpc.aio.ServicerContext[Any, Any], body: bytes, envelope: evidence_pb2.Envelope
    ) -> tuple[FetchOrder, RecordSource, float]:
        """Check for ourselves that this order comes from our gateway and that we serve it."""
        call = describe_call(context, body, TIMEOUT_S)
        if call.fault is not None:
            raise call.fault
        if call.caller is None or call.caller.uri != self._identity.gateway_uri:
            raise GatewayError("Only the gateway may call a provider.", reason=Reason.PROVIDER_REFUSED)
        payload, _ = dsse.verify(envelope_from_wire(envelope), ORDER_TYPE, self._identity.gateway_keys)
        order = decode_order(payload)
        check_order(order, self._clock(), self._identity.gateway, self._mapping)
        source = self._sources[order.dataset.rpartition("/")[2]]
        return order, source, call.timeout_s

    async def _sign(
        self, order: FetchOrder, page: SourcePage, number: int, *, last: bool, total: int | None = None
    ) -> api.DeliveredPage:
        """Return the page with its signed statement, once that is kept."""
        delivery = build_delivery(
            exchange=order.exchange,
            dataset=order.dataset,
            page=number,
            records=page.records,
            count=page.count,
            time=self._clock(),
            last=last,
            total=total,
        )
        envelope = dsse.sign(delivery.statement, DELIVERY_TYPE, [self._identity.signing_key])
        # The log does not say which lists were asked for a joint answer: there is nothing to compare.
        if self._deliveries is not None and order.list_question != "joint":
            await asyncio.to_thread(self._deliveries.add, order.consumer, envelope)
        return api.DeliveredPage(
            records=page.records,
            record_count=page.count,
            salt=delivery.salt,
            delivery=envelope_to_wire(envelope),
        )


def _page_size(asked: int) -> int:
    if asked < 1:
        raise GatewayError("page_size must be at least 1.", reason=Reason.REQUEST_MALFORMED)
    return min(asked, MAX_PAGE_SIZE)
