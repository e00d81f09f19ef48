"""One gRPC call written by hand in HTTP/2 frames (RFC 9113), for what client libraries refuse to send."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.simulators.caller import Credentials

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _GOAWAY = 0x0, 0x1, 0x3, 0x4, 0x7
_END_STREAM, _END_HEADERS, _ACK = 0x1, 0x4, 0x1


async def send_by_hand(
    port: int, credentials: Credentials, path: str, headers: Sequence[tuple[str, bytes]], body: bytes
) -> None:
    """Call `path` with exactly these extra headers, and return when the server has ended the stream."""
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=_context(credentials))
        try:
            fields = [
                (":method", b"POST"),
                (":scheme", b"https"),
                (":path", path.encode()),
                (":authority", b"localhost"),
                ("content-type", b"application/grpc"),
                ("te", b"trailers"),
                *headers,
            ]
            writer.write(_PREFACE + _frame(_SETTINGS, 0, 0, b""))
            writer.write(_frame(_HEADERS, _END_HEADERS, 1, b"".join(_literal(*field) for field in fields)))
            writer.write(_frame(_DATA, _END_STREAM, 1, b"\x00" + len(body).to_bytes(4) + body))
            await writer.drain()
            await _until_ended(reader, writer)
        finally:
            writer.close()


async def _until_ended(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        head = await reader.readexactly(9)
        kind, flags, stream = head[3], head[4], int.from_bytes(head[5:9])
        await reader.readexactly(int.from_bytes(head[:3]))
        if kind == _SETTINGS and not flags & _ACK:
            writer.write(_frame(_SETTINGS, _ACK, 0, b""))
        ended = stream == 1 and (kind == _RST_STREAM or (kind in {_DATA, _HEADERS} and flags & _END_STREAM))
        if ended or kind == _GOAWAY:
            return


def _context(credentials: Credentials) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=credentials.authority.decode())
    context.check_hostname = False
    context.set_alpn_protocols(["h2"])
    with tempfile.TemporaryDirectory() as directory:
        certificate, key = Path(directory) / "certificate.pem", Path(directory) / "key.pem"
        certificate.write_bytes(credentials.certificate)
        key.write_bytes(credentials.key)
        context.load_cert_chain(certificate, key)
    return context


def _frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    return len(content).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + content


def _literal(name: str, value: bytes) -> bytes:
    """Return a header field that is neither indexed nor compressed (RFC 7541 section 6.2.2)."""
    return b"\x00" + _text(name.encode()) + _text(value)


def _text(raw: bytes) -> bytes:
    if len(raw) < 127:
        return bytes([len(raw)]) + raw
    rest = len(raw) - 127
    encoded = bytearray([127])
    while rest > 127:
        encoded.append(rest & 127 | 128)
        rest >>= 7
    return bytes([*encoded, rest]) + raw
