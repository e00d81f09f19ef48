"""Whatever the details, the custodians and the threshold: enough of them open, and one fewer do not."""

import itertools

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.details import Custodian, Custodians, DetailsAlteredError
from gateway.details.opening import OpeningRequest
from gateway.details.sealing import (
    Batch,
    Context,
    entry_share,
    open_content,
    seal_content,
    share_info,
    unwrap,
)
from gateway.errors import GatewayError
from gateway.evidence.fields import commit_fields, verify_fields
from gateway.model import Entry, EntryKind

ORIGIN = "audit.example.org/log/2026"
PEOPLE = [Custodian.generate(f"custodian-{number}") for number in range(5)]

texts = st.text(st.characters(codec="utf-8"), max_size=40)


@settings(max_examples=40, deadline=None)
@given(
    plaintext=st.binary(max_size=2000),
    count=st.integers(2, 5),
    threshold=st.integers(2, 5),
    exchange=texts,
    data=st.data(),
)
def test_enough_custodians_open_and_one_fewer_do_not(plaintext, count, threshold, exchange, data):
    threshold = min(threshold, count)
    people = PEOPLE[:count]
    context = Context(ORIGIN, exchange, "exchange.requested")
    batch = Batch(ORIGIN, Custodians([person.card for person in people], threshold))
    sealed = seal_content(plaintext, context)
    wraps = batch.wrap(sealed.key, context)
    group = data.draw(st.sampled_from(list(itertools.combinations(people, threshold))))
    shares = {
        person.card.id: entry_share(
            person.unseal(batch.keys.shares[person.card.id], share_info(ORIGIN, batch.id, person.card.id)),
            context,
        )
        for person in group
    }
    assert open_content(sealed.content, unwrap(wraps, batch.keys, shares, context), context) == plaintext
    shares.popitem()
    with pytest.raises(DetailsAlteredError):
        unwrap(wraps, batch.keys, shares, context)


@given(
    consumer=texts,
    reasons=st.lists(texts, max_size=5),
    obligations=st.dictionaries(texts, texts, max_size=5),
    records=st.integers(0, 2**53 - 1),
    key=st.binary(min_size=32, max_size=32),
)
def test_every_member_of_every_entry_is_committed_to(consumer, reasons, obligations, records, key):
    entry = Entry(
        v=1,
        kind=EntryKind.EXCHANGE_DENIED,
        time="2026-03-01T12:00:00.000000Z",
        consumer=consumer,
        reasons=tuple(reasons),
        obligations=obligations,
        records=records,
    )
    committed, seed = commit_fields(entry, key)
    openings = verify_fields(committed, seed)
    assert {name: msgspec.json.decode(value) for name, value in openings.values.items()} == (
        msgspec.json.decode(msgspec.json.encode(entry))
    )
    assert len(set(openings.digests)) % 32 == 0


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_no_file_is_taken_for_a_request_by_mistake(content):
    with pytest.raises(GatewayError):
        OpeningRequest.from_json(content)
