"""ExchangeService over gRPC."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import Message

from gateway.api.v1 import exchange_service_pb2 as api
from gateway.audit.receipt import Receipt
from gateway.errors import GatewayError
from gateway.exchange.acknowledging import Acknowledging
from gateway.exchange.call import Call
from gateway.exchange.service import ExchangeService
from gateway.exchange.streaming import StreamedPage
from gateway.rpc.calls import describe_call, parse_request
from gateway.rpc.convert import envelope_from_wire, page_to_wire, receipt_to_wire
from gateway.rpc.status import abort
from gateway.telemetry.metrics import Metrics

UNARY_TIMEOUT_S: Final = 30.0
STREAM_TIMEOUT_S: Final = 900.0

_Message = TypeVar("_Message", bound=Message)


class ExchangeServicer:
    """Turns calls into exchanges. Request bodies come as bytes (`gateway.rpc.calls` says why)."""

    def __init__(self, service: ExchangeService, acknowledging: Acknowledging, metrics: Metrics) -> None:
        self._service = service
        self._acknowledging = acknowledging
        self._metrics = metrics

    async def Query(  # noqa: N802 - named by the proto file, like the methods below
        self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> api.QueryResponse:
        """Answer with one page of records and its receipt."""
        call, request = _receive(context, body, api.QueryRequest, UNARY_TIMEOUT_S)
        try:
            answer = await self._service.query(
                call, envelope_from_wire(request.envelope), request.page_size, request.page_token
            )
        except GatewayError as error:
            await abort(context, error)
        return api.QueryResponse(
            page=page_to_wire(answer.page, answer.fields),
            next_page_token=answer.next_page_token,
            receipt=receipt_to_wire(answer.receipt),
        )

    async def StreamQuery(  # noqa: N802
        self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        """Write page after page, and the receipt with the last."""
        call, request = _receive(context, body, api.StreamQueryRequest, STREAM_TIMEOUT_S)
        self._metrics.open_stream()
        try:
            stream = self._service.stream(call, envelope_from_wire(request.envelope), request.page_size)
            # A stream may wait long for its turn, and thousands may wait.
            del body, request
            async with aclosing(stream):
                async for item in stream:
                    # Written, not yielded: a caller that goes away is noticed here, in our own code.
                    await context.write(_stream_message(item))
        except GatewayError as error:
            await abort(context, error)
        finally:
            self._metrics.close_stream()

    async def MatchAttributes(  # noqa: N802
        self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> api.MatchAttributesResponse:
        """Answer yes or no for each attribute asked, and a receipt."""
        call, request = _receive(context, body, api.MatchAttributesRequest, UNARY_TIMEOUT_S)
        try:
            answer = await self._service.match(call, envelope_from_wire(request.envelope))
        except GatewayError as error:
            await abort(context, error)
        result = api.MATCH_RESULT_MATCHED if answer.matched else api.MATCH_RESULT_NOT_MATCHED
        return api.MatchAttributesResponse(
            result=result, receipt=receipt_to_wire(answer.receipt), salt_seed=answer.seed
        )

    async def AskLists(  # noqa: N802
        self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> api.AskListsResponse:
        """Answer whether a subject is on lists, with one bit and a receipt."""
        call, request = _receive(context, body, api.AskListsRequest, UNARY_TIMEOUT_S)
        try:
            answer = await self._service.ask_lists(call, envelope_from_wire(request.envelope))
        except GatewayError as error:
            await abort(context, error)
        return api.AskListsResponse(
            answer=answer.line.decode(), receipt=receipt_to_wire(answer.receipt), salt_seed=answer.seed
        )

    async def AcknowledgeExchange(  # noqa: N802
        self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> api.AcknowledgeExchangeResponse:
        """Record that the caller received a release; answer with the entry that says so, and its proof."""
        call, request = _receive(context, body, api.AcknowledgeExchangeRequest, UNARY_TIMEOUT_S)
        try:
            committed = await self._acknowledging.acknowledge(call, envelope_from_wire(request.envelope))
        except GatewayError as error:
            await abort(context, error)
        return api.AcknowledgeExchangeResponse(
            entry=committed.data, entry_index=committed.index, tlog_proof=committed.tlog_proof()
        )


def _stream_message(item: StreamedPage | Receipt) -> api.StreamQueryResponse:
    if isinstance(item, Receipt):
        return api.StreamQueryResponse(receipt=receipt_to_wire(item))
    return api.StreamQueryResponse(
        page=page_to_wire(item.page, item.fields), page_number=item.number, entry_index=item.entry_index
    )


def _receive(
    context: grpc.aio.ServicerContext[Any, Any],
    body: bytes,
    message_type: type[_Message],
    max_timeout_s: float,
) -> tuple[Call, _Message]:
    """Return the call and its message; a message that cannot be read is a fault of the call.

    The fault goes on into the use case, which knows how to leave an entry about it.
    """
    call = describe_call(context, body, max_timeout_s)
    try:
        return call, parse_request(body, message_type)
    except GatewayError as error:
        return replace(call, fault=call.fault or error), message_type()
