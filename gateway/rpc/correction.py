"""CorrectionService over gRPC."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import Message

from gateway.api.v1 import correction_service_pb2 as api
from gateway.corrections.attempt import Attempt, correction_name
from gateway.corrections.deployed import Corrections
from gateway.corrections.notices import CorrectionStatus
from gateway.corrections.watching import Delivery
from gateway.errors import GatewayError, Reason
from gateway.evidence.correction import MAX_CORRECTION_BYTES
from gateway.exchange.call import Call
from gateway.model import Role, member_name
from gateway.rpc.calls import MAX_REQUEST_BYTES, describe_call, parse_request
from gateway.rpc.convert import envelope_from_wire, envelope_to_wire
from gateway.rpc.status import abort

UNARY_TIMEOUT_S: Final = 30.0
ANNOUNCE_TIMEOUT_S: Final = 120.0
WATCH_TIMEOUT_S: Final = 3600.0
MAX_ANNOUNCEMENT_BYTES: Final = MAX_CORRECTION_BYTES + 1024

_Message = TypeVar("_Message", bound=Message)


class CorrectionServicer:
    """Turns calls into the use cases of `gateway.corrections`; without those, nobody is served."""

    def __init__(self, corrections: Corrections | None) -> None:
        """Take the use cases; None where no dataset asks for corrections to be passed on."""
        self._corrections = corrections

    async def AnnounceCorrection(  # noqa: N802 - named by the proto file, like the methods below
        self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> api.AnnounceCorrectionResponse:
        """Record an announcement; answer with the correction and its recipients."""
        call, request = _receive(
            context, body, api.AnnounceCorrectionRequest, ANNOUNCE_TIMEOUT_S, MAX_ANNOUNCEMENT_BYTES
        )
        try:
            status = await self._there().announcing.announce(call, envelope_from_wire(request.envelope))
        except GatewayError as error:
            await abort(context, error)
        return api.AnnounceCorrectionResponse(correction=_correction(status))

    async def WatchCorrections(  # noqa: N802
        self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        """Write notice after notice, until the caller's deadline."""
        call, request = _receive(context, body, api.WatchCorrectionsRequest, WATCH_TIMEOUT_S)
        try:
            async with aclosing(self._there().watching.watch(call, request.after)) as items:
                async for item in items:
                    await context.write(_watched(item))
        except GatewayError as error:
            await abort(context, error)

    async def AcknowledgeCorrection(  # noqa: N802
        self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> api.AcknowledgeCorrectionResponse:
        """Record an answer; return the entry that says so, and its proof."""
        call, request = _receive(context, body, api.AcknowledgeCorrectionRequest, UNARY_TIMEOUT_S)
        try:
            entry, index, proof = await self._there().answering.answer(
                call, envelope_from_wire(request.envelope)
            )
        except GatewayError as error:
            await abort(context, error)
        return api.AcknowledgeCorrectionResponse(entry=entry, entry_index=index, tlog_proof=proof)

    async def ListCorrections(  # noqa: N802
        self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> api.ListCorrectionsResponse:
        """Answer with a page of corrections: the caller's own, or all for an auditor."""
        call, request = _receive(context, body, api.ListCorrectionsRequest, UNARY_TIMEOUT_S)
        try:
            corrections = self._there()
            member = corrections.log.admit(Attempt(call, "ListCorrections"), None)
            announcer = None if Role.AUDITOR in member.roles else member.id
            found, token = await asyncio.to_thread(
                corrections.overseeing.page, announcer, request.page_size, request.page_token
            )
        except GatewayError as error:
            await abort(context, error)
        return api.ListCorrectionsResponse(corrections=map(_correction, found), next_page_token=token)

    def _there(self) -> Corrections:
        if self._corrections is None:
            raise GatewayError(
                "No dataset of this gateway passes corrections on.", reason=Reason.CORRECTIONS_NOT_KEPT
            )
        return self._corrections


def _correction(status: CorrectionStatus) -> api.Correction:
    correction = status.correction
    return api.Correction(
        name=correction_name(correction.id),
        dataset=correction.dataset,
        kind=correction.kind,
        reason=correction.reason,
        effective=correction.effective,
        announced=correction.announced,
        record_count=correction.records,
        entry_index=correction.entry or 0,
        recipients=[
            api.CorrectionRecipient(
                member=member_name(state.recipient),
                delivered=state.delivered,
                answered=state.answered,
                outcome=state.outcome,
            )
            for state in status.recipients
        ],
    )


def _watched(item: Delivery | None) -> api.WatchCorrectionsResponse:
    if item is None:
        return api.WatchCorrectionsResponse()
    return api.WatchCorrectionsResponse(
        notice=envelope_to_wire(item.envelope), position=item.position, entry_index=item.entry
    )


def _receive(
    context: grpc.aio.ServicerContext[Any, Any],
    body: bytes,
    message_type: type[_Message],
    max_timeout_s: float,
    limit: int = MAX_REQUEST_BYTES,
) -> tuple[Call, _Message]:
    """Return the call and its message; a message that cannot be read is a fault of the call.

    The fault goes on into the use case, which knows how to leave an entry about it.
    """
    call = describe_call(context, body, max_timeout_s)
    try:
        return call, parse_request(body, message_type, limit=limit)
    except GatewayError as error:
        return replace(call, fault=call.fault or error), message_type()
