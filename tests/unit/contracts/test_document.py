"""Terms as bytes: one text for each contract, and nothing else is taken."""

from __future__ import annotations

import hashlib
import json

import msgspec
import pytest

from gateway.contracts.document import (
    MAX_TERMS_BYTES,
    decode_terms,
    encode_terms,
    identity,
    moment,
    read_terms,
)
from gateway.contracts.errors import ContractError
from gateway.errors import Reason
from gateway.policy.strict_yaml import parse_yaml
from tests.simulators.negotiated import content_of, reason_of, terms_of


def text_of(**changes):
    return json.dumps(
        content_of(**changes), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    ).encode()


def test_terms_come_back_from_their_text_and_the_digest_is_that_of_any_program():
    payload = encode_terms(terms_of())
    assert decode_terms(payload) == terms_of()
    assert identity(payload) == "sha256:" + hashlib.sha256(payload).hexdigest()
    # Control: another program's canonical JSON, as `each: contract` is the only default in the sample.
    assert json.loads(payload) == json.loads(text_of())
    assert (
        payload
        == json.dumps(json.loads(payload), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    )


@pytest.mark.parametrize(
    "payload",
    {
        "no JSON": b"{",
        "no UTF-8": b'{"v":"\xff"}',
        "another version": text_of(v=2),
        "something unknown": text_of(score=1),
        "something missing": text_of(title=None),
        "a default written out": text_of(onward_sharing="forbidden"),
        "white space": text_of().replace(b'":', b'": ', 1),
        "a fraction": text_of().replace(b'"version":"1.0.0"', b'"version":1.5'),
        "a whole number as a fraction": text_of().replace(b'"version":"1.0.0"', b'"version":1.0'),
        "a number beyond 2^53": text_of().replace(b'"version":"1.0.0"', b'"version":9007199254740993'),
        "a name that is not ASCII": text_of().replace(b'"status":', '"stätus":'.encode()),
        "a member twice": text_of().replace(b'"v":1', b'"v":1,"v":1'),
        "a newline after a name": text_of(contract="amber\n"),
        "digits of another script": text_of(valid_from="2026-11-01T00:00:0\u0660Z"),
        "an offset": text_of(valid_from="2026-11-01T00:00:00+00:00"),
        "absurd nesting": b'{"v":' + b"[" * 100_000,
        "deep nesting": text_of().replace(b'"version":"1.0.0"', b'"version":' + b"[" * 600 + b"]" * 600),
    }.items(),
    ids=lambda item: item[0],
)
def test_any_other_text_is_refused(payload):
    assert reason_of(decode_terms, payload[1]) is Reason.CONTRACT_MALFORMED


def test_an_error_tells_the_place_and_no_value():
    with pytest.raises(ContractError) as raised:
        decode_terms(text_of(contract="11010119900307123X"))
    assert "$.contract" in raised.value.message
    assert "11010119900307123X" not in raised.value.message


def test_terms_that_are_too_long_are_refused():
    """Control: just below the limit they are taken."""
    room = MAX_TERMS_BYTES - len(encode_terms(terms_of()))

    def padded(characters):
        content = content_of()
        content["datasets"][0]["description"] = {
            **content["datasets"][0]["description"],
            "z": "x" * characters,
        }
        return content

    fitting = room - len(',"z":""')
    assert len(encode_terms(read_terms(padded(fitting)))) == MAX_TERMS_BYTES
    assert reason_of(read_terms, padded(fitting + 1)) is Reason.MESSAGE_TOO_LARGE


def test_dates_need_no_quotes_in_yaml():
    text = "valid_from: 2026-11-01T00:00:00Z\nvalid_until: '2027-11-01T00:00:00Z'\n"
    assert read_terms(content_of(**parse_yaml(text, "terms"))) == terms_of()


def test_who_writes_terms_is_told_what_is_wrong():
    with pytest.raises(ContractError, match="Expected `str`, got `int`"):
        read_terms(content_of(title=7))
    with pytest.raises(ContractError, match="fraction"):
        read_terms(content_of(datasets=[{**content_of()["datasets"][0], "description": {"a": 0.5}}]))


def test_a_time_that_does_not_exist_is_told():
    assert reason_of(moment, "2026-02-30T00:00:00Z") is Reason.CONTRACT_MALFORMED
    assert moment("2026-02-28T00:00:00Z").tzinfo is not None


def test_no_two_terms_have_one_identity():
    digests = {identity(encode_terms(terms)) for terms in (
        terms_of(),
        terms_of(title="Another"),
        msgspec.structs.replace(terms_of(), retention_days=1),
    )}  # fmt: skip
    assert len(digests) == 3
