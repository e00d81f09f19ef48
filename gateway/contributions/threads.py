"""Running what blocks beside the event loop, to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


async def in_thread(
    function: Callable[_Parameters, _Result], *arguments: _Parameters.args, **named: _Parameters.kwargs
) -> _Result:
    """Return what `function` returns on a thread. A caller that is cancelled still waits for its end.

    A thread cannot be cancelled: who let go of a batch while one still works on it would let two work
    on it.
    """
    running = asyncio.ensure_future(asyncio.to_thread(function, *arguments, **named))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        if not running.cancelled():
            # Nobody is left to hear of a fault; the batch stands where it stood.
            running.exception()
        raise
