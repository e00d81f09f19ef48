import hashlib
from base64 import b64encode
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Reason
from gateway.evidence import dsse
from gateway.evidence.canonical import check_canonical
from gateway.evidence.delivery import (
    DELIVERY_TYPE,
    Delivery,
    DeliveryError,
    build_delivery,
    parse_delivery,
    verify_delivery,
    verify_records,
    verify_sequence,
)
from gateway.evidence.keys import SignatureError, SigningKey

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
RECORDS = b'{"uscc":"X1"}\n{"uscc":"X2"}\n'
ABOUT = {"exchange": "01900000-0000-7000-8000-000000000000", "dataset": "members/registry/datasets/companies"}


def _build(**changes) -> Delivery:
    arguments = {**ABOUT, "page": 0, "records": RECORDS, "count": 2, "time": NOW, "last": True, **changes}
    return build_delivery(**arguments)


def test_a_delivery_is_signed_and_verified_from_end_to_end():
    key = SigningKey.generate()
    delivery = _build()
    kind = DELIVERY_TYPE
    envelope = dsse.sign(delivery.statement, kind, [key])
    payload, _ = dsse.verify(envelope, kind, {key.key_id: key.verify_key})
    statement = parse_delivery(payload)
    verify_delivery(statement, **ABOUT, page=0, at=NOW)
    verify_records(statement, delivery.salt, RECORDS)
    verify_sequence([statement])
    with pytest.raises(SignatureError):
        dsse.verify(
            msgspec.structs.replace(envelope, payload=_build().statement), kind, {key.key_id: key.verify_key}
        )


def test_how_long_a_list_is_stands_in_the_statement_only_if_it_is_told():
    assert b"total" not in _build().statement
    told = _build(total=0)
    assert b'"total":0' in told.statement
    assert parse_delivery(told.statement).total == 0
    with pytest.raises(DeliveryError):
        parse_delivery(told.statement.replace(b'"total":0', b'"total":-1'))


def test_the_statement_is_canonical_and_its_digest_is_salted_sha256():
    delivery = _build()
    content = msgspec.json.decode(delivery.statement)
    check_canonical(content)
    assert content == {
        **ABOUT,
        "page": 0,
        "count": 2,
        "digest": b64encode(hashlib.sha256(delivery.salt + RECORDS).digest()).decode(),
        "time": "2026-03-01T12:00:00.000000Z",
        "last": True,
    }


def test_the_statement_is_no_oracle_for_guessed_records():
    first, second = _build(), _build()
    assert len(first.salt) == 32
    assert first.salt != second.salt
    assert parse_delivery(first.statement).digest != parse_delivery(second.statement).digest
    for guess in (b"", bytes(32), second.salt):
        with pytest.raises(DeliveryError):
            verify_records(parse_delivery(first.statement), guess, RECORDS)


@given(position=st.integers(0, len(RECORDS) - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_in_records_or_salt_is_found(position, bit):
    delivery = _build()
    statement = parse_delivery(delivery.statement)
    records = bytearray(RECORDS)
    records[position] ^= 1 << bit
    salt = bytearray(delivery.salt)
    salt[position % 32] ^= 1 << bit
    for changed in ((delivery.salt, bytes(records)), (bytes(salt), RECORDS)):
        with pytest.raises(DeliveryError) as caught:
            verify_records(statement, *changed)
        assert caught.value.reason is Reason.PROVIDER_SIGNATURE
    verify_records(statement, delivery.salt, RECORDS)


@pytest.mark.parametrize(("records", "count"), [(RECORDS, 1), (RECORDS, 3), (b"{}\n{}", 1), (b"", 1)])
def test_a_count_that_is_not_of_the_records_is_found(records, count):
    delivery = _build(records=records, count=count)
    with pytest.raises(DeliveryError, match="another number of records"):
        verify_records(parse_delivery(delivery.statement), delivery.salt, records)


def test_an_empty_page_is_a_delivery():
    delivery = _build(records=b"", count=0)
    verify_records(parse_delivery(delivery.statement), delivery.salt, b"")


@pytest.mark.parametrize(
    "changes",
    [
        {"exchange": "01900000-0000-7000-8000-000000000001"},
        {"dataset": "members/registry/datasets/people"},
        {"page": 1},
        {"at": NOW + timedelta(minutes=5, seconds=1)},
        {"at": NOW - timedelta(minutes=5, seconds=1)},
    ],
)
def test_a_delivery_about_something_else_is_found(changes):
    statement = parse_delivery(_build().statement)
    expected = {**ABOUT, "page": 0, "at": NOW}
    verify_delivery(statement, **expected)
    with pytest.raises(DeliveryError):
        verify_delivery(statement, **{**expected, **changes})


def _raw(**changes) -> bytes:
    return msgspec.json.encode(msgspec.json.decode(_build().statement) | changes)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b"\xff",
        _raw(extra=1),
        _raw(page=-1),
        _raw(page=1.5),
        _raw(count=2**53),
        _raw(last="true"),
        _raw(digest="x" * 44),
        _raw(digest="A" * 43 + "B"),
        _raw(time="2026-03-01T12:00:00"),
        _raw(time="0001-01-01T00:00:00+23:59"),
        _raw(exchange="x" * 5000),
        b"[" * 4000,
    ],
    ids=range(14),
)
def test_a_payload_that_is_no_delivery_to_the_letter_is_refused(payload):
    with pytest.raises(DeliveryError):
        parse_delivery(payload)


@given(st.binary(max_size=300))
def test_any_bytes_are_no_delivery(noise):
    with pytest.raises(DeliveryError):
        parse_delivery(noise)


def test_a_sequence_of_pages_is_whole_and_in_order():
    pages = [parse_delivery(_build(page=page, last=page == 2).statement) for page in range(3)]
    verify_sequence(pages)
    foreign = parse_delivery(_build(page=2, exchange="other").statement)
    early = parse_delivery(_build(page=1, last=True).statement)
    for broken in (
        [],
        pages[:2],
        pages[1:],
        [pages[0], pages[2]],
        [pages[1], pages[0], pages[2]],
        [*pages, pages[2]],
        [*pages[:2], foreign],
        [pages[0], early, pages[2]],
    ):
        with pytest.raises(DeliveryError):
            verify_sequence(broken)
