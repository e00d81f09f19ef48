"""The bare relay's process: mutual TLS in, one call to the provider, answer back. Nothing else.

`python -m tests.bench.relay GATEWAY_DIRECTORY PORT PROVIDER_PORT` prints a line when it serves.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import grpc
import uvloop

from gateway.model import member_host
from gateway.pki.reload import ReloadingCredentials, channel_credentials

METHOD = "/gateway.api.v1.ProviderService/FetchRecords"


async def main(directory: Path, port: int, provider_port: int) -> None:

    tls = (directory / "tls" / "gateway.pem", directory / "keys" / "tls.key", directory / "tls" / "ca.pem")
    channel = grpc.aio.secure_channel(
        f"127.0.0.1:{provider_port}",
        channel_credentials(tls[2], tls[0], tls[1]),
        options=(("grpc.ssl_target_name_override", member_host("registry")),),
    )
    forward = channel.unary_unary(METHOD)

    async def relay(body: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        return await forward(body, timeout=context.time_remaining())

    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                "gateway.api.v1.ProviderService", {"FetchRecords": grpc.unary_unary_rpc_method_handler(relay)}
            ),
        )
    )
    credentials = ReloadingCredentials(*tls, demo=False)
    server.add_secure_port(f"127.0.0.1:{port}", credentials.server_credentials())
    await server.start()
    print("serving", flush=True)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()
    await server.stop(0)
    await channel.close()


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
