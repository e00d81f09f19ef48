"""Row 17: provinces and 43 pilot cities feeding the national platform.

A system of systems: each city has a gateway of its own, with its own members, keys and log. Hangzhou asks
the national gateway as a member, signs for what it receives, and answers its districts through its own
gateway from what it received. Both logs hold their half, and each can be proved to who trusts the other.

Missing: the question that goes through. A provider cannot have another gateway behind it, so Hangzhou
answers from what it fetched, not from what the national platform says at that moment, and no number joins
an exchange here to the one there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from gateway.audit.receipt import verify_receipt
from gateway.client import Client, Page, Subject, TransportError
from gateway.evidence.keys import SignatureError
from gateway.evidence.trust import Trust
from gateway.model import EntryKind, Role
from tests.simulators.invented import company
from tests.simulators.sources import Form, Holding
from tests.simulators.system import Newcomer, RunningSystem, System, run_system

NATIONAL_SET = "members/platform/datasets/company-credit"
CITY_SET = "members/hangzhou/datasets/local-companies"
PASSING_ON = {
    "purpose": "city-exchange",
    "legal_basis": "credit-platform-rules-8",
    "memorandum": "platform-hangzhou",
}
LOCAL = range(5, 25)

DESCRIPTION = """\
apiVersion: v3.1.0
kind: DataContract
id: local-companies
name: Companies of Hangzhou, as the national platform has them
version: 1.0.0
status: active
customProperties:
  - {property: provider, value: hangzhou}
  - {property: tier, value: public}
  - {property: datasetClass, value: record}
  - {property: catalogueCitation, value: "National catalogue of public credit information, item C-02"}
schema:
  - name: record
    logicalType: object
    properties:
      - name: uscc
        logicalType: string
        required: true
        classification: public
        customProperties: [{property: identifierKind, value: uscc}, {property: lookup, value: true}]
      - {name: name, logicalType: string, classification: public}
      - {name: penalties, logicalType: integer, classification: public}
      - {name: contract_breaches, logicalType: integer, classification: limited}
"""

NATIONAL = System(
    consumers=("hangzhou", "commerce"),
    origin="audit.national.example/log/2026",
    holdings=(
        Holding(
            NATIONAL_SET,
            [
                {
                    "uscc": company(number).uscc,
                    "name": company(number).name,
                    "status": "active",
                    "permits": number,
                    "penalties": number % 3,
                    "contract_breaches": number % 2,
                    "annual_revenue": 1_000_000 * number,
                    "contact_phone": company(number).phone,
                    "inspection_plan": "next spring",
                }
                for number in range(40)
            ],
            form=Form.DATABASE,
        ),
    ),
)


@dataclass(frozen=True)
class Cities:
    """The two gateways, and what one received of the other."""

    national: RunningSystem
    city: RunningSystem
    received: Page


@pytest.fixture(scope="module")
def cities(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cities]:
    """Return both gateways, running, once Hangzhou has received its companies and serves them."""
    with run_system(NATIONAL, tmp_path_factory.mktemp("national")) as national:
        subjects = [Subject("uscc", company(number).uscc) for number in LOCAL]
        received = national.released(
            "hangzhou", NATIONAL_SET, subjects=subjects, acknowledge=True, **PASSING_ON
        ).page
        kept = ("uscc", "name", "penalties", "contract_breaches")
        city = System(
            consumers=("commerce",),
            newcomers=(
                Newcomer("hangzhou", "agency", frozenset({Role.PROVIDER})),
                Newcomer("xihu-district", "agency"),
            ),
            descriptions={"hangzhou-local-companies.yaml": DESCRIPTION},
            holdings=(Holding(CITY_SET, [{name: each[name] for name in kept} for each in received.records]),),
            origin="audit.hangzhou.example/log/2026",
        )
        with run_system(city, tmp_path_factory.mktemp("city")) as running:
            yield Cities(national, running, received)


def test_a_district_asks_its_city_for_what_the_platform_holds(cities: Cities) -> None:
    wanted = company(8)
    found = cities.city.released(
        "xihu-district", CITY_SET, purpose="public-lookup", subjects=[Subject("uscc", wanted.uscc)]
    )
    assert found.records == [{"uscc": wanted.uscc, "name": wanted.name, "penalties": 2}]
    there = cities.national.released(
        "commerce", NATIONAL_SET, purpose="public-lookup", subjects=[Subject("uscc", wanted.uscc)]
    )
    assert found.records[0].items() <= there.records[0].items()


def test_what_the_platform_gave_the_city_goes_no_further_than_its_tier(cities: Cities) -> None:
    ask = {"purpose": "public-lookup", "subjects": [Subject("uscc", company(8).uscc)]}
    cities.city.refused("FIELD_ABOVE_TIER", "xihu-district", CITY_SET, fields=["contract_breaches"], **ask)
    cities.city.refused(
        "MEMORANDUM_NOT_APPLICABLE",
        "xihu-district",
        CITY_SET,
        **{**PASSING_ON, "subjects": ask["subjects"]},
    )


def test_the_city_received_no_more_than_it_may_pass_on(cities: Cities) -> None:
    assert "inspection_plan" not in cities.received.fields
    cities.national.refused(
        "FIELD_ABOVE_TIER",
        "hangzhou",
        NATIONAL_SET,
        fields=["uscc", "inspection_plan"],
        subjects=[Subject("uscc", company(8).uscc)],
        **PASSING_ON,
    )


def test_a_member_of_one_gateway_is_nobody_to_the_other(cities: Cities) -> None:
    """The national gateway does not even let a district in."""
    own = cities.city.members["xihu-district"].client_config
    lines = own.read_text().splitlines(keepends=True)
    strange = own.with_name("strange.toml")
    strange.write_text(
        "".join(
            f'address = "{cities.national.address}"\n' if line.startswith("address") else line
            for line in lines
        )
    )
    with Client.from_config(strange) as client, pytest.raises(TransportError):
        client.query(NATIONAL_SET, purpose="public-lookup", subjects=[Subject("uscc", company(8).uscc)])
    assert {entry.consumer for entry in cities.national.entries()} <= {"", "hangzhou", "commerce"}


def test_both_logs_hold_their_half(cities: Cities) -> None:
    assert cities.received.verified is not None
    release = cities.national.entry(cities.received.verified.index)
    assert (release.consumer, release.provider, release.records) == ("hangzhou", "platform", len(LOCAL))
    [signed] = [entry for entry in cities.national.entries() if entry.kind is EntryKind.EXCHANGE_ACKNOWLEDGED]
    assert (signed.consumer, signed.acknowledges) == ("hangzhou", cities.received.verified.index)
    here = [entry for entry in cities.city.entries() if entry.kind is EntryKind.EXCHANGE_RELEASED]
    assert {(entry.provider, entry.dataset) for entry in here} == {("hangzhou", CITY_SET)}


def test_the_city_proves_to_its_districts_where_its_records_are_from(cities: Cities) -> None:
    """With the national receipt and trust file; with the city's own trust file it proves nothing."""
    national = Trust.load(cities.national.deployment.trust)
    verified = verify_receipt(cities.received.receipt, national)
    verified.verify_page(0, cities.received.text, cities.received.seed)
    records = [json.loads(line) for line in cities.received.text.splitlines()]
    assert company(8).uscc in {record["uscc"] for record in records}
    with pytest.raises(SignatureError):
        verify_receipt(cities.received.receipt, Trust.load(cities.city.deployment.trust))


def test_both_logs_hold_and_no_code_stands_in_either(cities: Cities) -> None:
    cities.national.assert_log_holds()
    cities.city.assert_log_holds()
