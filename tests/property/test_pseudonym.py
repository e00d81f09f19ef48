"""Pseudonyms are what the specification says, and do not join across domains."""

import hashlib
import hmac
import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.identifiers import KINDS, NATIONAL_ID, ORGANISATION_CODE, USCC, IdentifierError
from gateway.pseudonym import KeyEpoch, Keyring, Pseudonymiser, PseudonymTextError, parse_pseudonym

NOW = datetime(2026, 3, 1, tzinfo=UTC)
BEGIN, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
KEY = bytes(range(32))
BASE32 = "abcdefghijklmnopqrstuvwxyz234567"
NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,39}", fullmatch=True)
EPOCHS = st.from_regex(r"[a-z0-9][a-z0-9-]{0,19}", fullmatch=True)


# An independent implementation of docs/formats/pseudonym.md, from the standard library alone.


def reference_prefixed(*parts):
    return b"".join(len(part).to_bytes(2, "big") + part.encode() for part in parts)


def reference_hkdf(secret, info):
    """RFC 5869 with SHA-256, no salt, one block."""
    extracted = hmac.digest(bytes(32), secret, hashlib.sha256)
    return hmac.digest(extracted, info + b"\x01", hashlib.sha256)


def reference_pseudonym(key, recipient, purpose, epoch, kind, value):
    domain_key = reference_hkdf(key, reference_prefixed("sg1", recipient, purpose, epoch))
    output = hmac.digest(domain_key, reference_prefixed(kind, "1", value[:-1]), hashlib.sha256)
    token = "".join(BASE32[byte % 32] for byte in output)
    return f"sg1:{recipient}.{purpose}:{epoch}:{token}"


def people(count, seed=1):
    rng = random.Random(seed)
    values = set()
    while len(values) < count:
        body = f"320000{rng.randint(1950, 2005)}{rng.randint(1, 12):02d}{rng.randint(1, 28):02d}"
        body += f"{rng.randint(0, 999):03d}"
        values.add(body + NATIONAL_ID.check_character(body))
    return sorted(values)


def companies(count, seed=2):
    rng = random.Random(seed)
    values = set()
    while len(values) < count:
        body = "91440300" + "".join(rng.choices(USCC.alphabets[10], k=9))
        values.add(body + USCC.check_character(body))
    return sorted(values)


def keyring(*epochs):
    return Keyring(tuple(KeyEpoch(name, BEGIN, END, key) for name, key in epochs))


def pseudonymiser(recipient="bank-one", purpose="credit", epoch="2026a", key=KEY):
    return Pseudonymiser(keyring((epoch, key))).for_exchange(recipient, purpose, NOW)


@settings(max_examples=150, deadline=None)
@given(
    recipient=NAMES,
    purpose=NAMES,
    epoch=EPOCHS,
    key=st.binary(min_size=32, max_size=32),
    identifier=st.sampled_from(
        [(NATIONAL_ID, v) for v in people(20)]
        + [(USCC, v) for v in companies(20)]
        + [(ORGANISATION_CODE, "D2143569X")]
    ),
)
def test_every_pseudonym_is_what_the_specification_says(recipient, purpose, epoch, key, identifier):
    kind, value = identifier
    made = pseudonymiser(recipient, purpose, epoch, key).pseudonymise(kind, value)
    assert made == reference_pseudonym(key, recipient, purpose, epoch, kind.name, value)


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.one_of(st.none(), st.just("broken"), st.sampled_from(people(30))), max_size=40))
def test_a_column_gives_what_its_values_give_and_nothing_for_the_others(rows):
    made = pseudonymiser()
    expected = [
        None if value in {None, "broken"} else made.pseudonymise(NATIONAL_ID, value) for value in rows
    ]
    column = NATIONAL_ID.check_column(rows)
    assert made.pseudonymise_column(column) == expected
    assert made.pseudonymise_column(column) == pseudonymiser().pseudonymise_column(column)


@settings(max_examples=100, deadline=None)
@given(recipient=NAMES, purpose=NAMES, epoch=EPOCHS)
def test_every_pseudonym_says_its_domain_and_epoch(recipient, purpose, epoch):
    text = pseudonymiser(recipient, purpose, epoch).pseudonymise(NATIONAL_ID, people(1)[0])
    parsed = parse_pseudonym(text)
    assert (parsed.domain.recipient, parsed.domain.purpose, parsed.epoch) == (recipient, purpose, epoch)
    assert str(parsed) == text


@settings(max_examples=100, deadline=None)
@given(recipient=NAMES, purpose=NAMES, epoch=EPOCHS)
def test_a_pseudonym_is_never_taken_for_an_identifier(recipient, purpose, epoch):
    text = pseudonymiser(recipient, purpose, epoch).pseudonymise(USCC, companies(1)[0])
    for kind in KINDS.values():
        for spelling in (text, text.upper(), text.rpartition(":")[2]):
            with pytest.raises(IdentifierError):
                kind.normalise(spelling)
            assert kind.unrecognised([spelling]) == [0]


def test_an_identifier_is_never_taken_for_a_pseudonym():
    for value in [*people(100), *companies(100), "D2143569X", "440305"]:
        with pytest.raises(PseudonymTextError):
            parse_pseudonym(value)


# Joining two recipients' data: what an insider of both would try first.

PEOPLE = people(1000)


def tokens(texts):
    return [text.rpartition(":")[2] for text in texts]


def pieces(texts, length=8):
    """Return every stretch of `length` characters (40 bits) of the tokens.

    Two sets of 25,000 random pieces each share one with a probability of about 1 in 1,800.
    """
    return {token[at : at + length] for token in texts for at in range(len(token) - length + 1)}


def joins(left, right):
    """Return by how many tokens, or pieces of tokens, two columns can be joined."""
    return len(set(left) & set(right)) + len(pieces(left) & pieces(right))


def made(**domain):
    return tokens(pseudonymiser(**domain).pseudonymise_column(NATIONAL_ID.check_column(PEOPLE)))


@pytest.mark.parametrize(
    "other",
    [
        {"recipient": "bank-two"},
        {"purpose": "audit"},
        {"epoch": "2026b"},
        {"key": bytes(32)},
        # Parts that would run together if they were not told apart by their lengths.
        {"recipient": "bank-on", "purpose": "ecredit"},
    ],
    ids=str,
)
def test_pseudonyms_of_two_domains_do_not_join(other):
    assert joins(made(), made(**other)) == 0


def test_pseudonyms_of_one_domain_do_join():
    """The control for the test above: it sees a join where there is one."""
    assert made() == made()
    assert joins(made(), made()) > 1000
    assert len(set(made())) == 1000


def test_a_derivation_that_forgot_the_recipient_would_be_found_out():
    def column(recipient, *, forget):
        key_is_for = "anyone" if forget else recipient
        return tokens(
            reference_pseudonym(KEY, key_is_for, "credit", "2026a", "national-id", value) for value in PEOPLE
        )

    assert joins(column("bank-one", forget=True), column("bank-two", forget=True)) > 1000
    assert joins(column("bank-one", forget=False), column("bank-two", forget=False)) == 0


def test_one_value_of_two_kinds_has_two_pseudonyms():
    # Digits alone can be a citizen's number and a social credit code at once.
    both = next(
        value for value in people(20_000, seed=3) if value.isdigit() and not USCC.unrecognised([value])
    )
    first = pseudonymiser().pseudonymise(NATIONAL_ID, both)
    second = pseudonymiser().pseudonymise(USCC, both)
    assert joins(tokens([first]), tokens([second])) == 0


def test_spellings_of_one_identifier_have_one_pseudonym():
    made_by = pseudonymiser()
    assert made_by.pseudonymise(ORGANISATION_CODE, "D2143569-X") == made_by.pseudonymise(
        ORGANISATION_CODE, " d2143569x"
    )


def test_an_overlap_gives_two_unlinkable_columns_and_then_one():
    start = datetime(2026, 1, 1, tzinfo=UTC)
    rotated = Keyring.generate(start).rotate(start + timedelta(days=30), timedelta(days=7))
    during = start + timedelta(days=31)
    source = Pseudonymiser(rotated)
    column = NATIONAL_ID.check_column(PEOPLE)
    new = source.for_exchange("bank-one", "credit", during)
    old = source.for_exchange("bank-one", "credit", during, epoch="2026a")
    assert (old.epoch, new.epoch) == ("2026a", "2026b")
    assert joins(tokens(old.pseudonymise_column(column)), tokens(new.pseudonymise_column(column))) == 0
