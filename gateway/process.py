"""The life of a serving process: start whole or not at all, serve until told to stop, close everything."""

from __future__ import annotations

import asyncio
import signal
from abc import ABC, abstractmethod
from contextlib import AsyncExitStack
from typing import ClassVar


class ServingProcess(ABC):
    """What gateway and provider have in common: `start`, then `port` tells where it listens, then `stop`."""

    stop_signals: ClassVar[tuple[signal.Signals, ...]] = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.port = 0
        self._stack = AsyncExitStack()

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

    async def run_until_stopped(self) -> None:
        """Serve until one of `stop_signals`, then stop; one that comes while it starts ends the start."""
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in self.stop_signals:
            loop.add_signal_handler(number, stopped.set)
        # A supervisor holds them back until somebody listens.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self.stop_signals)
        starting, stopping = asyncio.create_task(self.start()), asyncio.create_task(stopped.wait())
        try:
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                starting.cancel()
                await asyncio.gather(starting, return_exceptions=True)
                return
            await starting
            try:
                await stopping
            finally:
                await self.stop()
        finally:
            stopping.cancel()
