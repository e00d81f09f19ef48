"""Row 6: the tax office's and other ministries' own systems and lists.

Each ministry shares in the limited tier, and for the purpose that was agreed on: a bank sees arrears in
bands to assess a loan, customs and the procurement office see the list of major breaches to exclude a
bidder, and nobody turns one purpose into another.

Missing: nothing of this row.
"""

from __future__ import annotations

from datetime import date

import pytest

from gateway.client import Subject
from tests.simulators.invented import company
from tests.simulators.sources import Form, Holding
from tests.simulators.system import RunningSystem, System

ARREARS = "members/tax/datasets/arrears"
BREACHES = "members/tax/datasets/major-violations"
DEBTOR = Subject("uscc", company(1).uscc)
OFFENDER = Subject("uscc", company(2).uscc)

LOAN = {"purpose": "credit-check", "legal_basis": "credit-reporting-act-14"}
EXCLUSION = {
    "purpose": "procurement-exclusion",
    "legal_basis": "tax-discipline-memorandum-act-4",
    "memorandum": "tax-joint-discipline",
    "document": "Decision TX-2025-90",
}

SYSTEM = System(
    consumers=("harbour-bank", "northern-bank", "procurement", "customs", "inspectorate", "tradeplatform"),
    holdings=(
        Holding(
            ARREARS,
            [
                {
                    "uscc": DEBTOR.value,
                    "amount_owed": 456_789,
                    "since": date(2023, 7, 9),
                    "taxpayer_grade": "D",
                }
            ],
            form=Form.DATABASE,
        ),
        Holding(
            BREACHES,
            [
                {
                    "uscc": OFFENDER.value,
                    "breach": "false invoices",
                    "decided_on": date(2025, 2, 3),
                    "amount": 9_876_543,
                }
            ],
        ),
    ),
)


def test_a_bank_sees_arrears_in_bands_for_a_loan(system: RunningSystem) -> None:
    found = system.released("harbour-bank", ARREARS, subjects=[DEBTOR], memorandum="tax-harbour-bank", **LOAN)
    assert found.records == [{"uscc": DEBTOR.value, "amount_owed": "400000-499999", "since": "2023"}]
    assert found.entry.obligations == {"amount_owed": "generalise", "since": "generalise"}
    assert found.entry.withheld == ("taxpayer_grade",)


def test_an_agency_sees_the_list_exactly_for_its_measure(system: RunningSystem) -> None:
    for member in ("procurement", "customs"):
        found = system.released(member, BREACHES, subjects=[OFFENDER], **EXCLUSION)
        [record] = found.records
        assert (record["breach"], record["decided_on"]) == ("false invoices", "2025-02-03")


@pytest.mark.parametrize(
    ("reason", "member", "changed"),
    [
        ("MEMORANDUM_MISSING", "harbour-bank", {}),
        ("MEMORANDUM_NOT_APPLICABLE", "harbour-bank", {"memorandum": "tax-northern-bank"}),
        ("LEGAL_BASIS_MISSING", "harbour-bank", {"memorandum": "tax-harbour-bank", "legal_basis": ""}),
        (
            "LEGAL_BASIS_NOT_PERMITTED",
            "harbour-bank",
            {"memorandum": "tax-harbour-bank", "legal_basis": "statistics-act-9"},
        ),
        ("PURPOSE_NOT_PERMITTED", "inspectorate", {"memorandum": "tax-harbour-bank"}),
        ("PURPOSE_UNKNOWN", "harbour-bank", {"memorandum": "tax-harbour-bank", "purpose": "marketing"}),
        ("PURPOSE_NOT_PERMITTED", "tradeplatform", {"memorandum": "tax-harbour-bank"}),
    ],
)
def test_arrears_flow_for_nothing_else(
    system: RunningSystem, reason: str, member: str, changed: dict[str, str]
) -> None:
    system.refused(reason, member, ARREARS, subjects=[DEBTOR], **{**LOAN, **changed})


def test_one_purpose_does_not_turn_into_another(system: RunningSystem) -> None:
    """The list that excludes from tenders decides about no licence, no loan and no sale."""
    for member, purpose in (
        ("customs", "licensing"),
        ("customs", "joint-discipline"),
        ("procurement", "tender-check"),
    ):
        system.refused(
            "MEMORANDUM_NOT_APPLICABLE",
            member,
            BREACHES,
            subjects=[OFFENDER],
            **{**EXCLUSION, "purpose": purpose},
        )


def test_the_grade_that_the_tax_office_keeps_for_itself_stays_there(system: RunningSystem) -> None:
    system.refused(
        "FIELD_ABOVE_TIER",
        "harbour-bank",
        ARREARS,
        subjects=[DEBTOR],
        fields=["uscc", "taxpayer_grade"],
        memorandum="tax-harbour-bank",
        **LOAN,
    )


def test_the_log_holds_and_no_code_stands_in_it(system: RunningSystem) -> None:
    system.assert_log_holds()
