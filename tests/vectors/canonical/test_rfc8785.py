"""Canonical JSON against RFC 8785, as far as our statements go: strings, integers, ASCII names."""

from __future__ import annotations

import json

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from gateway.evidence.canonical import NotCanonicalError, check_canonical, encode_canonical

VECTORS = {
    # Section 3.2.2 and 3.2.4, without the numbers that are no integers.
    "literals": ({"literals": [None, True, False]}, b'{"literals":[null,true,false]}'),
    "string": (
        {"string": "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/"},
        bytes.fromhex("7b22737472696e67223a22e282ac245c75303030665c6e4127425c225c5c5c5c5c222f227d"),
    ),
    # Section 3.2.2.2: short escapes where there are some, else \u00xx in lower case; all others as they are.
    "short escapes": ('\b\t\n\f\r"\\', b'"\\b\\t\\n\\f\\r\\"\\\\"'),
    "control characters": ("\x00\x01\x0b\x1e\x1f", b'"\\u0000\\u0001\\u000b\\u001e\\u001f"'),
    "delete and beyond": ("\x7f\x80\u2028\u2029", '"\x7f\x80\u2028\u2029"'.encode()),
    "astral": ("\U0001f600", '"\U0001f600"'.encode()),
    "no normalisation": ("A\u030a", '"A\u030a"'.encode()),
    # Section 3.2.2.3, integers; the largest and smallest of I-JSON (RFC 7493 section 2.2).
    "integers": (
        [0, 1, -1, 10, 9007199254740991, -9007199254740991],
        b"[0,1,-1,10,9007199254740991,-9007199254740991]",
    ),
    # Section 3.2.3: members sorted at every depth, lists left alone.
    "order": (
        {"b": {"z": 1, "a": 2}, "a": [3, 1, 2], "B": 0, "1": 0, "": 0, "aa": 0},
        b'{"":0,"1":0,"B":0,"a":[3,1,2],"aa":0,"b":{"a":2,"z":1}}',
    ),
    "empty": ({"a": {}, "b": [], "c": ""}, b'{"a":{},"b":[],"c":""}'),
}


@pytest.mark.parametrize("name", VECTORS)
def test_rfc_8785(name: str) -> None:
    value, expected = VECTORS[name]
    check_canonical(value)
    assert encode_canonical(value) == expected
    assert encode_canonical(json.loads(expected)) == expected


@pytest.mark.parametrize("value", [1.5, 1e400, 2**53, -(2**53), {"ä": 1}, {"a": [{"b": 0.0}]}, b"x", {1: 2}])
def test_what_has_no_form_here_is_refused(value: object) -> None:
    with pytest.raises(NotCanonicalError):
        check_canonical(value)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(max_codepoint=126), max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(values)
def test_another_implementation_writes_the_same_bytes(value: object) -> None:
    check_canonical(value)
    assert encode_canonical(value) == rfc8785.dumps(value)
