"""P1: no data without a record. While the log cannot be written nothing at all is released."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import grpc
import pytest
from grpc_health.v1 import health_pb2

from gateway.audit.committed import Committed
from gateway.audit.errors import LogUnavailableError
from gateway.audit.store import Once
from gateway.demo.world import COMPANIES
from gateway.exchange.journal import Journal
from gateway.exchange.state import Exchange
from gateway.model import EntryKind, Operation
from tests.simulators.log_faults import (
    bound_by_permissions,
    disk_full,
    entries_refused,
    locked_by_another_process,
    read_only,
)
from tests.simulators.outcome import refusal_of, refused
from tests.simulators.waiting import until
from tests.simulators.world import SimulatedWorld

pytestmark = pytest.mark.asyncio(loop_scope="module")

Fault = Callable[[SimulatedWorld], AbstractContextManager[None]]

FAULTS: dict[str, Fault] = {
    "disk full": lambda world: disk_full(),
    "read-only": lambda world: read_only(world.log.database),
    "locked": lambda world: locked_by_another_process(world.log.database),
}


@pytest.fixture(autouse=True)
def as_an_ordinary_user():
    """A file mode is a fault only for who is bound by it."""
    with bound_by_permissions():
        yield


def lookup(caller):
    return caller.statement(COMPANIES, "public-lookup", filters={"kind": "none"})


async def health(world: SimulatedWorld) -> int:
    caller = world.caller()
    answer = await caller.unary("/grpc.health.v1.Health/Check", b"")
    return health_pb2.HealthCheckResponse.FromString(answer).status


async def until_health(world: SimulatedWorld, status: int) -> None:
    async def is_told() -> bool:
        return await health(world) == status

    await until(is_told, within_s=10)


@pytest.mark.timed
@pytest.mark.parametrize("name", FAULTS)
async def test_while_the_log_is_unwritable_everything_is_refused(
    own_world: SimulatedWorld, name: str
) -> None:
    world = own_world
    await world.works()
    size = world.log.size()
    callers = [world.caller(member) for member in ("harbour-bank", "northern-bank", "inspectorate")]
    with FAULTS[name](world):
        stream = callers[0].stream(callers[0].statement(COMPANIES, "public-lookup", Operation.STREAM))
        outcomes = await asyncio.gather(
            refused(anext(stream)), *(refused(caller.query(lookup(caller))) for caller in callers)
        )
        for refusal in outcomes:
            assert (refusal.code, refusal.reason) == ("UNAVAILABLE", "LOG_UNAVAILABLE")
            assert refusal.domain == "sluicegate"
            assert refusal.exchange
            assert refusal.entry is None
        assert world.registry.orders[1:] == [], "a provider was asked although nothing could be recorded"
        await until_health(world, health_pb2.HealthCheckResponse.NOT_SERVING)
        assert "sluicegate_log_healthy 0.0" in world.metrics_text()
    ended = time.monotonic()
    await until_health(world, health_pb2.HealthCheckResponse.SERVING)
    assert time.monotonic() - ended < 5
    await world.works()
    world.log.verify()
    new = [entry for entry in world.log.entries(size) if entry.kind is EntryKind.EXCHANGE_RELEASED]
    assert len(new) == 1


@pytest.mark.timed
async def test_a_caller_waits_for_a_locked_log_once(own_world: SimulatedWorld) -> None:
    """The log waits two seconds for its lock; the entry about the refusal is not waited for as long."""
    await own_world.works()
    caller = own_world.caller()
    with locked_by_another_process(own_world.log.database):
        began = time.monotonic()
        refusal = await refused(caller.query(lookup(caller)))
        assert time.monotonic() - began < 2.5
    assert (refusal.reason, refusal.entry) == ("LOG_UNAVAILABLE", None)

    def recorded() -> list[tuple[str, ...]]:
        return [entry.reasons for entry in own_world.log.of_exchange(refusal.exchange)]

    # The lock was given up in time for it, so the attempt stands in the log after all.
    await until(recorded)
    assert recorded() == [("LOG_UNAVAILABLE",)]
    await own_world.works()


async def test_a_denial_that_cannot_be_recorded_says_so(own_world: SimulatedWorld) -> None:
    caller = own_world.caller()
    with entries_refused(own_world.log.database, "exchange.denied"):
        refusal = await refused(caller.query(caller.statement(COMPANIES, "curiosity")))
    assert (refusal.code, refusal.reason) == ("UNAVAILABLE", "LOG_UNAVAILABLE")
    await own_world.works()
    own_world.log.verify()


async def test_a_request_that_cannot_be_recorded_asks_no_provider(own_world: SimulatedWorld) -> None:
    caller = own_world.caller()
    with entries_refused(own_world.log.database, "exchange.requested"):
        refusal = await refused(caller.query(caller.statement(COMPANIES, "public-lookup")))
    own_world.assert_recorded(refusal, "UNAVAILABLE", "LOG_UNAVAILABLE")
    assert own_world.registry.orders == []


async def test_a_log_that_cannot_be_written_stops_the_start(own_world: SimulatedWorld) -> None:
    await own_world.stop_node()
    with read_only(own_world.log.database), pytest.raises(LogUnavailableError):
        await own_world.start_node()
    await own_world.start_node()
    await own_world.works()


# -- between requested and released ---------------------------------------------------------------


async def released_by(world: SimulatedWorld) -> bytes:
    """Return every byte that a query gives, refused or not."""
    caller = world.caller()
    try:
        answer = await caller.query(caller.statement(COMPANIES, "public-lookup"))
    except grpc.aio.AioRpcError as error:
        refusal = refusal_of(error)
        assert refusal.reason == "LOG_UNAVAILABLE"
        return f"{refusal}".encode()
    return answer.SerializeToString()


def assert_nothing_of_a_record(world: SimulatedWorld, out: bytes) -> None:
    for company in world.companies:
        for value in (company.uscc, company.name, company.scope):
            assert value.encode() not in out


async def test_not_a_byte_leaves_when_its_entry_cannot_be_written(own_world: SimulatedWorld) -> None:
    """Boulder's test: the database fails exactly the statement that records the release, or the page."""
    with entries_refused(own_world.log.database, "exchange.released"):
        assert_nothing_of_a_record(own_world, await released_by(own_world))
    with entries_refused(own_world.log.database, "exchange.page"):
        caller = own_world.caller()
        stream = caller.stream(caller.statement(COMPANIES, "public-lookup", Operation.STREAM), page_size=10)
        refusal = await refused(anext(stream))
        assert refusal.reason == "LOG_UNAVAILABLE"
        assert_nothing_of_a_record(own_world, f"{refusal}".encode())
    kinds = [entry.kind for entry in own_world.log.entries()]
    assert EntryKind.EXCHANGE_RELEASED not in kinds
    assert EntryKind.EXCHANGE_PAGE not in kinds
    assert kinds.count(EntryKind.EXCHANGE_REQUESTED) == 2
    await own_world.works()
    own_world.log.verify()


async def test_a_gateway_that_releases_first_would_be_found(own_world: SimulatedWorld, monkeypatch) -> None:
    """The control: a journal that does not wait for the log lets records out, and the test sees them."""
    record_release = Journal.released

    def go_on_anyway(
        journal: Journal, exchange: Exchange, once: Once | None = None
    ) -> asyncio.Future[Committed]:
        async def placed(recording: asyncio.Future[Committed]) -> Committed:
            try:
                return await recording
            except LogUnavailableError:
                return await journal._log.append(journal._entry(exchange, EntryKind.EXCHANGE_REQUESTED))

        return asyncio.ensure_future(placed(record_release(journal, exchange, once)))

    monkeypatch.setattr(Journal, "released", go_on_anyway)
    with entries_refused(own_world.log.database, "exchange.released"):
        out = await released_by(own_world)
    with pytest.raises(AssertionError):
        assert_nothing_of_a_record(own_world, out)


async def test_pages_that_left_before_the_log_failed_stand_in_it(own_world: SimulatedWorld) -> None:
    own_world.registry.gate.clear()
    caller = own_world.caller()
    stream = caller.stream(caller.statement(COMPANIES, "public-lookup", Operation.STREAM), page_size=10)
    received = [await anext(stream), await anext(stream)]
    with disk_full():
        own_world.registry.gate.set()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            received.extend([message async for message in stream])
    refusal = refusal_of(raised.value)
    assert (refusal.code, refusal.reason) == ("UNAVAILABLE", "LOG_UNAVAILABLE")
    assert len(received) == 2
    pages = [entry for entry in own_world.log.of_exchange(refusal.exchange) if entry.page is not None]
    assert [entry.page for entry in pages] == [0, 1]
    await until_health(own_world, health_pb2.HealthCheckResponse.SERVING)
    await own_world.works()
    own_world.log.verify()
