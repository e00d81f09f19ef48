"""What an answer to a list question does not tell: by its size, its moment, its receipt or its traces."""

from __future__ import annotations

import json
import random
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing

import msgspec
import pytest
import pytest_asyncio

from gateway.api.v1 import exchange_service_pb2 as api
from gateway.audit.receipt import ReceiptStatement
from gateway.evidence.order import FetchOrder
from gateway.model import Entry
from tests.simulators.caller import RawCaller
from tests.simulators.lists import DEFAULTERS, LISTS, SET, defaulter, merged, on, start_with_lists, warning
from tests.simulators.outcome import refused
from tests.simulators.provider import Fault
from tests.simulators.world import SimulatedWorld

pytestmark = pytest.mark.asyncio(loop_scope="module")

THINKS_S = 0.05
"""How much longer the registry takes for who stands on its list, where a test wants it to."""
ROUNDS = 25


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SimulatedWorld]:
    world = SimulatedWorld(tmp_path_factory.mktemp("world"))
    codes = [company.uscc for company in world.companies]
    entries = merged(
        on(LISTS, codes[1]),
        on(LISTS[:3], codes[2]),
        on(LISTS[2:], codes[3]),
        on([DEFAULTERS], codes[4], "luxury", "flights", "canary-of-a-class"),
    )
    try:
        yield await start_with_lists(world, entries, answer_after_ms=200)
        world.log.verify()
    finally:
        await world.stop()


def slow_for_hits(_: FetchOrder, found: int) -> float:
    return THINKS_S if found else 0.0


async def took(caller: RawCaller, code: str) -> float:
    began = time.perf_counter()
    await caller.ask_lists(warning(caller, code))
    return time.perf_counter() - began


async def telling(world: SimulatedWorld) -> float:
    """Return how often a yes took longer than a no: 0.5 if one cannot tell, 1 if one always can."""
    caller = world.caller("inspectorate")
    yes, no = world.companies[1].uscc, world.companies[0].uscc
    await took(caller, yes)
    order = [yes, no] * ROUNDS
    random.Random(4).shuffle(order)
    times: dict[str, list[float]] = {yes: [], no: []}
    for code in order:
        times[code].append(await took(caller, code))
    pairs = [(slow, fast) for slow in times[yes] for fast in times[no]]
    return sum(slow > fast for slow, fast in pairs) / len(pairs)


@pytest.mark.timed
async def test_the_moment_of_an_answer_does_not_tell_what_it_is(world: SimulatedWorld) -> None:
    """The rank statistic of Mann and Whitney; 0.15 and 0.85 lie four standard deviations off."""
    world.registry.pause_s = slow_for_hits
    try:
        assert 0.15 < await telling(world) < 0.85
    finally:
        world.registry.pause_s = lambda _order, _found: 0.0


@pytest.mark.timed
async def test_a_fault_leaves_at_the_same_moment_as_an_answer(world: SimulatedWorld) -> None:
    caller = world.caller("inspectorate")
    world.registry.fault = Fault.REFUSES
    try:
        began = time.perf_counter()
        await refused(caller.ask_lists(warning(caller, world.companies[1].uscc)))
        assert time.perf_counter() - began > 0.199
    finally:
        world.registry.fault = None


async def test_entries_receipts_and_answers_of_a_yes_and_a_no_have_the_same_form(world) -> None:
    """What is random is random in both; everything else is equal, and all of it of one length."""
    caller = world.caller("inspectorate")
    answers = [await caller.ask_lists(warning(caller, world.companies[at].uscc)) for at in range(4)]
    seen = [forms(world, answer) for answer in answers]
    assert [one.pop("listed") for one in seen] == [0, 1, 1, 1]
    assert seen[0] == seen[1] == seen[2] == seen[3]


async def test_the_same_holds_of_a_single_list_with_and_without_restrictions(world) -> None:
    caller = world.caller("tradeplatform")
    answers = [await caller.ask_lists(defaulter(caller, world.companies[at].uscc)) for at in (0, 4, 50)]
    seen = [forms(world, answer) for answer in answers]
    assert [one.pop("listed") for one in seen] == [0, 1, 1]
    assert seen[0] == seen[1] == seen[2]


def forms(world: SimulatedWorld, raw: bytes) -> dict[str, object]:
    """Return all that an answer, its receipt and its entries show, without what differs between any two."""
    response = api.AskListsResponse.FromString(raw)
    statement = msgspec.json.decode(response.receipt.statement.payload, type=ReceiptStatement)
    proof = response.receipt.tlog_proof
    exchange = msgspec.json.decode(statement.entry, type=Entry).exchange
    entries = world.log.of_exchange(exchange)
    assert [entry.kind.value for entry in entries] == ["exchange.requested", "exchange.released"]
    return {
        "listed": msgspec.json.decode(response.answer)["listed"],
        "sizes": (len(response.answer), len(response.salt_seed)),
        # The log grows between two answers: its indices may have more digits, its proofs more hashes.
        "size": len(raw) - len(proof) - len(response.receipt.statement.payload),
        "statement": len(statement.entry) - len(str(entries[1].sequence)),
        "openings": {name: len(value) for name, value in statement.openings.items()},
        "pages": [len(page) for page in statement.pages],
        "deliveries": len(response.receipt.deliveries),
        "entries": [plain(entry) for entry in entries],
    }


def plain(entry: Entry) -> Entry:
    return msgspec.structs.replace(
        entry,
        time="",
        exchange="",
        sequence=None,
        commitments={name: str(len(value)) for name, value in entry.commitments.items()},
        fields={},
    )


async def test_times_in_the_log_do_not_tell_how_long_the_lists_took(world: SimulatedWorld) -> None:
    caller = world.caller("inspectorate")
    world.registry.pause_s = slow_for_hits
    gaps = []
    try:
        for at in (0, 1):
            answer = api.AskListsResponse.FromString(
                await caller.ask_lists(warning(caller, world.companies[at].uscc))
            )
            entry = msgspec.json.decode(answer.receipt.statement.payload, type=ReceiptStatement).entry
            exchange = msgspec.json.decode(entry, type=Entry).exchange
            requested, released = world.log.of_exchange(exchange)
            assert (requested.duration_ms, released.duration_ms) == (0, 0)
            gaps.append(seconds(released.time) - seconds(requested.time))
    finally:
        world.registry.pause_s = lambda _order, _found: 0.0
    assert all(0.1 < gap < 0.4 for gap in gaps)


def seconds(moment: str) -> float:
    minutes, rest = moment[14:16], moment[17:26]
    return 60 * int(minutes) + float(rest)


async def test_no_trace_names_a_list_of_the_set_or_counts_its_hits(world: SimulatedWorld) -> None:
    """Answers, refusals, the log's files, the operators' log and the metrics are searched for them."""
    caller = world.caller("inspectorate")
    world.output.truncate(0)
    released = exact_metrics(world)
    texts = [await caller.ask_lists(warning(caller, world.companies[at].uscc)) for at in range(4)]
    after = exact_metrics(world)
    for fault in (Fault.REFUSES, Fault.NOT_JSON, Fault.SIGNATURE_BROKEN, Fault.INVALID_UTF8):
        world.registry.fault = fault
        refusal = await refused(caller.ask_lists(warning(caller, world.companies[1].uscc)))
        texts.append(str(refusal).encode())
    world.registry.fault = None
    stranger = world.caller("harbour-bank")
    texts.append(str(await refused(stranger.ask_lists(warning(stranger, world.companies[1].uscc)))).encode())
    places = traces(world) | {"answers": b"\n".join(texts)}
    assert found_in(places, LISTS) == []
    changed = {line for line in after - released if "sluicegate_" in line}
    assert not any(name in line for line in changed for name in LISTS)
    assert not any("unknown_fields" in line or "invalid_identifiers" in line for line in changed)
    told = [json.loads(line) for line in world.output.getvalue().strip("\0").splitlines()]
    ended = [line for line in told if line["event"] == "exchange" and line["outcome"] == "released"]
    assert len(ended) == 4
    assert {(line["dataset"], line["records"]) for line in ended} == {(SET, 1)}


async def test_a_name_that_does_stand_there_is_found(world: SimulatedWorld) -> None:
    """The control: a list asked alone is named, as everything that is asked by its own name."""
    caller = world.caller("tradeplatform")
    await caller.ask_lists(defaulter(caller, world.companies[4].uscc))
    places = {place for place, _ in found_in(traces(world), (DEFAULTERS,))}
    assert {"audit.db", "operators' log"} <= places
    # But not what it told.
    assert found_in(traces(world), ("canary-of-a-class",)) == []


def traces(world: SimulatedWorld) -> dict[str, bytes]:
    """Return all that is kept, but what says which datasets there are: that tells of no question."""
    log = world.config.log.database
    found = {
        path.name: path.read_bytes()
        for path in log.parent.iterdir()
        if path.name.removesuffix("-wal").removesuffix("-shm") != log.name
    }
    with closing(sqlite3.connect(log)) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        rows = [row for table in tables for row in database.execute(f"SELECT * FROM {table}")]
    found[log.name] = b"\n".join(
        value if isinstance(value, bytes) else str(value).encode()
        for row in rows
        if not any(isinstance(value, bytes) and b'"kind":"dataset.described"' in value for value in row)
        for value in row
    )
    return found | {"operators' log": world.output.getvalue().encode()}


def found_in(places: dict[str, bytes], names: tuple[str, ...]) -> list[tuple[str, str]]:
    short = [name.rpartition("/")[2] for name in names]
    return [(place, name) for place, text in places.items() for name in short if name.encode() in text]


def exact_metrics(world: SimulatedWorld) -> set[str]:
    return set(world.metrics_text().splitlines())


@pytest.mark.timed
async def test_without_the_schedule_the_moment_would_tell(tmp_path) -> None:
    """The control: the same provider, and answers that leave as soon as they can.

    The last of the module, as its world takes the operators' log over.
    """
    world = SimulatedWorld(tmp_path / "world")
    await start_with_lists(world, on(LISTS, world.companies[1].uscc), answer_after_ms=1)
    try:
        world.registry.pause_s = slow_for_hits
        assert await telling(world) > 0.9
    finally:
        await world.stop()
