"""TLS 1.3 and nothing older, on every gRPC connection of this process. Imports no gRPC itself."""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from typing import Final

from gateway.errors import ConfigError

CIPHER_SUITES_VARIABLE: Final = "GRPC_SSL_CIPHER_SUITES"
"""grpc's environment variable for the cipher suites of TLS 1.2 (grpc `doc/environment_variables.md`)."""

UNUSABLE_SUITE: Final = "ECDHE-PSK-AES128-CBC-SHA"
"""A TLS 1.2 suite that BoringSSL knows but can use only with a pre-shared key, which grpc never sets."""

_GRPC_CORE: Final = "grpc._cython.cygrpc"
_PROBE_TIMEOUT_S: Final = 5.0
_HANDSHAKE_RECORD: Final = 22
"""The first byte of a ServerHello's record (RFC 5246 section 6.2.1); a refusal is an alert, 21."""


def require_tls13() -> None:
    """Make TLS 1.3 the only version that gRPC servers and channels of this process will speak.

    grpcio has no setting for the version. It has one for the cipher suites, which governs TLS 1.2
    alone: the suites of TLS 1.3 are fixed in BoringSSL. With only `UNUSABLE_SUITE` listed, a
    handshake at TLS 1.2 finds no common suite and fails (RFC 5246 section 7.4.1.3), while TLS 1.3
    (RFC 8446) is not touched.

    Call it before gRPC is imported: the variable is read then, once, and a later change does
    nothing. Raises `ConfigError` when gRPC is loaded already, or when the environment lists other
    suites. May be called again. A server proves the effect with `verify_only_tls13`.
    """
    present = os.environ.get(CIPHER_SUITES_VARIABLE)
    if present == UNUSABLE_SUITE:
        return
    if present is not None:
        raise ConfigError(
            f"The environment variable {CIPHER_SUITES_VARIABLE} lists cipher suites of TLS 1.2, which the "
            "gateway does not speak; unset it."
        )
    if _GRPC_CORE in sys.modules:
        raise ConfigError(
            "gRPC was loaded before TLS 1.3 could be required; start through the `gateway` command, or set "
            f"{CIPHER_SUITES_VARIABLE}={UNUSABLE_SUITE} in the environment."
        )
    os.environ[CIPHER_SUITES_VARIABLE] = UNUSABLE_SUITE


async def verify_only_tls13(host: str, port: int) -> None:
    """Raise `ConfigError` unless the server at `host` and `port` refuses to speak TLS 1.2.

    Offers it a TLS 1.2 ClientHello and reads one byte of the answer: an alert or a hang-up is a
    refusal, a handshake record is not. For a server's own start, when it listens already. Also
    raises `ConfigError` when there is no answer within 5 seconds.
    """
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(_client_hello())
                await writer.drain()
                answer = await _first_byte(reader)
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        raise ConfigError(
            "The server does not answer on its own port, so its TLS version cannot be verified."
        ) from error
    if answer == bytes([_HANDSHAKE_RECORD]):
        raise ConfigError(
            "The server would speak TLS 1.2; "
            f"set {CIPHER_SUITES_VARIABLE}={UNUSABLE_SUITE} in the environment."
        )


async def _first_byte(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(1)
    except ConnectionError:
        return b""


def _client_hello() -> bytes:
    """Return the first flight of a client that speaks TLS 1.2 and nothing else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Only the version is asked about: no data follows, so nobody need be authenticated.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    outgoing = ssl.MemoryBIO()
    try:
        context.wrap_bio(ssl.MemoryBIO(), outgoing).do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise ConfigError("This Python's TLS library cannot offer TLS 1.2.")
