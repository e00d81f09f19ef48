"""The log process: everything it puts together, and who may append."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from datetime import timedelta
from typing import ClassVar, Final

import structlog

from gateway.audit.anchor import Anchor
from gateway.audit.appender import Appender, LogHooks
from gateway.audit.errors import LogUnavailableError
from gateway.audit.guards import DiskLimits, DiskState, GuardHooks, LogGuards, steady_s
from gateway.audit.note import Ed25519Signer, Ed25519Verifier
from gateway.audit.service import LogService
from gateway.audit.store import AuditReader, AuditStore
from gateway.audit.stores import open_reader, open_store, require_log, serving_from
from gateway.clock import Clock, system_clock
from gateway.config import GatewayConfig, LogConfig
from gateway.database import PostgresAddress
from gateway.evidence.keys import SigningKey
from gateway.pki.example_keys import refuse_example_keys
from gateway.process import STOP, ServingProcess

_log: Final = structlog.get_logger()

ANCHOR_INTERVAL_S: Final = 1.0
"""How often the anchor follows the log: what is committed in between, a rollback could still hide."""


class LogNode(ServingProcess):
    """The process that writes the log; it serves those who connect to `listener`.

    Only its supervisor stops it: Ctrl-C, or a service manager, may reach every process of the gateway, and
    the last entries of the others must still be written.
    """

    stop_signals: ClassVar[tuple[signal.Signals, ...]] = (STOP,)

    def __init__(self, config: GatewayConfig, listener: socket.socket, clock: Clock = system_clock) -> None:
        super().__init__()
        self._config = config
        self._listener = listener
        self._clock = clock

    async def _start(self) -> None:
        config = self._config
        self._stack.enter_context(serving_from(config.log.database))
        store, signer = existing_log(config), log_signer(config)
        reader = open_reader(config.log.database)
        self._stack.callback(reader.close)
        anchor = verified_anchor(config, reader, signer.verifier)
        appender = Appender(
            store,
            signer,
            origin=config.log.origin,
            clock=self._clock,
            hooks=LogHooks(failed=tell_failure),
            guards=log_guards(config, reader, steady=steady_s),
        )
        self._stack.callback(appender.close)
        # Readers go first: only the last connection, if it writes, copies the write-ahead log back.
        self._stack.callback(reader.close)
        if anchor is not None:
            await self._follow(anchor, reader)
        service = LogService(appender)
        await service.start(self._listener)
        self._stack.push_async_callback(service.stop)
        _log.info("log.started", pid=os.getpid(), origin=config.log.origin)

    async def _follow(self, anchor: Anchor, reader: AuditReader) -> None:
        """Keep the anchor up to date, at most once a second and once more at the end."""
        last = reader.checkpoint()

        def follow() -> None:
            nonlocal last
            try:
                note = reader.checkpoint()
            except LogUnavailableError as error:
                tell_failure(error)
                return
            if note != last:
                try:
                    anchor.write(note)
                except OSError as error:
                    # The older anchor still guards all that it covers.
                    _log.error("anchor.unwritten", error_type=type(error).__name__)
                else:
                    last = note

        async def keep_following() -> None:
            while True:
                await asyncio.sleep(ANCHOR_INTERVAL_S)
                await asyncio.to_thread(follow)

        async def end(task: asyncio.Task[None]) -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await asyncio.to_thread(follow)

        self._stack.push_async_callback(end, asyncio.create_task(keep_following()))


def verified_anchor(config: GatewayConfig, reader: AuditReader, verifier: Ed25519Verifier) -> Anchor | None:
    """Return the log's anchor once the log is found to go on from it; None if none is configured.

    Raises `LogRolledBackError`, `LogForkedError` and `ConfigError` (see `Anchor.verify`).
    """
    if config.log.anchor is None:
        return None
    anchor = Anchor(config.log.anchor, verifier)
    anchor.verify(reader)
    return anchor


def log_guards(
    config: GatewayConfig,
    reader: AuditReader,
    *,
    steady: Callable[[], float] | None = None,
    accepts_clock: bool = False,
) -> LogGuards:
    """Return the guards of the configured log; what they notice goes to the operators' log."""
    log = config.log
    return LogGuards(
        reader,
        tolerance=timedelta(seconds=log.clock_tolerance_s),
        jump=timedelta(seconds=log.clock_jump_s),
        steady=steady,
        disk=disk_limits(log),
        accepts_clock=accepts_clock,
        hooks=GuardHooks(clock_jumped=_tell_jump, disk_changed=_tell_disk),
    )


def disk_limits(log: LogConfig) -> DiskLimits | None:
    """Return how full the log's disk may be; None for a log in PostgreSQL, whose disk is another machine's.

    A gateway's role may not read a server's file systems; a full one refuses to commit, and nothing is lost.
    """
    if isinstance(log.database, PostgresAddress):
        return None
    return DiskLimits(log.database, log.disk_filling_ratio, log.disk_full_ratio)


def _tell_jump(seconds: float) -> None:
    _log.warning("clock.jumped", jump_s=round(seconds, 3))


def _tell_disk(state: DiskState, ratio: float) -> None:
    tell = _log.info if state is DiskState.SPACIOUS else _log.warning
    tell("log.disk", outcome=state.value, used_ratio=round(ratio, 4))


def existing_log(config: GatewayConfig) -> AuditStore:
    """Return the store of the configured log; raise `ConfigError` if there is none.

    Raises `LogUnavailableError` if that cannot be told now.
    """
    require_log(config.log.database)
    return open_store(config.log.database)


def log_signer(config: GatewayConfig) -> Ed25519Signer:
    """Return what signs the log's checkpoints; raise `ConfigError` for an example key outside the demo."""
    key = SigningKey.load(config.log.key)
    refuse_example_keys([key.key_id], demo=config.demo)
    return Ed25519Signer(config.log.origin, key)


def tell_failure(error: Exception) -> None:
    """Tell operators that the log could not be written."""
    _log.error("log.failed", error_type=type(error).__name__)
