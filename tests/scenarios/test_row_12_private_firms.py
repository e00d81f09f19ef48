"""Row 12: Sesame Credit and the other firms whose licences were not renewed.

A firm contributes conduct in payments under contract: records of fact, with the purpose that was agreed on.
It may keep them at home, behind a provider and a memorandum, or sign a contract and upload them; then it sees
what becomes of them, and can stop it. Its own score is labelled private: no purpose of anybody else reaches
it, whatever a contract says, and it cannot come in again as an official record.

Missing: nothing of this row.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.client import Subject
from gateway.model import EntryKind
from tests.simulators.giving import agree, answered, done, draft, write_csv
from tests.simulators.invented import company, person
from tests.simulators.sources import Holding
from tests.simulators.system import RunningSystem, System, replace_in
from tests.simulators.waiting import wait_until

CONDUCT = "members/sesame/datasets/payment-conduct"
SCORES = "members/sesame/datasets/private-scores"
DISGUISED = "members/platform/datasets/citizen-trust"
GIVEN_CONDUCT = "members/sesame/datasets/merchant-conduct"
GIVEN_SCORES = "members/sesame/datasets/merchant-scores"
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


def cover_given_conduct(policies: Path) -> None:
    """Have law and memorandum cover what the firm uploads as well."""
    for chapter in ("memoranda", "legal_bases"):
        replace_in(policies / "data" / f"{chapter}.yaml", f"[{CONDUCT}]", f"[{CONDUCT}, {GIVEN_CONDUCT}]")


SYSTEM = System(
    consumers=("commerce", "harbour-bank", "tradeplatform", "inspectorate", "sesame", "credit-rater"),
    change_policies=cover_given_conduct,
    descriptions={"platform-citizen-trust.yaml": DISGUISE},
    holdings=(
        Holding(CONDUCT, [{"uscc": SHOP.value, "late_payments": 2, "volume": 345_678}]),
        Holding(SCORES, [{"national_id": CITIZEN.value, "score": 712}]),
        Holding(DISGUISED, [{"national_id": CITIZEN.value, "trust": 712}]),
    ),
)


@pytest.fixture(scope="module")
def given(system: RunningSystem, tmp_path_factory: pytest.TempPathFactory) -> RunningSystem:
    """The system after the firm has uploaded conduct and scores, each under a contract with the ministry."""
    folder = tmp_path_factory.mktemp("sesame")
    for dataset, described, purposes, row in (
        (GIVEN_CONDUCT, CONDUCT, ["licensing"], {"uscc": SHOP.value, "late_payments": 2, "volume": 345_678}),
        (
            GIVEN_SCORES,
            SCORES,
            ["licensing", "law-enforcement"],
            {"national_id": CITIZEN.value, "score": 712},
        ),
    ):
        before, name = (each.rpartition("/")[2] for each in (described, dataset))
        text = (system.config.catalogue / f"sesame-{before}.yaml").read_text(encoding="utf-8")
        file = draft(
            folder,
            text.replace(f"id: {before}", f"id: {name}"),
            "sesame",
            "commerce",
            name=name,
            purposes=purposes,
            key=[next(iter(row))],
        )
        agree(system, file, "sesame", "commerce")
        records = write_csv(folder / f"{name}.csv", [row])
        told = done(system, "sesame", "contribute", records, "--contract", name, "--dataset", name)
        assert (told["accepted"], told["records_accepted"]) == (True, 1)
    answered(system, "commerce", GIVEN_CONDUCT, subjects=[SHOP], **CONTRACT)
    return system


def test_the_ministry_gets_what_the_firm_keeps_at_home(system: RunningSystem) -> None:
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


def test_the_ministry_gets_what_the_firm_has_uploaded_under_its_contract(given: RunningSystem) -> None:
    found = given.released("commerce", GIVEN_CONDUCT, subjects=[SHOP], **CONTRACT)
    assert found.records == [{"uscc": SHOP.value, "late_payments": 2, "volume": 345_678}]
    assert found.page.verified is not None
    assert found.page.verified.from_vault
    agreed = contract_of(given, "merchant-conduct")
    assert (found.entry.contract, agreed["in_force"]) == (agreed["digest"], True)


def test_what_was_uploaded_goes_to_no_one_else_and_for_nothing_else(given: RunningSystem) -> None:
    given.refused("CONTRACT_NOT_APPLICABLE", "inspectorate", GIVEN_CONDUCT, subjects=[SHOP], **CONTRACT)
    given.refused(
        "CONTRACT_NOT_APPLICABLE",
        "commerce",
        GIVEN_CONDUCT,
        subjects=[SHOP],
        **{**CONTRACT, "purpose": "law-enforcement"},
    )


def test_a_contract_opens_no_way_to_the_private_score(given: RunningSystem) -> None:
    """Control: the contract is in force and names ministry and purpose; policy narrows all the same."""
    assert contract_of(given, "merchant-scores")["in_force"]
    ask = {**CONTRACT, "subjects": [CITIZEN], "document": "Request 12"}
    for reason, purpose in (
        ("SCORE_NOT_PERMITTED", "law-enforcement"),
        ("PURPOSE_NOT_PERMITTED", "licensing"),
        ("SCORE_NOT_PERMITTED", "own-score"),
    ):
        entry = given.refused(reason, "commerce", GIVEN_SCORES, **{**ask, "purpose": purpose})
        assert entry.contract == contract_of(given, "merchant-scores")["digest"]


def test_the_firm_sees_what_was_used_and_stops_it(given: RunningSystem) -> None:
    """Control: until then the same question is answered."""
    given.released("commerce", GIVEN_CONDUCT, subjects=[SHOP], **CONTRACT)
    used = [json.loads(data) for _, data in given.client("sesame").entries(f'dataset = "{GIVEN_CONDUCT}"')]
    released = [each for each in used if each["kind"] == EntryKind.EXCHANGE_RELEASED.value]
    assert released
    assert {each["consumer"] for each in released} == {"commerce"}
    done(given, "sesame", "contract", "suspend", "merchant-conduct", "--reason", "a doubt")
    wait_until(lambda: given.cli("commerce", "query", GIVEN_CONDUCT, *in_words(SHOP))[0] != 0)
    given.refused(
        "CONTRACT_NOT_IN_FORCE",
        "commerce",
        GIVEN_CONDUCT,
        subjects=[SHOP],
        contract="merchant-conduct",
        **CONTRACT,
    )


def in_words(subject: Subject) -> list[str]:
    """Return the ministry's question as options of the command."""
    words = ["--subject", f"{subject.field}={subject.value}"]
    for name, value in CONTRACT.items():
        words += [f"--{name.replace('_', '-')}", value]
    return words


def contract_of(system: RunningSystem, name: str) -> Any:
    [found] = [each for each in done(system, "sesame", "contract", "list") if each["contract"] == name]
    return found


def test_no_official_register_has_a_field_for_it(system: RunningSystem) -> None:
    system.refused(
        "FIELD_UNKNOWN", "commerce", CONDUCT, subjects=[SHOP], fields=["uscc", "score"], **CONTRACT
    )


def test_the_log_holds_and_nobody_stands_in_it(system: RunningSystem) -> None:
    system.assert_log_holds()
