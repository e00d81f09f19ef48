"""What a refused call looks like from outside, read from the wire and from nothing else."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status


@dataclass(frozen=True)
class Refusal:
    """A failed call: status, and what its `ErrorInfo` says."""

    code: str
    message: str
    reason: str
    domain: str
    details: dict[str, str] = field(default_factory=dict)

    @property
    def exchange(self) -> str:
        return self.details.get("exchange", "")

    @property
    def entry(self) -> int | None:
        return int(self.details["entry"]) if "entry" in self.details else None


def refusal_of(error: grpc.aio.AioRpcError) -> Refusal:
    """Return the refusal in `error`; reason and domain are empty if gRPC itself refused."""
    info = error_details_pb2.ErrorInfo()
    status = rpc_status.from_call(error)
    for detail in status.details if status is not None else ():
        if detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
    return Refusal(error.code().name, error.details() or "", info.reason, info.domain, dict(info.metadata))


async def reason_of(call: Awaitable[Any]) -> str:
    """Return the reason for which `call` was refused; empty if it was answered."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return refusal_of(error).reason or error.code().name
    return ""


async def refused(call: Awaitable[Any]) -> Refusal:
    """Return how `call` was refused; fail if it was not: then something was released."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return refusal_of(error)
    raise AssertionError(f"the call was not refused but answered with a {type(answer).__name__}")
