"""Query statements: no bytes at all get past the parser but those of one canonical form."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.client.statement import build_query
from gateway.errors import GatewayError, Reason
from gateway.evidence import dsse
from gateway.evidence.canonical import encode_canonical
from gateway.evidence.keys import SigningKey
from gateway.exchange.statement import MAX_CLOCK_SKEW, QUERY_TYPE, open_statement
from gateway.model import Actor, Operation, Query, Subject

KEY = SigningKey(b"\x01" * 32)
KEYS = {KEY.key_id: KEY.verify_key}
AUDIENCE = "audit.example.org/log/2026"
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True)


@st.composite
def queries(draw: st.DrawFn) -> Query:
    return build_query(
        AUDIENCE,
        draw(st.sampled_from(Operation)),
        draw(words),
        draw(words),
        clock=lambda: NOW,
        subjects=draw(st.lists(st.builds(Subject, names, words), max_size=5)),
        filters=draw(st.dictionaries(names, words, max_size=5)),
        fields=draw(st.lists(names, max_size=5)),
        legal_basis=draw(words),
        memorandum=draw(words),
        match=draw(st.dictionaries(names, words, max_size=5)),
        actor=draw(st.none() | st.builds(Actor, words, words)),
    )


def opened(payload: bytes, operation: Operation, now: datetime = NOW) -> Query:
    envelope = dsse.sign(payload, QUERY_TYPE, [KEY])
    return open_statement(envelope, KEYS, AUDIENCE, operation, now).query


@given(queries())
def test_what_the_client_writes_the_gateway_reads(query: Query) -> None:
    assert opened(encode_canonical(query), query.operation) == query


@given(queries(), st.data())
def test_any_other_spelling_of_the_same_statement_is_refused(query: Query, data: st.DataObject) -> None:
    canonical = encode_canonical(query)
    spelling = data.draw(
        st.sampled_from(
            [
                {"indent": 1},
                {"separators": (", ", ": ")},
                {"separators": (",", ": ")},
            ]
        )
    )
    other = json.dumps(json.loads(canonical), sort_keys=True, ensure_ascii=False, **spelling).encode()
    assert other != canonical
    with pytest.raises(GatewayError) as raised:
        opened(other, query.operation)
    assert raised.value.reason is Reason.STATEMENT_MALFORMED


@given(
    st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode("utf-8", "surrogatepass"))
)
def test_no_bytes_make_the_parser_raise_anything_else(payload: bytes) -> None:
    with pytest.raises(GatewayError) as raised:
        opened(payload, Operation.QUERY)
    assert raised.value.reason in {Reason.STATEMENT_MALFORMED, Reason.STATEMENT_AUDIENCE}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)


@given(queries(), st.sampled_from([*Query.__struct_fields__, "more"]), json_values)
def test_a_member_of_any_other_type_is_refused_or_means_the_same(
    query: Query, name: str, value: object
) -> None:
    statement = json.loads(encode_canonical(query))
    statement[name] = value
    payload = json.dumps(statement, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    try:
        read = opened(payload, query.operation)
    except GatewayError:
        return
    assert json.loads(encode_canonical(read)) == statement


@given(queries(), st.timedeltas(min_value=timedelta(-1), max_value=timedelta(1)))
def test_a_statement_is_good_for_five_minutes_either_way(query: Query, age: timedelta) -> None:
    payload = encode_canonical(query)
    if abs(age) <= MAX_CLOCK_SKEW:
        assert opened(payload, query.operation, NOW + age) == query
    else:
        with pytest.raises(GatewayError) as raised:
            opened(payload, query.operation, NOW + age)
        expected = Reason.STATEMENT_STALE if age > timedelta() else Reason.CLOCK_SKEW
        assert raised.value.reason is expected
