"""A TCP proxy that breaks a connection after a number of bytes from the client, at any byte."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Self


class CuttingRelay:
    """Passes bytes to a gateway; the n-th connection breaks after `cuts[n]` bytes, later ones never."""

    def __init__(self, target_port: int, cuts: list[int]) -> None:
        self._target = target_port
        self._cuts = list(cuts)
        self._server: asyncio.Server
        self.port = 0
        self.broken = 0
        self._ends: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for end in self._ends:
            end.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, client: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        left = self._cuts.pop(0) if self._cuts else None
        try:
            gateway, send = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            answer.transport.abort()
            return
        self._ends += (answer, send)
        back = asyncio.ensure_future(_pass(gateway, answer))
        with suppress(OSError):
            while data := await client.read(65536):
                if left is not None and len(data) >= left:
                    send.write(data[:left])
                    with suppress(OSError):
                        await send.drain()
                    self.broken += 1
                    break
                left = None if left is None else left - len(data)
                send.write(data)
                await send.drain()
        back.cancel()
        for end in (send, answer):
            end.transport.abort()


async def _pass(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
