"""Whoever received a record hears that it was corrected, is told no more than it got, and answers for it."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.api.v1 import correction_service_pb2 as api
from gateway.client import AsyncClient, ClientError, error_class
from gateway.client.corrections import ReceivedNotice
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
    CorrectionKind,
    CorrectionReason,
    payload_digest,
    sign_answer,
    sign_correction,
)
from gateway.evidence.keys import SigningKey
from gateway.model import EntryKind, MemberState, Role, Subject
from gateway.pseudonym import Keyring
from tests.simulators.log_faults import entries_refused
from tests.simulators.outcome import Refusal, refused
from tests.simulators.waiting import until
from tests.simulators.world import SimulatedWorld

pytestmark = pytest.mark.asyncio(loop_scope="module")

ANNOUNCE = "/gateway.api.v1.CorrectionService/AnnounceCorrection"
ACKNOWLEDGE = "/gateway.api.v1.CorrectionService/AcknowledgeCorrection"
CREDIT = {"purpose": "credit-check", "legal_basis": "credit-reporting-act-14"}
WITHDRAWN = CorrectionKind.WITHDRAWN, CorrectionReason.COURT_ORDER


def describe(world: SimulatedWorld, fields: str = "uscc,representative_id") -> None:
    """Have the registry's companies ask for corrections."""
    path = world.config.catalogue / "registry-companies.yaml"
    text = path.read_text()
    asked = f'  - {{property: corrections, value: "{fields}"}}\n'
    path.write_text(text.replace("  - {property: tier", f"{asked}  - {{property: tier", 1))


@pytest_asyncio.fixture(loop_scope="module")
async def world(tmp_path: Path) -> AsyncIterator[SimulatedWorld]:
    world = SimulatedWorld(tmp_path / "world")
    describe(world)
    await world.start()
    try:
        yield world
        world.log.verify()
        told = "\n".join(encode_canonical(entry).decode() for entry in world.log.entries())
        told += world.output.getvalue() + world.metrics_text()
        for company in world.companies:
            assert company.uscc not in told
            assert company.representative_id not in told
    finally:
        await world.stop()


async def ask(world: SimulatedWorld, member: str, number: int, **parts: str) -> Any:
    """Ask for one company: publicly, or for credit, where the representative comes as a pseudonym."""
    if parts:
        parts["memorandum"] = f"registry-{member}"
    return await world.client(member).query(
        COMPANIES,
        **{"purpose": "public-lookup", **parts},
        filters={"uscc": world.companies[number].uscc},
    )


def key(world: SimulatedWorld, number: int) -> dict[str, str]:
    company = world.companies[number]
    return {"uscc": company.uscc, "representative_id": company.representative_id}


async def announce(world: SimulatedWorld, *numbers: int) -> api.Correction:
    records = [key(world, number) for number in numbers]
    return await world.client("registry").corrections.announce(COMPANIES, *WITHDRAWN, records)


async def waiting(client: AsyncClient, after: int = 0) -> list[ReceivedNotice]:
    return [item async for item in client.corrections.waiting(after)]


def recipients(correction: api.Correction) -> list[str]:
    return [item.member for item in correction.recipients]


def kinds(world: SimulatedWorld, correction: api.Correction) -> list[EntryKind]:
    return [entry.kind for entry in world.log.entries() if entry.subject == correction.name]


# -- who is told, and what ----------------------------------------------------------------------------


async def test_exactly_those_who_received_the_record_are_told(world: SimulatedWorld) -> None:
    for member in ("harbour-bank", "northern-bank"):
        await ask(world, member, 1)
    await ask(world, "tradeplatform", 2)
    correction = await announce(world, 1)
    assert recipients(correction) == ["members/harbour-bank", "members/northern-bank"]
    for member in ("harbour-bank", "northern-bank"):
        [received] = await waiting(world.client(member))
        assert received.notice.recipient == member
        assert received.notice.correction == correction.name.removeprefix("corrections/")
        assert (received.notice.kind, received.notice.reason) == WITHDRAWN
    assert await waiting(world.client("tradeplatform")) == []
    assert recipients(await announce(world, 2)) == ["members/tradeplatform"], "the control"


async def test_a_recipient_is_told_the_key_as_it_got_it(world: SimulatedWorld) -> None:
    """P4, P6: raw where it was released, its own pseudonym where that was, nothing where nothing."""
    seen = {}
    for member in ("harbour-bank", "northern-bank"):
        [seen[member]] = (await ask(world, member, 1, **CREDIT)).records
    await ask(world, "tradeplatform", 1)
    correction = await announce(world, 1)
    assert len(correction.recipients) == 3
    company = world.companies[1]
    for member, record in seen.items():
        [received] = await waiting(world.client(member))
        [group] = received.notice.releases
        assert group.keys == ({"uscc": company.uscc, "representative_id": record["representative_id"]},)
        assert record["representative_id"].startswith(f"sg1:{member}.credit-check:")
        assert [item.records for item in group.exchanges] == [1]
        assert company.representative_id.encode() not in received.payload
    [public] = await waiting(world.client("tradeplatform"))
    [group] = public.notice.releases
    assert group.keys == ({"uscc": company.uscc},)
    pseudonyms = {record["representative_id"] for record in seen.values()}
    assert len(pseudonyms) == 2


async def test_what_named_the_record_and_was_not_asked_for_is_not_told(world: SimulatedWorld) -> None:
    page = await world.client().query(
        COMPANIES,
        purpose="public-lookup",
        filters={"name": world.companies[3].name},
        fields=["name", "status"],
    )
    assert page.verified is not None
    await announce(world, 3)
    [received] = await waiting(world.client())
    [group] = received.notice.releases
    assert group.keys == ()
    assert [(item.exchange, item.records) for item in group.exchanges] == [(page.verified.entry.exchange, 1)]
    assert world.companies[3].uscc.encode() not in received.payload


async def test_a_match_is_corrected_without_naming_the_record_and_a_no_never(world: SimulatedWorld) -> None:
    async def match(member: str, name: str) -> bool:
        answer = await world.client(member).match(
            COMPANIES,
            purpose="public-lookup",
            subject=Subject("uscc", world.companies[4].uscc),
            match={"name": name},
        )
        return bool(answer)

    assert await match("harbour-bank", world.companies[4].name)
    assert not await match("northern-bank", "Another Company")
    correction = await announce(world, 4)
    assert recipients(correction) == ["members/harbour-bank"]
    [received] = await waiting(world.client())
    assert [(group.keys, len(group.exchanges)) for group in received.notice.releases] == [((), 1)]
    rows = stored(world, "SELECT consumer, form, length(tokens) FROM recipient")
    assert rows == [("harbour-bank", "bit", 16), ("northern-bank", "bit", 16)], "a no looks like a yes"


async def test_pages_of_a_stream_are_found(world: SimulatedWorld) -> None:
    client = world.client()
    async for _ in client.stream(COMPANIES, purpose="public-lookup", page_size=20):
        pass
    assert stored(world, "SELECT page, records FROM recipient") == [(0, 20), (1, 20), (2, 20)]
    await announce(world, 5, 30, 31, 59)
    [received] = await waiting(client)
    [group] = received.notice.releases
    assert {item["uscc"] for item in group.keys} == {world.companies[at].uscc for at in (5, 30, 31, 59)}
    assert [item.records for item in group.exchanges] == [4]


async def test_other_spellings_name_the_same_record(world: SimulatedWorld) -> None:
    await ask(world, "harbour-bank", 1)
    spelled = {name: f" {value.lower()} " for name, value in key(world, 1).items()}
    correction = await world.client("registry").corrections.announce(COMPANIES, *WITHDRAWN, [spelled])
    assert len(correction.recipients) == 1


async def test_ten_thousand_records_are_announced_at_once(world: SimulatedWorld) -> None:
    await ask(world, "harbour-bank", 1)
    records = [{"uscc": f"unknown {number}", "representative_id": "?"} for number in range(9_999)]
    client = world.client("registry")
    correction = await client.corrections.announce(COMPANIES, *WITHDRAWN, [*records, key(world, 1)])
    assert (correction.record_count, len(correction.recipients)) == (10_000, 1)
    with pytest.raises(error_class(Reason.STATEMENT_MALFORMED)):
        await client.corrections.announce(COMPANIES, *WITHDRAWN, [*records, key(world, 1), key(world, 2)])


# -- what left, and what did not ------------------------------------------------------------------------


async def test_a_page_whose_entry_never_came_is_not_corrected(world: SimulatedWorld) -> None:
    """Whoever got nothing must not learn from a correction what there was. Control: the row is there."""
    with (
        entries_refused(world.config.log.database, EntryKind.EXCHANGE_RELEASED),
        pytest.raises(ClientError),
    ):
        await ask(world, "harbour-bank", 1)
    assert len(stored(world, "SELECT exchange FROM recipient")) == 1

    world.clock.advance(timedelta(minutes=30))
    assert recipients(await announce(world, 1)) == []
    await ask(world, "harbour-bank", 1)
    assert len((await announce(world, 1)).recipients) == 1


async def test_without_the_register_nothing_leaves(world: SimulatedWorld) -> None:
    """P1, P8. Control: datasets that do not ask for it are served; and all are once it can be written."""
    with unwritable(world):
        with pytest.raises(error_class(Reason.CORRECTIONS_UNAVAILABLE)) as refusal:
            await ask(world, "harbour-bank", 1)
        page = await world.client().query(
            ARREARS,
            **CREDIT,
            memorandum="tax-harbour-bank",
            subjects=[Subject("uscc", world.companies[0].uscc)],
        )
        assert page.verified is not None
    assert [entry.kind for entry in world.log.of_exchange(refusal.value.exchange)] == [
        EntryKind.EXCHANGE_REQUESTED,
        EntryKind.EXCHANGE_FAILED,
    ]
    await ask(world, "harbour-bank", 1)


async def test_nothing_in_the_register_names_anybody(world: SimulatedWorld) -> None:
    """P5, also of notices that wait; control: what may stand there is found."""
    await ask(world, "harbour-bank", 1, **CREDIT)
    await announce(world, 1)
    path = corrections_file(world.config.log.database)
    content = b"".join(file.read_bytes() for file in path.parent.glob(f"{path.name}*"))
    assert b"harbour-bank" in content
    company = world.companies[1]
    for value in (company.uscc, company.representative_id, company.name, "sg1:"):
        assert value.encode() not in content
    assert path.stat().st_mode & 0o077 == 0


# -- delivering and answering ---------------------------------------------------------------------------


async def test_every_step_stands_in_the_log_with_the_recipients_word(world: SimulatedWorld) -> None:
    client = world.client()
    await ask(world, "harbour-bank", 1)
    correction = await announce(world, 1)
    [received] = await waiting(client)
    # Seen again, and delivered once.
    assert [item.payload for item in await waiting(client)] == [received.payload]
    answered = await client.corrections.answer(received, AnswerOutcome.DELETED)
    assert kinds(world, correction) == [
        EntryKind.CORRECTION_ANNOUNCED,
        EntryKind.CORRECTION_DELIVERED,
        EntryKind.CORRECTION_ACKNOWLEDGED,
    ]
    told, delivered, acknowledged = (
        entry for entry in world.log.entries() if entry.subject == correction.name
    )
    assert (told.provider, told.records, told.dataset) == ("registry", 1, COMPANIES)
    assert told.detail["recipients"] == told.detail["exchanges"] == "1"
    assert delivered.commitments["notice"] == payload_digest(received.payload)
    assert acknowledged == answered.entry
    envelope = dsse.envelope_from_json(acknowledged.acknowledgement.encode())
    assert json.loads(envelope.payload)["outcome"] == acknowledged.detail["outcome"] == "deleted"
    assert await waiting(client) == []
    assert stored(world, "SELECT content FROM correction_notice") == [(None,)]


async def test_a_correction_reaches_a_stream_that_is_open(world: SimulatedWorld) -> None:
    await ask(world, "harbour-bank", 1)
    client, heard = world.client(), asyncio.Queue[ReceivedNotice]()

    async def listen() -> None:
        async for item in client.corrections.watch():
            await heard.put(item)

    listening = asyncio.create_task(listen())
    try:
        first = await announce(world, 1)
        async with asyncio.timeout(2):
            received = await heard.get()
        assert received.notice.correction in first.name
        second = await announce(world, 1)
        async with asyncio.timeout(2):
            later = await heard.get()
        assert later.notice.correction in second.name
        assert [item.position for item in await waiting(client, received.position)] == [later.position]
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def test_what_waits_survives_a_restart_and_so_does_an_answer(world: SimulatedWorld) -> None:
    await ask(world, "harbour-bank", 1)
    await announce(world, 1)
    await world.restart_node()
    [received] = await waiting(world.client())
    await world.client().corrections.answer(received, AnswerOutcome.DONE)
    await world.restart_node()
    assert await waiting(world.client()) == []
    with pytest.raises(error_class(Reason.REPLAYED)):
        await world.client().corrections.answer(received, AnswerOutcome.DONE)


async def test_a_rotation_of_keys_changes_nothing_of_what_was_received(world: SimulatedWorld) -> None:
    """The recipient is told the pseudonym of then, whose epoch is over."""
    [record] = (await ask(world, "harbour-bank", 1, **CREDIT)).records
    path = world.config.keys.keyring
    rotated = Keyring.load(path).rotate(world.clock(), timedelta(0))
    rotated.save(path, replace_existing=True)
    world.clock.advance(timedelta(seconds=1))
    await world.restart_node()
    [later] = (await ask(world, "harbour-bank", 1, **CREDIT)).records
    await announce(world, 1)
    [received] = await waiting(world.client())
    told = {group.keys[0]["representative_id"] for group in received.notice.releases}
    assert told == {record["representative_id"], later["representative_id"]}
    assert len(told) == 2, "the control"


async def test_a_suspended_member_gets_nothing(world: SimulatedWorld) -> None:
    """P11: also on a stream that is open. Control: once it is served again, it is told."""
    await ask(world, "harbour-bank", 1)
    client, heard = world.client(), []

    async def listen() -> None:
        heard.extend([item async for item in client.corrections.watch()])

    listening = asyncio.create_task(listen())
    await asyncio.sleep(0)
    await world.set_state("harbour-bank", MemberState.SUSPENDED)
    with pytest.raises(error_class(Reason.MEMBER_SUSPENDED)):
        async with asyncio.timeout(3):
            await listening
    correction = await announce(world, 1)
    assert heard == []
    with pytest.raises(error_class(Reason.MEMBER_SUSPENDED)):
        await waiting(client)
    [state] = (await world.client("registry").corrections.list())[0].recipients
    assert (state.delivered, state.outcome) == ("", "")
    await world.set_state("harbour-bank", MemberState.ACTIVE)

    async def is_told() -> bool:
        try:
            return [item.notice.correction for item in await waiting(client)] == [
                correction.name.removeprefix("corrections/")
            ]
        except ClientError:
            return False

    await until(is_told)


async def test_the_announcer_and_auditors_see_what_is_open_and_nobody_else(world: SimulatedWorld) -> None:
    world.add_member("auditor", roles=frozenset({Role.AUDITOR}))
    for member in ("harbour-bank", "northern-bank"):
        await ask(world, member, 1)
    correction = await announce(world, 1)
    [received] = await waiting(world.client())
    await world.client().corrections.answer(received, AnswerOutcome.NOT_HELD)

    async def seen(member: str) -> list[list[tuple[str, str]]]:
        return [
            [(item.member, item.outcome) for item in each.recipients]
            for each in await world.client(member).corrections.list()
        ]

    expected = [[("members/harbour-bank", "not-held"), ("members/northern-bank", "")]]
    assert await seen("registry") == expected

    async def auditor_sees() -> bool:
        try:
            return await seen("auditor") == expected
        except ClientError:
            return False

    await until(auditor_sees)
    assert await seen("harbour-bank") == await seen("tax") == []
    assert correction.entry_index == world.log.entries().index(
        next(entry for entry in world.log.entries() if entry.subject == correction.name)
    )


async def test_open_and_overdue_corrections_are_counted(world: SimulatedWorld) -> None:
    await ask(world, "harbour-bank", 1)
    await announce(world, 1)
    await until(lambda: "sluicegate_corrections_open 1.0" in world.metrics_text(), within_s=10)
    assert "sluicegate_corrections_overdue 0.0" in world.metrics_text()
    world.clock.advance(timedelta(days=8))
    await until(lambda: "sluicegate_corrections_overdue 1.0" in world.metrics_text(), within_s=10)


async def test_recipients_of_long_ago_are_forgotten(world: SimulatedWorld) -> None:
    """Control: within the period they are told."""
    path = world.deployment.config
    path.write_text(path.read_text().replace("remember_days = 1095", "remember_days = 2"))
    await ask(world, "harbour-bank", 1)
    world.clock.advance(timedelta(days=1))
    # It is done at the start, and every hour.
    await world.restart_node()
    assert len((await announce(world, 1)).recipients) == 1
    world.clock.advance(timedelta(days=1, minutes=1))
    await world.restart_node()
    await until(lambda: not stored(world, "SELECT id FROM recipient"))
    assert len((await announce(world, 1)).recipients) == 0


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


def stored(world: SimulatedWorld, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(corrections_file(world.config.log.database))) as database:
        return database.execute(query).fetchall()


def change(world: SimulatedWorld, statement: str) -> None:
    path = corrections_file(world.config.log.database)
    with closing(sqlite3.connect(path, timeout=5)) as database, database:
        database.execute(statement)


@contextmanager
def unwritable(world: SimulatedWorld) -> Iterator[None]:
    """Make the register refuse every row while the block runs."""
    change(world, "CREATE TRIGGER refused BEFORE INSERT ON recipient BEGIN SELECT RAISE(ABORT, 'no'); END")
    try:
        yield
    finally:
        change(world, "DROP TRIGGER refused")
