"""The golden vectors of scheme `sg1`. They never change; another result needs another scheme name."""

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.identifiers import identifier_kind
from gateway.pseudonym import Domain, KeyEpoch, Keyring, Pseudonymiser, derive_key

VECTORS = json.loads(Path(__file__).with_name("sg1.json").read_text(encoding="utf-8"))["vectors"]
START = datetime(2026, 1, 1, tzinfo=UTC)


def epoch_of(vector):
    key = base64.b64decode(vector["epoch_key"])
    return KeyEpoch(vector["epoch"], START, START + timedelta(days=365), key)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["pseudonym"])
def test_the_pseudonym_is_the_published_one(vector):
    source = Pseudonymiser(Keyring((epoch_of(vector),)))
    made_by = source.for_exchange(vector["recipient"], vector["purpose"], START)
    kind = identifier_kind(vector["kind"])
    assert made_by.pseudonymise(kind, vector["value"]) == vector["pseudonym"]
    assert made_by.pseudonymise_column(kind.check_column([vector["value"]])) == [vector["pseudonym"]]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["pseudonym"])
def test_the_domains_key_is_the_published_one(vector):
    key = derive_key(epoch_of(vector), Domain(vector["recipient"], vector["purpose"]))
    assert key.hex() == vector["domain_key"]


def test_no_two_vectors_share_a_pseudonym():
    assert len({vector["pseudonym"].rpartition(":")[2] for vector in VECTORS}) == len(VECTORS) == 8


def test_the_specification_shows_the_first_vector():
    page = Path(__file__).parents[3] / "docs" / "formats" / "pseudonym.md"
    text = page.read_text(encoding="utf-8")
    for name in ("value", "hkdf_info", "domain_key", "prf_input", "prf_output", "pseudonym"):
        assert VECTORS[0][name] in text
