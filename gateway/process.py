"""The life of a serving process: start whole or not at all, serve until told to stop, close everything."""

from __future__ import annotations

import asyncio
import signal
from abc import ABC, abstractmethod
from contextlib import AsyncExitStack


class ServingProcess(ABC):
    """What gateway and provider have in common: `start`, then `port` tells where it listens, then `stop`."""

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
        """Serve until SIGTERM or SIGINT, then stop."""
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)
        await self.start()
        try:
            await stopped.wait()
        finally:
            await self.stop()
