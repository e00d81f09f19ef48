"""The process that has checkpoints stamped: it reads the log, writes time-stamps, and holds no secret."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
from typing import ClassVar, Final

import aiohttp
import structlog

from gateway.audit.note import Ed25519Verifier
from gateway.audit.stores import open_reader
from gateway.clock import Clock, system_clock
from gateway.config import GatewayConfig, TimestampsConfig
from gateway.errors import ConfigError, GatewayError
from gateway.process import STOP, ServingProcess
from gateway.timestamps.authority import HttpAuthority
from gateway.timestamps.stamper import Stamper, StamperHooks
from gateway.timestamps.store import Timestamp, TimestampStore
from gateway.timestamps.token import Authorities

_log: Final = structlog.get_logger()

RETRY_S: Final = 60.0
"""When to ask again after a failure."""


class TimestampNode(ServingProcess):
    """Stamps the log's checkpoints until its supervisor stops it.

    An authority that does not answer stops nothing.
    """

    stop_signals: ClassVar[tuple[signal.Signals, ...]] = (STOP,)

    def __init__(
        self, config: GatewayConfig, settings: TimestampsConfig, clock: Clock = system_clock
    ) -> None:
        super().__init__()
        self._config = config
        self._settings = settings
        self._clock = clock

    async def _start(self) -> None:
        settings = self._settings
        authorities = Authorities.load(settings.ca)
        store = TimestampStore(settings.database)
        store.create()
        reader = open_reader(self._config.log.database)
        self._stack.callback(reader.close)
        # Which key signs the log is told by the log's own file; whoever verifies a time-stamp later brings
        # the key along. What is stamped here needs no trust in it.
        verifier = Ed25519Verifier.from_vkey(reader.identity()[1])
        session = await self._stack.enter_async_context(
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=_tls(settings)),
                timeout=aiohttp.ClientTimeout(total=settings.timeout_s),
            )
        )
        stamper = Stamper(
            reader.checkpoint,
            verifier,
            HttpAuthority(settings.url, session),
            authorities,
            store,
            clock=self._clock,
            hooks=StamperHooks(stamped=_tell_stamped, failed=_tell_failed),
        )
        task = asyncio.create_task(stamper.run(settings.interval_s, RETRY_S))

        async def end() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        self._stack.push_async_callback(end)
        _log.info("timestamps.started", pid=os.getpid())


def _tls(settings: TimestampsConfig) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=settings.tls_ca)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"The authorities of the time-stamping server's certificate {settings.tls_ca} cannot be read."
        ) from error


def _tell_stamped(timestamp: Timestamp) -> None:
    _log.info("log.stamped", log_entries=timestamp.size)


def _tell_failed(error: GatewayError) -> None:
    _log.warning("timestamp.failed", reason=error.reason.value, message=error.message)
