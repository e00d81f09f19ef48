"""Row 5: the passenger record of the railway.

The rules of 2017 keep a breach of the rules of travel for five years. After that it is not given out: to
nobody, in no way of asking, whatever memorandum is stated, though the railway still holds it.

Missing: nothing of this row. That the railway deletes what it may no longer give is its own affair.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from gateway.client import Subject
from tests.simulators.invented import person
from tests.simulators.sources import Holding
from tests.simulators.system import RunningSystem, System

JOURNEYS = "members/railway/datasets/passenger-journeys"
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


SYSTEM = System(
    consumers=("transport", "police", "airline"),
    moves_time=True,
    holdings=(
        Holding(
            JOURNEYS,
            [
                journey(PASSENGER, "G-recent", years_ago(1)),
                journey(PASSENGER, "G-lasting", years_ago(5, days=20)),
                journey(PASSENGER, "G-old", years_ago(5, days=-20)),
                journey(OTHER, "G-older", years_ago(9)),
            ],
        ),
    ),
)


def trains(system: RunningSystem, subject: Subject) -> set[str]:
    found = system.released("transport", JOURNEYS, subjects=[subject], **INSPECTION)
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


def test_the_day_comes_for_every_record_while_the_gateway_runs(system: RunningSystem) -> None:
    assert system.time is not None
    system.time.advance(timedelta(days=30))
    assert trains(system, PASSENGER) == {"G-recent"}


def test_the_log_holds_and_no_passenger_stands_in_it(system: RunningSystem) -> None:
    system.assert_log_holds()
