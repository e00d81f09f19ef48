"""What the log keeps of a policy input gives the input back, byte for byte, and nothing a caller made up."""

from __future__ import annotations

import msgspec
import pytest

from gateway.policy import FieldFacts, PolicyError, encode_input
from gateway.policy.recorded_input import (
    STATED,
    UNKNOWN_NAME,
    as_recordable,
    describe,
    join_pieces,
    rebuild_input,
    record_input,
)


def pieces(described):
    texts = described.pieces()
    return [(described.digest, number, len(texts), text) for number, text in enumerate(texts, start=1)]


def test_an_input_comes_back_byte_for_byte(cases):
    for case in cases.values():
        described = describe(case.policy_input.dataset)
        recorded = msgspec.json.decode(msgspec.json.encode(record_input(case.policy_input, described)))
        assert rebuild_input(recorded, {described.digest: described.text}) == encode_input(case.policy_input)


def test_the_description_is_not_repeated(allowed_input):
    recorded = record_input(allowed_input, describe(allowed_input.dataset))
    assert recorded["dataset"].startswith("sha256:")
    assert len(msgspec.json.encode(recorded)) < 1024


def test_without_its_description_an_input_cannot_be_had(allowed_input):
    with pytest.raises(PolicyError):
        rebuild_input(record_input(allowed_input, describe(allowed_input.dataset)), {})


def test_a_wide_dataset_is_described_in_pieces(allowed_input):
    fields = {f"field_{at}": FieldFacts("public", None, None) for at in range(400)}
    described = describe(msgspec.structs.replace(allowed_input.dataset, fields=fields))
    told = pieces(described)
    assert len(told) > 1
    assert join_pieces(reversed(told)) == {described.digest: described.text}
    assert join_pieces(told[1:]) == {}, "a text that is not whole is none"


def test_a_text_that_is_not_that_of_its_digest_is_left_out(allowed_input):
    described = describe(allowed_input.dataset)
    [(digest, number, count, text)] = pieces(described)
    assert join_pieces([(digest, number, count, text.replace("public", "puplic", 1))]) == {}
    assert join_pieces([(digest, number, count, text)]) == {digest: text}, "the control"


def test_what_a_caller_made_up_is_replaced_and_decided_alike(bundle, allowed_input, embedded):
    made_up = "440301199001011234"
    asked = msgspec.structs.replace(
        allowed_input, purpose=made_up, legal_basis=made_up, memorandum=made_up, document=made_up
    )
    kept = as_recordable(asked, bundle.data)
    assert made_up.encode() not in encode_input(kept)
    assert (kept.purpose, kept.document) == (UNKNOWN_NAME, STATED)
    first, second = (embedded.judge(encode_input(each)) for each in (asked, kept))
    assert (first.allow, first.reasons) == (second.allow, second.reasons)
    assert as_recordable(allowed_input, bundle.data) is allowed_input
