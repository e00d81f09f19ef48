"""A caller that can send anything: any bytes, metadata and deadline, under any certificate."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import grpc

from gateway.api.v1 import evidence_pb2, exchange_service_pb2
from gateway.client.statement import QUERY_TYPE, build_query
from gateway.clock import Clock
from gateway.evidence import dsse
from gateway.evidence.canonical import encode_canonical
from gateway.evidence.keys import SigningKey
from gateway.model import Operation, Query
from gateway.rpc.convert import envelope_to_wire

QUERY = "/gateway.api.v1.ExchangeService/Query"
STREAM = "/gateway.api.v1.ExchangeService/StreamQuery"
MATCH = "/gateway.api.v1.ExchangeService/MatchAttributes"
LISTS = "/gateway.api.v1.ExchangeService/AskLists"

TIMEOUT_S = 10.0

Metadata = Sequence[tuple[str, str | bytes]]


@dataclass(frozen=True)
class Credentials:
    """What a caller shows at the handshake."""

    certificate: bytes
    key: bytes
    authority: bytes

    @classmethod
    def read(cls, directory: Path) -> Credentials:
        """Read a member's files."""
        return cls(*((directory / name).read_bytes() for name in ("member.pem", "tls.key", "ca.pem")))


class RawCaller:
    """Calls methods by path with bytes, and answers with bytes."""

    def __init__(
        self,
        port: int,
        credentials: Credentials,
        *,
        origin: str,
        signing_key: SigningKey | None,
        clock: Clock,
    ) -> None:
        self.signing_key = signing_key
        self.origin = origin
        self.clock = clock
        self._channel = grpc.aio.secure_channel(
            f"127.0.0.1:{port}",
            grpc.ssl_channel_credentials(credentials.authority, credentials.key, credentials.certificate),
            options=(
                ("grpc.max_receive_message_length", 16 * 1024 * 1024),
                ("grpc.enable_retries", 0),
                # Each caller its own connection, as two members have.
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.max_metadata_size", 64 * 1024),
            ),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    def unary(
        self, method: str, body: bytes, *, timeout_s: float | None = TIMEOUT_S, metadata: Metadata = ()
    ) -> grpc.aio.UnaryUnaryCall[Any, Any]:
        return self._channel.unary_unary(method)(body, timeout=timeout_s, metadata=tuple(metadata))

    def streaming(
        self, method: str, body: bytes, *, timeout_s: float | None = TIMEOUT_S, metadata: Metadata = ()
    ) -> grpc.aio.UnaryStreamCall[Any, Any]:
        return self._channel.unary_stream(method)(body, timeout=timeout_s, metadata=tuple(metadata))

    # -- statements ------------------------------------------------------------------------------

    def statement(
        self, dataset: str, purpose: str, operation: Operation = Operation.QUERY, **parts: Any
    ) -> Query:
        return build_query(self.origin, operation, dataset, purpose, clock=self.clock, **parts)

    def seal(self, payload: bytes | Query, payload_type: str = QUERY_TYPE) -> dsse.Envelope:
        """Return the envelope of `payload`, signed with this caller's key."""
        raw = encode_canonical(payload) if isinstance(payload, Query) else payload
        return dsse.sign(raw, payload_type, [self.signing_key] if self.signing_key else [])

    async def query(
        self, sent: dsse.Envelope | Query | bytes, **options: Any
    ) -> exchange_service_pb2.QueryResponse:
        """Send a query; `page_size`, `page_token`, `timeout_s` and `metadata` are options."""
        envelope = sent if isinstance(sent, dsse.Envelope) else self.seal(sent)
        body = query_body(envelope, options.pop("page_size", 0), options.pop("page_token", ""))
        answer: bytes = await self.unary(QUERY, body, **options)
        return exchange_service_pb2.QueryResponse.FromString(answer)

    async def match(self, query: Query, **options: Any) -> exchange_service_pb2.MatchAttributesResponse:
        body = exchange_service_pb2.MatchAttributesRequest(envelope=wire(self.seal(query)))
        answer: bytes = await self.unary(MATCH, body.SerializeToString(), **options)
        return exchange_service_pb2.MatchAttributesResponse.FromString(answer)

    async def ask_lists(self, query: Query, **options: Any) -> bytes:
        """Return the answer as it comes, unread."""
        body = exchange_service_pb2.AskListsRequest(envelope=wire(self.seal(query)))
        answer: bytes = await self.unary(LISTS, body.SerializeToString(), **options)
        return answer

    async def stream(
        self, query: Query, page_size: int = 0, **options: Any
    ) -> AsyncIterator[exchange_service_pb2.StreamQueryResponse]:
        body = exchange_service_pb2.StreamQueryRequest(envelope=wire(self.seal(query)), page_size=page_size)
        async for message in self.streaming(STREAM, body.SerializeToString(), **options):
            yield exchange_service_pb2.StreamQueryResponse.FromString(message)


def wire(envelope: dsse.Envelope) -> evidence_pb2.Envelope:
    return envelope_to_wire(envelope)


def query_body(envelope: dsse.Envelope, page_size: int = 0, page_token: str = "") -> bytes:
    request = exchange_service_pb2.QueryRequest(
        envelope=wire(envelope), page_size=page_size, page_token=page_token
    )
    return request.SerializeToString()
