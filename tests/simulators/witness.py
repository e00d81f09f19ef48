"""A witness as others may run it: real HTTP, with answers that a test chooses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.audit.cosignature import Ed25519CosignatureSigner
from gateway.clock import system_clock
from gateway.evidence.keys import SigningKey
from gateway.witness.server import WitnessServer, make_app
from gateway.witness.state import WitnessState
from gateway.witness.witness import Witness

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


class RealWitness:
    """The product's own witness of one log, over real HTTP; it can go down, come back, and forget."""

    def __init__(self, folder: Path, number: int, origin: str, log_key: str) -> None:
        self.asked = 0
        self._folder = folder
        self._origin, self._log_key = origin, log_key
        self._signer = Ed25519CosignatureSigner(
            f"witness.example.org/w{number}", SigningKey(bytes([100 + number]) * 32), system_clock
        )
        self._address = "127.0.0.1:0"
        self._lives = 0
        self._state: WitnessState
        self._server: WitnessServer | None = None

    @property
    def policy_line(self) -> str:
        """Its line in a witness policy."""
        name = self._signer.name.rpartition("/")[2]
        return f"witness {name} {self._signer.verifier.vkey()} http://{self._address}"

    async def start(self) -> Self:
        if not self._lives:
            self._begin()
        self._server = WitnessServer(
            self._counted(make_app(Witness(self._state, [self._signer]))), self._address
        )
        await self._server.start()
        self._address = f"127.0.0.1:{self._server.port}"
        return self

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop()
            self._server = None

    async def forget(self) -> None:
        """Lose all it has remembered, as by a disk that was replaced."""
        await self.stop()
        self._state.close()
        self._begin()
        await self.start()

    async def close(self) -> None:
        await self.stop()
        self._state.close()

    def _begin(self) -> None:
        self._lives += 1
        self._state = WitnessState.create(
            self._folder / f"{self._signer.name.replace('/', '-')}-{self._lives}.db"
        )
        self._state.add_key(self._origin, self._log_key)

    def _counted(self, app: Starlette) -> Starlette:
        async def counted(scope: Any, receive: Any, send: Any) -> None:
            self.asked += scope.get("method") == "POST"
            await app(scope, receive, send)

        return counted  # type: ignore[return-value]
