from __future__ import annotations

import msgspec
import pytest

from gateway.errors import Reason
from gateway.policy import PolicyError
from gateway.policy.result import decode_result


@pytest.fixture
def allowed(bundle) -> dict:
    return {
        "allow": True,
        "reasons": [],
        "tier": "limited",
        "obligations": {"name": {"treatment": "release", "params": {}}},
        "duties": {"round_counts": {"to": 10}},
        "rule_ids": ["tiers.limited"],
        "valid_until": "2037-01-01T00:00:00Z",
        "bundle": bundle.digest,
    }


@pytest.fixture
def denied(bundle) -> dict:
    return {
        "allow": False,
        "reasons": ["PURPOSE_UNKNOWN"],
        "tier": "",
        "obligations": {},
        "duties": {},
        "rule_ids": ["purposes.unknown"],
        "valid_until": None,
        "bundle": bundle.digest,
    }


def test_a_document_of_the_right_shape_is_a_decision(allowed, denied, bundle):
    assert decode_result(msgspec.json.encode(allowed), bundle, "d-1", "e").allow
    assert decode_result(msgspec.json.encode(denied), bundle, "d-1", "e").reasons == ("PURPOSE_UNKNOWN",)


@pytest.mark.parametrize(
    "key", ["allow", "reasons", "tier", "obligations", "duties", "rule_ids", "valid_until", "bundle"]
)
def test_a_document_that_lacks_something_is_a_failure(key, allowed, bundle):
    del allowed[key]
    with pytest.raises(PolicyError) as caught:
        decode_result(msgspec.json.encode(allowed), bundle, "d-1", "e")
    assert caught.value.reason is Reason.POLICY_FAILED


@pytest.mark.parametrize(
    "change",
    [
        {"allow": "true"},
        {"allow": 1},
        {"allow": None},
        {"reasons": "PURPOSE_UNKNOWN"},
        {"reasons": ["PURPOSE_UNKNOWN"]},
        {"tier": "cosmic"},
        {"tier": ""},
        {"obligations": {}},
        {"obligations": {"name": "release"}},
        {"obligations": {"name": {"treatment": "publish", "params": {}}}},
        {"obligations": {"name": {"params": {}}}},
        {"obligations": {"name": {"treatment": "mask", "params": {"keep": [1]}}}},
        {"duties": ["round_counts"]},
        {"duties": {"round_counts": 10}},
        {"duties": {"round_counts": {"to": 1.5}}},
        {"duties": {"round_counts": {"to": True}}},
        {"valid_until": "soon"},
        {"valid_until": "2037-01-01T00:00:00"},
        {"surplus": 1},
    ],
)
def test_an_allowing_document_that_does_not_fit_is_a_failure(change, allowed, bundle):
    with pytest.raises(PolicyError) as caught:
        decode_result(msgspec.json.encode({**allowed, **change}), bundle, "d-1", "e")
    assert caught.value.reason is Reason.POLICY_FAILED


@pytest.mark.parametrize(
    "change",
    [
        {"reasons": []},
        {"reasons": ["BAD_MOOD"]},
        {"tier": "limited"},
        {"duties": {"round_counts": {"to": 10}}},
        {"obligations": {"name": {"treatment": "release", "params": {}}}},
    ],
)
def test_a_denying_document_that_contradicts_itself_is_a_failure(change, denied, bundle):
    with pytest.raises(PolicyError) as caught:
        decode_result(msgspec.json.encode({**denied, **change}), bundle, "d-1", "e")
    assert caught.value.reason is Reason.POLICY_FAILED


@pytest.mark.parametrize(
    ("digest", "reason"), [("", Reason.POLICY_UNDEFINED), ("sha256:0", Reason.POLICY_STALE)]
)
def test_the_default_and_another_bundle_have_their_own_reasons(digest, reason, allowed, bundle):
    with pytest.raises(PolicyError) as caught:
        decode_result(msgspec.json.encode({**allowed, "bundle": digest}), bundle, "d-1", "e")
    assert caught.value.reason is reason


@pytest.mark.parametrize("encoded", [b"", b"{", b"[]", b"null", b"[" * 100_000])
def test_what_is_no_document_is_a_failure(encoded, bundle):
    with pytest.raises(PolicyError) as caught:
        decode_result(encoded, bundle, "d-1", "e")
    assert caught.value.reason is Reason.POLICY_FAILED
