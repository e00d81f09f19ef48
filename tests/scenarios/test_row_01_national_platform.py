"""Row 1: the National Credit Information Sharing Platform.

About 400 datasets of more than 30 ministries, fed by provinces and cities; most supply comes from two of
them. Most is public, the rest limited or between agencies. Companies are looked up by their 18-character
code and by name.

Shown on 400 generated datasets of 40 members in 3 tiers, beside the platform's own. Only the two large
ministries are connected: who is not connected can be read about in the catalogue, and delays nobody else.

Missing: nothing of this row. That provinces and cities pass on what they got from others is row 17.
"""

from __future__ import annotations

from collections import Counter
from itertools import count

import pytest

from gateway.api.v1 import catalog_service_pb2
from gateway.client import Subject
from gateway.model import Role, dataset_name
from tests.simulators.invented import company
from tests.simulators.sources import Form, Holding
from tests.simulators.system import Newcomer, RunningSystem, System

PLATFORM = "members/platform/datasets/company-credit"
MINISTRIES = [f"ministry-{number:02d}" for number in range(1, 33)]
PLACES = [f"province-{number:02d}" for number in range(1, 7)] + ["city-01", "city-02"]
SUPPLY = {"ministry-01": 140, "ministry-02": 120, "ministry-03": 30, **dict.fromkeys(MINISTRIES[3:], 3)}
SUPPLY |= dict.fromkeys(PLACES, 3)
SUPPLY["city-02"] = 400 - sum(SUPPLY.values()) + 3
TIERS = ("public", "public", "public", "limited", "public", "public", "public", "government")
"""Three quarters public, the rest for some."""

DESCRIPTION = """\
apiVersion: v3.1.0
kind: DataContract
id: {id}
name: {member}, collection {number}
version: 1.0.0
status: active
description: {{purpose: "What {member} records of {about}."}}
customProperties:
  - {{property: provider, value: {member}}}
  - {{property: tier, value: {tier}}}
  - {{property: datasetClass, value: record}}
{citation}schema:
  - name: record
    logicalType: object
    properties:
      - {{name: code, logicalType: string, classification: {tier}, customProperties: [
          {{property: identifierKind, value: {kind}}}, {{property: lookup, value: true}}]}}
      - {{name: name, logicalType: string, classification: {tier}, customProperties: [
          {{property: lookup, value: true}}]}}
      - {{name: note, logicalType: string, classification: {tier}}}
"""
CITED = (
    "  - {property: catalogueCitation, value: 'National catalogue of public credit information, item C-02'}\n"
)


def describe() -> dict[str, str]:
    """Return 400 descriptions; the last one cites no catalogue entry, and five in six are about companies."""
    numbers = count(1)
    found = {}
    for member, supplied in SUPPLY.items():
        for _ in range(supplied):
            number = next(numbers)
            is_company = number % 6 != 0
            found[f"{member}-{number:03d}.yaml"] = DESCRIPTION.format(
                id=f"set-{number:03d}",
                member=member,
                number=number,
                tier=TIERS[number % len(TIERS)],
                about="companies" if is_company else "government bodies",
                kind="uscc" if is_company else "organisation-code",
                citation=CITED if number < 400 else "",
            )
    return found


def records(dataset_number: int) -> list[dict[str, str]]:
    if dataset_number % 6 == 0:
        return []
    companies = (company((dataset_number + step) % 200) for step in range(5))
    return [{"code": each.uscc, "name": each.name, "note": f"note {dataset_number}"} for each in companies]


def connected() -> list[Holding]:
    return [
        Holding(dataset_name(member, f"set-{number:03d}"), records(number))
        for member, numbers in (("ministry-01", range(1, 141)), ("ministry-02", range(141, 261)))
        for number in numbers
    ]


SYSTEM = System(
    consumers=("commerce", "harbour-bank", "tradeplatform"),
    newcomers=tuple(
        Newcomer(member, "agency", frozenset({Role.PROVIDER, Role.CONSUMER})) for member in SUPPLY
    ),
    descriptions=describe(),
    holdings=(
        *connected(),
        Holding(
            PLATFORM,
            [
                {
                    "uscc": company(number).uscc,
                    "name": company(number).name,
                    "status": "active",
                    "permits": number,
                    "penalties": number % 3,
                    "contract_breaches": number % 2,
                    "annual_revenue": 1_234_567 * number,
                    "contact_phone": company(number).phone,
                    "inspection_plan": "next spring",
                }
                for number in range(200)
            ],
            form=Form.DATABASE,
        ),
    ),
)


@pytest.fixture(scope="module")
def listed(system: RunningSystem) -> list[catalog_service_pb2.Dataset]:
    """What the Ministry of Commerce sees in the catalogue, without the shipped examples."""
    found = system.client("commerce").datasets()
    return [dataset for dataset in found if dataset.name.split("/")[1] in SUPPLY]


def test_the_catalogue_lists_400_datasets_of_40_members_in_3_tiers(
    listed: list[catalog_service_pb2.Dataset],
) -> None:
    assert len(listed) == 400
    supply = Counter(dataset.name.split("/")[1] for dataset in listed)
    assert len(supply) == 40
    assert sum(number for _, number in supply.most_common(2)) > 200
    tiers = Counter(dataset.tier for dataset in listed)
    assert tiers == {"public": 300, "limited": 50, "government": 50}
    kinds = Counter(dataset.fields[0].identifier_kind for dataset in listed)
    assert kinds["uscc"] > 0.8 * 400


def test_the_catalogue_says_what_a_member_may_have_without_asking_for_it(
    listed: list[catalog_service_pb2.Dataset],
) -> None:
    for dataset in listed:
        purposes = {grant.purpose for grant in dataset.grants}
        # Without a memorandum only what is public and cited in the published catalogue is to be had.
        assert ("public-lookup" in purposes) == (dataset.tier == "public" and bool(dataset.citation))


@pytest.mark.parametrize("number", [1, 2, 140, 142, 260])
def test_a_company_is_found_by_code_and_by_name(system: RunningSystem, number: int) -> None:
    dataset = dataset_name("ministry-01" if number < 141 else "ministry-02", f"set-{number:03d}")
    wanted = company((number + 2) % 200)
    by_code = system.released(
        "tradeplatform", dataset, purpose="public-lookup", subjects=[Subject("code", wanted.uscc.lower())]
    )
    by_name = system.released("harbour-bank", dataset, purpose="public-lookup", filters={"name": wanted.name})
    assert by_code.records == by_name.records
    assert by_code.records == [{"code": wanted.uscc, "name": wanted.name, "note": f"note {number}"}]
    assert by_code.entry.provider == dataset.split("/")[1]


def test_the_platform_is_searched_by_code_and_by_name_too(system: RunningSystem) -> None:
    wanted = company(11)
    public = {"purpose": "public-lookup"}
    by_code = system.released("commerce", PLATFORM, subjects=[Subject("uscc", wanted.uscc)], **public)
    by_name = system.released("commerce", PLATFORM, filters={"name": wanted.name}, **public)
    assert by_code.records == by_name.records
    assert by_code.records[0]["penalties"] == 2
    assert by_code.entry.withheld == (
        "annual_revenue",
        "contact_phone",
        "contract_breaches",
        "inspection_plan",
    )


def test_limited_records_flow_to_ministries_under_their_memorandum(system: RunningSystem) -> None:
    approval = {
        "purpose": "licensing",
        "legal_basis": "credit-platform-rules-8",
        "subjects": [Subject("uscc", company(4).uscc)],
    }
    found = system.released("commerce", PLATFORM, memorandum="platform-ministries", **approval)
    assert found.records[0]["annual_revenue"] == 4 * 1_234_567
    assert found.entry.tier == "limited"
    assert found.entry.withheld == ("inspection_plan",)
    limited = [dataset_name("ministry-01", "set-003"), dataset_name("ministry-02", "set-147")]
    for dataset in limited:
        subjects = {"subjects": [Subject("code", company(9).uscc)]}
        system.refused("MEMORANDUM_MISSING", "commerce", dataset, **{**approval, **subjects})
        system.refused(
            "MEMORANDUM_NOT_APPLICABLE",
            "commerce",
            dataset,
            memorandum="platform-ministries",
            **{**approval, **subjects},
        )


def test_what_is_shared_between_agencies_is_closed_to_banks(system: RunningSystem) -> None:
    system.refused(
        "MEMBER_CLASS_NOT_PERMITTED",
        "harbour-bank",
        dataset_name("ministry-01", "set-007"),
        purpose="public-lookup",
        subjects=[Subject("code", company(9).uscc)],
    )


def test_what_no_catalogue_entry_allows_to_be_recorded_is_not_given_out(system: RunningSystem) -> None:
    system.refused(
        "CATALOGUE_ENTRY_UNKNOWN",
        "commerce",
        dataset_name("city-02", "set-400"),
        purpose="public-lookup",
        subjects=[Subject("code", company(1).uscc)],
    )


def test_a_ministry_that_is_not_connected_delays_nobody_else(system: RunningSystem) -> None:
    entry = system.refused(
        "PROVIDER_UNAVAILABLE",
        "commerce",
        dataset_name("ministry-03", "set-265"),
        purpose="public-lookup",
        subjects=[Subject("code", company(1).uscc)],
    )
    assert entry.provider == "ministry-03"
    test_a_company_is_found_by_code_and_by_name(system, 1)


def test_the_log_holds_and_no_code_stands_in_it(system: RunningSystem) -> None:
    system.assert_log_holds()
