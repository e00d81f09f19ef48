"""A receipt holds against everybody: whoever changes anything in it, or in the records, is found out."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
from collections.abc import Callable
from typing import Any

import grpc
import msgspec
import pytest

from gateway.api.v1 import exchange_service_pb2
from gateway.audit.note import Ed25519Signer, Ed25519Verifier
from gateway.audit.receipt import RECEIPT_TYPE, Receipt, verify_receipt
from gateway.client import ReceiptInvalidError, TransportError
from gateway.demo.world import COMPANIES
from gateway.errors import GatewayError
from gateway.evidence import dsse
from gateway.evidence.canonical import encode_canonical
from gateway.evidence.delivery import DELIVERY_TYPE
from gateway.evidence.keys import SigningKey
from gateway.evidence.records import SALT_BYTES, split_lines
from gateway.model import Actor, Operation, Subject
from tests.simulators.world import SimulatedWorld

pytestmark = pytest.mark.asyncio(loop_scope="module")

CREDIT = {
    "purpose": "credit-check",
    "legal_basis": "credit-reporting-act-14",
    "memorandum": "registry-harbour-bank",
}


async def a_page(world: SimulatedWorld):
    page = await world.client().query(COMPANIES, **CREDIT, actor=Actor("clerk"))
    assert page.receipt is not None
    assert page.verified is not None
    return page


def flip(text: str, position: int = -3) -> str:
    """Change one character of base64 so that other bytes come out."""
    position %= len(text)
    other = "A" if text[position] != "A" else "B"
    return text[:position] + other + text[position + 1 :]


# -- what a thief without the keys can change ------------------------------------------------------


def change_payload(receipt: Receipt, change: Callable[[dict[str, Any]], Any]) -> Receipt:
    statement = json.loads(receipt.statement.payload)
    change(statement)
    payload = json.dumps(statement, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()
    return msgspec.structs.replace(
        receipt, statement=msgspec.structs.replace(receipt.statement, payload=payload)
    )


def change_signature(envelope: dsse.Envelope, position: int) -> dsse.Envelope:
    [only] = envelope.signatures
    raw = bytearray(only.sig)
    raw[position] ^= 1
    return msgspec.structs.replace(envelope, signatures=(dsse.Signature(only.keyid, bytes(raw)),))


def change_line(receipt: Receipt, number: int) -> Receipt:
    lines = receipt.tlog_proof.split("\n")
    lines[number] = flip(lines[number], len(lines[number]) // 2) if lines[number] else "x"
    return msgspec.structs.replace(receipt, tlog_proof="\n".join(lines))


async def test_a_change_of_any_member_of_the_statement_is_found(world: SimulatedWorld) -> None:
    receipt = (await a_page(world)).receipt
    members = json.loads(receipt.statement.payload)
    changes: list[Callable[[dict[str, Any]], Any]] = [
        lambda it: it.update(v=2),
        lambda it: it.update(gateway="audit.elsewhere.example/log/x"),
        lambda it: it.update(index=it["index"] + 1),
        lambda it: it["entry"].update(records=it["entry"]["records"] + 1),
        lambda it: it["entry"].update(consumer="northern-bank"),
        lambda it: it["openings"].update(query=flip(it["openings"]["query"])),
        lambda it: it.update(openings={}),
        lambda it: it["pages"].__setitem__(0, flip(it["pages"][0])),
        lambda it: it.update(pages=[]),
        lambda it: it.update(more=1),
    ]
    changes += [lambda it, name=name: it["entry"].pop(name) for name in members["entry"]]
    changes += [lambda it, name=name: it.pop(name) for name in members]
    for change in changes:
        with pytest.raises(GatewayError):
            verify_receipt(change_payload(receipt, change), world.trust)
    verify_receipt(change_payload(receipt, lambda it: it), world.trust)


async def test_a_change_of_any_bit_of_a_signature_is_found(world: SimulatedWorld) -> None:
    receipt = (await a_page(world)).receipt
    for position in range(0, 64, 5):
        broken = msgspec.structs.replace(receipt, statement=change_signature(receipt.statement, position))
        with pytest.raises(GatewayError):
            verify_receipt(broken, world.trust)
        broken = msgspec.structs.replace(
            receipt, deliveries=(change_signature(receipt.deliveries[0], position),)
        )
        with pytest.raises(GatewayError):
            verify_receipt(broken, world.trust)


async def test_a_change_of_any_line_of_the_proof_is_found(world: SimulatedWorld) -> None:
    receipt = (await a_page(world)).receipt
    for number in range(len(receipt.tlog_proof.split("\n"))):
        with pytest.raises(GatewayError):
            verify_receipt(change_line(receipt, number), world.trust)
    lines = receipt.tlog_proof.split("\n")
    for number in range(len(lines)):
        shorter = msgspec.structs.replace(receipt, tlog_proof="\n".join(lines[:number] + lines[number + 1 :]))
        with pytest.raises(GatewayError):
            verify_receipt(shorter, world.trust)


async def test_deliveries_left_out_doubled_or_of_another_exchange_are_found(world: SimulatedWorld) -> None:
    receipt, other = (await a_page(world)).receipt, (await a_page(world)).receipt
    for deliveries in ((), receipt.deliveries * 2, other.deliveries, receipt.deliveries + other.deliveries):
        with pytest.raises(GatewayError):
            verify_receipt(msgspec.structs.replace(receipt, deliveries=deliveries), world.trust)


async def test_parts_of_two_receipts_do_not_make_a_third(world: SimulatedWorld) -> None:
    one, two = (await a_page(world)).receipt, (await a_page(world)).receipt
    for mixed in (
        msgspec.structs.replace(one, tlog_proof=two.tlog_proof),
        msgspec.structs.replace(one, statement=two.statement),
        msgspec.structs.replace(one, deliveries=two.deliveries),
    ):
        with pytest.raises(GatewayError):
            verify_receipt(mixed, world.trust)


# -- what a thief with the gateway's signing key can change ----------------------------------------


async def test_a_statement_signed_anew_does_not_get_past_the_log(world: SimulatedWorld) -> None:
    """The log's key and the gateway's are two: with the second alone no entry can be made up."""
    receipt = (await a_page(world)).receipt
    stolen = SigningKey.load(world.config.keys.signing)
    changes: list[Callable[[dict[str, Any]], Any]] = [
        lambda it: it["entry"].update(records=1),
        lambda it: it["entry"].update(purpose="statistics"),
        lambda it: it.update(index=it["index"] - 1),
        lambda it: it["pages"].append(it["pages"][0]),
        lambda it: it["pages"].__setitem__(0, base64.b64encode(b"\0" * 32).decode()),
    ]
    for change in changes:
        changed = change_payload(receipt, change).statement.payload
        forged = msgspec.structs.replace(receipt, statement=dsse.sign(changed, RECEIPT_TYPE, [stolen]))
        with pytest.raises(GatewayError):
            verify_receipt(forged, world.trust)
    same = msgspec.structs.replace(
        receipt, statement=dsse.sign(receipt.statement.payload, RECEIPT_TYPE, [stolen])
    )
    verify_receipt(same, world.trust)


async def test_an_entry_that_is_no_release_is_no_receipt(world: SimulatedWorld) -> None:
    receipt = (await a_page(world)).receipt
    stolen = SigningKey.load(world.config.keys.signing)
    statement = json.loads(receipt.statement.payload)
    statement["entry"]["kind"] = "exchange.failed"
    forged = dsse.sign(encode_canonical(statement), RECEIPT_TYPE, [stolen])
    with pytest.raises(GatewayError, match="not of a release"):
        verify_receipt(msgspec.structs.replace(receipt, statement=forged), world.trust)


async def test_a_delivery_that_the_provider_did_not_sign_is_found(world: SimulatedWorld) -> None:
    receipt = (await a_page(world)).receipt
    foreign = dsse.sign(receipt.deliveries[0].payload, DELIVERY_TYPE, [SigningKey.generate()])
    with pytest.raises(GatewayError):
        verify_receipt(msgspec.structs.replace(receipt, deliveries=(foreign,)), world.trust)


# -- records and question ---------------------------------------------------------------------------


async def test_records_that_were_changed_do_not_fit_the_receipt(world: SimulatedWorld) -> None:
    page = await a_page(world)
    verified = page.verified
    verified.verify_page(0, page.text, page.seed)
    lines = page.text.splitlines(keepends=True)
    for text in (
        page.text.replace(b"0", b"1", 1),
        b"".join(lines[1:]),
        b"".join([lines[1], lines[0], *lines[2:]]),
        page.text + lines[0],
        page.text.replace(b"\n", b" \n", 1),
        b"",
    ):
        with pytest.raises(GatewayError):
            verified.verify_page(0, text, page.seed)
    for number, seed in ((1, page.seed), (-1, page.seed), (0, b"\0" * 32)):
        with pytest.raises(GatewayError):
            verified.verify_page(number, page.text, seed)


async def test_a_receipt_is_for_one_question_only(world: SimulatedWorld) -> None:
    client = world.client()
    _, envelope = client.statement(Operation.QUERY, COMPANIES, "public-lookup")
    page = await client.send_query(envelope)
    page.verified.verify_query(envelope.payload)
    with pytest.raises(GatewayError):
        page.verified.verify_query(envelope.payload.replace(b"public-lookup", b"credit-check"))


async def test_a_receipt_survives_its_file(world: SimulatedWorld) -> None:
    page = await a_page(world)
    again = Receipt.from_json(page.receipt.to_json())
    assert again == page.receipt
    verified = verify_receipt(again, world.trust)
    assert verified.entry == page.verified.entry
    for text in (
        b"",
        b"{}",
        b"[]",
        page.receipt.to_json()[:-20],
        page.receipt.to_json().replace(b"mediaType", b"kind"),
    ):
        with pytest.raises(GatewayError):
            Receipt.from_json(text)


async def test_a_trust_file_of_another_deployment_verifies_nothing(world: SimulatedWorld) -> None:
    page = await a_page(world)
    trust = world.trust
    other = SigningKey.generate()
    for foreign in (
        msgspec.structs.replace(trust, gateway_keys={other.key_id: other.verify_key.public}),
        msgspec.structs.replace(trust, origin="audit.elsewhere.example/log/x"),
        msgspec.structs.replace(trust, log_keys=()),
        msgspec.structs.replace(trust, members={}),
    ):
        with pytest.raises(GatewayError):
            verify_receipt(page.receipt, foreign)


# -- the client library -----------------------------------------------------------------------------


class Tampering:
    """Stands between the client and the gateway, and changes answers."""

    def __init__(self, real: Any, change: Callable[[Any], None]) -> None:
        self._real = real
        self._change = change

    async def __call__(self, request: Any, timeout: float) -> Any:  # noqa: ASYNC109 - as grpc names it
        answer = copy.deepcopy(await self._real(request, timeout=timeout))
        self._change(answer)
        return answer


QUERY_CHANGES: dict[str, Callable[[exchange_service_pb2.QueryResponse], None]] = {
    "a record": lambda it: setattr(it.page, "records", it.page.records.replace("active", "closed", 1) + " "),
    "a record less": lambda it: setattr(it.page, "records", it.page.records.partition("\n")[2]),
    "the salt": lambda it: setattr(it.page, "salt_seed", b"\0" * 32),
    "no receipt": lambda it: it.ClearField("receipt"),
    "no proof": lambda it: setattr(it.receipt, "tlog_proof", ""),
    "no deliveries": lambda it: it.receipt.ClearField("deliveries"),
    "another payload": lambda it: setattr(it.receipt.statement, "payload", b"{}"),
}


@pytest.mark.parametrize("name", QUERY_CHANGES)
async def test_the_client_refuses_an_answer_with(world: SimulatedWorld, name: str) -> None:
    client = world.client()
    method = client._exchange.Query
    client._exchange.Query = Tampering(method, QUERY_CHANGES[name])
    with pytest.raises(ReceiptInvalidError):
        await client.query(COMPANIES, purpose="public-lookup")
    client._exchange.Query = Tampering(method, lambda answer: None)
    await client.query(COMPANIES, purpose="public-lookup")


async def test_the_client_refuses_the_receipt_of_another_question(world: SimulatedWorld) -> None:
    client = world.client()
    method = client._exchange.Query
    kept = []
    client._exchange.Query = Tampering(method, lambda answer: kept.append(copy.deepcopy(answer)))
    await client.query(COMPANIES, purpose="public-lookup")
    client._exchange.Query = Tampering(method, lambda answer: answer.CopyFrom(kept[0]))
    with pytest.raises(ReceiptInvalidError):
        await client.query(COMPANIES, purpose="public-lookup")


async def test_the_client_refuses_a_turned_answer_to_a_match(world: SimulatedWorld) -> None:
    client, company = world.client(), world.companies[0]
    method = client._exchange.MatchAttributes

    def turn(answer: Any) -> None:
        answer.result = 3 - answer.result

    asked = {
        "purpose": "public-lookup",
        "subject": Subject("uscc", company.uscc),
        "match": {"name": company.name},
    }
    assert await client.match(COMPANIES, **asked)
    client._exchange.MatchAttributes = Tampering(method, turn)
    with pytest.raises(ReceiptInvalidError):
        await client.match(COMPANIES, **asked)


class TamperingStream:
    """The same for streams; `change` gets the number of the message and the message."""

    def __init__(self, real: Any, change: Callable[[int, Any], list[Any]]) -> None:
        self._real = real
        self._change = change

    def __call__(self, request: Any, timeout: float) -> Any:
        return _Changed(self._real(request, timeout=timeout), self._change)


class _Changed:
    def __init__(self, call: Any, change: Callable[[int, Any], list[Any]]) -> None:
        self._call = call
        self._change = change

    async def __aiter__(self):
        number = 0
        async for message in self._call:
            for changed in self._change(number, message):
                yield changed
            number += 1

    def cancel(self) -> None:
        self._call.cancel()


def with_records(message: Any) -> Any:
    message.page.records = message.page.records.partition("\n")[2]
    return message


STREAM_CHANGES: dict[str, Callable[[int, Any], list[Any]]] = {
    "a page less": lambda number, message: [] if number == 2 else [message],
    "a page twice": lambda number, message: [message] * (2 if number == 2 else 1),
    "a record less": lambda number, message: [with_records(message) if number == 2 else message],
    "no receipt": lambda number, message: [] if message.HasField("receipt") else [message],
}


@pytest.mark.parametrize("name", STREAM_CHANGES)
async def test_the_client_refuses_a_stream_with(world: SimulatedWorld, name: str) -> None:
    client = world.client()
    client._exchange.StreamQuery = TamperingStream(client._exchange.StreamQuery, STREAM_CHANGES[name])
    with pytest.raises(ReceiptInvalidError):
        async for _ in client.stream(COMPANIES, purpose="public-lookup", page_size=10):
            pass


async def test_a_client_may_be_told_not_to_verify(world: SimulatedWorld) -> None:
    client = world.client(verify=False)
    client._exchange.Query = Tampering(client._exchange.Query, QUERY_CHANGES["the salt"])
    page = await client.query(COMPANIES, purpose="public-lookup")
    assert page.verified is None
    *_, summary = [item async for item in client.stream(COMPANIES, purpose="public-lookup")]
    assert (summary.verified, summary.records) == (None, len(world.companies))


async def test_one_record_can_be_shown_without_the_others(world: SimulatedWorld) -> None:
    """What the salts are for: a third party gets one line and digests, and can check it."""
    page = await a_page(world)
    lines = split_lines(page.text)
    salts = hashlib.shake_256(page.seed).digest(SALT_BYTES * len(lines))
    digests = [
        hashlib.sha256(b"\0" + salts[at * SALT_BYTES : (at + 1) * SALT_BYTES] + line).digest()
        for at, line in enumerate(lines)
    ]
    shown = 7
    digests[shown] = hashlib.sha256(
        b"\0" + salts[shown * SALT_BYTES : (shown + 1) * SALT_BYTES] + lines[shown]
    ).digest()
    assert hashlib.sha256(b"\1" + b"".join(digests)).digest() == page.verified.page_digests[0]


async def test_a_stream_cut_by_the_network_is_refused(world: SimulatedWorld) -> None:
    client = world.client()

    def cut(number: int, message: Any) -> list[Any]:
        if number == 3:
            raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata())
        return [message]

    client._exchange.StreamQuery = TamperingStream(client._exchange.StreamQuery, cut)
    received = []

    async def read() -> None:
        async for page in client.stream(COMPANIES, purpose="public-lookup", page_size=10):
            received.append(page)  # noqa: PERF401 - what came must be there when the stream breaks

    with pytest.raises(TransportError):
        await read()
    assert len(received) == 3


# -- after the log was closed ----------------------------------------------------------------------


async def test_a_receipt_of_a_closed_log_verifies_with_the_trust_file_of_the_next(
    world: SimulatedWorld,
) -> None:
    receipt = (await a_page(world)).receipt
    old = Ed25519Verifier.from_vkey(world.trust.log_keys[0])
    name = "audit.example.org/log/next"
    following = Ed25519Verifier(name, old.public).vkey()
    trust = msgspec.structs.replace(world.trust, origin=name, log_keys=(following, old.vkey()))
    assert verify_receipt(receipt, trust).checkpoint.origin == world.trust.origin
    # The controls: a trust file without the closed log, and one with another key under its name.
    strange = Ed25519Signer.from_seed(world.trust.origin, bytes(32)).verifier.vkey()
    for keys in ((following,), (following, strange)):
        with pytest.raises(GatewayError):
            verify_receipt(receipt, msgspec.structs.replace(trust, log_keys=keys))
