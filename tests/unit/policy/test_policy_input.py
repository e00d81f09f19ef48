from __future__ import annotations

from datetime import datetime, timedelta, timezone

import msgspec
import pytest

from gateway.policy import PolicyInput, decision_id, encode_input, policy_minute


def test_the_encoding_is_the_documented_shape_with_sorted_keys(allowed_input):
    content = msgspec.json.decode(encode_input(allowed_input))
    assert list(content) == sorted(content)
    assert content["consumer"] == {"class": "bank", "id": "northern-bank"}
    assert content["dataset"]["fields"]["capital"] == {
        "generalise": "band:1000000",
        "identifier": None,
        "link": None,
        "mask": None,
        "tier": "limited",
    }
    assert set(content) == {
        "capabilities", "consumer", "contract", "dataset", "document", "fields", "legal_basis", "memorandum",
        "operation", "provider", "purpose", "reads", "signed", "subjects", "time",
    }  # fmt: skip


def test_the_order_in_which_fields_are_described_does_not_matter(allowed_input):
    dataset = allowed_input.dataset
    turned = msgspec.structs.replace(
        allowed_input,
        dataset=msgspec.structs.replace(dataset, fields=dict(reversed(dataset.fields.items()))),
    )
    assert encode_input(turned) == encode_input(allowed_input)


@pytest.mark.parametrize("name", ["fields", "reads", "capabilities"])
@pytest.mark.parametrize("names", [("b", "a"), ("a", "a")])
def test_lists_that_are_not_sorted_or_repeat_are_refused(name, names, allowed_input):
    with pytest.raises(ValueError, match="sorted"):
        msgspec.structs.replace(allowed_input, **{name: names})


@pytest.mark.parametrize(
    "time",
    ["2026-11-21T12:00:30Z", "2026-11-21T12:00Z", "2026-11-21T12:00:00+00:00", "2026-11-21 12:00:00Z", "",
     "2026-11-21T12:00:00Z\n", "\uff12026-11-21T12:00:00Z"],
)  # fmt: skip
def test_a_time_of_another_form_is_refused(time, allowed_input):
    with pytest.raises(ValueError, match="time"):
        msgspec.structs.replace(allowed_input, time=time)


def test_unknown_facts_are_refused(allowed_input):
    content = {**msgspec.to_builtins(allowed_input), "mood": "good"}
    with pytest.raises(msgspec.ValidationError, match="mood"):
        msgspec.convert(content, PolicyInput)


def test_a_moment_is_cut_to_the_minute_in_utc():
    east = timezone(timedelta(hours=8))
    assert policy_minute(datetime(2026, 11, 21, 20, 0, 59, 999999, tzinfo=east)) == "2026-11-21T12:00:00Z"


def test_the_id_is_the_hash_of_digest_and_input():
    assert decision_id("sha256:00", b"{}") == "d-" + "bfe1f66f719704b9484581abe29e7fdc"
