"""What was sealed opens with enough custodians, for the entry it was sealed for, and not otherwise."""

import itertools
from dataclasses import replace

import pytest

from gateway.details import Custodian, Custodians, DetailsAlteredError
from gateway.details.sealing import (
    WRAP_BYTES,
    Batch,
    Context,
    content_digest,
    entry_share,
    open_content,
    seal_content,
    share_info,
    unwrap,
)
from gateway.errors import ConfigError

ORIGIN = "audit.example.org/log/2026"
CONTEXT = Context(ORIGIN, "0195512e-0000-7000-8000-000000000001", "exchange.requested")
OTHER = replace(CONTEXT, exchange="0195512e-0000-7000-8000-000000000002")


@pytest.fixture
def sealed():
    return seal_content(b"whom it was about", CONTEXT)


@pytest.fixture
def batch(custodians):
    return Batch(ORIGIN, custodians)


def shares(batch, people, context=CONTEXT):
    return {
        person.card.id: entry_share(
            person.unseal(batch.keys.shares[person.card.id], share_info(ORIGIN, batch.id, person.card.id)),
            context,
        )
        for person in people
    }


def test_any_two_of_three_open(sealed, batch, people):
    wraps = batch.wrap(sealed.key, CONTEXT)
    assert len(wraps) == 3 * WRAP_BYTES
    for pair in itertools.combinations(people, 2):
        key = unwrap(wraps, batch.keys, shares(batch, pair), CONTEXT)
        assert open_content(sealed.content, key, CONTEXT) == b"whom it was about"
    assert unwrap(wraps, batch.keys, shares(batch, people), CONTEXT) == sealed.key


def test_one_alone_does_not_open(sealed, batch, people):
    wraps = batch.wrap(sealed.key, CONTEXT)
    with pytest.raises(DetailsAlteredError, match="2 custodians"):
        unwrap(wraps, batch.keys, shares(batch, people[:1]), CONTEXT)


def test_one_share_twice_is_not_two(sealed, batch, people):
    wraps = batch.wrap(sealed.key, CONTEXT)
    [(_, ours)] = shares(batch, people[:1]).items()
    with pytest.raises(DetailsAlteredError):
        unwrap(wraps, batch.keys, {people[0].card.id: ours, people[1].card.id: ours}, CONTEXT)


def test_shares_of_one_entry_open_no_other_of_the_batch(batch, people):
    other = seal_content(b"somebody else", OTHER)
    wraps = batch.wrap(other.key, OTHER)
    with pytest.raises(DetailsAlteredError):
        unwrap(wraps, batch.keys, shares(batch, people, CONTEXT), OTHER)
    assert unwrap(wraps, batch.keys, shares(batch, people, OTHER), OTHER) == other.key


@pytest.mark.parametrize(
    "context",
    [
        OTHER,
        replace(CONTEXT, origin="audit.example.net/log/2026"),
        replace(CONTEXT, kind="exchange.denied"),
    ],
)
def test_content_belongs_to_its_log_exchange_and_kind(sealed, context):
    with pytest.raises(DetailsAlteredError):
        open_content(sealed.content, sealed.key, context)
    assert open_content(sealed.content, sealed.key, CONTEXT)


def test_every_flipped_byte_is_noticed(sealed, batch, people):
    for at in range(len(sealed.content)):
        changed = bytearray(sealed.content)
        changed[at] ^= 1
        with pytest.raises(DetailsAlteredError):
            open_content(bytes(changed), sealed.key, CONTEXT)
        assert content_digest(bytes(changed)) != content_digest(sealed.content)
    with pytest.raises(DetailsAlteredError):
        open_content(b"short", sealed.key, CONTEXT)
    wraps = bytearray(batch.wrap(sealed.key, CONTEXT))
    wraps[0] ^= 1
    first_two = sorted(people, key=lambda person: person.card.id)[:2]
    with pytest.raises(DetailsAlteredError):
        unwrap(bytes(wraps), batch.keys, shares(batch, first_two), CONTEXT)


def test_a_share_opens_for_its_custodian_and_batch_only(batch, people):
    first, second, _ = people
    sealed = batch.keys.shares[first.card.id]
    info = share_info(ORIGIN, batch.id, first.card.id)
    assert len(first.unseal(sealed, info)) == 32
    for person, what in (
        (second, info),
        (first, share_info(ORIGIN, bytes(16), first.card.id)),
        (first, share_info("audit.example.net/log/2026", batch.id, first.card.id)),
    ):
        with pytest.raises(DetailsAlteredError):
            person.unseal(sealed, what)


def test_three_of_five(sealed):
    people = [Custodian.generate(f"custodian-{number}") for number in range(5)]
    batch = Batch(ORIGIN, Custodians([person.card for person in people], 3))
    wraps = batch.wrap(sealed.key, CONTEXT)
    assert len(wraps) == 10 * WRAP_BYTES
    for group in itertools.combinations(people, 3):
        assert unwrap(wraps, batch.keys, shares(batch, group), CONTEXT) == sealed.key
    with pytest.raises(DetailsAlteredError, match="3 custodians"):
        unwrap(wraps, batch.keys, shares(batch, people[:2]), CONTEXT)


@pytest.mark.parametrize(("count", "threshold"), [(1, 1), (2, 1), (2, 3), (8, 2), (0, 2)])
def test_nobody_opens_alone_whatever_is_configured(count, threshold):
    cards = [Custodian.generate(f"custodian-{number}").card for number in range(count)]
    with pytest.raises(ConfigError, match="alone"):
        Custodians(cards, threshold)


def test_one_person_is_not_two_custodians(people):
    card = people[0].card
    with pytest.raises(ConfigError, match="twice"):
        Custodians([card, card])
    import msgspec

    renamed = msgspec.structs.replace(card, name="other")
    with pytest.raises(ConfigError, match="same key"):
        Custodians([card, renamed])


def test_keys_and_cards_survive_their_files(tmp_path, people):
    person = people[0]
    person.save(tmp_path / "chen.key")
    again = Custodian.load(tmp_path / "chen.key")
    assert again.card == person.card
    assert (tmp_path / "chen.key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "chen.card").write_bytes(person.card.to_json())
    assert type(person.card).load(tmp_path / "chen.card").id == person.card.id
    assert person.sealing_key.private_bytes_raw().hex() not in repr(person)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"v":2}'])
def test_files_that_are_none_are_told(tmp_path, content, people):
    path = tmp_path / "file"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError):
        Custodian.load(path)
    with pytest.raises(ConfigError):
        type(people[0].card).load(path)


def test_a_card_with_a_key_of_small_order_is_refused(tmp_path, people):
    import msgspec

    path = tmp_path / "card"
    path.write_bytes(msgspec.structs.replace(people[0].card, sealing=bytes(32)).to_json())
    with pytest.raises(ConfigError, match="small order"):
        type(people[0].card).load(path)


def test_a_name_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="name"):
        Custodian.generate("Mr Chen")
