"""Calling a gateway's methods so that whatever goes wrong is a `ClientError`."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, TypeVar

import grpc

from gateway.client.errors import from_rpc_error, invalid
from gateway.errors import GatewayError

MAX_ATTEMPTS: Final = 3
"""For calls that may be repeated: reads of the catalogue and of the log, when not reached."""
_FIRST_PAUSE_S: Final = 0.1

_Answer = TypeVar("_Answer")


async def once(method: Callable[..., Awaitable[Any]], request: Any, timeout_s: float) -> Any:
    """Call `method` and return what it answers; raise a `ClientError`."""
    try:
        return await method(request, timeout=timeout_s)
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error


async def repeatedly(method: Callable[..., Awaitable[Any]], request: Any, timeout_s: float) -> Any:
    """Call a read; when the gateway is not reached, try again twice after a random pause."""
    pause_s = _FIRST_PAUSE_S
    for _ in range(MAX_ATTEMPTS - 1):
        try:
            return await method(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise from_rpc_error(error) from error
        await asyncio.sleep(random.uniform(pause_s / 2, pause_s))  # noqa: S311 - spreads load only
        pause_s *= 2
    return await once(method, request, timeout_s)


async def watched(method: Any, request: Any, timeout_s: float) -> AsyncIterator[Any]:
    """Yield what a watch sends; that its time is over is its end, and no error."""
    call = method(request, timeout=timeout_s)
    try:
        async for message in call:
            yield message
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
            raise from_rpc_error(error) from error
    finally:
        call.cancel()


def proven(check: Callable[[], _Answer]) -> _Answer:
    """Return what `check` of an answer gives; raise `ReceiptInvalidError` if it does not hold."""
    try:
        return check()
    except GatewayError as error:
        raise invalid(error) from error
