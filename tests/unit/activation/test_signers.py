"""Who has to sign: an author and an approver, two persons with two keys. Each attack has its control."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from gateway.activation.errors import ActivationError
from gateway.activation.signers import Signers
from gateway.activation.statement import (
    Action,
    countersign,
    encode_statement,
    parse_statement,
    read_envelope,
    sign_statement,
)
from gateway.clock import system_clock
from gateway.errors import Reason
from gateway.evidence import dsse
from gateway.evidence.keys import SignatureError, SigningKey
from tests.simulators.activation import signed, state
from tests.unit.activation.conftest import ORIGIN


@pytest.fixture
def statement(bundles):
    return state(bundles[1], ORIGIN)


def verify(signers: Signers, envelope: bytes):
    return signers.verify(read_envelope(envelope))


def test_an_author_and_an_approver_are_enough(signers, people, statement):
    approval = verify(signers, signed(statement, people.li, people.wang))
    assert approval.statement == statement
    assert approval.persons == ("li", "wang")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("li",), "No approver"),
        (("wang",), "No policy author"),
        (("wang", "zhao"), "No policy author"),
        (("li", "li_approving"), "same person"),
    ],
    ids=["author alone", "approver alone", "two approvers", "one person with two keys"],
)
def test_too_few_are_refused(names, message, signers, people, statement):
    keys = [getattr(people, name) for name in names]
    with pytest.raises(ActivationError, match=message) as caught:
        verify(signers, signed(statement, *keys))
    assert caught.value.reason is Reason.APPROVAL_INVALID
    missing = people.li if "li" not in names else people.wang
    verify(signers, signed(statement, *keys, missing))  # the control: with the one who was missing


def test_the_same_signature_twice_counts_once(signers, people, statement):
    envelope = sign_statement(statement, people.li)
    twice = msgspec.structs.replace(envelope, signatures=envelope.signatures * 2)
    with pytest.raises(ActivationError, match="No approver"):
        signers.verify(twice)
    with pytest.raises(ActivationError, match="signed the approval already"):
        countersign(envelope, people.li)


def test_keys_that_nobody_named_do_not_count(signers, people, statement):
    strangers = SigningKey.generate(), SigningKey.generate()
    with pytest.raises(ActivationError):
        verify(signers, signed(statement, *strangers))
    with pytest.raises(ActivationError, match="No approver"):
        verify(signers, signed(statement, people.li, *strangers))


def test_a_higher_threshold_wants_more_persons_not_more_keys(signers, people, statement):
    three = Signers(signers.authors, signers.approvers, 3, signers.max_age)
    for keys in ((people.li, people.wang), (people.li, people.wang, people.li_approving)):
        with pytest.raises(ActivationError, match="Only 2 persons"):
            verify(three, signed(statement, *keys))
    verify(three, signed(statement, people.li, people.wang, people.zhao))


def test_a_signature_over_something_else_is_refused(signers, people, statement, bundles):
    other = state(bundles[2], ORIGIN)
    envelope = sign_statement(statement, people.li)
    foreign = dsse.sign(encode_statement(other), envelope.payload_type, [people.wang])
    mixed = msgspec.structs.replace(envelope, signatures=envelope.signatures + foreign.signatures)
    with pytest.raises(SignatureError):
        signers.verify(mixed)


def test_an_altered_statement_is_refused(signers, people, statement):
    envelope = read_envelope(signed(statement, people.li, people.wang))
    altered = envelope.payload.replace(b'"revision":1', b'"revision":9')
    assert altered != envelope.payload
    with pytest.raises(SignatureError):
        signers.verify(msgspec.structs.replace(envelope, payload=altered))
    signers.verify(envelope)


def test_another_kind_of_statement_does_not_pass_for_one(signers, people, statement):
    payload = encode_statement(statement)
    receipt = dsse.sign(payload, dsse.payload_type("receipt"), [people.li, people.wang])
    with pytest.raises(SignatureError):
        signers.verify(receipt)


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"bundle": "sha256:12"},
        {"revision": 0},
        {"reason": ""},
        {"reason": "x" * 501},
        {"previous": "none"},
        {"not_after": "2020-01-01T00:00:00Z"},
        {"not_before": "tomorrow"},
        {"surprise": 1},
        {"action": "delete"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_statement_that_does_not_fit_is_refused(change, statement):
    content = {**msgspec.to_builtins(statement), **change}
    with pytest.raises(ActivationError):
        parse_statement(msgspec.json.encode(content))


def test_an_approval_as_large_as_a_book_is_refused_unread():
    with pytest.raises(ActivationError):
        read_envelope(b" " * 100_000)


def test_a_statement_says_what_is_done_and_until_when(bundles):
    statement = state(bundles[1], ORIGIN, action=Action.CONFIRM, days=1)
    assert statement.ends - statement.starts == timedelta(days=1)
    assert statement.starts <= system_clock()
