"""Envelopes: whatever is changed after signing is found; whatever is signed is read back the same."""

from __future__ import annotations

import base64
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.evidence import dsse
from gateway.evidence.keys import SignatureError, SigningKey

KEY = SigningKey(b"\x01" * 32)
OTHER = SigningKey(b"\x02" * 32)
KEYS = {KEY.key_id: KEY.verify_key}
TYPE = dsse.payload_type("query")

payloads = st.binary(max_size=300)


@given(payloads)
def test_what_is_signed_is_read_back(payload: bytes) -> None:
    assert dsse.verify(dsse.sign(payload, TYPE, [KEY]), TYPE, KEYS) == (payload, KEY.key_id)


@given(st.binary(min_size=1, max_size=300), st.data())
def test_any_changed_bit_of_the_payload_is_found(payload: bytes, data: st.DataObject) -> None:
    envelope = dsse.sign(payload, TYPE, [KEY])
    bit = data.draw(st.integers(0, len(payload) * 8 - 1))
    changed = bytearray(payload)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SignatureError):
        dsse.verify(msgspec.structs.replace(envelope, payload=bytes(changed)), TYPE, KEYS)


@given(payloads, st.integers(0, 511))
def test_any_changed_bit_of_the_signature_is_found(payload: bytes, bit: int) -> None:
    envelope = dsse.sign(payload, TYPE, [KEY])
    raw = bytearray(envelope.signatures[0].sig)
    raw[bit // 8] ^= 1 << bit % 8
    signatures = (dsse.Signature(KEY.key_id, bytes(raw)),)
    with pytest.raises(SignatureError):
        dsse.verify(msgspec.structs.replace(envelope, signatures=signatures), TYPE, KEYS)


@given(payloads, st.binary(max_size=100))
def test_a_signature_of_any_other_length_or_bytes_is_refused(payload: bytes, signature: bytes) -> None:
    envelope = dsse.Envelope(payload, TYPE, (dsse.Signature(KEY.key_id, signature),))
    with pytest.raises(SignatureError):
        dsse.verify(envelope, TYPE, KEYS)


@given(payloads, payloads, st.text(max_size=30), st.text(max_size=30))
def test_no_two_pairs_of_type_and_payload_have_the_same_encoding(
    one: bytes, two: bytes, type_one: str, type_two: str
) -> None:
    same = dsse.pae(one, type_one) == dsse.pae(two, type_two)
    assert same == ((one, type_one) == (two, type_two))


@given(payloads, st.lists(st.sampled_from([KEY, OTHER]), max_size=10))
def test_one_known_signer_is_needed_and_enough(payload: bytes, signers: list[SigningKey]) -> None:
    envelope = dsse.sign(payload, TYPE, signers)
    if KEY in signers and len(signers) <= dsse.MAX_SIGNATURES:
        assert dsse.verify(envelope, TYPE, KEYS) == (payload, KEY.key_id)
    else:
        with pytest.raises(SignatureError):
            dsse.verify(envelope, TYPE, KEYS)


@given(payloads, st.text(max_size=40))
def test_another_type_is_refused(payload: bytes, other: str) -> None:
    if other == TYPE:
        return
    with pytest.raises(SignatureError):
        dsse.verify(dsse.sign(payload, other, [KEY]), TYPE, KEYS)


@given(payloads)
def test_the_json_form_is_that_of_dsse(payload: bytes) -> None:
    envelope = dsse.sign(payload, TYPE, [KEY])
    text = dsse.envelope_to_json(envelope)
    assert dsse.envelope_from_json(text) == envelope
    assert json.loads(text).keys() == {"payload", "payloadType", "signatures"}


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_bytes_make_the_parser_raise_anything_else(text: bytes) -> None:
    try:
        dsse.envelope_from_json(text)
    except SignatureError:
        return
    assert json.loads(text).keys() == {"payload", "payloadType", "signatures"}


@pytest.mark.parametrize("length", [1, 2, 4, 5])
def test_a_text_of_base64_that_is_not_canonical_is_refused(length: int) -> None:
    envelope = dsse.Envelope(bytes(length), "application/json", (dsse.Signature("key", b"\xff" * 64),))
    text = dsse.envelope_to_json(envelope)
    assert dsse.envelope_from_json(text) == envelope  # the control
    for written in (base64.b64encode(bytes(length)), base64.b64encode(b"\xff" * 64)):
        last = written.rstrip(b"=")
        altered = text.replace(last, last[:-1] + bytes([last[-1] + 1]))
        assert msgspec.json.decode(altered, type=dsse.Envelope) == envelope, "a lenient decoder sees the same"
        with pytest.raises(SignatureError):
            dsse.envelope_from_json(altered)
