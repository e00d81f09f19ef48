"""Row 5: the passenger record of the railway.

The rules of 2017 keep a breach of the rules of travel for five years. After that it is not given out: to
nobody, in no way of asking, whatever memorandum is stated, though the railway still holds it.

What the conductors report the railway does not keep itself: it contributes it, under contract, to the
gateway's vault. There the same holds, and what is too old is removed for good.

Missing: nothing of this row. That the railway deletes what it may no longer give is its own affair.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from gateway.client import Subject
from gateway.model import EntryKind
from tests.simulators.giving import agree, answered, done, draft, write_csv
from tests.simulators.invented import person
from tests.simulators.sources import Holding
from tests.simulators.system import RunningSystem, System, replace_in

JOURNEYS = "members/railway/datasets/passenger-journeys"
REPORTS = "members/railway/datasets/conductor-reports"
INSPECTION = {
    "purpose": "passenger-safety",
    "legal_basis": "railway-credit-measures-12",
    "memorandum": "railway-transport",
    "document": "Inspection order 2026-31",
}
TODAY = datetime.now(UTC).date()
PASSENGER = Subject("national_id", person(1)[0])
OTHER = Subject("national_id", person(2)[0])


def years_ago(years: int, *, days: int = 0) -> date:
    """Return the day so many years before today, and `days` later."""
    day = 28 if (TODAY.month, TODAY.day) == (2, 29) else TODAY.day
    return TODAY.replace(year=TODAY.year - years, day=day) + timedelta(days=days)


def journey(subject: Subject, train: str, travelled_on: date) -> dict[str, object]:
    return {
        "national_id": subject.value,
        "train": train,
        "travelled_on": travelled_on,
        "breach": "smoked on a fast train",
    }


BREACHES = [
    journey(PASSENGER, "G-recent", years_ago(1)),
    journey(PASSENGER, "G-lasting", years_ago(5, days=20)),
    journey(PASSENGER, "G-old", years_ago(5, days=-20)),
    journey(OTHER, "G-older", years_ago(9)),
]


def cover_reports(policies: Path) -> None:
    """Have law and memorandum cover what the conductors report as well, and let the railway contribute."""
    for chapter in ("memoranda", "legal_bases"):
        replace_in(policies / "data" / f"{chapter}.yaml", f"[{JOURNEYS}]", f"[{JOURNEYS}, {REPORTS}]")
    railway = "title: National Railway\n    class: company\n    roles: [provider"
    replace_in(policies / "data" / "members.yaml", railway, f"{railway}, contributor")


SYSTEM = System(
    consumers=("transport", "police", "airline"),
    moves_time=True,
    change_policies=cover_reports,
    holdings=(Holding(JOURNEYS, BREACHES),),
)


@pytest.fixture(scope="module")
def reported(system: RunningSystem, tmp_path_factory: pytest.TempPathFactory) -> RunningSystem:
    """The system after the railway has contributed what its conductors reported."""
    folder = tmp_path_factory.mktemp("railway")
    journeys = (system.config.catalogue / "railway-passenger-journeys.yaml").read_text(encoding="utf-8")
    text = journeys.replace("passenger-journeys", "conductor-reports")
    file = draft(
        folder,
        text,
        "railway",
        "transport",
        name="conductor-reports",
        purposes=["passenger-safety"],
        key=["national_id", "train"],
    )
    agree(system, file, "railway", "transport")
    records = write_csv(folder / "reports.csv", BREACHES)
    parts = ("--contract", "conductor-reports", "--dataset", "conductor-reports")
    told = done(system, "railway", "contribute", records, *parts)
    assert (told["accepted"], told["records_accepted"]) == (True, len(BREACHES))
    answered(system, "transport", REPORTS, subjects=[PASSENGER], **INSPECTION)
    return system


def trains(system: RunningSystem, subject: Subject, dataset: str = JOURNEYS) -> set[str]:
    found = system.released("transport", dataset, subjects=[subject], **INSPECTION)
    return {record["train"] for record in found.records}


def test_of_a_passengers_breaches_those_of_the_last_five_years_are_given_out(system: RunningSystem) -> None:
    found = system.released("transport", JOURNEYS, subjects=[PASSENGER], **INSPECTION)
    assert {record["train"] for record in found.records} == {"G-recent", "G-lasting"}
    assert all(record["national_id"].startswith("sg1:") for record in found.records)
    duty = found.entry.duties["retention"]
    assert (duty["field"], duty["years"]) == ("travelled_on", 5)


def test_who_has_older_breaches_only_is_answered_like_who_has_none(system: RunningSystem) -> None:
    assert trains(system, OTHER) == set()
    assert trains(system, Subject("national_id", person(3)[0])) == set()


def test_leaving_the_date_out_of_the_question_does_not_help(system: RunningSystem) -> None:
    found = system.released(
        "transport", JOURNEYS, subjects=[PASSENGER], fields=["national_id", "train"], **INSPECTION
    )
    assert {record["train"] for record in found.records} == {"G-recent", "G-lasting"}
    assert "travelled_on" not in found.page.fields


def test_an_old_journey_does_not_match_either(system: RunningSystem) -> None:
    for train, matches in (("G-recent", True), ("G-old", False)):
        found = system.matched("transport", JOURNEYS, subject=PASSENGER, match={"train": train}, **INSPECTION)
        assert bool(found) is matches


def test_nobody_else_sees_journeys_and_nobody_without_an_order(system: RunningSystem) -> None:
    ask = {**INSPECTION, "subjects": [PASSENGER]}
    system.refused("DOCUMENT_MISSING", "transport", JOURNEYS, **{**ask, "document": ""})
    system.refused("PURPOSE_NOT_PERMITTED", "police", JOURNEYS, **ask)
    system.refused("MEMBER_CLASS_NOT_PERMITTED", "airline", JOURNEYS, **ask)
    system.refused(
        "OPERATION_NOT_PERMITTED", "transport", JOURNEYS, operation="stream", **{**ask, "subjects": []}
    )


def test_of_what_was_contributed_nothing_older_is_given_out_either(reported: RunningSystem) -> None:
    found = reported.released("transport", REPORTS, subjects=[PASSENGER], **INSPECTION)
    assert {record["train"] for record in found.records} == {"G-recent", "G-lasting"}
    assert found.page.verified is not None
    assert found.page.verified.from_vault
    assert trains(reported, OTHER, REPORTS) == set()
    for train, matches in (("G-recent", True), ("G-old", False)):
        match = reported.matched(
            "transport", REPORTS, subject=PASSENGER, match={"train": train}, **INSPECTION
        )
        assert bool(match) is matches


def test_the_day_comes_for_every_record_while_the_gateway_runs(reported: RunningSystem) -> None:
    assert reported.time is not None
    reported.time.advance(timedelta(days=30))
    assert trains(reported, PASSENGER) == {"G-recent"}
    assert trains(reported, PASSENGER, REPORTS) == {"G-recent"}


def test_what_is_too_old_is_removed_from_the_vault_and_the_log_says_so(reported: RunningSystem) -> None:
    """Control: until then the vault holds it, though it is not given out; removing again finds nothing."""
    assert vault_records(reported) == [len(BREACHES)]
    [due] = json.loads(reported.officer("vault", "purge", "--dry-run", "--output", "json"))
    assert (due["dataset"], due["records"]) == (REPORTS, 3)
    purged = json.loads(reported.officer("vault", "purge", "--output", "json"))
    assert (purged["records"], purged["destroyed"]) == (3, [])
    [index] = purged["entries"]
    entry = reported.entry(index)
    assert (entry.kind, entry.subject, entry.records) == (EntryKind.RECORDS_PURGED, REPORTS, 3)
    assert vault_records(reported) == [1]
    assert trains(reported, PASSENGER, REPORTS) == {"G-recent"}
    assert json.loads(reported.officer("vault", "purge", "--output", "json"))["records"] == 0


def vault_records(system: RunningSystem) -> Sequence[int]:
    return [each["records"] for each in json.loads(system.officer("vault", "status", "--output", "json"))]


def test_the_log_holds_and_no_passenger_stands_in_it(system: RunningSystem) -> None:
    system.assert_log_holds()
