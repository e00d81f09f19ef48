"""The gateway's calls to providers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, Final, NoReturn

import grpc

from gateway.api.v1 import provider_service_pb2 as api
from gateway.api.v1.provider_service_pb2_grpc import ProviderServiceStub
from gateway.errors import GatewayError, Reason
from gateway.evidence.dsse import Envelope
from gateway.exchange.providers import DeliveredPage
from gateway.model import Member, member_host
from gateway.rpc.convert import envelope_from_wire, envelope_to_wire

MAX_PAGE_BYTES: Final = 8 * 1024 * 1024
"""The largest page a provider may send; pages aim at 256 KiB."""


_REASONS: Final = {
    grpc.StatusCode.DEADLINE_EXCEEDED: (Reason.PROVIDER_TIMEOUT, "did not answer in time"),
    grpc.StatusCode.UNAVAILABLE: (Reason.PROVIDER_UNAVAILABLE, "cannot be reached"),
    grpc.StatusCode.CANCELLED: (Reason.PROVIDER_UNAVAILABLE, "broke off its answer"),
    grpc.StatusCode.PERMISSION_DENIED: (Reason.PROVIDER_REFUSED, "refused the order"),
    grpc.StatusCode.FAILED_PRECONDITION: (Reason.PROVIDER_REFUSED, "refused the order"),
    grpc.StatusCode.INVALID_ARGUMENT: (Reason.PROVIDER_REFUSED, "refused the order"),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (
        Reason.PROVIDER_SCHEMA,
        "sent a page larger than the limit, or has no capacity left",
    ),
}


class GrpcProviders:
    """One channel for each provider, kept open and shared by all calls."""

    def __init__(self, credentials: Callable[[], grpc.ChannelCredentials]) -> None:
        """Take a maker of the gateway's client credentials, asked for each new channel."""
        self._credentials = credentials
        self._channels: dict[tuple[str, str], grpc.aio.Channel] = {}

    async def fetch(
        self, provider: Member, order: Envelope, page_size: int, cursor: bytes, timeout_s: float
    ) -> tuple[DeliveredPage, bytes]:
        request = api.FetchRecordsRequest(order=envelope_to_wire(order), page_size=page_size, cursor=cursor)
        try:
            response = await self._stub(provider).FetchRecords(request, timeout=max(timeout_s, 0))
        except grpc.aio.AioRpcError as error:
            _raise(error, provider)
        return _page(response.page), response.next_cursor

    async def stream(
        self, provider: Member, order: Envelope, page_size: int, timeout_s: float
    ) -> AsyncIterator[DeliveredPage]:
        request = api.StreamRecordsRequest(order=envelope_to_wire(order), page_size=page_size)
        call = self._stub(provider).StreamRecords(request, timeout=max(timeout_s, 0))
        try:
            async for response in call:
                yield _page(response.page)
        except grpc.aio.AioRpcError as error:
            _raise(error, provider)
        finally:
            call.cancel()

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close()
        self._channels.clear()

    def _stub(self, provider: Member) -> Any:
        key = (provider.id, provider.endpoint or "")
        channel = self._channels.get(key)
        if channel is None:
            channel = self._channels[key] = grpc.aio.secure_channel(
                provider.endpoint or "",
                self._credentials(),
                options=(
                    ("grpc.ssl_target_name_override", member_host(provider.id)),
                    ("grpc.max_receive_message_length", MAX_PAGE_BYTES),
                    ("grpc.enable_retries", 0),
                    ("grpc.http2.bdp_probe", 0),
                    ("grpc.initial_reconnect_backoff_ms", 100),
                    ("grpc.max_reconnect_backoff_ms", 2000),
                ),
            )
        return ProviderServiceStub(channel)


def _page(message: api.DeliveredPage) -> DeliveredPage:
    return DeliveredPage(
        records=message.records,
        count=message.record_count,
        salt=message.salt,
        delivery=envelope_from_wire(message.delivery),
    )


def _raise(error: grpc.aio.AioRpcError, provider: Member) -> NoReturn:
    """Raise our error for the provider's; its own text stays out, it may hold anything."""
    reason, what = _REASONS.get(error.code(), (Reason.PROVIDER_UNAVAILABLE, "failed while it answered"))
    raise GatewayError(
        f"The provider {what}; nothing more was released. Try again, or ask the provider.",
        reason=reason,
        provider=provider.id,
        status=error.code().name,
    ) from error
