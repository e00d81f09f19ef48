"""What others may try with corrections, and what a crash between two steps leaves behind."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.api.v1 import correction_service_pb2 as api
from gateway.client import ClientError, error_class
from gateway.client.wire import envelope_to_wire
from gateway.corrections.database import corrections_file
from gateway.corrections.watching import MAX_STREAMS
from gateway.demo.world import ARREARS, COMPANIES
from gateway.errors import Reason
from gateway.evidence import dsse
from gateway.evidence.canonical import encode_canonical
from gateway.evidence.correction import (
    CORRECTION_TYPE,
    AnswerOutcome,
    sign_answer,
    sign_correction,
)
from gateway.evidence.keys import SigningKey
from gateway.model import EntryKind
from tests.simulators.correcting import (
    ACKNOWLEDGE,
    ANNOUNCE,
    WITHDRAWN,
    announce,
    ask,
    change,
    correcting_world,
    key,
    stored,
    waiting,
)
from tests.simulators.log_faults import entries_refused
from tests.simulators.outcome import Refusal, refused
from tests.simulators.waiting import until
from tests.simulators.world import SimulatedWorld

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def world(tmp_path: Path) -> AsyncIterator[SimulatedWorld]:
    async with correcting_world(tmp_path / "world") as world:
        yield world


# -- what others may try --------------------------------------------------------------------------------


async def send(world: SimulatedWorld, envelope: dsse.Envelope, member: str, method: str = ANNOUNCE) -> Any:
    message = api.AnnounceCorrectionRequest(envelope=envelope_to_wire(envelope))
    return await world.caller(member).unary(method, message.SerializeToString())


def sealed(world: SimulatedWorld, member: str = "registry", **changes: Any) -> dsse.Envelope:
    signer = SigningKey.load(world.members[member].signing_key)
    envelope = sign_correction(
        world.trust.origin, COMPANIES, *WITHDRAWN, [key(world, 1)], signer, world.clock()
    )
    statement = {**json.loads(envelope.payload), **changes}
    return dsse.sign(encode_canonical(statement), CORRECTION_TYPE, [signer])


def assert_refused(world: SimulatedWorld, refusal: Refusal, reason: Reason) -> Any:
    assert refusal.reason == reason
    assert refusal.entry is not None
    [entry] = world.log.entries(refusal.entry)[:1]
    assert (entry.kind, entry.reasons) == (EntryKind.CORRECTION_REFUSED, (reason.value,))
    return entry


async def test_only_the_holder_announces_and_each_refusal_is_recorded(world: SimulatedWorld) -> None:
    refusal = await refused(send(world, sealed(world, "tax"), "tax"))
    entry = assert_refused(world, refusal, Reason.ROLE_MISSING)
    assert (entry.consumer, entry.dataset) == ("tax", COMPANIES)
    assert_refused(world, await refused(send(world, sealed(world), "tax")), Reason.SIGNATURE_FOREIGN)
    await send(world, sealed(world), "registry")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"gateway": "audit.elsewhere.example/log/x"}, Reason.STATEMENT_AUDIENCE),
        ({"time": "2026-01-01T00:00:00.000000Z"}, Reason.STATEMENT_STALE),
        ({"time": "2099-01-01T00:00:00.000000Z"}, Reason.CLOCK_SKEW),
        ({"effective": "yesterday"}, Reason.STATEMENT_MALFORMED),
        ({"kind": "improved"}, Reason.STATEMENT_MALFORMED),
        ({"reason": "because of somebody"}, Reason.STATEMENT_MALFORMED),
        ({"records": []}, Reason.STATEMENT_MALFORMED),
        ({"records": [{"uscc": "x"}]}, Reason.STATEMENT_MALFORMED),
        ({"records": [{"uscc": "x", "name": "y"}]}, Reason.STATEMENT_MALFORMED),
        ({"nonce": "short"}, Reason.STATEMENT_MALFORMED),
        ({"more": 1}, Reason.STATEMENT_MALFORMED),
        ({"dataset": "members/registry/datasets/secrets"}, Reason.DATASET_UNKNOWN),
    ],
)
async def test_a_malformed_or_foreign_announcement_is_refused(
    world: SimulatedWorld, changes: dict[str, Any], reason: Reason
) -> None:
    assert_refused(world, await refused(send(world, sealed(world, **changes), "registry")), reason)


async def test_a_dataset_that_does_not_ask_for_it_has_no_corrections(world: SimulatedWorld) -> None:
    envelope = sealed(world, "tax", dataset=ARREARS)
    assert_refused(world, await refused(send(world, envelope, "tax")), Reason.CORRECTIONS_NOT_KEPT)


async def test_an_announcement_counts_once(world: SimulatedWorld) -> None:
    await ask(world, "harbour-bank", 1)
    envelope = sealed(world)
    await send(world, envelope, "registry")
    assert_refused(world, await refused(send(world, envelope, "registry")), Reason.REPLAYED)
    assert len(await waiting(world.client())) == 1


async def test_another_member_cannot_answer(world: SimulatedWorld) -> None:
    await ask(world, "harbour-bank", 1)
    await announce(world, 1)
    [received] = await waiting(world.client())
    signer = SigningKey.load(world.members["northern-bank"].signing_key)
    foreign = sign_answer(received.notice, received.payload, AnswerOutcome.DONE, signer, world.clock())
    refusal = await refused(send(world, foreign, "northern-bank", ACKNOWLEDGE))
    assert_refused(world, refusal, Reason.CORRECTION_NOT_FOUND)
    refusal = await refused(send(world, foreign, "harbour-bank", ACKNOWLEDGE))
    assert_refused(world, refusal, Reason.SIGNATURE_FOREIGN)
    own = SigningKey.load(world.members["harbour-bank"].signing_key)
    other = sign_answer(received.notice, b"another notice", AnswerOutcome.DONE, own, world.clock())
    refusal = await refused(send(world, other, "harbour-bank", ACKNOWLEDGE))
    assert_refused(world, refusal, Reason.RELEASE_MISMATCH)
    assert len(await waiting(world.client())) == 1


async def test_a_member_holds_few_streams_open(world: SimulatedWorld) -> None:
    client = world.client()
    stub = client.corrections._stub
    calls = [stub.WatchCorrections(api.WatchCorrectionsRequest(), timeout=30) for _ in range(MAX_STREAMS)]
    for call in calls:
        assert not (await call.read()).HasField("notice")
    with pytest.raises(error_class(Reason.OVERLOADED)):
        await waiting(client)
    calls[0].cancel()

    async def has_room() -> bool:
        try:
            return await waiting(client) == []
        except ClientError:
            return False

    await until(has_room)
    for call in calls:
        call.cancel()


# -- crashes between two steps --------------------------------------------------------------------------


async def test_an_announcement_whose_entry_never_came_is_forgotten(world: SimulatedWorld) -> None:
    """Control: with its entry in the log, what was left prepared is published."""
    await ask(world, "harbour-bank", 1)
    with (
        entries_refused(world.config.log.database, EntryKind.CORRECTION_ANNOUNCED),
        pytest.raises(ClientError),
    ):
        await announce(world, 1)
    assert await waiting(world.client()) == []
    assert len(stored(world, "SELECT id FROM correction WHERE entry IS NULL")) == 1
    world.clock.advance(timedelta(minutes=2))
    await until(lambda: not stored(world, "SELECT id FROM correction"), within_s=15)
    assert await waiting(world.client()) == []

    correction = await announce(world, 1)
    change(world, "UPDATE correction SET entry = NULL")
    change(world, "UPDATE correction_notice SET position = NULL")
    assert await waiting(world.client()) == []
    world.clock.advance(timedelta(minutes=2))
    await until(lambda: stored(world, "SELECT entry FROM correction WHERE entry IS NOT NULL"), within_s=30)
    [received] = await waiting(world.client())
    assert received.entry == correction.entry_index


async def test_an_answer_that_only_the_log_has_is_settled_by_the_next(world: SimulatedWorld) -> None:
    await ask(world, "harbour-bank", 1)
    await announce(world, 1)
    client = world.client()
    [received] = await waiting(client)
    before = stored(world, "SELECT content FROM correction_notice")
    await client.corrections.answer(received, AnswerOutcome.DELETED)
    with closing(sqlite3.connect(corrections_file(world.config.log.database))) as database, database:
        database.execute("UPDATE correction_notice SET outcome = '', answered = '', content = ?", before[0])
    with pytest.raises(error_class(Reason.REPLAYED)):
        await client.corrections.answer(received, AnswerOutcome.DONE)
    assert stored(world, "SELECT outcome, content FROM correction_notice") == [("deleted", None)]


async def test_a_notice_that_somebody_changed_is_not_delivered(world: SimulatedWorld) -> None:
    await ask(world, "harbour-bank", 1)
    await announce(world, 1)
    change(world, "UPDATE correction_notice SET content = randomblob(200)")
    with pytest.raises(error_class(Reason.CORRECTIONS_UNAVAILABLE)):
        await waiting(world.client())
