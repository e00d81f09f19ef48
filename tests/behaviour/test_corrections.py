"""Whoever received a record hears that it was corrected, is told no more than it got, and answers for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.client import ClientError, error_class
from gateway.client.corrections import ReceivedNotice
from gateway.corrections.database import corrections_file
from gateway.demo.world import ARREARS, COMPANIES
from gateway.errors import Reason
from gateway.evidence import dsse
from gateway.evidence.correction import (
    AnswerOutcome,
    payload_digest,
)
from gateway.model import EntryKind, MemberState, Role, Subject
from gateway.pseudonym import Keyring
from tests.simulators.correcting import (
    CREDIT,
    WITHDRAWN,
    announce,
    ask,
    correcting_world,
    key,
    kinds,
    recipients,
    stored,
    unwritable,
    waiting,
)
from tests.simulators.log_faults import entries_refused
from tests.simulators.waiting import until
from tests.simulators.world import SimulatedWorld

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def world(tmp_path: Path) -> AsyncIterator[SimulatedWorld]:
    async with correcting_world(tmp_path / "world") as world:
        yield world


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


@pytest.mark.timed
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
