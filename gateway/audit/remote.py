"""Appending to the log through the log process (`gateway.audit.service`)."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Final, cast

from gateway.audit.appender import LogHooks
from gateway.audit.committed import Committed
from gateway.audit.errors import (
    LogMismatchError,
    LogOverloadedError,
    LogUnavailableError,
    OnceTakenError,
)
from gateway.audit.frames import Answer, AppendRequest, Failed, FrameReader, Placed, encode_frame
from gateway.audit.note import Ed25519Verifier
from gateway.audit.store import Once, PendingEntry, prepare_entry
from gateway.errors import GatewayError
from gateway.model.entry import Entry

SILENCE_S: Final = 2.0
"""Entries that wait so long for any answer mean that the log hangs: it counts as failing."""

_FIRST_RETRY_S: Final = 0.02
_MAX_RETRY_S: Final = 0.5

_ERRORS: Final[dict[str, type[GatewayError]]] = {
    "once": OnceTakenError,
    "mismatch": LogMismatchError,
    "unavailable": LogUnavailableError,
}


class RemoteLog:
    """The log as a process sees it that does not write it; made and used on one event loop.

    When the connection breaks, every append under way fails with `LogUnavailableError`: whether its
    entry stands in the log is then unknown, and nothing may be released on its account. New ones fail
    at once until the log process is back.
    """

    def __init__(self, address: bytes, *, queue_limit: int, hooks: LogHooks | None = None) -> None:
        """Take the socket's address, and how many entries may wait."""
        self._address = address
        self._queue_limit = queue_limit
        self._hooks = hooks or LogHooks()
        self._connection: _Connection | None = None
        self._waiting: dict[int, tuple[PendingEntry, asyncio.Future[Committed]]] = {}
        self._last_number = 0
        self._heard_s = 0.0
        self._writes = False
        """What the log process last said of the log."""
        self._told_healthy = True
        self._verifier: Ed25519Verifier | None = None
        self._opened = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._stay_connected())

    async def wait_until_open(self, timeout_s: float) -> None:
        """Return when the log process has answered; raise `LogUnavailableError` after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._opened.wait()
        except TimeoutError as error:
            raise LogUnavailableError("The audit log's process does not answer.") from error

    @property
    def verifier(self) -> Ed25519Verifier:
        """The key that verifies the log's checkpoints, once the log is open."""
        if self._verifier is None:
            raise LogUnavailableError("The audit log's process has not answered yet.")
        return self._verifier

    @property
    def healthy(self) -> bool:
        """Whether the log process is there, answers, and could write when it last tried."""
        silent = bool(self._waiting) and time.monotonic() - self._heard_s > SILENCE_S
        return self._connection is not None and self._writes and not silent

    @property
    def depth(self) -> int:
        """How many entries wait."""
        return len(self._waiting)

    def append(self, entry: Entry, once: Once | None = None) -> asyncio.Future[Committed]:
        """See `gateway.audit.appender.Log`."""
        pending = prepare_entry(entry, once)
        if self._connection is None:
            raise LogUnavailableError("The audit log's process is not there; it is being started again.")
        if len(self._waiting) >= self._queue_limit:
            raise LogOverloadedError(
                "Too many exchanges wait for the audit log; try again shortly.", limit=self._queue_limit
            )
        if not self._waiting:
            self._heard_s = time.monotonic()
        number = self._last_number = self._last_number + 1
        future: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
        self._waiting[number] = (pending, future)
        self._connection.transport.write(
            encode_frame(AppendRequest(number, pending.data, pending.row, pending.once, pending.sequence))
        )
        return future

    async def close(self) -> None:
        """Break the connection; what still waits fails."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self._connection is not None:
            self._connection.transport.close()
        self.lost()

    async def _stay_connected(self) -> None:
        loop = asyncio.get_running_loop()
        retry_s = _FIRST_RETRY_S
        while True:
            channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            channel.setblocking(False)
            try:
                await loop.sock_connect(channel, self._address)
                _, connection = await loop.create_unix_connection(lambda: _Connection(self), sock=channel)
            except OSError:
                channel.close()
                await asyncio.sleep(retry_s)
                retry_s = min(2 * retry_s, _MAX_RETRY_S)
                continue
            await connection.closed
            retry_s = _FIRST_RETRY_S

    def connected(self, connection: _Connection) -> None:
        """Take note of a new connection; the log process says first how the log fares."""
        self._connection = connection

    def heard(self, answer: Answer) -> None:
        """Take an answer of the log process."""
        self._heard_s = time.monotonic()
        self._writes = answer.healthy
        if answer.vkey:
            self._verifier = Ed25519Verifier.from_vkey(answer.vkey)
        for placed in answer.placed:
            pending, future = self._waiting.pop(placed.number)
            if not future.done():
                future.set_result(_committed(pending, placed, answer))
        for failed in answer.failed:
            _, future = self._waiting.pop(failed.number)
            if not future.done():
                future.set_exception(_error(failed))
        if answer.batch is not None:
            self._hooks.committed(*answer.batch)
        self._opened.set()
        self._tell_health()

    def lost(self) -> None:
        """Take note that the connection broke."""
        self._connection, self._writes = None, False
        waiting, self._waiting = self._waiting, {}
        for _, future in waiting.values():
            if not future.done():
                future.set_exception(
                    LogUnavailableError(
                        "The audit log's process went away before it answered; nothing was released."
                    )
                )
        self._tell_health()

    def _tell_health(self) -> None:
        if self.healthy != self._told_healthy:
            self._told_healthy = self.healthy
            self._hooks.health_changed(self._told_healthy)


class _Connection(asyncio.Protocol):
    """The connection to the log process."""

    transport: asyncio.Transport

    def __init__(self, log: RemoteLog) -> None:
        self._log = log
        self._reader = FrameReader(Answer)
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._log.connected(self)

    def data_received(self, data: bytes) -> None:
        for answer in self._reader.feed(data):
            self._log.heard(answer)

    def connection_lost(self, _: Exception | None) -> None:
        self._log.lost()
        if not self.closed.done():
            self.closed.set_result(None)


def _committed(pending: PendingEntry, placed: Placed, answer: Answer) -> Committed:
    entry = pending if placed.sequence is None else pending.numbered(placed.sequence)
    return Committed(
        placed.index,
        entry.data,
        entry.leaf_hash,
        answer.size,
        answer.note,
        placed.proof,
        entry.sequence,
    )


def _error(failed: Failed) -> GatewayError:
    return _ERRORS[failed.kind](failed.message)
