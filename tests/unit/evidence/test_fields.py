"""The commitment to an entry's members opens member by member, and tells nothing of the others."""

import msgspec
import pytest

from gateway.errors import GatewayError
from gateway.evidence.fields import (
    DIGESTS_MULTIPLE,
    commit_fields,
    field_digest,
    field_seed,
    fields_root,
    verify_fields,
)
from gateway.model import Entry, EntryKind

KEY = bytes(range(32))


def entry(**members):
    return Entry(
        **{
            "v": 1,
            "kind": EntryKind.EXCHANGE_RELEASED,
            "time": "2026-03-01T12:00:00.000000Z",
            "consumer": "harbour-bank",
            "obligations": {"b": "mask", "a": "drop"},
            **members,
        }
    )


def test_each_member_has_its_digest_among_those_of_the_root():
    committed, seed = commit_fields(entry(), KEY)
    openings = verify_fields(committed, seed)
    assert set(openings.values) == {"v", "kind", "time", "consumer", "obligations"}
    for name, value in openings.values.items():
        assert field_digest(name, value, openings.salts[name]) in openings.digests
    assert fields_root(openings.digests) == openings.root
    assert openings.values["obligations"] == b'{"a":"drop","b":"mask"}'


def test_the_seed_is_computed_anew_from_the_key():
    committed, seed = commit_fields(entry(), KEY)
    assert field_seed(committed, KEY) == seed
    assert field_seed(committed, bytes(32)) != seed


def test_the_number_that_the_log_gives_afterwards_is_not_committed_to():
    waiting, seed = commit_fields(entry(sequence=0), KEY)
    assert waiting.sequence == 0
    numbered = msgspec.structs.replace(waiting, sequence=17)
    assert "sequence" not in verify_fields(numbered, seed).values
    assert field_seed(numbered, KEY) == seed
    with pytest.raises(GatewayError):
        verify_fields(msgspec.structs.replace(numbered, consumer="tax"), seed)


def test_the_number_of_digests_does_not_tell_which_members_there_are():
    few, seed = commit_fields(entry(), KEY)
    many, more = commit_fields(entry(provider="registry", records=3, purpose="x"), KEY)
    assert len(verify_fields(few, seed).digests) == len(verify_fields(many, more).digests) == DIGESTS_MULTIPLE


def test_entries_that_differ_share_no_digest():
    one, first = commit_fields(entry(exchange="a"), KEY)
    two, second = commit_fields(entry(exchange="b"), KEY)
    digests = set(verify_fields(one, first).digests) & set(verify_fields(two, second).digests)
    assert digests == set()


@pytest.mark.parametrize(
    "change",
    [
        {"consumer": "other"},
        {"records": 1},
        {"fields": {"root": "A" * 43 + "=", "blind": "A" * 22 + "=="}},
        {"fields": {}},
    ],
)
def test_a_commitment_to_other_members_is_found(change):
    committed, seed = commit_fields(entry(), KEY)
    verify_fields(committed, seed)
    with pytest.raises(GatewayError):
        verify_fields(msgspec.structs.replace(committed, **change), seed)


def test_another_seed_does_not_open():
    committed, _ = commit_fields(entry(), KEY)
    with pytest.raises(GatewayError):
        verify_fields(committed, bytes(32))


def test_the_written_vector():
    """docs/formats/disclosure.md shows these figures, so that somebody else can check a verifier."""
    committed, seed = commit_fields(entry(), KEY)
    openings = verify_fields(committed, seed)
    assert seed.hex() == SEED
    assert openings.salts["consumer"].hex() == SALT
    assert openings.root.hex() == ROOT


SEED = "39c46b9267fee23389b55ea26d86ae357a5bdc4360768b75251bd00c0fb3d18c"
SALT = "dbba09536d0ddeed54fc2e72ebd7ba7f"
ROOT = "5bfddd829110763f32bcd5bf398c543befe6d91c0c9de857dc97ecba2ec95954"
