"""Row 12: Sesame Credit and the other firms whose licences were not renewed.

A firm contributes conduct in payments under contract: records of fact, with the purpose that was agreed on.
Its own score is labelled private: no purpose of anybody else reaches it, and it cannot come in again as an
official record.

Missing: the contract itself as an object with life cycle, terms and usage. Here the contract stands as a
memorandum between the firm and the ministry.
"""

from __future__ import annotations

import pytest

from gateway.client import Subject
from tests.simulators.invented import company, person
from tests.simulators.sources import Holding
from tests.simulators.system import RunningSystem, System

CONDUCT = "members/sesame/datasets/payment-conduct"
SCORES = "members/sesame/datasets/private-scores"
DISGUISED = "members/platform/datasets/citizen-trust"
CONTRACT = {
    "purpose": "licensing",
    "legal_basis": "data-contribution-rules-3",
    "memorandum": "sesame-commerce",
}
SHOP = Subject("uscc", company(1).uscc)
CITIZEN = Subject("national_id", person(1)[0])

DISGUISE = """\
apiVersion: v3.1.0
kind: DataContract
id: citizen-trust
name: Trust of citizens, an official record by its looks
version: 1.0.0
status: active
customProperties:
  - {property: provider, value: platform}
  - {property: tier, value: public}
  - {property: datasetClass, value: record}
  - {property: catalogueCitation, value: "Catalogue of private contributions, item 2"}
schema:
  - name: record
    logicalType: object
    properties:
      - name: national_id
        logicalType: string
        classification: public
        customProperties: [{property: identifierKind, value: national-id}, {property: lookup, value: true}]
      - {name: trust, logicalType: integer, classification: public}
"""

SYSTEM = System(
    consumers=("commerce", "harbour-bank", "tradeplatform", "inspectorate", "sesame", "credit-rater"),
    descriptions={"platform-citizen-trust.yaml": DISGUISE},
    holdings=(
        Holding(CONDUCT, [{"uscc": SHOP.value, "late_payments": 2, "volume": 345_678}]),
        Holding(SCORES, [{"national_id": CITIZEN.value, "score": 712}]),
        Holding(DISGUISED, [{"national_id": CITIZEN.value, "trust": 712}]),
    ),
)


def test_the_ministry_gets_what_the_firm_contributes_under_contract(system: RunningSystem) -> None:
    found = system.released("commerce", CONDUCT, subjects=[SHOP], **CONTRACT)
    assert found.records == [{"uscc": SHOP.value, "late_payments": 2, "volume": 345_678}]
    assert (found.entry.provider, found.entry.memorandum) == ("sesame", "sesame-commerce")


def test_the_firm_sees_in_the_log_who_used_its_data(system: RunningSystem) -> None:
    system.released("commerce", CONDUCT, subjects=[SHOP], **CONTRACT)
    entries = list(system.client("sesame").entries('kind = "exchange.released"'))
    assert entries
    for _, data in entries:
        assert b'"consumer":"commerce"' in data
        assert b'"provider":"sesame"' in data


def test_what_was_contributed_goes_nowhere_else(system: RunningSystem) -> None:
    for member in ("inspectorate", "credit-rater", "tradeplatform"):
        reason = "MEMORANDUM_NOT_APPLICABLE" if member == "inspectorate" else "PURPOSE_NOT_PERMITTED"
        system.refused(reason, member, CONDUCT, subjects=[SHOP], **CONTRACT)
    system.refused(
        "MEMORANDUM_NOT_APPLICABLE",
        "harbour-bank",
        CONDUCT,
        subjects=[SHOP],
        **{**CONTRACT, "purpose": "credit-check"},
    )


@pytest.mark.parametrize(
    ("reason", "member", "purpose"),
    [
        ("PURPOSE_NOT_PERMITTED", "commerce", "licensing"),
        ("SCORE_NOT_PERMITTED", "harbour-bank", "credit-check"),
        ("PURPOSE_NOT_PERMITTED", "harbour-bank", "lending-decision"),
        ("SCORE_NOT_PERMITTED", "inspectorate", "law-enforcement"),
        ("SCORE_NOT_PERMITTED", "commerce", "own-score"),
    ],
)
def test_the_private_score_stays_private(
    system: RunningSystem, reason: str, member: str, purpose: str
) -> None:
    system.refused(
        reason,
        member,
        SCORES,
        subjects=[CITIZEN],
        document="Request 12",
        **{**CONTRACT, "purpose": purpose},
    )


def test_a_score_that_dresses_up_as_an_official_record_is_found_out(system: RunningSystem) -> None:
    """An entry of the catalogue says what may be recorded under it, and not whoever holds the records."""
    system.refused(
        "CATALOGUE_ENTRY_BREACHED", "tradeplatform", DISGUISED, subjects=[CITIZEN], purpose="public-lookup"
    )


def test_no_official_register_has_a_field_for_it(system: RunningSystem) -> None:
    system.refused(
        "FIELD_UNKNOWN", "commerce", CONDUCT, subjects=[SHOP], fields=["uscc", "score"], **CONTRACT
    )


def test_the_log_holds_and_nobody_stands_in_it(system: RunningSystem) -> None:
    system.assert_log_holds()
