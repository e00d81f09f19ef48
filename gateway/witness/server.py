"""The witness over HTTP: `POST /add-checkpoint`, and `GET /<SHA-256 of origin>/checkpoint` for monitors."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from gateway.audit.errors import LogUnavailableError
from gateway.errors import ConfigError
from gateway.witness.judgement import Answer, SubmissionRefusedError
from gateway.witness.submission import MAX_SUBMISSION_BYTES, SIZE_MEDIA_TYPE
from gateway.witness.witness import ClockBehindError, Witness

BODY_TIMEOUT_S: Final = 10.0
"""How long a request's body may take to arrive."""
MAX_CONNECTIONS: Final = 256
"""Beyond this many at once the answer is 503."""

_log: Final = structlog.get_logger()
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_TOO_LARGE: Final = 413
_UNAVAILABLE: Final = 503
_TIMED_OUT: Final = 408


def make_app(witness: Witness, *, body_timeout_s: float = BODY_TIMEOUT_S) -> Starlette:
    """Return the ASGI application of `witness`."""

    async def add_checkpoint(request: Request) -> Response:
        try:
            body = await asyncio.wait_for(_read_body(request), body_timeout_s)
        except TimeoutError:
            return PlainTextResponse("The request took too long to arrive.\n", _TIMED_OUT)
        except ClientDisconnect:
            return PlainTextResponse("The request was cut.\n", Answer.MALFORMED)
        if body is None:
            return PlainTextResponse("The request is too large.\n", _TOO_LARGE)
        try:
            lines = await asyncio.to_thread(witness.add_checkpoint, body)
        except SubmissionRefusedError as error:
            return _refusal(error)
        except (ClockBehindError, LogUnavailableError) as error:
            _log.error("witness.unavailable", error_type=type(error).__name__)
            return PlainTextResponse(f"{error.message}\n", _UNAVAILABLE)
        return PlainTextResponse(lines)

    async def checkpoint(request: Request) -> Response:
        digest = request.path_params["digest"]
        if _DIGEST.fullmatch(digest) is None:
            return _unknown()
        try:
            note = await asyncio.to_thread(witness.checkpoint, digest)
        except LogUnavailableError as error:
            return PlainTextResponse(f"{error.message}\n", _UNAVAILABLE)
        return _unknown() if note is None else PlainTextResponse(note, headers={"Cache-Control": "max-age=1"})

    return Starlette(
        routes=[
            Route("/add-checkpoint", add_checkpoint, methods=["POST"]),
            Route("/{digest}/checkpoint", checkpoint, methods=["GET"]),
        ]
    )


class WitnessServer:
    """Serves an application on one address until it is closed."""

    def __init__(self, app: Starlette, address: str, *, tls: ssl.SSLContext | None = None) -> None:
        """Take the application and `host:port`; port 0 takes a free one."""
        self.port = 0
        self._address = address
        self._server = _Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                http="h11",
                lifespan="off",
                proxy_headers=False,
                ws="none",
                limit_concurrency=MAX_CONNECTIONS,
                timeout_keep_alive=30,
                timeout_graceful_shutdown=5,
                ssl_context_factory=None if tls is None else (lambda _config, _default: tls),
            )
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen; `port` tells where. Raises `ConfigError` if the address cannot be had."""
        listener = _listen(self._address)
        self.port = listener.getsockname()[1]
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]))
        ready = asyncio.create_task(self._server.ready.wait())
        await asyncio.wait({self._task, ready}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._task.done():
            await self._task
            raise ConfigError("The witness could not start to serve.")

    async def stop(self) -> None:
        """Finish what is under way, then close."""
        if self._task is not None:
            self._server.should_exit = True
            await self._task
            self._task = None


class _Server(uvicorn.Server):
    """Uvicorn without its own signal handling: whoever runs it decides when to stop."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: Sequence[socket.socket] | None = None) -> None:
        await super().startup(None if sockets is None else list(sockets))
        self.ready.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def server_tls(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return the TLS 1.3 context of a server with this certificate (PEM); raise `ConfigError`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"The certificate {certificate} and its key {key} cannot be used; check that both are PEM "
            "files and belong together."
        ) from error
    return context


async def _read_body(request: Request) -> bytes | None:
    """Return the body; None as soon as it is larger than a submission can be."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_SUBMISSION_BYTES:
            return None
    return bytes(body)


def _refusal(error: SubmissionRefusedError) -> Response:
    if error.size is not None:
        # Starlette would append a character set to any text type, which clients do not expect here.
        return Response(f"{error.size}\n", error.answer, headers={"Content-Type": SIZE_MEDIA_TYPE})
    return PlainTextResponse(f"{error.message}\n", error.answer)


def _unknown() -> Response:
    return PlainTextResponse("This witness has cosigned no such log.\n", Answer.UNKNOWN_LOG)


def _listen(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(place)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise ConfigError(f"The witness cannot listen on {address} ({error.strerror}).") from error
    listener.setblocking(False)
    return listener
