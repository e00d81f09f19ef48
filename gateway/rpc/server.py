"""The gRPC server: mutual TLS, limits, health, reflection, graceful stop."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from gateway.errors import ConfigError
from gateway.rpc.status import abort

_Behaviour = Callable[[bytes, grpc.aio.ServicerContext[Any, Any]], Awaitable[Any]]

TRANSPORT_LIMIT_BYTES: Final = 1024 * 1024
"""Above this gRPC itself refuses a message, before it is read; our own limit is lower and explains."""

_MAKERS: Final = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}
"""By whether the client and the server stream. A method that the client streams to reads its context."""

_OPTIONS: Final[Sequence[tuple[str, Any]]] = (
    ("grpc.max_receive_message_length", TRANSPORT_LIMIT_BYTES),
    ("grpc.max_send_message_length", 16 * 1024 * 1024),
    # Bounds what one connection can start (rapid reset, CVE-2023-44487); clients queue the rest.
    ("grpc.max_concurrent_streams", 200),
    ("grpc.max_metadata_size", 8 * 1024),
    ("grpc.absolute_max_metadata_size", 16 * 1024),
    ("grpc.max_connection_idle_ms", 30 * 60 * 1000),
    ("grpc.http2.max_ping_strikes", 3),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
)


class RpcServer:
    """A grpc.aio server whose methods get request bodies as bytes, also those of streams."""

    def __init__(
        self,
        services: Mapping[ServiceDescriptor, object],
        *,
        with_reflection: bool,
        shares_port: bool = False,
    ) -> None:
        """Take a servicer for each service; its methods are named as in the proto file.

        With `shares_port` other processes of this user may listen on the same port (SO_REUSEPORT).
        """
        self._server = grpc.aio.server(options=(*_OPTIONS, ("grpc.so_reuseport", int(shares_port))))
        self._names = [descriptor.full_name for descriptor in services]
        self._server.add_generic_rpc_handlers(
            tuple(_handler(descriptor, servicer) for descriptor, servicer in services.items())
        )
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if with_reflection:
            from grpc_reflection.v1alpha import reflection  # noqa: PLC0415 - off where memory counts

            reflection.enable_server_reflection(
                [*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME], self._server
            )

    async def start(self, address: str, credentials: grpc.ServerCredentials) -> int:
        """Listen on `address` (`host:port`, port 0 takes a free one); return the port."""
        try:
            port = self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            # Only a server that has run can be shut down; grpc frees one that has not at its own peril.
            await self._server.start()
            await self._server.stop(None)
            raise ConfigError(
                f"Cannot listen on {address}; is the port free, and may this user use it?"
            ) from error
        await self._server.start()
        return int(port)

    async def set_serving(self, serving: bool) -> None:
        """Tell health checkers, for the whole server and each of its services."""
        status = (
            health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        )
        for name in ("", *self._names):
            await self._health.set(name, status)

    async def stop(self, grace_s: float) -> None:
        """Take no more calls, let those under way finish for `grace_s` seconds, then cut them."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)


def _handler(descriptor: ServiceDescriptor, servicer: object) -> grpc.GenericRpcHandler:
    methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
    for method in descriptor.methods:
        behaviour = _guarded(getattr(servicer, method.name), f"/{descriptor.full_name}/{method.name}")
        make = _MAKERS[method.client_streaming, method.server_streaming]
        answer = message_factory.GetMessageClass(method.output_type)
        methods[method.name] = make(
            behaviour, request_deserializer=None, response_serializer=answer.SerializeToString
        )
    return grpc.method_handlers_generic_handler(descriptor.full_name, methods)


def _guarded(behaviour: _Behaviour, method: str) -> _Behaviour:
    """Return `behaviour` made such that gRPC sees no fault of it: it would tell the caller its text."""
    if inspect.isasyncgenfunction(behaviour):
        raise TypeError(f"{method} must write its messages, not yield them")

    async def answer(body: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            return await behaviour(body, context)
        except grpc.aio.BaseError:  # the call has ended already
            raise
        except Exception as error:
            await abort(context, error, method)
            raise

    return answer
