"""Row 3: the Credit Reference Centre of the central bank.

Loans, cards and late payments of 860 million people and 20 million institutions. A bank asks about one
applicant who has consented; the report of a person and the one of an enterprise carry facts and no overall
score. Nobody asks for many people at once.

Scale is shown where the records are: the centre keeps its loans in partitions, and a question goes to the
index of each, not through the others' records. Missing: one dataset spread over several providers.
"""

from __future__ import annotations

from datetime import date

import pytest

from gateway.client import Subject
from tests.simulators.invented import account, company, person
from tests.simulators.sources import Form, Holding
from tests.simulators.system import RunningSystem, System

PERSONAL = "members/credit-centre/datasets/personal-loans"
ENTERPRISE = "members/credit-centre/datasets/enterprise-loans"
CONSENT = {
    "purpose": "lending-decision",
    "legal_basis": "credit-industry-regulation-18",
    "memorandum": "credit-centre-banks",
    "document": "Consent 2026-4471",
}
PERSONS = 200
LOANS_EACH = 30

SYSTEM = System(
    consumers=("harbour-bank", "northern-bank", "bank-regulator", "tradeplatform"),
    holdings=(
        Holding(
            PERSONAL,
            [
                {
                    "national_id": person(number)[0],
                    "lender": "Northern Bank",
                    "balance": 10_000 * number + 1_234,
                    "late_payments": loan % 3,
                    "opened_on": date(2019, 5, 1 + loan % 28),
                    "account_number": account(number * LOANS_EACH + loan),
                    "employer": "Foundry 3",
                }
                for number in range(PERSONS)
                for loan in range(LOANS_EACH)
            ],
            form=Form.PARTITIONS,
            key=("account_number",),
        ),
        Holding(
            ENTERPRISE,
            [
                {
                    "uscc": company(number).uscc,
                    "lender": "Harbour Bank",
                    "balance": 7_654_321,
                    "late_payments": number % 4,
                }
                for number in range(50)
            ],
            form=Form.DATABASE,
        ),
        Holding(
            "members/tax/datasets/arrears",
            [
                {
                    "uscc": company(6).uscc,
                    "amount_owed": 50_000,
                    "since": date(2025, 1, 1),
                    "taxpayer_grade": "C",
                }
            ],
        ),
    ),
)


def test_a_bank_gets_the_report_of_one_applicant_who_consented(system: RunningSystem) -> None:
    found = system.released(
        "harbour-bank", PERSONAL, subjects=[Subject("national_id", person(17)[0])], **CONSENT
    )
    assert len(found.records) == LOANS_EACH
    loan = found.records[0]
    assert loan["national_id"].startswith("sg1:")
    assert loan["balance"] == "170000-179999"
    assert loan["opened_on"] == "2019"
    assert loan["account_number"].endswith(account(17 * LOANS_EACH)[-4:])
    assert loan["account_number"].startswith("****")
    assert not any("score" in name or "employer" in name for name in loan)
    assert found.entry.withheld == ("employer",)
    assert found.entry.obligations["account_number"] == "mask"


def test_the_subject_is_to_be_told_and_the_log_says_by_when(system: RunningSystem) -> None:
    found = system.released(
        "harbour-bank", PERSONAL, subjects=[Subject("national_id", person(18)[0])], **CONSENT
    )
    assert found.entry.duties["notify_subject"]["within_days"] == 30


def test_an_enterprise_has_its_own_report(system: RunningSystem) -> None:
    found = system.released(
        "northern-bank", ENTERPRISE, subjects=[Subject("uscc", company(6).uscc)], **CONSENT
    )
    assert found.records == [
        {
            "uscc": company(6).uscc,
            "lender": "Harbour Bank",
            "balance": "7000000-7999999",
            "late_payments": 2,
        }
    ]


def test_two_banks_know_the_same_person_under_different_pseudonyms(system: RunningSystem) -> None:
    subjects = [Subject("national_id", person(19)[0])]
    pseudonyms = [
        system.released(bank, PERSONAL, subjects=subjects, **CONSENT).records[0]["national_id"]
        for bank in ("harbour-bank", "northern-bank", "harbour-bank")
    ]
    assert pseudonyms[0] == pseudonyms[2] != pseudonyms[1]


def test_an_unknown_person_is_answered_with_nothing(system: RunningSystem) -> None:
    found = system.released(
        "harbour-bank", PERSONAL, subjects=[Subject("national_id", person(PERSONS + 1)[0])], **CONSENT
    )
    assert found.records == []


@pytest.mark.parametrize("count", [0, 2])
def test_nobody_asks_for_anybody_but_one_person(system: RunningSystem, count: int) -> None:
    subjects = [Subject("national_id", person(number)[0]) for number in range(count)]
    system.refused("SUBJECTS_NOT_PERMITTED", "harbour-bank", PERSONAL, subjects=subjects, **CONSENT)


def test_nobody_asks_in_bulk(system: RunningSystem) -> None:
    system.refused("OPERATION_NOT_PERMITTED", "harbour-bank", PERSONAL, operation="stream", **CONSENT)


def test_without_consent_nothing_is_said(system: RunningSystem) -> None:
    subjects = [Subject("national_id", person(17)[0])]
    system.refused(
        "DOCUMENT_MISSING", "harbour-bank", PERSONAL, subjects=subjects, **{**CONSENT, "document": ""}
    )
    system.refused(
        "LEGAL_BASIS_MISSING", "harbour-bank", PERSONAL, subjects=subjects, **{**CONSENT, "legal_basis": ""}
    )


def test_others_than_banks_have_no_business_here(system: RunningSystem) -> None:
    subjects = [Subject("national_id", person(17)[0])]
    for member in ("bank-regulator", "tradeplatform"):
        system.refused("PURPOSE_NOT_PERMITTED", member, PERSONAL, subjects=subjects, **CONSENT)


def test_no_report_reaches_into_another_register(system: RunningSystem) -> None:
    """The consent opens the two reports of the centre; another register has a legal basis of its own."""
    subjects = [Subject("uscc", company(6).uscc)]
    other = {**CONSENT, "memorandum": "tax-harbour-bank"}
    for purpose in ("lending-decision", "credit-check"):
        system.refused(
            "LEGAL_BASIS_NOT_PERMITTED",
            "harbour-bank",
            "members/tax/datasets/arrears",
            subjects=subjects,
            **{**other, "purpose": purpose},
        )


def test_the_log_holds_and_no_person_stands_in_it(system: RunningSystem) -> None:
    system.assert_log_holds()
