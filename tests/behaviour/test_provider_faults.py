"""What providers do wrong. Whatever it is, nothing of that answer is released."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.api.v1.exchange_service_pb2 import StreamQueryResponse
from gateway.demo.world import COMPANIES
from gateway.model import EntryKind, MemberState, Operation, Subject
from tests.simulators.caller import QUERY, query_body
from tests.simulators.outcome import reason_of, refused
from tests.simulators.provider import Fault
from tests.simulators.waiting import until
from tests.simulators.world import SimulatedWorld

pytestmark = pytest.mark.asyncio(loop_scope="module")

UNAVAILABLE, PRECONDITION, DEADLINE = "UNAVAILABLE", "FAILED_PRECONDITION", "DEADLINE_EXCEEDED"

ALWAYS = {
    Fault.REFUSES: (PRECONDITION, "PROVIDER_REFUSED"),
    Fault.HANGS: (DEADLINE, "PROVIDER_TIMEOUT"),
    Fault.FIELD_MISSING: (PRECONDITION, "PROVIDER_SCHEMA"),
    Fault.WRONG_TYPE: (PRECONDITION, "PROVIDER_SCHEMA"),
    Fault.NOT_JSON: (PRECONDITION, "PROVIDER_SCHEMA"),
    Fault.OVER_DEEP_JSON: (PRECONDITION, "PROVIDER_SCHEMA"),
    Fault.INVALID_UTF8: (PRECONDITION, "PROVIDER_SCHEMA"),
    Fault.TOO_MANY_RECORDS: (PRECONDITION, "PROVIDER_TOO_MANY_RECORDS"),
    Fault.SIGNATURE_BROKEN: (PRECONDITION, "PROVIDER_SIGNATURE"),
    Fault.SIGNATURE_MISSING: (PRECONDITION, "PROVIDER_SIGNATURE"),
    Fault.SIGNATURE_OF_OTHER_KEY: (PRECONDITION, "PROVIDER_SIGNATURE"),
    Fault.SIGNATURE_OF_OTHER_EXCHANGE: (PRECONDITION, "PROVIDER_SIGNATURE"),
    Fault.SIGNATURE_OF_OTHER_RECORDS: (PRECONDITION, "PROVIDER_SIGNATURE"),
    Fault.SIGNATURE_STALE: (PRECONDITION, "PROVIDER_SIGNATURE"),
    Fault.COUNT_WRONG: (PRECONDITION, "PROVIDER_SIGNATURE"),
    Fault.PAGE_TOO_LARGE: (PRECONDITION, "PROVIDER_SCHEMA"),
}

STREAMS = {
    Fault.PAGE_TWICE: (PRECONDITION, "PROVIDER_SIGNATURE", 2),
    Fault.NO_LAST_PAGE: (UNAVAILABLE, "PROVIDER_UNAVAILABLE", 6),
    Fault.MORE_AFTER_LAST: (PRECONDITION, "PROVIDER_SCHEMA", 6),
    Fault.HANGS_MID_STREAM: (DEADLINE, "PROVIDER_TIMEOUT", 2),
    Fault.FAILS_MID_STREAM: (UNAVAILABLE, "PROVIDER_UNAVAILABLE", 2),
}

SECRETS = ("110101199003070134", "91350100M000100Y43", "on fire", "INSP-007", "Traceback", "msgspec")


def ask(caller, operation: Operation = Operation.QUERY, **parts):
    return caller.statement(COMPANIES, "public-lookup", operation, **parts)


async def streamed(caller, *, timeout_s: float = 10.0):
    """Return the pages a stream gives before it is refused, and the refusal."""
    pages: list[StreamQueryResponse] = []
    stream = caller.stream(ask(caller, Operation.STREAM), page_size=10, timeout_s=timeout_s)
    refusal = await refused(_collect(stream, pages))
    assert not any(message.HasField("receipt") for message in pages)
    return pages, refusal


async def _collect(
    stream: AsyncIterator[StreamQueryResponse], into: list[StreamQueryResponse]
) -> StreamQueryResponse:
    """Read a stream to its end, keeping each message as it comes; return the last."""
    async for message in stream:
        into.append(message)  # noqa: PERF401 - what came must be there when the stream breaks
    return into[-1]


def timeout_for(fault: Fault) -> float:
    return 1.0 if fault in {Fault.HANGS, Fault.HANGS_MID_STREAM} else 10.0


@pytest.mark.parametrize("fault", ALWAYS)
async def test_a_query_fails_when_the_provider(world: SimulatedWorld, fault: Fault) -> None:
    code, reason = ALWAYS[fault]
    world.registry.fault = fault
    caller = world.caller()
    refusal = await refused(caller.query(ask(caller), timeout_s=timeout_for(fault)))
    entry = world.assert_recorded(refusal, code, reason)
    assert (entry.kind, entry.records, entry.pages) == (EntryKind.EXCHANGE_FAILED, 0, 0)
    assert not any(secret in f"{refusal}" for secret in SECRETS)


@pytest.mark.parametrize("fault", ALWAYS)
async def test_a_stream_fails_when_the_provider(world: SimulatedWorld, fault: Fault) -> None:
    code, reason = ALWAYS[fault]
    world.registry.fault = fault
    pages, refusal = await streamed(world.caller(), timeout_s=timeout_for(fault))
    entry = world.assert_recorded(refusal, code, reason)
    assert pages == []
    assert (entry.kind, entry.records, entry.pages) == (EntryKind.EXCHANGE_FAILED, 0, 0)


# A match releases one bit, however many records a provider sends.
@pytest.mark.parametrize("fault", [fault for fault in ALWAYS if fault is not Fault.TOO_MANY_RECORDS])
async def test_a_match_fails_when_the_provider(world: SimulatedWorld, fault: Fault) -> None:
    code, reason = ALWAYS[fault]
    world.registry.fault = fault
    caller = world.caller()
    company = world.companies[0]
    asked = ask(
        caller, Operation.MATCH, subjects=[Subject("uscc", company.uscc)], match={"uscc": company.uscc}
    )
    world.assert_recorded(await refused(caller.match(asked, timeout_s=timeout_for(fault))), code, reason)


@pytest.mark.parametrize("fault", STREAMS)
async def test_a_stream_is_cut_and_says_what_left_when_the_provider(
    world: SimulatedWorld, fault: Fault
) -> None:
    code, reason, most = STREAMS[fault]
    world.registry.fault = fault
    pages, refusal = await streamed(world.caller(), timeout_s=timeout_for(fault))
    entry = world.assert_recorded(refusal, code, reason)
    assert entry.kind is EntryKind.EXCHANGE_FAILED
    assert len(pages) <= most
    assert entry.pages == len(pages)
    assert entry.records == sum(message.page.record_count for message in pages)
    # Each page that left had its own entry first, at the index that came with it.
    for message in pages:
        [committed] = world.log.entries(message.entry_index)[:1]
        assert (committed.kind, committed.page) == (EntryKind.EXCHANGE_PAGE, message.page_number)
        assert committed.exchange == refusal.exchange


async def test_a_provider_that_drips_is_cut_at_the_deadline(world: SimulatedWorld) -> None:
    world.registry.fault = Fault.DRIPS
    pages, refusal = await streamed(world.caller(), timeout_s=1.5)
    entry = world.assert_recorded(refusal, DEADLINE, "PROVIDER_TIMEOUT")
    assert 2 <= len(pages) <= 16
    assert entry.pages == len(pages)


async def test_a_provider_that_is_down_is_unavailable_and_comes_back(world: SimulatedWorld) -> None:
    caller = world.caller()
    await caller.query(ask(caller))
    await world.registry.stop()
    world.assert_recorded(await refused(caller.query(ask(caller))), UNAVAILABLE, "PROVIDER_UNAVAILABLE")
    await world.registry.start()

    await until_reason(caller, "", "PROVIDER_UNAVAILABLE")


async def until_reason(caller, wanted: str, other: str) -> None:
    """Return once a query is answered with `wanted`; until then it must be with `other`."""

    async def is_there() -> bool:
        found = await reason_of(caller.query(ask(caller)))
        assert found in {wanted, other}
        return found == wanted

    await until(is_there)


async def test_a_slow_provider_holds_up_nobody_else(world: SimulatedWorld) -> None:
    world.registry.fault = Fault.HANGS
    caller = world.caller()
    hanging = [caller.unary(QUERY, query_body(caller.seal(ask(caller)))) for _ in range(20)]
    await world.registry.begun.wait()
    tax = world.client("harbour-bank")
    page = await tax.query(
        "members/tax/datasets/arrears",
        purpose="credit-check",
        legal_basis="credit-reporting-act-14",
        memorandum="tax-harbour-bank",
        timeout_s=3,
    )
    assert page.fields == ("uscc", "amount_owed", "since")
    for call in hanging:
        call.cancel()
    await world.registry.ended.wait()


async def test_fields_that_nobody_knows_are_dropped_and_counted(world: SimulatedWorld) -> None:
    world.registry.fault = Fault.UNKNOWN_FIELDS
    caller = world.caller()
    answer = await caller.query(ask(caller))
    assert "inspector_no" not in answer.page.records
    assert "INSP-007" not in answer.page.records
    [released] = [item for item in world.log.entries() if item.kind is EntryKind.EXCHANGE_RELEASED][-1:]
    assert released.unknown_fields == 2 * len(world.companies)


@pytest.mark.parametrize("operation", ["query", "stream", "match"])
async def test_a_record_of_somebody_else_is_not_released(
    world: SimulatedWorld, monkeypatch, operation: str
) -> None:
    asked_for, other = world.companies[0], world.companies[1]
    record = next(item for item in world.registry.records if item["uscc"] == other.uscc)
    monkeypatch.setattr(world.registry, "_chosen", lambda order: [record])
    caller = world.caller()
    subjects = [Subject("uscc", asked_for.uscc)]
    match operation:
        case "query":
            call = caller.query(ask(caller, subjects=subjects))
        case "stream":
            call = _collect(caller.stream(ask(caller, Operation.STREAM, subjects=subjects)), [])
        case _:
            match = {"uscc": asked_for.uscc}
            call = caller.match(ask(caller, Operation.MATCH, subjects=subjects, match=match))
    refusal = await refused(call)
    entry = world.assert_recorded(refusal, PRECONDITION, "PROVIDER_SCHEMA")
    assert (entry.records, entry.pages) == (0, 0)
    assert other.name not in f"{refusal}"


async def test_a_subject_that_the_provider_spells_otherwise_is_still_the_one(
    world: SimulatedWorld, monkeypatch
) -> None:
    """The control: it is the identifier that counts, not how the holder writes it."""
    company = world.companies[0]
    record = next(item for item in world.registry.records if item["uscc"] == company.uscc)
    spelt = {**record, "uscc": f" {company.uscc.lower()} "}
    monkeypatch.setattr(world.registry, "_chosen", lambda order: [spelt])
    caller = world.caller()
    answer = await caller.query(ask(caller, subjects=[Subject("uscc", company.uscc)]))
    assert answer.page.record_count == 1


async def test_a_provider_that_was_suspended_is_not_asked(world: SimulatedWorld) -> None:
    await world.set_state("registry", MemberState.SUSPENDED)
    caller = world.caller()
    await until_reason(caller, "PROVIDER_UNAVAILABLE", "")
    asked = len(world.registry.orders)
    world.assert_recorded(await refused(caller.query(ask(caller))), UNAVAILABLE, "PROVIDER_UNAVAILABLE")
    assert len(world.registry.orders) == asked
    await world.set_state("registry", MemberState.ACTIVE)
    await until_reason(caller, "", "PROVIDER_UNAVAILABLE")
