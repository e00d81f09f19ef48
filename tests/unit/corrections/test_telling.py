"""Tokens, what left, and what each recipient is told of it."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gateway.clock import rfc3339
from gateway.corrections.departures import UNDER_WAY, has_left
from gateway.corrections.errors import CorrectionsUnavailableError
from gateway.corrections.register import BIT, NamedPage, ReceivedPage
from gateway.corrections.telling import notices, record_keys
from gateway.corrections.tokens import TOKEN_BYTES, CorrectionKeys
from gateway.errors import ConfigError
from gateway.evidence.correction import Correction, CorrectionKind, CorrectionReason, new_nonce
from gateway.identifiers import identifier_kind
from gateway.model import ENTRY_VERSION, Dataset, Entry, EntryKind, Field, FieldType
from gateway.pseudonym import Keyring, Pseudonymiser
from tests.simulators.invented import person

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
LOANS = "members/centre/datasets/loans"
SUBJECT = person(1)[0]
DATASET = Dataset(
    name=LOANS,
    provider="centre",
    title="Loans",
    version="1",
    tier="limited",
    corrections=("national_id", "account"),
    fields={
        "national_id": Field(
            name="national_id", type=FieldType.STRING, tier="limited", identifier="national-id"
        ),
        "account": Field(name="account", type=FieldType.STRING, tier="limited"),
    },
)
KEYRING = Keyring.generate(NOW - timedelta(days=1))
EPOCH = KEYRING.epochs[0].id
PSEUDONYMISER = Pseudonymiser(KEYRING)


def a_page(form: str, **changes: object) -> ReceivedPage:
    page = ReceivedPage("e1", 0, "bank", "centre", LOANS, "lending", EPOCH, form, rfc3339(NOW))
    return replace(page, **changes)


def told(keys: CorrectionKeys, *pages: ReceivedPage, account: str = "77", subject: str = SUBJECT):
    """Return the groups that each recipient is told, for one announced record that all pages hold."""
    record = {"national_id": subject, "account": account}
    correction = Correction(
        v=1,
        gateway="audit.example.org/log/x",
        dataset=LOANS,
        kind=CorrectionKind.CORRECTED,
        reason=CorrectionReason.ERROR,
        records=(record,),
        effective=rfc3339(NOW),
        time=rfc3339(NOW),
        nonce=new_nonce(),
    )
    [key] = record_keys(DATASET, [record])
    token = keys.namer(LOANS).token(key)
    made = notices(
        ("audit.example.org/log/x", "c1", rfc3339(NOW)),
        correction,
        DATASET,
        {token: key},
        [NamedPage(page, frozenset({token})) for page in pages],
        PSEUDONYMISER,
    )
    return {notice.recipient: notice.releases for notice in made}


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("release,release", {"national_id": SUBJECT, "account": "77"}),
        ("release,drop", {"national_id": SUBJECT}),
        ("drop,release", {"account": "77"}),
        ("drop,drop", None),
        (BIT, None),
        # As the dataset's key was described before: nothing is known of these fields.
        ("release", None),
    ],
)
def test_of_the_key_is_told_what_was_released_of_it(keys, form, expected):
    [group] = told(keys, a_page(form))["bank"]
    assert group.keys == (() if expected is None else (expected,))
    assert [(each.exchange, each.records) for each in group.exchanges] == [("e1", 1)]


def test_a_pseudonym_is_told_as_the_recipients_own(keys):
    pages = [a_page("pseudonymise,drop"), a_page("pseudonymise,drop", consumer="insurer")]
    groups = told(keys, *pages)
    for recipient in ("bank", "insurer"):
        expected = PSEUDONYMISER.for_exchange(recipient, "lending", NOW).pseudonymise(
            identifier_kind("national-id"), SUBJECT
        )
        assert groups[recipient][0].keys == ({"national_id": expected},)
    assert groups["bank"][0].keys != groups["insurer"][0].keys


def test_without_the_epochs_key_or_a_valid_value_no_pseudonym_is_told(keys):
    [group] = told(keys, a_page("pseudonymise,drop", key_epoch="1999a"))["bank"]
    assert group.keys == ()
    [group] = told(keys, a_page("pseudonymise,drop"), subject="not valid")["bank"]
    assert group.keys == ()


def test_purposes_and_forms_are_told_apart(keys):
    pages = [a_page("release,drop"), a_page("pseudonymise,drop", exchange="e2", purpose="statistics")]
    groups = told(keys, *pages)["bank"]
    assert [(group.purpose, group.exchanges[0].exchange) for group in groups] == [
        ("lending", "e1"),
        ("statistics", "e2"),
    ]


# -- tokens ------------------------------------------------------------------------------------------


def test_tokens_depend_on_dataset_key_and_the_borders_between_values(keys):
    namer = keys.namer(LOANS)
    tokens = {
        namer.token(("ab", "c")),
        namer.token(("a", "bc")),
        namer.token(("abc", "")),
        namer.token(("abc",)),
        keys.namer("members/centre/datasets/other").token(("ab", "c")),
        CorrectionKeys(bytes(32)).namer(LOANS).token(("ab", "c")),
    }
    assert len(tokens) == 6
    assert namer.token(("ab", "c")) == namer.token(("ab", "c"))


def test_a_record_without_its_whole_key_gets_a_token_of_nobody(keys):
    namer = keys.namer(LOANS)
    made = namer([["a", "a", None], ["b", None, "b"]])
    tokens = [made[at : at + TOKEN_BYTES] for at in range(0, len(made), TOKEN_BYTES)]
    assert tokens[0] == namer.token(("a", "b"))
    assert namer([["a", "a", None], ["b", None, "b"]])[TOKEN_BYTES:] != made[TOKEN_BYTES:]


@pytest.mark.timed
def test_tokens_cost_little(keys):
    """Aimed at are 3 microseconds a record; ten times that would be a mistake."""
    namer, column = keys.namer(LOANS), [f"91310000{number:010d}" for number in range(5000)]
    begun = time.perf_counter()
    namer([column])
    assert (time.perf_counter() - begun) / len(column) < 30e-6


def test_a_sealed_notice_opens_for_its_recipient_only(keys):
    sealed = keys.seal(b"what is told", "c1", "bank")
    assert keys.open(sealed, "c1", "bank") == b"what is told"
    assert b"told" not in sealed
    for correction, recipient, content in (
        ("c2", "bank", sealed),
        ("c1", "insurer", sealed),
        ("c1", "bank", sealed[:-1] + bytes([sealed[-1] ^ 1])),
    ):
        with pytest.raises(CorrectionsUnavailableError):
            keys.open(content, correction, recipient)
    with pytest.raises(CorrectionsUnavailableError):
        CorrectionKeys(bytes(32)).open(sealed, "c1", "bank")


def test_a_key_of_another_length_is_refused():
    with pytest.raises(ConfigError, match="32"):
        CorrectionKeys(b"short")


# -- what left ---------------------------------------------------------------------------------------


def entry(kind: EntryKind, operation: str = "query", **members: object) -> Entry:
    return Entry(v=ENTRY_VERSION, kind=kind, time=rfc3339(NOW), operation=operation, **members)


REQUESTED = entry(EntryKind.EXCHANGE_REQUESTED)
STREAM = entry(EntryKind.EXCHANGE_REQUESTED, "stream")
RELEASED, FAILED = entry(EntryKind.EXCHANGE_RELEASED), entry(EntryKind.EXCHANGE_FAILED)
CUT = entry(EntryKind.EXCHANGE_FAILED, "stream")


@pytest.mark.parametrize(
    ("entries", "age", "left"),
    [
        ([REQUESTED, RELEASED], 0, True),
        ([REQUESTED, FAILED], 0, False),
        # Released, and then not witnessed: the release was withdrawn.
        ([REQUESTED, RELEASED, FAILED], 0, False),
        ([REQUESTED], 0, True),
        ([REQUESTED], 1, False),
        ([STREAM, entry(EntryKind.EXCHANGE_PAGE, "", page=2)], 1, True),
        ([STREAM, entry(EntryKind.EXCHANGE_PAGE, "", page=2), CUT], 0, True),
        ([STREAM, entry(EntryKind.EXCHANGE_PAGE, "", page=1), CUT], 0, False),
        ([STREAM, entry(EntryKind.EXCHANGE_RELEASED, "stream")], 0, False),
        ([], 1, True),
    ],
)
def test_the_log_tells_whether_a_page_left(entries, age, left):
    page = NamedPage(a_page("release,drop", page=2), frozenset())
    assert has_left(page, entries, NOW + age * UNDER_WAY) is left
