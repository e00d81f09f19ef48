"""Opening a signed query: signature, form, audience, operation, freshness, each with its reason."""

import json
from datetime import timedelta

import msgspec
import pytest

from gateway.errors import GatewayError, Reason
from gateway.evidence import dsse
from gateway.evidence.canonical import encode_canonical
from gateway.evidence.keys import SigningKey
from gateway.exchange.statement import (
    MAX_CLOCK_SKEW,
    MAX_NAMES,
    MAX_STATEMENT_BYTES,
    MAX_SUBJECTS,
    QUERY_TYPE,
    open_statement,
)
from gateway.model import Operation, Subject

AUDIENCE = "audit.example.org/log/test"


@pytest.fixture
def key():
    return SigningKey.generate()


@pytest.fixture
def open_payload(key, now):
    """Sign a payload, or not, and open it."""

    def opened(payload, *, signer=key, payload_type=QUERY_TYPE, at=now, operation=Operation.QUERY):
        envelope = dsse.sign(payload, payload_type, [signer] if signer else [])
        return open_statement(envelope, {key.key_id: key.verify_key}, AUDIENCE, operation, at)

    return opened


def reason_of(call):
    with pytest.raises(GatewayError) as raised:
        call()
    return raised.value.reason


def test_a_signed_statement_opens(open_payload, make_query, key, now):
    opened = open_payload(encode_canonical(make_query()))
    assert (opened.query, opened.key_id) == (make_query(), key.key_id)
    assert opened.expires == now + MAX_CLOCK_SKEW


def test_an_unsigned_statement_opens_and_says_so(open_payload, make_query):
    assert open_payload(encode_canonical(make_query()), signer=None).key_id == ""


def test_another_key_or_type_does_not(open_payload, make_query):
    payload = encode_canonical(make_query())
    assert reason_of(lambda: open_payload(payload, signer=SigningKey.generate())) in {
        Reason.SIGNATURE_FOREIGN,
        Reason.SIGNATURE_INVALID,
    }
    other = dsse.payload_type("delivery")
    for signer in (SigningKey.generate(), None):
        assert (
            "SIGNATURE"
            in reason_of(lambda s=signer: open_payload(payload, signer=s, payload_type=other)).value
        )


@pytest.mark.parametrize(
    ("age", "reason"),
    [
        (timedelta(minutes=5), None),
        (timedelta(minutes=-5), None),
        (timedelta(minutes=5, seconds=1), Reason.STATEMENT_STALE),
        (timedelta(minutes=-5, seconds=-1), Reason.CLOCK_SKEW),
    ],
)
def test_a_statement_is_fresh_for_five_minutes_either_way(open_payload, make_query, now, age, reason):
    payload = encode_canonical(make_query())
    if reason is None:
        assert open_payload(payload, at=now + age).query == make_query()
    else:
        assert reason_of(lambda: open_payload(payload, at=now + age)) is reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"audience": "other.example.org/log/1"}, Reason.STATEMENT_AUDIENCE),
        ({"operation": Operation.STREAM}, Reason.STATEMENT_MALFORMED),
        ({"nonce": "short"}, Reason.STATEMENT_MALFORMED),
        ({"nonce": "A" * 21 + "\n"}, Reason.STATEMENT_MALFORMED),
        ({"time": "2026-11-21T12:00:00"}, Reason.STATEMENT_MALFORMED),
        ({"time": "yesterday"}, Reason.STATEMENT_MALFORMED),
        ({"time": "0001-01-01T00:00:00+23:59"}, Reason.STATEMENT_MALFORMED),
        (
            {"subjects": tuple(Subject("uscc", "x") for _ in range(MAX_SUBJECTS + 1))},
            Reason.STATEMENT_MALFORMED,
        ),
        ({"fields": tuple(f"f{at}" for at in range(MAX_NAMES + 1))}, Reason.STATEMENT_MALFORMED),
        ({"filters": {"title": "x" * MAX_STATEMENT_BYTES}}, Reason.MESSAGE_TOO_LARGE),
    ],
)
def test_a_statement_that_does_not_fit_is_refused(open_payload, make_query, change, reason):
    payload = encode_canonical(make_query(**change))
    assert reason_of(lambda: open_payload(payload)) is reason


def spaced(document):
    return json.dumps(document).encode()


def doubled(document):
    return encode_canonical(document)[:-1] + b',"time":"2026-11-21T12:00:00Z"}'


def with_surplus(document):
    return encode_canonical({**document, "zz": 1})


def without_purpose(document):
    return encode_canonical({name: value for name, value in document.items() if name != "purpose"})


def over_deep(document):
    return b"[" * 30_000 + b"]" * 30_000


def no_json(document):
    return b"\xff\xfe"


@pytest.mark.parametrize("spoil", [spaced, doubled, with_surplus, without_purpose, over_deep, no_json])
def test_bytes_with_two_readings_or_none_are_refused(open_payload, make_query, spoil):
    payload = spoil(msgspec.to_builtins(make_query()))
    assert reason_of(lambda: open_payload(payload)) is Reason.STATEMENT_MALFORMED
