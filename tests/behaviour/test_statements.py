"""The signed statement: signatures, form, freshness. Nothing but a perfect one goes further."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import msgspec
import pytest

from gateway.client.statement import new_nonce
from gateway.clock import rfc3339
from gateway.demo.world import COMPANIES
from gateway.evidence import dsse
from gateway.evidence.canonical import encode_canonical
from gateway.evidence.keys import SigningKey
from gateway.model import EntryKind, Query
from tests.simulators.caller import QUERY, RawCaller
from tests.simulators.outcome import Refusal, refused
from tests.simulators.world import SimulatedWorld

pytestmark = pytest.mark.asyncio(loop_scope="module")

Make = Callable[[RawCaller, Query], dsse.Envelope]


@dataclass(frozen=True)
class Case:
    """A way to spoil a good statement, and what must come of it."""

    make: Make
    code: str
    reason: str


def with_text(change: Callable[[dict[str, object]], object]) -> Make:
    """Sign a statement changed as JSON, so that only its form is wrong."""

    def make(caller: RawCaller, query: Query) -> dsse.Envelope:
        statement = json.loads(encode_canonical(query))
        changed = change(statement)
        return caller.seal(encode_canonical(changed if changed is not None else statement))

    return make


def with_bytes(change: Callable[[bytes], bytes]) -> Make:
    return lambda caller, query: caller.seal(change(encode_canonical(query)))


def with_signatures(change: Callable[[tuple[dsse.Signature, ...]], tuple[dsse.Signature, ...]]) -> Make:
    def make(caller: RawCaller, query: Query) -> dsse.Envelope:
        return msgspec.structs.replace(sealed := caller.seal(query), signatures=change(sealed.signatures))

    return make


def flip_last_bit(signatures: tuple[dsse.Signature, ...]) -> tuple[dsse.Signature, ...]:
    [only] = signatures
    return (dsse.Signature(only.keyid, only.sig[:-1] + bytes([only.sig[-1] ^ 1])),)


def signed_by_a_stranger(caller: RawCaller, query: Query) -> dsse.Envelope:
    return dsse.sign(encode_canonical(query), caller.seal(query).payload_type, [SigningKey.generate()])


def over_other_bytes(caller: RawCaller, query: Query) -> dsse.Envelope:
    other = caller.seal(msgspec.structs.replace(query, purpose="law-enforcement"))
    return msgspec.structs.replace(caller.seal(query), signatures=other.signatures)


def without_pre_authentication_encoding(caller: RawCaller, query: Query) -> dsse.Envelope:
    assert caller.signing_key is not None
    payload = encode_canonical(query)
    signature = dsse.Signature(caller.signing_key.key_id, caller.signing_key.sign(payload))
    return msgspec.structs.replace(caller.seal(query), signatures=(signature,))


def good_beside_broken(caller: RawCaller, query: Query) -> dsse.Envelope:
    good = caller.seal(query)
    return msgspec.structs.replace(good, signatures=(*good.signatures, *flip_last_bit(good.signatures)))


def at(delta: timedelta) -> Make:
    return lambda caller, query: caller.seal(
        msgspec.structs.replace(query, time=rfc3339(caller.clock() + delta))
    )


def put(**members: object) -> Callable[[dict[str, object]], None]:
    return lambda statement: statement.update(members)


def leave_out(name: str) -> Callable[[dict[str, object]], None]:
    return lambda statement: statement.pop(name) and None


UNAUTHENTICATED, INVALID = "UNAUTHENTICATED", "INVALID_ARGUMENT"

CASES = {
    # signatures
    "a broken signature": Case(with_signatures(flip_last_bit), UNAUTHENTICATED, "SIGNATURE_INVALID"),
    "a short signature": Case(
        with_signatures(lambda given: (dsse.Signature(given[0].keyid, given[0].sig[:63]),)),
        UNAUTHENTICATED,
        "SIGNATURE_INVALID",
    ),
    "an empty signature": Case(
        with_signatures(lambda given: (dsse.Signature(given[0].keyid, b""),)),
        UNAUTHENTICATED,
        "SIGNATURE_INVALID",
    ),
    "a good signature beside a broken one": Case(good_beside_broken, UNAUTHENTICATED, "SIGNATURE_INVALID"),
    "a signature over other bytes": Case(over_other_bytes, UNAUTHENTICATED, "SIGNATURE_INVALID"),
    "a signature over the bare payload": Case(
        without_pre_authentication_encoding, UNAUTHENTICATED, "SIGNATURE_INVALID"
    ),
    "nine signatures": Case(with_signatures(lambda given: given * 9), UNAUTHENTICATED, "SIGNATURE_INVALID"),
    "a key that nobody registered": Case(signed_by_a_stranger, UNAUTHENTICATED, "SIGNATURE_FOREIGN"),
    "a key id that nobody registered": Case(
        with_signatures(lambda given: (dsse.Signature("0" * 64, given[0].sig),)),
        UNAUTHENTICATED,
        "SIGNATURE_FOREIGN",
    ),
    "another payload type": Case(
        lambda caller, query: caller.seal(query, dsse.payload_type("receipt")),
        UNAUTHENTICATED,
        "SIGNATURE_INVALID",
    ),
    "another payload type, unsigned": Case(
        lambda caller, query: dsse.sign(encode_canonical(query), dsse.payload_type("receipt"), []),
        UNAUTHENTICATED,
        "SIGNATURE_INVALID",
    ),
    # audience, operation, time
    "a statement for another gateway": Case(
        with_text(put(audience="audit.elsewhere.example/log/demo")), UNAUTHENTICATED, "STATEMENT_AUDIENCE"
    ),
    "the operation of another method": Case(
        with_text(put(operation="stream")), INVALID, "STATEMENT_MALFORMED"
    ),
    "an unknown operation": Case(with_text(put(operation="erase")), INVALID, "STATEMENT_MALFORMED"),
    "a stale statement": Case(at(-timedelta(minutes=5, seconds=2)), UNAUTHENTICATED, "STATEMENT_STALE"),
    "a clock ahead": Case(at(timedelta(minutes=5, seconds=30)), UNAUTHENTICATED, "CLOCK_SKEW"),
    "a time without an offset": Case(
        with_text(put(time="2026-11-21T10:00:00")), INVALID, "STATEMENT_MALFORMED"
    ),
    "a time that is none": Case(with_text(put(time="yesterday")), INVALID, "STATEMENT_MALFORMED"),
    "a time before time": Case(
        with_text(put(time="0001-01-01T00:00:00+23:59")), INVALID, "STATEMENT_MALFORMED"
    ),
    "a time after time": Case(
        with_text(put(time="9999-12-31T23:59:59-23:59")), INVALID, "STATEMENT_MALFORMED"
    ),
    # form
    "no JSON": Case(with_bytes(lambda _: b"uscc=1"), INVALID, "STATEMENT_MALFORMED"),
    "nothing": Case(with_bytes(lambda _: b""), INVALID, "STATEMENT_MALFORMED"),
    "half a statement": Case(with_bytes(lambda raw: raw[: len(raw) // 2]), INVALID, "STATEMENT_MALFORMED"),
    "a list": Case(with_bytes(lambda raw: b"[" + raw + b"]"), INVALID, "STATEMENT_MALFORMED"),
    "null": Case(with_bytes(lambda _: b"null"), INVALID, "STATEMENT_MALFORMED"),
    "invalid UTF-8": Case(
        with_bytes(lambda raw: raw.replace(b"public-lookup", b"public-\xff\xfe")),
        INVALID,
        "STATEMENT_MALFORMED",
    ),
    "a lone surrogate": Case(
        with_bytes(lambda raw: raw.replace(b"public-lookup", b"\\ud800")), INVALID, "STATEMENT_MALFORMED"
    ),
    "a byte order mark": Case(with_bytes(lambda raw: b"\xef\xbb\xbf" + raw), INVALID, "STATEMENT_MALFORMED"),
    "over-deep JSON": Case(
        with_bytes(lambda _: b"[" * 30_000 + b"]" * 30_000), INVALID, "STATEMENT_MALFORMED"
    ),
    "over-deep JSON in a member": Case(
        with_bytes(lambda raw: raw[:-1] + b',"x":' + b"[" * 20_000 + b"]" * 20_000 + b"}"),
        INVALID,
        "STATEMENT_MALFORMED",
    ),
    "over-deep JSON in a known member": Case(
        with_bytes(lambda raw: raw.replace(b'"fields":[]', b'"fields":' + b"[" * 20_000 + b"]" * 20_000)),
        INVALID,
        "STATEMENT_MALFORMED",
    ),
    "white space": Case(with_bytes(lambda raw: raw.replace(b'":', b'": ')), INVALID, "STATEMENT_MALFORMED"),
    "a line end behind": Case(with_bytes(lambda raw: raw + b"\n"), INVALID, "STATEMENT_MALFORMED"),
    "members out of order": Case(
        with_bytes(
            lambda raw: json.dumps(dict(reversed(json.loads(raw).items())), separators=(",", ":")).encode()
        ),
        INVALID,
        "STATEMENT_MALFORMED",
    ),
    "an escape that need not be": Case(
        with_bytes(lambda raw: raw.replace(b"public-lookup", b"public\\u002dlookup")),
        INVALID,
        "STATEMENT_MALFORMED",
    ),
    "a member twice": Case(
        with_bytes(lambda raw: raw.replace(b'"purpose":', b'"purpose":"law-enforcement","purpose":')),
        INVALID,
        "STATEMENT_MALFORMED",
    ),
    "a filter twice": Case(
        with_bytes(lambda raw: raw.replace(b'"filters":{}', b'"filters":{"kind":"a","kind":"b"}')),
        INVALID,
        "STATEMENT_MALFORMED",
    ),
    "an unknown member": Case(with_text(put(urgent=True)), INVALID, "STATEMENT_MALFORMED"),
    "an unknown member of the actor": Case(
        with_text(put(actor={"id": "clerk", "rank": 1})), INVALID, "STATEMENT_MALFORMED"
    ),
    "no purpose": Case(with_text(leave_out("purpose")), INVALID, "STATEMENT_MALFORMED"),
    "no nonce": Case(with_text(leave_out("nonce")), INVALID, "STATEMENT_MALFORMED"),
    "a short nonce": Case(with_text(put(nonce="abc")), INVALID, "STATEMENT_MALFORMED"),
    "a nonce with a line end": Case(with_text(put(nonce="A" * 22 + "\n")), INVALID, "STATEMENT_MALFORMED"),
    "a number for a text": Case(with_text(put(purpose=7)), INVALID, "STATEMENT_MALFORMED"),
    "too many fields": Case(with_text(put(fields=["name"] * 201)), INVALID, "STATEMENT_MALFORMED"),
    "too many subjects": Case(
        with_text(put(subjects=[{"field": "name", "value": "x"}] * 501)), INVALID, "STATEMENT_MALFORMED"
    ),
    "a statement over 64 KiB": Case(
        with_text(put(legal_basis="x" * 64 * 1024)), "RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE"
    ),
}


async def spoilt(world: SimulatedWorld, case: Case) -> Refusal:
    caller = world.caller()
    return await refused(caller.query(case.make(caller, caller.statement(COMPANIES, "public-lookup"))))


@pytest.mark.parametrize("name", CASES)
async def test_a_statement_is_refused_for(world: SimulatedWorld, name: str) -> None:
    case = CASES[name]
    entry = world.assert_recorded(await spoilt(world, case), case.code, case.reason)
    assert entry.kind is EntryKind.EXCHANGE_DENIED
    assert entry.consumer == "harbour-bank"
    assert world.registry.working == 0


async def test_a_statement_that_nobody_spoils_is_answered(world: SimulatedWorld) -> None:
    """The control of the table above: what its rows start from is good."""
    caller = world.caller()
    answer = await caller.query(caller.statement(COMPANIES, "public-lookup"))
    assert answer.page.record_count == len(world.companies)


@pytest.mark.parametrize("skew", [timedelta(minutes=4, seconds=50), -timedelta(minutes=4, seconds=50)])
async def test_a_clock_less_than_five_minutes_off_is_good_enough(world: SimulatedWorld, skew) -> None:
    caller = world.caller()
    statement = caller.statement(COMPANIES, "public-lookup", filters={"kind": "none"})
    await caller.query(at(skew)(caller, statement))


async def test_an_unsigned_statement_is_answered_where_the_tier_allows_it_only(world: SimulatedWorld) -> None:
    caller = world.caller()
    caller.signing_key = None
    await caller.query(caller.statement(COMPANIES, "public-lookup", filters={"kind": "none"}))
    above = caller.statement(
        COMPANIES,
        "credit-check",
        legal_basis="credit-reporting-act-14",
        memorandum="registry-harbour-bank",
    )
    refusal = await refused(caller.query(above))
    entry = world.assert_recorded(refusal, "UNAUTHENTICATED", "SIGNATURE_REQUIRED")
    assert entry.envelope_key == ""


async def test_a_call_without_an_envelope_is_refused(world: SimulatedWorld) -> None:
    refusal = await refused(world.caller().unary(QUERY, b""))
    world.assert_recorded(refusal, "UNAUTHENTICATED", "SIGNATURE_INVALID")


async def test_a_statement_is_good_once(world: SimulatedWorld) -> None:
    caller = world.caller()
    envelope = caller.seal(caller.statement(COMPANIES, "public-lookup"))
    await caller.query(envelope)
    world.assert_recorded(await refused(caller.query(envelope)), "ALREADY_EXISTS", "REPLAYED")


async def test_a_nonce_is_good_once_even_for_another_question(world: SimulatedWorld) -> None:
    caller = world.caller()
    first = caller.statement(COMPANIES, "public-lookup")
    await caller.query(first)
    second = msgspec.structs.replace(first, filters={"kind": "none"})
    world.assert_recorded(await refused(caller.query(second)), "ALREADY_EXISTS", "REPLAYED")


async def test_two_members_may_happen_on_the_same_nonce(world: SimulatedWorld) -> None:
    nonce = new_nonce()
    for member in ("harbour-bank", "northern-bank"):
        caller = world.caller(member)
        statement = caller.statement(COMPANIES, "public-lookup", filters={"kind": "none"})
        await caller.query(msgspec.structs.replace(statement, nonce=nonce))


async def test_of_ten_copies_at_once_exactly_one_is_answered(world: SimulatedWorld) -> None:
    callers = [world.caller() for _ in range(10)]
    envelope = callers[0].seal(callers[0].statement(COMPANIES, "public-lookup"))
    before = world.log.size()
    outcomes = await asyncio.gather(*(caller.query(envelope) for caller in callers), return_exceptions=True)
    answered = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    assert len(answered) == 1
    kinds = [entry.kind for entry in world.log.entries(before)]
    assert kinds.count(EntryKind.EXCHANGE_RELEASED) == 1
    assert kinds.count(EntryKind.EXCHANGE_REQUESTED) == 1
    assert kinds.count(EntryKind.EXCHANGE_DENIED) == 9


async def test_a_statement_is_not_good_again_after_a_restart(world: SimulatedWorld) -> None:
    caller = world.caller()
    envelope = caller.seal(caller.statement(COMPANIES, "public-lookup"))
    await caller.query(envelope)
    await world.restart_node()
    world.assert_recorded(await refused(world.caller().query(envelope)), "ALREADY_EXISTS", "REPLAYED")


async def test_a_refused_statement_does_not_use_up_its_nonce(world: SimulatedWorld) -> None:
    """A denial says nothing about the subject, so the same statement may be tried when all is well."""
    caller = world.caller()
    envelope = caller.seal(caller.statement(COMPANIES, "public-lookup", filters={"kind": "none"}))
    await world.registry.stop()
    await refused(world.caller("northern-bank").query(envelope))
    await world.registry.start()
    await caller.query(envelope)
