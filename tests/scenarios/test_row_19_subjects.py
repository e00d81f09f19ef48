"""Row 19: the subjects.

They want to see what is recorded, to know who received it, and to have it corrected or removed. Here a
portal asks on behalf of a subject, on the document that says so; officers find every exchange about a known
identifier, and the log says that they looked; a holder who corrects or removes a record gives out nothing
else from then on; who received it has signed. Correction and withdrawal travel to every earlier recipient,
and each answers for it.

Missing: nothing of this row.
"""

from __future__ import annotations

import json
from datetime import date

import pytest

from gateway.client import Subject
from gateway.evidence.correction import AnswerOutcome, CorrectionKind, CorrectionReason
from gateway.model import EntryKind
from tests.simulators.invented import account, person
from tests.simulators.sources import Form, Holding, delete_record
from tests.simulators.system import RunningSystem, System

LOANS = "members/credit-centre/datasets/personal-loans"
DEFAULTERS = "members/court/datasets/judgment-defaulters"
SUBJECT, OTHER = person(1)[0], person(2)[0]

ACCESS = {
    "purpose": "subject-access",
    "legal_basis": "personal-information-act-45",
    "document": "Request 2026-77, identity checked",
}
LOAN = {
    "purpose": "lending-decision",
    "legal_basis": "credit-industry-regulation-18",
    "memorandum": "credit-centre-banks",
    "document": "Consent 2026-4471",
}


def loan(subject: str, number: int) -> dict[str, object]:
    return {
        "national_id": subject,
        "lender": "Northern Bank",
        "balance": 120_000,
        "late_payments": number,
        "opened_on": date(2021, 3, number),
        "account_number": account(number),
        "employer": "Foundry 3",
    }


SYSTEM = System(
    consumers=("citizen-portal", "harbour-bank", "northern-bank", "tradeplatform"),
    details=True,
    holdings=(
        Holding(
            LOANS,
            [loan(SUBJECT, 1), loan(SUBJECT, 2), loan(OTHER, 3)],
            form=Form.DATABASE,
            key=("account_number",),
        ),
        Holding(
            DEFAULTERS,
            [
                {
                    "national_id": SUBJECT,
                    "restriction_class": "travel",
                    "listed_on": date(2024, 5, 6),
                    "case_number": "2024-civil-118",
                    "amount": 45_000,
                }
            ],
            form=Form.DATABASE,
        ),
    ),
)


def test_a_subject_sees_what_is_recorded_of_it(system: RunningSystem) -> None:
    subjects = [Subject("national_id", SUBJECT)]
    found = system.released(
        "citizen-portal", LOANS, subjects=subjects, memorandum="credit-centre-portal", **ACCESS
    )
    assert {record["account_number"] for record in found.records} == {account(1), account(2)}
    assert found.records[0]["balance"] == 120_000
    listed = system.released(
        "citizen-portal", DEFAULTERS, subjects=subjects, memorandum="court-portal", **ACCESS
    )
    assert listed.records[0]["case_number"] == "2024-civil-118"


def test_nobody_sees_it_in_a_subjects_name(system: RunningSystem) -> None:
    ask = {**ACCESS, "memorandum": "credit-centre-portal"}
    one = [Subject("national_id", SUBJECT)]
    system.refused("DOCUMENT_MISSING", "citizen-portal", LOANS, subjects=one, **{**ask, "document": ""})
    system.refused(
        "SUBJECTS_NOT_PERMITTED",
        "citizen-portal",
        LOANS,
        subjects=[*one, Subject("national_id", OTHER)],
        **ask,
    )
    for member in ("harbour-bank", "tradeplatform"):
        system.refused("PURPOSE_NOT_PERMITTED", member, LOANS, subjects=one, **ask)


@pytest.fixture(scope="module")
def looked_up(system: RunningSystem) -> None:
    """Two banks have looked; one of them has signed for what it got."""
    ask = {**LOAN, "subjects": [Subject("national_id", SUBJECT)]}
    system.released("harbour-bank", LOANS, acknowledge=True, **ask)
    system.released("northern-bank", LOANS, **ask)
    system.released("northern-bank", LOANS, **{**LOAN, "subjects": [Subject("national_id", OTHER)]})


@pytest.mark.usefixtures("looked_up")
def test_an_officer_finds_who_received_a_record_and_the_log_says_that_it_was_sought(
    system: RunningSystem,
) -> None:
    printed = system.officer(
        "audit", "find-subject", "national-id", "--reason", "request 2026-77", "--by", "chen",
        "--output", "json", text=f"{SUBJECT}\n",
    )  # fmt: skip
    found = json.loads(printed)
    rows = found if isinstance(found, list) else found["items"]
    released = {row["exchange"] for row in rows}
    about = {
        entry.exchange: entry.consumer
        for entry in system.entries()
        if entry.kind is EntryKind.EXCHANGE_RELEASED and entry.exchange in released
    }
    assert {"harbour-bank", "northern-bank", "citizen-portal"} == set(about.values())
    sought = system.entries()[-1]
    assert (sought.kind, sought.detail["by"]) == (EntryKind.DETAILS_SEARCHED, "chen")
    assert SUBJECT not in str(sought)


@pytest.mark.usefixtures("looked_up")
def test_who_signed_for_it_cannot_deny_it(system: RunningSystem) -> None:
    acknowledged = [each for each in system.entries() if each.kind is EntryKind.EXCHANGE_ACKNOWLEDGED]
    assert [each.consumer for each in acknowledged] == ["harbour-bank"]
    release = system.entry(acknowledged[0].acknowledges or 0)
    assert (release.kind, release.dataset) == (EntryKind.EXCHANGE_RELEASED, LOANS)


@pytest.mark.usefixtures("looked_up")
def test_what_the_holder_removes_is_given_out_no_more(system: RunningSystem) -> None:
    folder = system.members["credit-centre"].directory
    delete_record(folder, LOANS, "account_number", account(2))
    found = system.released("harbour-bank", LOANS, **{**LOAN, "subjects": [Subject("national_id", SUBJECT)]})
    assert [record["late_payments"] for record in found.records] == [1]


def test_a_correction_travels_to_every_earlier_recipient_and_each_answers(system: RunningSystem) -> None:
    """The key is told as it was got: each bank its own pseudonym, and the masked account number to none."""
    wrong, banks = account(1), ("harbour-bank", "northern-bank")
    asked = {**LOAN, "subjects": [Subject("national_id", SUBJECT)]}
    got = {bank: system.released(bank, LOANS, **asked) for bank in banks}
    record = {"national_id": SUBJECT, "account_number": wrong}
    holder = system.client("credit-centre").corrections
    correction = holder.announce(LOANS, CorrectionKind.CORRECTED, CorrectionReason.SUBJECT_REQUEST, [record])
    recipients = {item.member.removeprefix("members/") for item in correction.recipients}
    assert recipients >= set(banks)
    assert "tradeplatform" not in recipients
    for bank in sorted(recipients):
        [received] = system.client(bank).corrections.waiting()
        keys = [key for group in received.notice.releases for key in group.keys]
        if bank in banks:
            assert keys == [{"national_id": got[bank].records[0]["national_id"]}]
            assert keys[0]["national_id"].startswith(f"sg1:{bank}.lending-decision:")
            assert wrong.encode() not in received.payload
            assert SUBJECT.encode() not in received.payload
            told = {item.exchange for group in received.notice.releases for item in group.exchanges}
            assert got[bank].entry.exchange in told
        outcome = AnswerOutcome.DONE if bank != "northern-bank" else AnswerOutcome.NOT_HELD
        system.client(bank).corrections.answer(received, outcome)
    [status] = holder.list()
    assert {item.member.removeprefix("members/") for item in status.recipients if item.outcome} == recipients
    entries = [each for each in system.entries() if each.subject == correction.name]
    assert [each.kind for each in entries if each.kind is EntryKind.CORRECTION_ACKNOWLEDGED] == [
        EntryKind.CORRECTION_ACKNOWLEDGED
    ] * len(recipients)


def test_the_log_holds_and_no_subject_stands_in_it(system: RunningSystem) -> None:
    system.assert_log_holds()
