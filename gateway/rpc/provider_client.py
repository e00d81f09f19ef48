"""The gateway's calls to providers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, NoReturn, Protocol

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


class ClientIdentity(Protocol):
    """What the gateway shows to providers. It may be renewed at any time."""

    @property
    def generation(self) -> int:
        """Changes whenever `channel_credentials` does."""
        ...

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """Return the credentials in use."""
        ...


class _Connection:
    """A channel to one provider, and how many calls are under way on it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._stub: Any = ProviderServiceStub(channel)
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def call(self) -> Iterator[Any]:
        """Lend the stub for one call."""
        self._calls += 1
        self._idle.clear()
        try:
            yield self._stub
        finally:
            self._calls -= 1
            if not self._calls:
                self._idle.set()

    async def close(self) -> None:
        """Close the channel at once; calls under way fail."""
        await self._channel.close()

    async def close_when_idle(self) -> None:
        """Close the channel when the calls under way on it have ended; lend it to nobody any more."""
        await self._idle.wait()
        await self._channel.close()


class GrpcProviders:
    """One connection to each provider, kept open and shared by all calls.

    When the gateway's identity is renewed, or a provider moves, the next call opens a new one; the old
    one is closed when its calls have ended.
    """

    def __init__(self, identity: ClientIdentity) -> None:
        """Take the gateway's identity, asked again whenever its generation changes."""
        self._identity = identity
        self._connections: dict[tuple[str, str, int], _Connection] = {}
        self._retired: dict[_Connection, asyncio.Task[None]] = {}

    async def fetch(
        self, provider: Member, order: Envelope, page_size: int, cursor: bytes, timeout_s: float
    ) -> tuple[DeliveredPage, bytes]:
        """See `gateway.exchange.providers.RecordProvider`."""
        request = api.FetchRecordsRequest(order=envelope_to_wire(order), page_size=page_size, cursor=cursor)
        try:
            with self._connection(provider).call() as stub:
                response = await stub.FetchRecords(request, timeout=max(timeout_s, 0))
        except grpc.aio.AioRpcError as error:
            _raise(error, provider)
        return _page(response.page), response.next_cursor

    async def stream(
        self, provider: Member, order: Envelope, page_size: int, timeout_s: float
    ) -> AsyncGenerator[DeliveredPage, None]:
        """See `gateway.exchange.providers.RecordProvider`."""
        request = api.StreamRecordsRequest(order=envelope_to_wire(order), page_size=page_size)
        with self._connection(provider).call() as stub:
            call = stub.StreamRecords(request, timeout=max(timeout_s, 0))
            try:
                async for response in call:
                    yield _page(response.page)
            except grpc.aio.AioRpcError as error:
                _raise(error, provider)
            finally:
                call.cancel()

    async def close(self) -> None:
        """Close every connection; calls under way fail."""
        connections, waiting = [*self._connections.values(), *self._retired], [*self._retired.values()]
        self._connections.clear()
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        for connection in connections:
            await connection.close()

    def _connection(self, provider: Member) -> _Connection:
        generation = self._identity.generation
        key = (provider.id, provider.endpoint or "", generation)
        connection = self._connections.get(key)
        if connection is None:
            self._retire(provider.id, generation)
            connection = self._connections[key] = self._connect(provider)
        return connection

    def _connect(self, provider: Member) -> _Connection:
        return _Connection(
            grpc.aio.secure_channel(
                provider.endpoint or "",
                self._identity.channel_credentials(),
                options=(
                    ("grpc.ssl_target_name_override", member_host(provider.id)),
                    ("grpc.max_receive_message_length", MAX_PAGE_BYTES),
                    ("grpc.enable_retries", 0),
                    ("grpc.http2.bdp_probe", 0),
                    ("grpc.initial_reconnect_backoff_ms", 100),
                    ("grpc.max_reconnect_backoff_ms", 2000),
                ),
            )
        )

    def _retire(self, provider_id: str, generation: int) -> None:
        """Let go of connections under an older identity, and of those to where a provider was before."""
        for key in [key for key in self._connections if key[0] == provider_id or key[2] != generation]:
            connection = self._connections.pop(key)
            task = asyncio.create_task(connection.close_when_idle())
            self._retired[connection] = task
            task.add_done_callback(partial(self._forget, connection))

    def _forget(self, connection: _Connection, _: asyncio.Task[None]) -> None:
        del self._retired[connection]


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
