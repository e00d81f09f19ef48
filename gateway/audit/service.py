"""The log process's work: append for the gateway's other processes, which reach it over a local socket.

It alone holds the log's key and writes the log; whoever breaks into a process that faces the network
finds neither. Its loop does nothing beside, so a transaction, flush included, simply runs on it: what
arrives meanwhile makes up the next batch, across all processes.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

import structlog

from gateway.audit.appender import BATCH_LIMIT, Appender, Outcome
from gateway.audit.committed import Committed
from gateway.audit.errors import LogMismatchError, OnceTakenError
from gateway.audit.frames import Answer, AppendRequest, Failed, FrameReader, Placed, encode_frame
from gateway.audit.store import PendingEntry
from gateway.audit.tree import leaf_hash
from gateway.errors import GatewayError
from gateway.local_socket import StrangerError, verify_own_user

_log: Final = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Waiting:
    connection: _Connection
    number: int
    pending: PendingEntry


class LogService:
    """Serves one appender to who connects. One event loop, which must have nothing else to do."""

    def __init__(self, appender: Appender) -> None:
        self._appender = appender
        self._connections: set[_Connection] = set()
        self._waiting: list[_Waiting] = []
        self._due: asyncio.Handle | None = None
        self._probe: asyncio.TimerHandle | None = None
        self._told_healthy = appender.healthy
        self._server: asyncio.AbstractServer | None = None

    async def start(self, listener: socket.socket) -> None:
        """Take connections on `listener` from processes of our own user."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: _Connection(self), sock=listener)

    async def stop(self) -> None:
        """Append what waits, then close every connection."""
        if self._server is not None:
            self._server.close()
        while self._waiting:
            self._commit()
        for handle in (self._due, self._probe):
            if handle is not None:
                handle.cancel()
        for connection in list(self._connections):
            connection.transport.close()

    def joined(self, connection: _Connection) -> None:
        """Take in a caller; it is told how the log fares."""
        self._connections.add(connection)
        connection.tell(Answer(self._appender.healthy, vkey=self._appender.verifier.vkey()))

    def left(self, connection: _Connection) -> None:
        """Forget a caller. What it has asked for is appended all the same."""
        self._connections.discard(connection)

    def take(self, connection: _Connection, request: AppendRequest) -> None:
        """Put an entry with those that wait; they are appended once every socket has been read."""
        hashed = leaf_hash(request.data)
        pending = PendingEntry(request.data, hashed, request.row, request.once, request.sequence)
        self._waiting.append(_Waiting(connection, request.number, pending))
        if self._due is None:
            self._due = asyncio.get_running_loop().call_soon(self._commit)

    def _commit(self) -> None:
        batch, self._waiting = self._waiting[:BATCH_LIMIT], self._waiting[BATCH_LIMIT:]
        # Set while there is more to do, and while this runs: nobody else appends.
        self._due = asyncio.get_running_loop().call_soon(self._commit) if self._waiting else None
        started = time.perf_counter()
        outcomes = self._appender.append([item.pending for item in batch])
        self._answer(batch, outcomes, time.perf_counter() - started)
        self._follow_health()
        self._appender.maintain()

    def _answer(self, batch: Sequence[_Waiting], outcomes: Sequence[Outcome], seconds: float) -> None:
        """Tell each caller what became of its entries, and one of them what the batch was."""
        by_caller: dict[_Connection, list[tuple[int, Outcome]]] = {}
        for item, outcome in zip(batch, outcomes, strict=True):
            by_caller.setdefault(item.connection, []).append((item.number, outcome))
        committed = sum(isinstance(outcome, Committed) for outcome in outcomes)
        told: tuple[int, float] | None = (committed, seconds) if committed else None
        for connection, own in by_caller.items():
            connection.tell(_answer(own, self._appender.healthy, told))
            told = None

    def _follow_health(self) -> None:
        healthy = self._appender.healthy
        if healthy != self._told_healthy:
            self._told_healthy = healthy
            for connection in self._connections:
                connection.tell(Answer(healthy))
        if not healthy and self._probe is None:
            self._probe = asyncio.get_running_loop().call_later(self._appender.probe_s, self._try_again)

    def _try_again(self) -> None:
        self._probe = None
        if not self._appender.healthy:
            self._appender.probe()
            self._follow_health()


class _Connection(asyncio.Protocol):
    """One process that appends."""

    transport: asyncio.Transport

    def __init__(self, service: LogService) -> None:
        self._service = service
        self._reader = FrameReader(AppendRequest)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        peer: socket.socket = transport.get_extra_info("socket")
        try:
            verify_own_user(peer)
        except StrangerError as error:
            _log.error("log.stranger", pid=error.pid)
            self.transport.abort()
            return
        self._service.joined(self)

    def data_received(self, data: bytes) -> None:
        try:
            for request in self._reader.feed(data):
                self._service.take(self, request)
        except ValueError as error:
            _log.error("log.malformed", error_type=type(error).__name__)
            self.transport.abort()

    def connection_lost(self, _: Exception | None) -> None:
        self._service.left(self)

    def tell(self, answer: Answer) -> None:
        """Send `answer`, unless the caller has gone."""
        if not self.transport.is_closing():
            self.transport.write(encode_frame(answer))


def _answer(
    outcomes: Sequence[tuple[int, Outcome]], healthy: bool, batch: tuple[int, float] | None
) -> Answer:
    placed: list[Placed] = []
    failed: list[Failed] = []
    size, note = 0, ""
    for number, outcome in outcomes:
        if isinstance(outcome, Committed):
            size, note = outcome.size, outcome.checkpoint_note
            placed.append(Placed(number, outcome.index, outcome.inclusion_hashes, outcome.sequence))
        else:
            failed.append(Failed(number, _kind(outcome), outcome.message))
    return Answer(healthy, size, note, tuple(placed), tuple(failed), batch)


def _kind(error: GatewayError) -> str:
    if isinstance(error, OnceTakenError):
        return "once"
    return "mismatch" if isinstance(error, LogMismatchError) else "unavailable"
