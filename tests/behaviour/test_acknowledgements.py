"""The recipient signs for what it received: the log keeps its word, and nobody else's under its name."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import timedelta
from typing import Any

import grpc
import msgspec
import pytest

from gateway.api.v1 import exchange_service_pb2 as api
from gateway.audit.acknowledgement import (
    ACKNOWLEDGEABLE,
    ACKNOWLEDGEMENT_TYPE,
    Acknowledgement,
    open_acknowledgement,
    sign_acknowledgement,
    verify_acknowledged,
)
from gateway.audit.proof import TlogProof
from gateway.client import Page, ReceiptInvalidError, error_class
from gateway.client.errors import ClientError
from gateway.demo.world import COMPANIES
from gateway.errors import GatewayError, Reason
from gateway.evidence import dsse
from gateway.evidence.canonical import encode_canonical
from gateway.evidence.keys import SigningKey
from gateway.model import EntryKind, MemberState, Subject
from tests.simulators.log_faults import entries_refused
from tests.simulators.outcome import Refusal, reason_of, refused
from tests.simulators.waiting import until
from tests.simulators.world import SimulatedWorld

pytestmark = pytest.mark.asyncio(loop_scope="module")

ACKNOWLEDGE = "/gateway.api.v1.ExchangeService/AcknowledgeExchange"


async def a_page(world: SimulatedWorld, member: str = "harbour-bank", **options: Any) -> Page:
    return await world.client(member).query(
        COMPANIES, purpose="public-lookup", filters={"uscc": world.companies[0].uscc}, **options
    )


def key_of(world: SimulatedWorld, member: str = "harbour-bank") -> SigningKey:
    return SigningKey.load(world.members[member].signing_key)


def sealed(world: SimulatedWorld, page: Page, member: str = "harbour-bank", **changes: Any) -> dsse.Envelope:
    """Return the acknowledgement of `page`, with some members changed, signed by `member`."""
    assert page.receipt is not None
    assert page.verified is not None
    key = key_of(world, member)
    envelope = sign_acknowledgement(page.receipt, page.verified, key, world.clock())
    statement = {**json.loads(envelope.payload), **changes}
    return dsse.sign(encode_canonical(statement), ACKNOWLEDGEMENT_TYPE, [key])


async def send(
    world: SimulatedWorld, envelope: dsse.Envelope, member: str = "harbour-bank", **options: Any
) -> api.AcknowledgeExchangeResponse:
    caller = world.caller(member)
    body = api.AcknowledgeExchangeRequest(envelope={"payload_type": envelope.payload_type})
    body.envelope.payload = envelope.payload
    for signature in envelope.signatures:
        body.envelope.signatures.add(keyid=signature.keyid, sig=signature.sig)
    answer: bytes = await caller.unary(ACKNOWLEDGE, body.SerializeToString(), **options)
    return api.AcknowledgeExchangeResponse.FromString(answer)


def assert_refused(world: SimulatedWorld, refusal: Refusal, code: str, reason: Reason) -> Any:
    """Fail unless the refusal is as it must be and stands in the log; return its entry."""
    assert (refusal.code, refusal.reason) == (code, reason)
    assert refusal.entry is not None
    [entry] = world.log.entries(refusal.entry)[:1]
    assert entry.kind is EntryKind.ACKNOWLEDGEMENT_REFUSED
    assert entry.reasons == (reason.value,)
    return entry


def acknowledged(world: SimulatedWorld, page: Page) -> list[Any]:
    assert page.verified is not None
    return [
        entry
        for entry in world.log.of_exchange(page.verified.entry.exchange)
        if entry.kind is EntryKind.EXCHANGE_ACKNOWLEDGED
    ]


# -- what goes right -------------------------------------------------------------------------------


async def test_an_acknowledgement_stands_in_the_log_as_it_was_signed(world: SimulatedWorld) -> None:
    page = await a_page(world)
    found = await world.client().acknowledge(page.receipt)
    [entry] = acknowledged(world, page)
    assert found.entry == entry == world.log.entries(found.index)[0]
    assert entry.acknowledges == page.verified.index
    assert (entry.consumer, entry.provider) == ("harbour-bank", "registry")
    envelope = dsse.envelope_from_json(entry.acknowledgement.encode())
    opened = open_acknowledgement(envelope, {key_of(world).key_id: key_of(world).verify_key})
    assert opened.statement.receipt == entry.commitments["receipt"]
    assert opened.key_id == entry.envelope_key
    assert TlogProof.from_text(found.tlog_proof).index == found.index


async def test_nothing_is_acknowledged_unless_it_is_asked_for(world: SimulatedWorld) -> None:
    page = await a_page(world)
    assert page.acknowledged is None
    assert acknowledged(world, page) == []


async def test_queries_streams_and_matches_are_acknowledged_on_arrival(world: SimulatedWorld) -> None:
    client = world.client()
    page = await a_page(world, acknowledge=True)
    *_, summary = [
        answer
        async for answer in client.stream(COMPANIES, purpose="public-lookup", page_size=20, acknowledge=True)
    ]
    match = await client.match(
        COMPANIES,
        purpose="public-lookup",
        subject=Subject("uscc", world.companies[0].uscc),
        match={"name": world.companies[0].name},
        acknowledge=True,
    )
    for answer in (page, summary, match):
        assert answer.acknowledged.entry.acknowledges == answer.verified.index
    envelope = json.loads(acknowledged(world, summary)[0].acknowledgement)
    statement = json.loads(base64.b64decode(envelope["payload"]))
    assert (statement["pages"], statement["records"]) == (3, len(world.companies))


async def test_what_does_not_verify_is_not_acknowledged(world: SimulatedWorld) -> None:
    page, other = await a_page(world), await a_page(world)
    mixed = msgspec.structs.replace(page.receipt, tlog_proof=other.receipt.tlog_proof)
    with pytest.raises(ReceiptInvalidError):
        await world.client().acknowledge(mixed)
    assert acknowledged(world, page) == acknowledged(world, other) == []


async def test_an_unverified_answer_is_not_acknowledged(world: SimulatedWorld) -> None:
    size = world.log.size()
    with pytest.raises(ClientError, match="not verified"):
        await world.client(verify=False).query(
            COMPANIES, purpose="public-lookup", filters={"kind": "none"}, acknowledge=True
        )
    assert {entry.kind for entry in world.log.entries(size)} == {
        EntryKind.EXCHANGE_REQUESTED,
        EntryKind.EXCHANGE_RELEASED,
    }


# -- what others may try ---------------------------------------------------------------------------


async def test_a_replayed_acknowledgement_is_refused(world: SimulatedWorld) -> None:
    """Control: the same bytes were accepted the first time."""
    page = await a_page(world)
    envelope = sealed(world, page)
    assert (await send(world, envelope)).entry_index == world.log.size() - 1
    refusal = await refused(send(world, envelope))
    assert_refused(world, refusal, "ALREADY_EXISTS", Reason.REPLAYED)
    with pytest.raises(error_class(Reason.REPLAYED)):
        await world.client().acknowledge(page.receipt)
    assert len(acknowledged(world, page)) == 1


async def test_of_many_at_once_one_is_accepted(world: SimulatedWorld) -> None:
    page = await a_page(world)
    outcomes = await asyncio.gather(
        *(send(world, sealed(world, page)) for _ in range(8)), return_exceptions=True
    )
    assert sum(isinstance(outcome, api.AcknowledgeExchangeResponse) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, grpc.aio.AioRpcError) for outcome in outcomes) == 7
    assert len(acknowledged(world, page)) == 1


async def test_a_replay_is_refused_after_a_restart(own_world: SimulatedWorld) -> None:
    page = await a_page(own_world)
    await send(own_world, sealed(own_world, page))
    await own_world.restart_node()
    refusal = await refused(send(own_world, sealed(own_world, page)))
    assert_refused(own_world, refusal, "ALREADY_EXISTS", Reason.REPLAYED)


async def test_another_member_cannot_acknowledge_with_its_own_key(world: SimulatedWorld) -> None:
    """It is answered as for what is not there; officers see who tried. Control: the recipient can."""
    page = await a_page(world)
    refusal = await refused(send(world, sealed(world, page, "northern-bank"), "northern-bank"))
    entry = assert_refused(world, refusal, "NOT_FOUND", Reason.ENTRY_NOT_FOUND)
    assert (entry.consumer, entry.acknowledges) == ("northern-bank", page.verified.index)
    assert entry.exchange == page.verified.entry.exchange
    absent = await refused(send(world, sealed(world, page, "northern-bank", index=10**9), "northern-bank"))
    assert absent.message == refusal.message
    await send(world, sealed(world, page))


async def test_another_member_cannot_pass_on_the_recipients_signature(world: SimulatedWorld) -> None:
    page = await a_page(world)
    refusal = await refused(send(world, sealed(world, page), "northern-bank"))
    assert_refused(world, refusal, "UNAUTHENTICATED", Reason.SIGNATURE_FOREIGN)
    assert acknowledged(world, page) == []


async def test_the_recipients_certificate_is_not_enough(world: SimulatedWorld) -> None:
    """Whoever stole the connection's key lacks the signing key."""
    page = await a_page(world)
    refusal = await refused(send(world, sealed(world, page, "northern-bank"), "harbour-bank"))
    assert_refused(world, refusal, "UNAUTHENTICATED", Reason.SIGNATURE_FOREIGN)


@pytest.mark.parametrize(
    "changes",
    [
        {"exchange": "0195512e-0000-7000-8000-000000000000"},
        {"leaf_hash": "A" * 43 + "="},
        {"records": 7},
        {"pages": 2},
    ],
    ids=lambda changes: next(iter(changes)),
)
async def test_an_acknowledgement_of_something_else_is_refused(
    world: SimulatedWorld, changes: dict[str, Any]
) -> None:
    page = await a_page(world)
    refusal = await refused(send(world, sealed(world, page, **changes)))
    assert_refused(world, refusal, "FAILED_PRECONDITION", Reason.RELEASE_MISMATCH)
    assert acknowledged(world, page) == []


@pytest.mark.parametrize("offset", [-1, 1, 10**15])
async def test_an_index_that_is_no_release_of_ours_is_refused(world: SimulatedWorld, offset: int) -> None:
    """One before lies the request of the same exchange, which releases nothing."""
    page = await a_page(world)
    await world.client("northern-bank").query(COMPANIES, purpose="public-lookup", filters={"kind": "none"})
    refusal = await refused(send(world, sealed(world, page, index=page.verified.index + offset)))
    assert_refused(world, refusal, "NOT_FOUND", Reason.ENTRY_NOT_FOUND)


@pytest.mark.parametrize(
    ("changes", "code", "reason"),
    [
        ({"gateway": "audit.elsewhere.example/log/x"}, "UNAUTHENTICATED", Reason.STATEMENT_AUDIENCE),
        ({"time": "2026-01-01T00:00:00.000000Z"}, "UNAUTHENTICATED", Reason.STATEMENT_STALE),
        ({"time": "2099-01-01T00:00:00.000000Z"}, "UNAUTHENTICATED", Reason.CLOCK_SKEW),
        ({"time": "2026-01-01T00:00:00Z"}, "INVALID_ARGUMENT", Reason.STATEMENT_MALFORMED),
        ({"time": "yesterday"}, "INVALID_ARGUMENT", Reason.STATEMENT_MALFORMED),
        ({"v": 2}, "INVALID_ARGUMENT", Reason.STATEMENT_MALFORMED),
        ({"more": "anything"}, "INVALID_ARGUMENT", Reason.STATEMENT_MALFORMED),
        ({"index": -1}, "INVALID_ARGUMENT", Reason.STATEMENT_MALFORMED),
        ({"exchange": "11010119900307123X"}, "INVALID_ARGUMENT", Reason.STATEMENT_MALFORMED),
        ({"receipt": "?" * 44}, "INVALID_ARGUMENT", Reason.STATEMENT_MALFORMED),
    ],
)
async def test_a_malformed_or_foreign_statement_is_refused(
    world: SimulatedWorld, changes: dict[str, Any], code: str, reason: Reason
) -> None:
    page = await a_page(world)
    entry = assert_refused(world, await refused(send(world, sealed(world, page, **changes))), code, reason)
    assert "11010119900307123X" not in encode_canonical(entry).decode()


async def test_nothing_but_one_signature_comes_into_the_log(world: SimulatedWorld) -> None:
    page = await a_page(world)
    envelope = sealed(world, page)
    twice = dsse.Envelope(
        envelope.payload,
        envelope.payload_type,
        (*envelope.signatures, dsse.Signature("anything", b"anything")),
    )
    none = dsse.Envelope(envelope.payload, envelope.payload_type, ())
    spaced = dsse.sign(b" " + envelope.payload, ACKNOWLEDGEMENT_TYPE, [key_of(world)])
    query = dsse.sign(envelope.payload, dsse.payload_type("query"), [key_of(world)])
    for sent, code, reason in (
        (twice, "UNAUTHENTICATED", Reason.SIGNATURE_INVALID),
        (none, "UNAUTHENTICATED", Reason.SIGNATURE_MISSING),
        (query, "UNAUTHENTICATED", Reason.SIGNATURE_INVALID),
        (spaced, "INVALID_ARGUMENT", Reason.STATEMENT_MALFORMED),
    ):
        assert_refused(world, await refused(send(world, sent)), code, reason)
    assert acknowledged(world, page) == []


async def test_a_call_without_a_deadline_or_with_rubbish_leaves_an_entry(world: SimulatedWorld) -> None:
    page = await a_page(world)
    refusal = await refused(send(world, sealed(world, page), timeout_s=None))
    assert_refused(world, refusal, "INVALID_ARGUMENT", Reason.DEADLINE_MISSING)
    refusal = await refused(world.caller().unary(ACKNOWLEDGE, b"\xff\xff"))
    assert_refused(world, refusal, "INVALID_ARGUMENT", Reason.REQUEST_MALFORMED)


async def test_a_stranger_is_refused_and_named_in_the_log(world: SimulatedWorld) -> None:
    stranger = world.caller(credentials=world.stranger())
    body = api.AcknowledgeExchangeRequest().SerializeToString()
    refusal = await refused(stranger.unary(ACKNOWLEDGE, body))
    entry = assert_refused(world, refusal, "UNAUTHENTICATED", Reason.MEMBER_UNKNOWN)
    assert "stranger" in entry.detail["uri"]


async def test_it_can_be_acknowledged_for_seven_days(own_world: SimulatedWorld) -> None:
    """Control: within that time the same is accepted."""
    early, late = await a_page(own_world), await a_page(own_world)
    own_world.clock.advance(ACKNOWLEDGEABLE - timedelta(minutes=1))
    await send(own_world, sealed(own_world, early))
    own_world.clock.advance(timedelta(minutes=2))
    refusal = await refused(send(own_world, sealed(own_world, late)))
    assert_refused(own_world, refusal, "FAILED_PRECONDITION", Reason.ACKNOWLEDGEMENT_LATE)
    refusal = await refused(send(own_world, sealed(own_world, early)))
    assert_refused(own_world, refusal, "FAILED_PRECONDITION", Reason.ACKNOWLEDGEMENT_LATE)


async def test_a_suspended_member_acknowledges_nothing(own_world: SimulatedWorld) -> None:
    page = await a_page(own_world)
    await own_world.set_state("harbour-bank", MemberState.SUSPENDED)

    async def is_suspended() -> bool:
        return (
            await reason_of(send(own_world, sealed(own_world, page, records=-1))) == Reason.MEMBER_SUSPENDED
        )

    await until(is_suspended)
    refusal = await refused(send(own_world, sealed(own_world, page)))
    assert_refused(own_world, refusal, "PERMISSION_DENIED", Reason.MEMBER_SUSPENDED)


async def test_without_a_log_there_is_no_acknowledgement(own_world: SimulatedWorld) -> None:
    """Control: once the log can be written again, the same acknowledgement is accepted."""
    page = await a_page(own_world)
    with entries_refused(own_world.config.log.database, EntryKind.EXCHANGE_ACKNOWLEDGED):
        refusal = await refused(send(own_world, sealed(own_world, page)))
    assert (refusal.code, refusal.reason) == ("UNAVAILABLE", Reason.LOG_UNAVAILABLE)
    await send(own_world, sealed(own_world, page))
    assert len(acknowledged(own_world, page)) == 1


# -- what the gateway may try ----------------------------------------------------------------------


async def test_a_gateway_that_did_not_log_it_is_found_out(world: SimulatedWorld) -> None:
    page, other = await a_page(world), await a_page(world)
    envelope = sealed(world, page)
    found = await send(world, envelope)
    verify_acknowledged(envelope, found.entry, found.tlog_proof, world.trust)
    second = await send(world, sealed(world, other))
    for entry, proof in (
        (second.entry, second.tlog_proof),
        (found.entry, second.tlog_proof),
        (found.entry.replace(b"harbour", b"another"), found.tlog_proof),
        (b"{}", found.tlog_proof),
        (encode_canonical(world.log.entries(page.verified.index)[0]), page.receipt.tlog_proof),
    ):
        with pytest.raises(GatewayError):
            verify_acknowledged(envelope, entry, proof, world.trust)


async def test_an_acknowledgement_names_no_values() -> None:
    """What goes into the log for ever is ids, digests, counts and a time."""
    assert set(Acknowledgement.__struct_fields__) == {
        "v", "gateway", "exchange", "index", "leaf_hash", "receipt", "records", "pages", "time",
    }  # fmt: skip
