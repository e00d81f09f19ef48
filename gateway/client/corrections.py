"""Corrections as members see them: announcing one, hearing of those that concern us, answering, listing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import grpc

from gateway.api.v1 import correction_service_pb2 as api
from gateway.api.v1 import correction_service_pb2_grpc
from gateway.audit.acknowledgement import AcknowledgedRelease, verify_answered
from gateway.client.calling import once
from gateway.client.errors import ClientError, error_class, from_rpc_error, invalid
from gateway.client.wire import envelope_from_wire, envelope_to_wire
from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.evidence.correction import (
    AnswerOutcome,
    CorrectionKind,
    CorrectionReason,
    Notice,
    open_notice,
    sign_answer,
    sign_correction,
)
from gateway.evidence.keys import SigningKey
from gateway.evidence.trust import Trust

ANNOUNCE_TIMEOUT_S: Final = 60.0
WATCH_TIMEOUT_S: Final = 600.0
"""How long one stream lasts; `watch` opens the next by itself."""
_PAUSE_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class ReceivedNotice:
    """A notice, verified: the gateway signed it for this log."""

    notice: Notice
    payload: bytes
    """The bytes signed, to which an answer refers."""
    position: int
    """Give it as `after`, and a later stream goes on behind it."""
    entry: int
    """Index of the entry `correction.announced`."""


class AsyncCorrections:
    """See `AsyncClient.corrections`."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        trust: Trust,
        key: SigningKey | None,
        *,
        timeout_s: float,
        clock: Clock,
    ) -> None:
        self._stub: Any = correction_service_pb2_grpc.CorrectionServiceStub(channel)
        self._trust = trust
        self._key = key
        self._timeout_s = timeout_s
        self._clock = clock

    async def announce(
        self,
        dataset: str,
        kind: CorrectionKind,
        reason: CorrectionReason,
        records: Sequence[Mapping[str, str]],
        *,
        effective: datetime | None = None,
    ) -> api.Correction:
        """Announce that `records` of our dataset, each named by its key fields, are corrected or withdrawn.

        Raises a `ClientError`.
        """
        key = self._require_key()
        try:
            envelope = sign_correction(
                self._trust.origin, dataset, kind, reason, records, key, self._clock(), effective
            )
        except GatewayError as error:
            raise error_class(error.reason)(error.message) from error
        request = api.AnnounceCorrectionRequest(envelope=envelope_to_wire(envelope))
        response = await once(self._stub.AnnounceCorrection, request, ANNOUNCE_TIMEOUT_S)
        found: api.Correction = response.correction
        return found

    async def waiting(self, after: int = 0) -> AsyncIterator[ReceivedNotice]:
        """Yield the notices that wait for our answer now."""
        async with aclosing(self._stream(after)) as stream:
            async for notice in stream:
                if notice is None:
                    return
                yield notice

    async def watch(self, after: int = 0) -> AsyncIterator[ReceivedNotice]:
        """Yield the notices that wait, then each as it is announced, for ever.

        A stream that ends or breaks off is opened anew behind the last notice. Raises a `ClientError` when
        the gateway refuses, such as to a suspended member.
        """
        while True:
            try:
                async with aclosing(self._stream(after)) as stream:
                    async for notice in stream:
                        if notice is not None:
                            after = notice.position
                            yield notice
            except ClientError as error:
                if not error.may_be_repeated:
                    raise
                await asyncio.sleep(_PAUSE_S)

    async def answer(self, received: ReceivedNotice, outcome: AnswerOutcome) -> AcknowledgedRelease:
        """Tell the gateway, signed, what was done; return the log's proof that it stands there.

        Raises a `ClientError`: `ReplayedError` if this was done before.
        """
        envelope = sign_answer(received.notice, received.payload, outcome, self._require_key(), self._clock())
        request = api.AcknowledgeCorrectionRequest(envelope=envelope_to_wire(envelope))
        response = await once(self._stub.AcknowledgeCorrection, request, self._timeout_s)
        try:
            return verify_answered(envelope, response.entry, response.tlog_proof, self._trust)
        except GatewayError as error:
            raise invalid(error) from error

    async def list(self) -> list[api.Correction]:
        """Return our corrections with their recipients, newest first; an auditor's list has all."""
        found: list[api.Correction] = []
        token = ""
        while True:
            request = api.ListCorrectionsRequest(page_size=200, page_token=token)
            response = await once(self._stub.ListCorrections, request, self._timeout_s)
            found.extend(response.corrections)
            token = response.next_page_token
            if not token:
                return found

    async def _stream(self, after: int) -> AsyncGenerator[ReceivedNotice | None, None]:
        """Yield what one stream brings; None where it has sent all that waited, and to keep it alive."""
        call = self._stub.WatchCorrections(api.WatchCorrectionsRequest(after=after), timeout=WATCH_TIMEOUT_S)
        try:
            async for response in call:
                yield self._received(response) if response.HasField("notice") else None
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        finally:
            call.cancel()

    def _received(self, response: api.WatchCorrectionsResponse) -> ReceivedNotice:
        envelope = envelope_from_wire(response.notice)
        try:
            notice = open_notice(envelope, self._trust.gateway_verify_keys, self._trust.origin)
        except GatewayError as error:
            raise invalid(error) from error
        return ReceivedNotice(notice, envelope.payload, response.position, response.entry_index)

    def _require_key(self) -> SigningKey:
        if self._key is None:
            raise ClientError("Statements about corrections are signed: give the client a signing key.")
        return self._key
