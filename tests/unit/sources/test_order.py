from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import rfc3339
from gateway.errors import Reason
from gateway.evidence.canonical import check_canonical
from gateway.evidence.order import MAX_ORDER_BYTES, FetchOrder, OrderError, decode_order, encode_order
from gateway.sources.mapping import parse_mapping
from gateway.sources.order import check_order, to_request

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
GATEWAY = "audit.example.org/log/2026"
MAPPING = parse_mapping(
    """
    member = "registry"
    [datasets.companies]
    file = "companies.csv"
    lookup = ["uscc", "region"]
    columns = { uscc = "code", name = "name", region = "region" }
    """,
    Path(),
)
ORDER = FetchOrder(
    gateway=GATEWAY,
    exchange="01900000-0000-7000-8000-000000000000",
    consumer="members/bank",
    dataset="members/registry/datasets/companies",
    fields=("uscc", "name"),
    subject_field="uscc",
    subject_values=("X1",),
    filters={"region": "r1"},
    purpose="credit-check",
    legal_basis="statute-1",
    memorandum="mou-7",
    decision="d-1",
    bundle="sha256:00",
    tier="limited",
    time=rfc3339(NOW),
    expires=rfc3339(NOW + timedelta(seconds=30)),
)


def _order(**changes) -> FetchOrder:
    return msgspec.structs.replace(ORDER, **changes)


def _check(order: FetchOrder, now: datetime = NOW) -> None:
    check_order(order, now, GATEWAY, MAPPING)


def test_an_order_travels_as_canonical_json_and_is_served():
    payload = encode_order(ORDER)
    check_canonical(msgspec.json.decode(payload))
    assert decode_order(payload) == ORDER
    _check(decode_order(payload))


def test_an_order_for_every_record_names_no_subject():
    _check(_order(subject_field="", subject_values=(), filters={}))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"gateway": "audit.example.net/log"}, "another gateway"),
        ({"dataset": "companies"}, "names no dataset"),
        ({"dataset": "members/registry/datasets/companies/x"}, "names no dataset"),
        ({"dataset": "members/treasury/datasets/companies"}, "another provider"),
        ({"dataset": "members/registry/datasets/people"}, "not mapped at this provider"),
        ({"fields": ("uscc", "secret")}, "1 field(s) of the fetch order are not mapped"),
        ({"fields": ("code",)}, "are not mapped"),
        ({"fields": ("uscc", "uscc")}, "names a field twice"),
        ({"subject_field": "name"}, "cannot be looked up"),
        ({"filters": {"name": "x"}}, "cannot be looked up"),
        ({"filters": {"uscc' OR 1=1": "x"}}, "cannot be looked up"),
        ({"subject_values": ()}, "without values"),
        ({"subject_field": ""}, "without values"),
        ({"time": "yesterday"}, "not RFC 3339"),
        ({"time": "2026-03-01T12:00:00"}, "not RFC 3339"),
        ({"time": "0001-01-01T00:00:00+23:59"}, "not RFC 3339"),
        ({"expires": rfc3339(NOW)}, "within an hour"),
        ({"expires": rfc3339(NOW - timedelta(seconds=1))}, "within an hour"),
        ({"expires": rfc3339(NOW + timedelta(hours=1, seconds=1))}, "within an hour"),
    ],
)
def test_an_order_that_is_not_for_this_provider_now_is_refused(changes, problem):
    with pytest.raises(OrderError) as caught:
        _check(_order(**changes))
    assert problem in caught.value.message
    assert caught.value.reason is Reason.PROVIDER_REFUSED


def test_clocks_may_differ_by_five_minutes_and_no_more():
    expires = NOW + timedelta(seconds=30)
    _check(ORDER, expires + timedelta(minutes=5))
    _check(ORDER, NOW - timedelta(minutes=5))
    with pytest.raises(OrderError, match="has expired"):
        _check(ORDER, expires + timedelta(minutes=5, seconds=1))
    with pytest.raises(OrderError, match="from the future"):
        _check(ORDER, NOW - timedelta(minutes=5, seconds=1))


def _raw(**changes) -> bytes:
    return msgspec.json.encode(msgspec.json.decode(encode_order(ORDER)) | changes)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        encode_order(ORDER) + b" {}",
        _raw(extra=1),
        _raw(fields=[]),
        _raw(fields=["x;y"]),
        _raw(fields=["a" * 65]),
        _raw(fields="uscc"),
        _raw(purpose=""),
        _raw(purpose="x" * 201),
        _raw(purpose=None),
        _raw(filters={"region": 1}),
        _raw(subject_values=["x"] * 10_001),
        _raw(subject_values=[1]),
        _raw(subject_values=["x" * MAX_ORDER_BYTES]),
        b"[" * 100_000,
    ],
    ids=range(18),
)
def test_a_payload_that_is_no_order_to_the_letter_is_refused(payload):
    with pytest.raises(OrderError):
        decode_order(payload)


@given(st.binary(max_size=300))
def test_any_bytes_are_no_order(noise):
    with pytest.raises(OrderError):
        decode_order(noise)


def _message(order: FetchOrder) -> str:
    with pytest.raises(OrderError) as caught:
        _check(order)
    return caught.value.message


@given(field=st.text(max_size=70).filter(lambda field: field not in {"uscc", "name", "region"}))
def test_the_message_is_the_same_whatever_field_is_not_mapped(field):
    assert _message(_order(fields=(field,))) == _message(_order(fields=("other",)))
    assert _message(_order(filters={field: "x"})) == _message(_order(filters={"other": "x"}))


def test_an_order_becomes_a_request():
    request = to_request(ORDER, page_size=50, cursor=b"c", timeout_s=2.0)
    assert (request.fields, request.subject_field, request.subject_values, request.filters) == (
        ORDER.fields,
        ORDER.subject_field,
        ORDER.subject_values,
        ORDER.filters,
    )
    assert (request.page_size, request.cursor, request.timeout_s) == (50, b"c", 2.0)
