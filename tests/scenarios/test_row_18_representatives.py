"""Row 18: legal representatives.

Managers share the consequences that their company meets. The link from a company to the person behind it is
a field of its own: it is shown on a legal basis that opens the link, and on no other, whatever tier and
memorandum grant.

Missing: nothing of this row.
"""

from __future__ import annotations

from dataclasses import asdict

from gateway.client import Subject
from gateway.demo.world import COMPANIES
from tests.simulators.invented import company
from tests.simulators.sources import Form, Holding
from tests.simulators.system import RunningSystem, System

REPRESENTATIVES = "members/registry/datasets/representatives"
COMPANY = company(4)
SUBJECT = Subject("uscc", COMPANY.uscc)
LINK = {
    "purpose": "licensing",
    "legal_basis": "licensing-act-33",
    "memorandum": "registry-tax",
    "subjects": [SUBJECT],
}
FACTS = {
    "purpose": "licensing",
    "legal_basis": "licensing-act-31",
    "memorandum": "registry-inspectorate",
    "subjects": [SUBJECT],
}

SYSTEM = System(
    consumers=("tax", "inspectorate", "harbour-bank", "tradeplatform"),
    holdings=(
        Holding(COMPANIES, [asdict(company(number)) for number in range(20)], form=Form.DATABASE),
        Holding(
            REPRESENTATIVES,
            [
                {
                    "uscc": company(number).uscc,
                    "appointed_on": company(number).registered_on,
                    "representative_id": company(number).representative_id,
                    "representative_name": company(number).representative_name,
                }
                for number in range(20)
            ],
        ),
    ),
)


def test_on_the_basis_that_opens_the_link_the_person_is_named(system: RunningSystem) -> None:
    found = system.released("tax", COMPANIES, **LINK)
    [record] = found.records
    assert record["representative_name"] == COMPANY.representative_name
    assert record["representative_id"] == COMPANY.representative_id
    assert (found.entry.tier, found.entry.legal_basis) == ("restricted", "licensing-act-33")


def test_on_another_basis_the_company_is_shown_and_the_person_is_not(system: RunningSystem) -> None:
    found = system.released("inspectorate", COMPANIES, **FACTS)
    [record] = found.records
    assert record["phone"] == COMPANY.phone
    assert "representative_name" not in record
    assert "representative_name" in found.entry.withheld
    assert record["representative_id"].startswith("sg1:")


def test_asking_for_the_link_by_name_does_not_open_it(system: RunningSystem) -> None:
    system.refused(
        "FIELD_ABOVE_TIER", "inspectorate", COMPANIES, fields=["uscc", "representative_name"], **FACTS
    )
    system.refused(
        "LEGAL_BASIS_NOT_PERMITTED",
        "tax",
        COMPANIES,
        fields=["uscc", "representative_name"],
        **{**LINK, "legal_basis": "licensing-act-31"},
    )


def test_the_link_is_not_guessed_at_either(system: RunningSystem) -> None:
    guess = {key: value for key, value in FACTS.items() if key != "subjects"}
    system.refused(
        "FIELD_ABOVE_TIER",
        "inspectorate",
        COMPANIES,
        subject=SUBJECT,
        match={"representative_name": COMPANY.representative_name},
        **guess,
    )


def test_nobody_without_a_duty_goes_from_a_person_to_companies(system: RunningSystem) -> None:
    """The way back, from the person to all its companies, is a read of the link as well."""
    person = COMPANY.representative_id
    for member in ("tradeplatform", "harbour-bank"):
        system.refused(
            "FILTER_HIDDEN_FIELD",
            member,
            COMPANIES,
            purpose="public-lookup",
            filters={"representative_id": person},
        )


def test_the_register_of_representatives_needs_an_agreement_of_its_own(system: RunningSystem) -> None:
    system.refused("MEMORANDUM_NOT_APPLICABLE", "tax", REPRESENTATIVES, **LINK)
    system.refused(
        "MEMORANDUM_MISSING", "tradeplatform", REPRESENTATIVES, purpose="public-lookup", subjects=[SUBJECT]
    )


def test_the_log_holds_and_no_manager_stands_in_it(system: RunningSystem) -> None:
    system.assert_log_holds()
    told = "".join(str(entry) for entry in system.entries())
    assert COMPANY.representative_name not in told
