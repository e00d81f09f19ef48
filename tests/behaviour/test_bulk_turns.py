"""Bulk answers take turns; a reader that does not go on loses its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from gateway.api.v1.exchange_service_pb2 import StreamQueryRequest, StreamQueryResponse
from gateway.config import GatewayConfig, ServerConfig
from gateway.demo.world import COMPANIES
from gateway.model import EntryKind, Operation
from tests.simulators.caller import STREAM, Credentials, RawCaller, wire
from tests.simulators.outcome import refused
from tests.simulators.waiting import until
from tests.simulators.world import SimulatedWorld

pytestmark = pytest.mark.asyncio(loop_scope="module")


def one_at_a_time(config: GatewayConfig) -> GatewayConfig:
    server = config.server.model_copy(update={"moving_streams": 1})
    assert isinstance(server, ServerConfig)
    return config.model_copy(update={"server": server})


def bulk(caller: RawCaller):
    return caller.statement(COMPANIES, "public-lookup", Operation.STREAM)


@asynccontextmanager
async def opened_without_reading(world: SimulatedWorld) -> AsyncIterator[None]:
    """Hold a bulk answer open over a connection that takes 64 KiB, and read nothing."""
    caller, files = world.caller(), Credentials.read(world.members["harbour-bank"].directory)
    body = StreamQueryRequest(envelope=wire(caller.seal(bulk(caller))), page_size=5000)
    async with grpc.aio.secure_channel(
        f"127.0.0.1:{world.node.port}",
        grpc.ssl_channel_credentials(files.authority, files.key, files.certificate),
        options=(
            ("grpc.http2.bdp_probe", 0),
            ("grpc.http2.lookahead_bytes", 64 * 1024),
            ("grpc.use_local_subchannel_pool", 1),
        ),
    ) as channel:
        channel.unary_stream(STREAM)(body.SerializeToString(), timeout=30)
        yield


async def read_all(caller: RawCaller) -> list[StreamQueryResponse]:
    return [message async for message in caller.stream(bulk(caller), page_size=5000, timeout_s=30)]


async def test_a_stalled_reader_is_cut_and_the_next_stream_gets_its_turn(
    own_world: SimulatedWorld, monkeypatch
) -> None:
    monkeypatch.setattr("gateway.exchange.streaming.STALL_TIMEOUT_S", 0.3)
    await own_world.stop_node()
    await own_world.start_node(one_at_a_time)
    own_world.registry.records *= 500
    async with opened_without_reading(own_world):
        await own_world.registry.begun.wait()
        received = await asyncio.wait_for(read_all(own_world.caller("northern-bank")), 15)
    assert received[-1].HasField("receipt")
    assert sum(message.page.record_count for message in received) == len(own_world.registry.records)
    [cut] = [entry for entry in own_world.log.entries() if entry.kind is EntryKind.EXCHANGE_FAILED]
    assert (cut.consumer, cut.reasons) == ("harbour-bank", ("READER_STALLED",))
    # What it had been handed stands in the log, read or not.
    handed_over = [entry for entry in own_world.log.of_exchange(cut.exchange) if entry.page is not None]
    assert 1 <= cut.pages <= len(handed_over)
    own_world.log.verify()


async def test_a_slow_reader_who_goes_on_is_not_cut(own_world: SimulatedWorld, monkeypatch) -> None:
    """The control: what is timed is one page, not the whole answer."""
    monkeypatch.setattr("gateway.exchange.streaming.STALL_TIMEOUT_S", 0.5)
    own_world.registry.records *= 500
    caller = own_world.caller()
    count = 0
    began = asyncio.get_running_loop().time()
    async for message in caller.stream(bulk(caller), page_size=5000, timeout_s=30):
        count += message.page.record_count
        await asyncio.sleep(0.15)
    assert count == len(own_world.registry.records)
    assert asyncio.get_running_loop().time() - began > 0.5


async def test_a_stream_that_waits_too_long_for_its_turn_is_refused(
    own_world: SimulatedWorld, monkeypatch
) -> None:
    monkeypatch.setattr("gateway.exchange.streaming.TURN_TIMEOUT_S", 0.2)
    await own_world.stop_node()
    await own_world.start_node(one_at_a_time)
    own_world.registry.gate.clear()
    first, second = own_world.caller(), own_world.caller("northern-bank")
    moving = first.stream(bulk(first), page_size=10)
    received = [await anext(moving)]
    waiting = second.stream(bulk(second), page_size=10)
    own_world.assert_recorded(await refused(anext(waiting)), "RESOURCE_EXHAUSTED", "OVERLOADED")
    own_world.registry.gate.set()
    received.extend([message async for message in moving])
    assert received[-1].HasField("receipt")
    # The turn is free again.
    await until(lambda: "sluicegate_open_streams 0.0" in own_world.metrics_text())
    third = [message async for message in second.stream(bulk(second), page_size=10)]
    assert third[-1].HasField("receipt")
