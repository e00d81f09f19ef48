"""Row 14: requests of public security to firms.

Only the police ask a firm for data, by a proper procedure: about few, named people, on a warrant that the
signed question cites. The firm sees who asked, as every provider does.

Missing: two approvers for each request, and an entry that is sealed until a set date and disclosed then
(approvals and sealed entries). Until they are there the firm and its auditors see the entry at once.
"""

from __future__ import annotations

from datetime import date

from gateway.client import Subject
from tests.simulators.invented import person
from tests.simulators.sources import Holding
from tests.simulators.system import RunningSystem, System

TRIPS = "members/ride-platform/datasets/trips"
SUSPECT = Subject("national_id", person(1)[0])
WARRANT = {
    "purpose": "criminal-investigation",
    "legal_basis": "criminal-procedure-act-54",
    "memorandum": "ride-platform-police",
    "document": "Warrant 2026-0815",
    "subjects": [SUSPECT],
}

SYSTEM = System(
    consumers=("police", "inspectorate", "court", "transport", "harbour-bank"),
    holdings=(
        Holding(
            TRIPS,
            [
                {
                    "national_id": person(number)[0],
                    "started_at": date(2026, 9, number),
                    "pickup": "North Gate",
                    "dropoff": "Harbour",
                }
                for number in range(1, 12)
            ],
        ),
    ),
)


def test_the_police_get_the_trips_of_a_suspect_on_a_warrant(system: RunningSystem) -> None:
    found = system.released("police", TRIPS, **WARRANT)
    [trip] = found.records
    assert trip["national_id"] == SUSPECT.value
    assert (trip["pickup"], trip["dropoff"]) == ("North Gate", "Harbour")
    assert found.entry.tier == "restricted"
    assert "subject" in found.entry.commitments


def test_without_a_warrant_or_a_signature_there_is_nothing(system: RunningSystem) -> None:
    system.refused("DOCUMENT_MISSING", "police", TRIPS, **{**WARRANT, "document": ""})
    system.refused("LEGAL_BASIS_MISSING", "police", TRIPS, **{**WARRANT, "legal_basis": ""})
    system.refused("MEMORANDUM_MISSING", "police", TRIPS, **{**WARRANT, "memorandum": ""})


def test_a_warrant_is_no_dragnet(system: RunningSystem) -> None:
    six = [Subject("national_id", person(number)[0]) for number in range(1, 7)]
    system.released("police", TRIPS, **{**WARRANT, "subjects": six[:5]})
    system.refused("SUBJECTS_NOT_PERMITTED", "police", TRIPS, **{**WARRANT, "subjects": six})
    system.refused("SUBJECTS_NOT_PERMITTED", "police", TRIPS, **{**WARRANT, "subjects": []})
    system.refused("OPERATION_NOT_PERMITTED", "police", TRIPS, operation="stream", **WARRANT)
    system.refused(
        "FILTER_UNSUPPORTED",
        "police",
        TRIPS,
        **{**WARRANT, "subjects": [], "filters": {"pickup": "North Gate"}},
    )


def test_nobody_but_the_police_asks_a_firm(system: RunningSystem) -> None:
    for member in ("inspectorate", "transport"):
        system.refused("PURPOSE_NOT_PERMITTED", member, TRIPS, **WARRANT)
    system.refused("MEMBER_CLASS_NOT_PERMITTED", "harbour-bank", TRIPS, **WARRANT)
    # And the police not for whatever they like.
    for purpose in ("law-enforcement", "licensing"):
        system.refused("LEGAL_BASIS_NOT_PERMITTED", "police", TRIPS, **{**WARRANT, "purpose": purpose})


def test_the_firm_sees_who_asked_and_an_outsider_does_not(system: RunningSystem) -> None:
    found = system.released("police", TRIPS, **WARRANT)
    assert found.page.verified is not None
    index = found.page.verified.index
    assert index in {at for at, _ in system.client("ride-platform").entries()}
    assert index not in {at for at, _ in system.client("harbour-bank").entries()}


def test_the_log_holds_and_no_suspect_stands_in_it(system: RunningSystem) -> None:
    system.assert_log_holds()
