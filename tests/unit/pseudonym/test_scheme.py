from datetime import UTC, datetime, timedelta

import pytest

from gateway.errors import GatewayError, Reason
from gateway.identifiers import AREA_CODE, NATIONAL_ID, USCC, IdentifierError
from gateway.pseudonym import (
    Domain,
    KeyEpoch,
    KeyEpochError,
    Keyring,
    PseudonymError,
    Pseudonymiser,
    PseudonymTextError,
    derive_key,
    parse_pseudonym,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
PERSON = "11010519491231002X"


@pytest.fixture
def source():
    return Pseudonymiser(Keyring.generate(START))


def test_an_invalid_identifier_is_refused_never_pseudonymised(source):
    with pytest.raises(IdentifierError):
        source.for_exchange("bank", "credit", START).pseudonymise(NATIONAL_ID, "110105194912310021")


def test_invalid_rows_of_a_column_stay_empty(source):
    column = NATIONAL_ID.check_column(["110105194912310021", None, PERSON])
    made = source.for_exchange("bank", "credit", START).pseudonymise_column(column)
    assert made[:2] == [None, None]
    assert made[2] is not None
    assert made[2].startswith("sg1:bank.credit:2026a:")


def test_an_empty_column_has_no_pseudonyms(source):
    assert source.for_exchange("bank", "credit", START).pseudonymise_column(USCC.check_column([])) == []


def test_area_codes_are_too_few_for_pseudonyms(source):
    made_by = source.for_exchange("bank", "credit", START)
    with pytest.raises(PseudonymError) as refusal:
        made_by.pseudonymise(AREA_CODE, "440305")
    assert refusal.value.reason is Reason.OBLIGATION_UNSUPPORTED
    with pytest.raises(PseudonymError):
        made_by.pseudonymise_column(AREA_CODE.check_column(["440305"]))


@pytest.mark.parametrize("name", ["", "Bank", "bank.one", "bank:one", "1bank", "b" * 41, "bank\n"])
def test_a_domain_is_made_of_names(source, name):
    for recipient, purpose in ((name, "credit"), ("bank", name)):
        with pytest.raises(PseudonymError) as refusal:
            source.for_exchange(recipient, purpose, START)
        assert refusal.value.reason is Reason.OBLIGATION_UNSUPPORTED


def test_without_a_key_epoch_nothing_is_made(source):
    with pytest.raises(KeyEpochError):
        source.for_exchange("bank", "credit", START - timedelta(days=1))


def test_an_answer_goes_on_under_the_epoch_it_began_with_while_that_is_active():
    rotation = START + timedelta(days=10)
    source = Pseudonymiser(Keyring.generate(START).rotate(rotation, timedelta(hours=1)))
    first = source.for_exchange("bank", "credit", rotation - timedelta(minutes=1))
    assert first.epoch == "2026a"
    later = rotation + timedelta(minutes=1)
    assert source.for_exchange("bank", "credit", later).epoch == "2026b"
    assert source.for_exchange("bank", "credit", later, epoch="2026a").pseudonymise(
        NATIONAL_ID, PERSON
    ) == first.pseudonymise(NATIONAL_ID, PERSON)
    for moment, epoch in ((rotation + timedelta(hours=1), "2026a"), (later, "2025z")):
        with pytest.raises(KeyEpochError):
            source.for_exchange("bank", "credit", moment, epoch=epoch)


def test_a_domains_key_is_derived_once_and_kept(source):
    first = source.for_exchange("bank", "credit", START)
    assert source.for_exchange("bank", "credit", START + timedelta(days=1)) is first
    assert source.for_exchange("bank", "audit", START) is not first


def test_a_cached_domain_is_not_used_when_its_epoch_is_over(source):
    source.for_exchange("bank", "credit", START)
    with pytest.raises(KeyEpochError):
        source.for_exchange("bank", "credit", START + timedelta(days=400))


def test_nothing_that_makes_pseudonyms_shows_a_key():
    key = b"0123456789abcdef0123456789abcdef"
    epoch = KeyEpoch("2026a", START, START + timedelta(days=1), key)
    source = Pseudonymiser(Keyring((epoch,)))
    made_by = source.for_exchange("bank", "credit", START)
    shown = repr(source) + repr(made_by) + repr(made_by.__dict__)
    for secret in (key, derive_key(epoch, Domain("bank", "credit"))):
        assert repr(secret)[2:-1] not in shown
        assert secret.hex() not in shown


TOKEN = "a" * 32


@pytest.mark.parametrize(
    "text",
    [
        "",
        PERSON,
        f"sg2:bank.credit:2026a:{TOKEN}",
        f"SG1:bank.credit:2026a:{TOKEN}",
        f"sg1:bank.credit:2026a:{TOKEN.upper()}",
        f"sg1:bank.credit:2026a:{TOKEN}a",
        f"sg1:bank.credit:2026a:{TOKEN[1:]}",
        f"sg1:bank.credit:2026a:{'1' * 32}",
        f"sg1:bank.credit:2026a:{TOKEN}\n",
        f" sg1:bank.credit:2026a:{TOKEN}",
        f"sg1:bank:2026a:{TOKEN}",
        f"sg1:bank.credit.more:2026a:{TOKEN}",
        f"sg1:.credit:2026a:{TOKEN}",
        f"sg1:bank.credit::{TOKEN}",
        f"sg1:bank.credit:2026a:extra:{TOKEN}",
        f"sg1:{'b' * 41}.credit:2026a:{TOKEN}",
    ],
)
def test_what_is_not_exactly_a_pseudonym_is_refused(text):
    with pytest.raises(PseudonymTextError) as refusal:
        parse_pseudonym(text)
    assert isinstance(refusal.value, GatewayError)
    assert refusal.value.reason is Reason.IDENTIFIER_INVALID
    assert TOKEN not in str(refusal.value)


def test_a_pseudonym_is_taken_apart():
    parsed = parse_pseudonym(f"sg1:bank-one.credit-check:2026a:{TOKEN}")
    assert parsed.scheme == "sg1"
    assert parsed.domain == Domain("bank-one", "credit-check")
    assert parsed.epoch == "2026a"
    assert parsed.token == TOKEN
