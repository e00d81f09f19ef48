"""Uploads that say whatever a test wants, and what comes of them."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from gateway.api.v1 import contribution_service_pb2 as api
from gateway.client import ClientError
from gateway.client.errors import from_rpc_error
from tests.simulators.contributing import COMPANY, CONTRACT, ContributionWorld, records
from tests.simulators.outcome import refusal_of


async def many(count: int) -> list[dict[str, Any]]:
    """Return records, made on a thread: the gateway under test lives on this event loop."""
    return await asyncio.to_thread(records, count)


async def reason_of(upload: Any) -> ClientError:
    with pytest.raises(ClientError) as refused:
        await upload
    return refused.value


class RawUpload:
    """An upload that says whatever a test wants."""

    def __init__(self, world: ContributionWorld, member: str = COMPANY) -> None:
        self._caller = world.caller(member)
        channel = self._caller._channel
        self._call = channel.stream_stream("/gateway.api.v1.ContributionService/Contribute")(timeout=30)

    async def say(self, **step: Any) -> None:
        await self.send(api.ContributeRequest(**step).SerializeToString())

    async def send(self, body: bytes) -> None:
        await self._call.write(body)

    @staticmethod
    def opening(batch: str, **parts: Any) -> api.ContributionOpening:
        named: dict[str, Any] = {"contract": CONTRACT, "dataset": "customers", "batch": batch}
        named["choice"] = api.CONTRIBUTION_CHOICE_ALL_OR_NOTHING
        return api.ContributionOpening(**{**named, **parts})

    async def open(self, batch: str = "raw", **parts: Any) -> api.ContributionProgress:
        await self.say(opening=self.opening(batch, **parts))
        return (await self.hear()).progress

    async def page(self, first: int, text: bytes) -> None:
        await self.say(page=api.ContributionPage(first_record=first, records=text))

    async def hear(self) -> api.ContributeResponse:
        return api.ContributeResponse.FromString(await self._call.read())

    async def refusal(self) -> ClientError:
        """Return how the call was refused."""
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await self._drain()
        assert refusal_of(ended.value).domain == "sluicegate"
        return from_rpc_error(ended.value)

    async def _drain(self) -> None:
        while await self._call.read() is not grpc.aio.EOF:
            pass

    async def end(self) -> None:
        await self._call.done_writing()
