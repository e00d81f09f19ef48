"""The log process: everything it puts together, and who may append."""

from __future__ import annotations

import os
import signal
import socket
from typing import ClassVar, Final

import structlog

from gateway.audit.appender import Appender, LogHooks
from gateway.audit.note import Ed25519Signer
from gateway.audit.service import LogService
from gateway.audit.sqlite import SqliteStore
from gateway.clock import Clock, system_clock
from gateway.config import GatewayConfig
from gateway.errors import ConfigError
from gateway.evidence.keys import SigningKey
from gateway.pki.example_keys import refuse_example_keys
from gateway.process import ServingProcess

_log: Final = structlog.get_logger()


class LogNode(ServingProcess):
    """The process that writes the log; it serves those who connect to `listener`.

    It stops on SIGTERM only: at a terminal, Ctrl-C reaches every process of the gateway, and the
    last entries of the others must still be written.
    """

    stop_signals: ClassVar[tuple[signal.Signals, ...]] = (signal.SIGTERM,)

    def __init__(self, config: GatewayConfig, listener: socket.socket, clock: Clock = system_clock) -> None:
        super().__init__()
        self._config = config
        self._listener = listener
        self._clock = clock

    async def _start(self) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        config = self._config
        appender = Appender(
            existing_log(config),
            log_signer(config),
            origin=config.log.origin,
            clock=self._clock,
            hooks=LogHooks(failed=tell_failure),
        )
        self._stack.callback(appender.close)
        service = LogService(appender)
        await service.start(self._listener)
        self._stack.push_async_callback(service.stop)
        _log.info("log.started", pid=os.getpid(), origin=config.log.origin)


def existing_log(config: GatewayConfig) -> SqliteStore:
    """Return the store of the configured log; raise `ConfigError` if there is none."""
    if not config.log.database.exists():
        raise ConfigError(
            f"The audit log {config.log.database} is missing. If this is a new deployment, run "
            "`gateway init`; if not, restore it: a gateway never starts a second log unasked."
        )
    return SqliteStore(config.log.database)


def log_signer(config: GatewayConfig) -> Ed25519Signer:
    """Return what signs the log's checkpoints; raise `ConfigError` for an example key outside the demo."""
    key = SigningKey.load(config.log.key)
    refuse_example_keys([key.key_id], demo=config.demo)
    return Ed25519Signer(config.log.origin, key)


def tell_failure(error: Exception) -> None:
    """Tell operators that the log could not be written."""
    _log.error("log.failed", error_type=type(error).__name__)
