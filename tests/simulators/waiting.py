"""Waiting for what another task, thread or process brings about."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

_PAUSE_S = 0.02


async def until(condition: Callable[[], object | Awaitable[object]], *, within_s: float = 5.0) -> None:
    """Return once `condition` is true; fail if it is not within `within_s` seconds."""
    async with asyncio.timeout(within_s):
        while True:
            found = condition()
            if await found if inspect.isawaitable(found) else found:
                return
            await asyncio.sleep(_PAUSE_S)


def wait_until(condition: Callable[[], object], *, within_s: float = 10.0) -> None:
    """Do the same without an event loop."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(_PAUSE_S)
