"""The process that serves the log's site."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog
import uvicorn

from gateway import __version__
from gateway.audit.checkpoint import parse_checkpoint
from gateway.audit.errors import LogMismatchError
from gateway.audit.note import parse_note
from gateway.audit.sqlite_reader import SqliteReader
from gateway.config import GatewayConfig, TilesConfig
from gateway.errors import ConfigError
from gateway.evidence.keys import read_secret
from gateway.process import ServingProcess
from gateway.tilesite.site import CommittedCheckpoints, make_site

_log: Final = structlog.get_logger()

_BACKLOG: Final = 128
_CONNECTIONS: Final = 256
"""Beyond so many, requests are answered with 503: a site that everybody may read must not take all."""
_MAX_HEAD_BYTES: Final = 16 * 1024
_IDLE_S: Final = 5
_GRACE_S: Final = 5


class TileSite(ServingProcess):
    """One site over one log. `start`, then `port` tells where it listens, then `stop`."""

    def __init__(self, config: GatewayConfig) -> None:
        super().__init__()
        self.config = config

    async def _start(self) -> None:
        config, site = self.config, self.config.tiles
        if not config.log.database.exists():
            raise ConfigError(f"The audit log {config.log.database} is missing; check log.database.")
        reader = SqliteReader(config.log.database)
        self._stack.callback(reader.close)
        checkpoint = parse_checkpoint(parse_note(reader.checkpoint()).text)
        if checkpoint.origin != config.log.origin:
            raise LogMismatchError(
                "This audit log has another origin than configured; check path and origin."
            )
        context = _tls_context(site)
        listener = _listen(site)
        self._stack.callback(listener.close)
        self.port = listener.getsockname()[1]
        app = make_site(reader, CommittedCheckpoints(reader), with_entries=site.entries)
        settings = uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
            limit_concurrency=_CONNECTIONS,
            h11_max_incomplete_event_size=_MAX_HEAD_BYTES,
            timeout_keep_alive=_IDLE_S,
            timeout_graceful_shutdown=_GRACE_S,
        )
        settings.load()
        settings.ssl = context
        server = _Server(settings)
        serving = asyncio.create_task(server.serve(sockets=[listener]))

        async def stop() -> None:
            server.should_exit = True
            await serving

        self._stack.push_async_callback(stop)
        listening = asyncio.create_task(server.listening.wait())
        await asyncio.wait({serving, listening}, return_when=asyncio.FIRST_COMPLETED)
        if not listening.done():
            listening.cancel()
            raise ConfigError("The log's site ended while it started; the lines above say why.")
        _log.info(
            "tilesite.started",
            port=self.port,
            pid=os.getpid(),
            version=__version__,
            entries=site.entries,
            tls=context is not None,
            size=checkpoint.size,
        )


class _Server(uvicorn.Server):
    """Says when it listens, and leaves the process's signals to `ServingProcess`."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.listening.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _tls_context(site: TilesConfig) -> ssl.SSLContext | None:
    if site.certificate is None or site.key is None:
        if site.certificate is not site.key:
            raise ConfigError("tiles.certificate and tiles.key go together; set both, or neither.")
        return None
    read_secret(site.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(site.certificate, site.key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            "tiles.certificate and tiles.key are no certificate with its key in PEM form."
        ) from error
    return context


def _listen(site: TilesConfig) -> socket.socket:
    host, _, port = site.listen.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, int(port)), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"The log's site cannot listen on {site.listen}; choose a free port of this machine."
        ) from error
