"""The call itself: sizes, wire form, deadlines, metadata, cancellation. Bytes before meaning."""

from __future__ import annotations

import asyncio
import base64
import json
import time

import grpc
import pytest
import structlog

from gateway.api.v1 import exchange_service_pb2
from gateway.demo.world import COMPANIES
from gateway.model import Entry, EntryKind, Operation
from tests.simulators.caller import MATCH, QUERY, STREAM, Credentials, query_body, wire
from tests.simulators.http2 import send_by_hand
from tests.simulators.outcome import refusal_of, refused
from tests.simulators.provider import Fault
from tests.simulators.world import CLOSING_KINDS, SimulatedWorld

pytestmark = pytest.mark.asyncio(loop_scope="module")

INVALID = "INVALID_ARGUMENT"
BODY_LIMIT = 128 * 1024
TRANSPORT_LIMIT = 1024 * 1024


def good_body(caller) -> bytes:
    return query_body(caller.seal(caller.statement(COMPANIES, "public-lookup")))


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def length_delimited(field: int, content: bytes) -> bytes:
    """Return a protobuf field of wire type 2, as no library would be needed to write it."""
    return varint(field << 3 | 2) + varint(len(content)) + content


BODIES = {
    "garbage": lambda body: b"\xff" * 64,
    "text": lambda body: b"GET / HTTP/1.1\r\n\r\n",
    "half a message": lambda body: body[:-7],
    "an unknown field": lambda body: body + length_delimited(15, b"smuggled"),
    "an unknown number": lambda body: body + varint(15 << 3) + b"\x01",
    "an unknown field within the envelope": lambda body: _with_envelope(body, length_delimited(9, b"x")),
    "the envelope twice": lambda body: body + body,
    "a page size twice": lambda body: body + varint(2 << 3) + b"\x05" + varint(2 << 3) + b"\x06",
    "a payload twice": lambda body: _with_envelope(body, length_delimited(1, b"{}")),
    "a number longer than it need be": lambda body: body + varint(2 << 3) + b"\x85\x00",
    "a zero that need not be there": lambda body: body + varint(2 << 3) + b"\x00",
    "a group without an end": lambda body: body + varint(7 << 3 | 3) * 200,
    "text that is no UTF-8": lambda body: body + length_delimited(3, b"\xff\xfe"),
}


def _with_envelope(body: bytes, more: bytes) -> bytes:
    envelope = exchange_service_pb2.QueryRequest.FromString(body).envelope.SerializeToString()
    return length_delimited(1, envelope + more)


@pytest.mark.parametrize("name", BODIES)
async def test_a_body_is_refused_for(world: SimulatedWorld, name: str) -> None:
    caller = world.caller()
    refusal = await refused(caller.unary(QUERY, BODIES[name](good_body(caller))))
    entry = world.assert_recorded(refusal, INVALID, "REQUEST_MALFORMED")
    assert entry.consumer == "harbour-bank"
    assert "smuggled" not in refusal.message


@pytest.mark.parametrize("method", [STREAM, MATCH])
async def test_the_other_methods_refuse_garbage_as_well(world: SimulatedWorld, method: str) -> None:
    caller = world.caller()
    if method == STREAM:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            [message async for message in caller.streaming(method, b"\xff" * 64)]
        refusal = refusal_of(raised.value)
    else:
        refusal = await refused(caller.unary(method, b"\xff" * 64))
    world.assert_recorded(refusal, INVALID, "REQUEST_MALFORMED")


async def test_a_body_that_nobody_spoils_is_answered(world: SimulatedWorld) -> None:
    """The control of the table above, and of its own protobuf writer."""
    caller = world.caller()
    await caller.unary(QUERY, good_body(caller))
    await caller.unary(QUERY, _with_envelope(good_body(caller), b""))


async def test_a_request_above_our_limit_is_refused_with_an_entry(world: SimulatedWorld) -> None:
    caller = world.caller()
    body = good_body(caller) + length_delimited(15, b"x" * BODY_LIMIT)
    refusal = await refused(caller.unary(QUERY, body))
    world.assert_recorded(refusal, "RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE")


async def test_a_request_above_the_limit_of_grpc_never_reaches_us(world: SimulatedWorld) -> None:
    """gRPC reads the length and refuses: nobody has read the bytes, so there is nothing to record."""
    caller = world.caller()
    size = world.log.size()
    refusal = await refused(caller.unary(QUERY, b"x" * (TRANSPORT_LIMIT + 1)))
    assert (refusal.code, refusal.reason) == ("RESOURCE_EXHAUSTED", "")
    assert world.log.size() == size


# -- deadlines --------------------------------------------------------------------------------------


async def test_a_call_without_a_deadline_is_refused(world: SimulatedWorld) -> None:
    caller = world.caller()
    refusal = await refused(caller.unary(QUERY, good_body(caller), timeout_s=None))
    world.assert_recorded(refusal, INVALID, "DEADLINE_MISSING")


@pytest.mark.parametrize("timeout_s", [3700.0, 1e6], ids=["over an hour", "days"])
async def test_an_absurd_deadline_is_refused(world: SimulatedWorld, timeout_s: float) -> None:
    caller = world.caller()
    refusal = await refused(caller.unary(QUERY, good_body(caller), timeout_s=timeout_s))
    world.assert_recorded(refusal, INVALID, "DEADLINE_INVALID")


async def by_hand(world: SimulatedWorld, *headers: tuple[str, bytes]) -> list[Entry]:
    """Send a good query in frames of our own making; return the entries it left."""
    caller = world.caller()
    first = world.log.size()
    credentials = Credentials.read(world.members["harbour-bank"].directory)
    await send_by_hand(world.node.port, credentials, QUERY, headers, good_body(caller))
    return world.log.entries(first)


async def test_a_call_written_by_hand_is_answered(world: SimulatedWorld) -> None:
    """The control of the hand-written calls below."""
    kinds = [entry.kind for entry in await by_hand(world, ("grpc-timeout", b"5S"))]
    assert kinds == [EntryKind.EXCHANGE_REQUESTED, EntryKind.EXCHANGE_RELEASED]


@pytest.mark.parametrize(
    ("deadline", "reasons"),
    [
        (b"99999999H", {"DEADLINE_INVALID", "DEADLINE_MISSING"}),
        (b"99999999S", {"DEADLINE_INVALID"}),
        (b"-5S", {"DEADLINE_MISSING", "DEADLINE_INVALID"}),
        (b"soon", {"DEADLINE_MISSING", "DEADLINE_INVALID"}),
    ],
)
async def test_a_deadline_that_no_library_would_send_is_refused(
    world: SimulatedWorld, deadline: bytes, reasons: set[str]
) -> None:
    entries = await by_hand(world, ("grpc-timeout", deadline))
    # gRPC itself may refuse a deadline that is none, before the call is one.
    assert all(entry.kind is EntryKind.EXCHANGE_DENIED for entry in entries)
    assert {reason for entry in entries for reason in entry.reasons} <= reasons
    if deadline[-1:] in b"HS" and deadline[:1] != b"-":
        assert len(entries) == 1


async def test_a_deadline_of_a_millisecond_releases_nothing(world: SimulatedWorld) -> None:
    """The caller is gone before an answer can reach it; what became of the call stands in the log."""
    caller = world.caller()
    await world.works()  # the connection of the next call is to be there
    first = world.log.size()
    reached = 0
    for _ in range(20):
        refusal = await refused(caller.unary(QUERY, good_body(caller), timeout_s=0.001))
        assert refusal.code in {"DEADLINE_EXCEEDED", INVALID}
    await world.works()
    for entry in world.log.entries(first):
        if entry.kind in CLOSING_KINDS and entry.kind is not EntryKind.EXCHANGE_RELEASED:
            assert set(entry.reasons) <= {"DEADLINE_INVALID", "CANCELLED"}
            reached += 1
    assert [entry.kind for entry in world.log.entries(first)].count(EntryKind.EXCHANGE_RELEASED) == 1
    assert reached <= 20


# -- metadata ---------------------------------------------------------------------------------------

FORGED = '{"event":"exchange","outcome":"released","consumer":"forged"}'


@pytest.mark.parametrize(
    "header",
    [
        ("user-agent", f"x\r\n{FORGED}\r\n".encode()),
        ("x-request-id", f"1\r\n{FORGED}\r\n".encode()),
        ("traceparent", f"00-{'0' * 32}\n{FORGED}\n".encode()),
        ("x-forged-bin", base64.b64encode(f"\r\n{FORGED}\n".encode())),
        ("x-terminal", b"\x1b[2J\x1b]0;forged\x07"),
    ],
    ids=["user agent", "header", "trace", "binary header", "terminal"],
)
async def test_line_ends_in_metadata_forge_no_log_line(world: SimulatedWorld, header) -> None:
    entries = await by_hand(world, ("grpc-timeout", b"5S"), header)
    assert "forged" not in f"{entries}"
    for line in world.output.getvalue().splitlines():
        assert json.loads(line)["event"]
    assert "forged" not in world.output.getvalue()
    assert "forged" not in world.metrics_text()


async def test_a_forged_line_would_be_found(world: SimulatedWorld) -> None:
    """The control: a line written past the pipe is seen by the test above."""
    structlog.get_logger().info("exchange", consumer="forged")
    assert "forged" in world.output.getvalue()
    end = world.output.getvalue().index("forged")
    world.output.seek(world.output.getvalue().rindex("\n", 0, end) + 1)
    world.output.truncate()


async def test_line_ends_in_names_forge_no_log_line(world: SimulatedWorld) -> None:
    caller = world.caller()
    asked = caller.statement(f"{COMPANIES}\r\n{FORGED}", f"public\n{FORGED}", legal_basis=f"\r\n{FORGED}")
    world.assert_recorded(await refused(caller.query(asked)), "NOT_FOUND", "DATASET_UNKNOWN")
    assert all(json.loads(line)["event"] for line in world.output.getvalue().splitlines())
    assert "forged" not in world.output.getvalue()


async def test_too_much_metadata_is_refused_before_anybody_reads_it(world: SimulatedWorld) -> None:
    caller = world.caller()
    size = world.log.size()
    refusal = await refused(caller.unary(QUERY, good_body(caller), metadata=(("x-much", "a" * 20_000),)))
    assert (refusal.code, refusal.reason) == ("RESOURCE_EXHAUSTED", "")
    assert world.log.size() == size


# -- methods ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/gateway.api.v1.ExchangeService/query",
        "/gateway.api.v1.ExchangeService/Query/",
        "//gateway.api.v1.ExchangeService/Query",
        "/gateway.api.v1.exchangeservice/Query",
        "/gateway.api.v1.ProviderService/FetchRecords",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/grpc.channelz.v1.Channelz/GetServers",
    ],
)
async def test_a_path_that_is_not_exactly_a_method_leads_nowhere(world: SimulatedWorld, path: str) -> None:
    caller = world.caller()
    refusal = await refused(caller.unary(path, good_body(caller)))
    assert refusal.code == "UNIMPLEMENTED"


# -- cancellation -----------------------------------------------------------------------------------


async def closing_entry_after(world: SimulatedWorld, first: int):
    """Return the one closing entry from index `first` on, once it is there."""
    deadline = time.monotonic() + 5
    while True:
        entries = [entry for entry in world.log.entries(first) if entry.kind in CLOSING_KINDS]
        if entries:
            [entry] = entries
            return entry
        assert time.monotonic() < deadline, "a cancelled call left no entry"
        await asyncio.sleep(0.02)


@pytest.mark.timed
async def test_a_cancelled_query_stops_its_provider_and_leaves_an_entry(world: SimulatedWorld) -> None:
    world.registry.fault = Fault.HANGS
    caller = world.caller()
    first = world.log.size()
    call = caller.unary(QUERY, good_body(caller))
    async with asyncio.timeout(5):
        await world.registry.begun.wait()
    call.cancel()
    async with asyncio.timeout(1):
        await world.registry.ended.wait()
    entry = await closing_entry_after(world, first)
    assert (entry.kind, entry.reasons, entry.pages) == (EntryKind.EXCHANGE_FAILED, ("CANCELLED",), 0)


@pytest.mark.timed
async def test_a_cancelled_stream_stops_its_provider_and_says_what_left(world: SimulatedWorld) -> None:
    world.registry.gate.clear()
    caller = world.caller()
    first = world.log.size()
    stream = exchange_service_pb2.StreamQueryRequest(
        envelope=wire(caller.seal(caller.statement(COMPANIES, "public-lookup", Operation.STREAM))),
        page_size=10,
    )
    call = caller.streaming(STREAM, stream.SerializeToString())
    for _ in range(2):
        await call.read()
    call.cancel()
    async with asyncio.timeout(1):
        await world.registry.ended.wait()
    entry = await closing_entry_after(world, first)
    assert entry.kind is EntryKind.EXCHANGE_FAILED
    assert (entry.reasons, entry.pages, entry.records) == (("CANCELLED",), 2, 20)
    pages = [item for item in world.log.entries(first) if item.kind is EntryKind.EXCHANGE_PAGE]
    assert [(item.page, item.records) for item in pages] == [(0, 10), (1, 10)]


@pytest.mark.timed
async def test_a_caller_that_leaves_at_its_deadline_stops_its_provider(world: SimulatedWorld) -> None:
    world.registry.fault = Fault.HANGS
    caller = world.caller()
    first = world.log.size()
    refusal = await refused(caller.unary(QUERY, good_body(caller), timeout_s=0.5))
    assert refusal.code == "DEADLINE_EXCEEDED"
    async with asyncio.timeout(1):
        await world.registry.ended.wait()
    entry = await closing_entry_after(world, first)
    assert entry.reasons[0] in {"PROVIDER_TIMEOUT", "CANCELLED"}
