"""The life of a serving process: start whole or not at all, serve until told to stop, close everything."""

from __future__ import annotations

import asyncio
import signal
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, ClassVar, Final

from gateway.errors import ConfigError

STOP: Final = signal.SIGUSR1
"""By which a supervisor stops the processes below it, in its order. SIGTERM and SIGINT may come to all of
them at once, from a terminal or a service manager: who has to outlast the others listens to this one only."""

_FROM_OUTSIDE: Final = (signal.SIGTERM, signal.SIGINT)


class ServingProcess(ABC):
    """What gateway and provider have in common: `start`, then `port` tells where it listens, then `stop`."""

    stop_signals: ClassVar[tuple[signal.Signals, ...]] = (*_FROM_OUTSIDE, STOP)

    def __init__(self) -> None:
        self.port = 0
        self._stack = AsyncExitStack()
        self._failed: asyncio.Future[None] | None = None

    @abstractmethod
    async def _start(self) -> None:
        """Put everything together, leaving on `_stack` how it is closed; the port opens last."""

    async def start(self) -> None:
        """Load, verify and start everything; raise `GatewayError` rather than start half-way."""
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise

    async def stop(self) -> None:
        """Stop serving gracefully, then close everything."""
        await self._stack.aclose()

    def fail(self, error: BaseException) -> None:
        """Stop, and end `run_until_stopped` with `error`: what the process cannot go on with has happened."""
        if self._failed is not None and not self._failed.done():
            self._failed.set_exception(error)

    async def run_until_stopped(self, on_started: Callable[[], None] = lambda: None) -> None:
        """Serve until one of `stop_signals`, then stop; one that comes while it starts ends the start.

        `on_started` is called once everything is started.
        """
        stopped, self._failed = asyncio.Event(), asyncio.get_running_loop().create_future()
        loop = asyncio.get_running_loop()
        for number in set(_FROM_OUTSIDE) - set(self.stop_signals):
            signal.signal(number, signal.SIG_IGN)
        for number in self.stop_signals:
            loop.add_signal_handler(number, stopped.set)
        # A supervisor holds them back until somebody listens.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self.stop_signals)
        starting = asyncio.create_task(self.start())
        stopping: asyncio.Future[Any] = asyncio.create_task(stopped.wait())
        try:
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                starting.cancel()
                await asyncio.gather(starting, return_exceptions=True)
                return
            await starting
            on_started()
            try:
                await asyncio.wait({stopping, self._failed}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await self.stop()
            if self._failed.done():
                self._failed.result()
        finally:
            stopping.cancel()
            self._failed.cancel()


def reserve_port(address: str) -> tuple[socket.socket, str]:
    """Take `address` (`host:port`, port 0 takes a free one) for several processes to listen on.

    Returns a socket that holds it, without listening, and the address with its port; processes of this
    user may then listen there with SO_REUSEPORT. Raises `ConfigError` if somebody else does already.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    taken = ConfigError(f"Cannot listen on {address}; is the port free, and may this user use it?")
    try:
        family, kind, _, _, where = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
        # Alone first: with SO_REUSEPORT two gateways of one user would share a port unnoticed.
        with socket.socket(family, kind) as alone:
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind(where)
            alone.listen()
            where = alone.getsockname()
        holder = socket.socket(family, kind)
    except OSError as error:
        raise taken from error
    try:
        # Connections that a gateway before us has closed linger on the port for a minute (TIME_WAIT).
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(where)
    except OSError as error:
        holder.close()
        raise taken from error
    return holder, f"{address.rpartition(':')[0]}:{where[1]}"
