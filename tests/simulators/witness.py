"""A witness as others may run it: real HTTP, with answers that a test chooses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.witness.server import WitnessServer

Answer = tuple[int, str, bytes]
"""Status, media type, body."""


@dataclass
class ScriptedWitness:
    """Answers each submission with what `submitted` makes of its body, and monitors with `shown`."""

    submitted: Callable[[bytes], Answer]
    shown: bytes | None = None
    bodies: list[bytes] = field(default_factory=list)
    hanging: bool = False

    async def __aenter__(self) -> Self:
        app = Starlette(
            routes=[
                Route("/add-checkpoint", self._submit, methods=["POST"]),
                Route("/{digest}/checkpoint", self._show),
            ]
        )
        self._released = asyncio.Event()
        self._server = WitnessServer(app, "127.0.0.1:0")
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._released.set()
        await self._server.stop()

    @property
    def url(self) -> str:
        """Its submission prefix."""
        return f"http://127.0.0.1:{self._server.port}"

    async def _submit(self, request: Request) -> Response:
        body = await request.body()
        self.bodies.append(body)
        if self.hanging:
            await self._released.wait()
        status, media_type, content = self.submitted(body)
        return Response(content, status, headers={"Content-Type": media_type})

    async def _show(self, _request: Request) -> Response:
        return Response(b"" if self.shown is None else self.shown, 404 if self.shown is None else 200)
