"""Row 15: sharing in the pandemic of 2020.

Medical data was shared in haste, under rules added quickly. Here an emergency rule has an end and a day by
which it must be reviewed. When the end comes nothing rests on it any more, not even for the memorandum that
names it; a rule that nobody reviewed has ended on that day.

The time moves while the gateway runs. Missing: nothing of this row.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

from gateway.client import Subject
from gateway.model import EntryKind
from tests.simulators.invented import person
from tests.simulators.sources import Holding
from tests.simulators.system import RunningSystem, System, replace_in

TESTS = "members/health/datasets/test-results"
RESIDENTS = "members/civil-affairs/datasets/residents"
PATIENT = Subject("national_id", person(1)[0])
TODAY = datetime.now(UTC).date()
SUNSET = TODAY + timedelta(days=20)

EPIDEMIC = {
    "purpose": "epidemic-control",
    "legal_basis": "epidemic-order-5",
    "memorandum": "health-epidemic",
    "subjects": [PATIENT],
}
RELIEF = {
    "purpose": "emergency-relief",
    "legal_basis": "flood-order-4",
    "memorandum": "civil-affairs-flood",
    "subjects": [PATIENT],
}


def lay_down_dates(policies: Path) -> None:
    """Let the flood begin lately and end soon, whenever this runs."""
    begun, ends = TODAY - timedelta(days=50), SUNSET.isoformat()
    for name in ("legal_bases.yaml", "memoranda.yaml"):
        path = policies / "data" / name
        replace_in(path, "2026-06-01", begun.isoformat())
        replace_in(path, "2029-05-31", ends)
    rules = policies / "data" / "legal_bases.yaml"
    replace_in(rules, "2029-08-31", (SUNSET + timedelta(days=90)).isoformat())
    replace_in(rules, "2026-09-30", (TODAY - timedelta(days=2)).isoformat())


SYSTEM = System(
    consumers=("civil-affairs", "transport", "police", "harbour-bank"),
    change_policies=lay_down_dates,
    moves_time=True,
    holdings=(
        Holding(
            TESTS,
            [
                {
                    "national_id": PATIENT.value,
                    "tested_on": TODAY,
                    "result": "positive",
                    "symptoms": "cough",
                }
            ],
        ),
        Holding(
            RESIDENTS,
            [{"national_id": PATIENT.value, "street": "Quay 4", "persons": 3, "disability": "true"}],
        ),
    ),
)


def test_in_the_emergency_relief_gets_what_it_needs(system: RunningSystem) -> None:
    found = system.released("transport", RESIDENTS, acknowledge=True, **RELIEF)
    [record] = found.records
    assert (record["street"], record["persons"]) == ("Quay 4", 3)
    assert record["national_id"].startswith("sg1:")
    assert found.entry.withheld == ("disability",)
    assert found.entry.duties["notify_subject"]["within_days"] == 90


def test_no_other_office_and_no_other_use_rides_along(system: RunningSystem) -> None:
    system.refused("PURPOSE_NOT_PERMITTED", "police", RESIDENTS, **RELIEF)
    system.refused("MEMBER_CLASS_NOT_PERMITTED", "harbour-bank", RESIDENTS, **RELIEF)
    system.refused("LEGAL_BASIS_NOT_PERMITTED", "transport", RESIDENTS, **{**RELIEF, "purpose": "licensing"})
    system.refused("FIELD_ABOVE_TIER", "transport", RESIDENTS, fields=["national_id", "disability"], **RELIEF)


def test_a_rule_that_nobody_reviewed_has_ended(system: RunningSystem) -> None:
    system.refused(
        "LEGAL_BASIS_NOT_IN_FORCE", "transport", RESIDENTS, **{**RELIEF, "legal_basis": "flood-order-7"}
    )


def test_the_rule_of_the_epidemic_is_over_though_the_records_are_there(system: RunningSystem) -> None:
    entry = system.refused("LEGAL_BASIS_NOT_IN_FORCE", "civil-affairs", TESTS, **EPIDEMIC)
    assert "MEMORANDUM_NOT_IN_FORCE" in entry.reasons


def test_a_bundle_whose_memorandum_outlives_the_sunset_is_not_put_into_force(
    system: RunningSystem, tmp_path: Path
) -> None:
    """A gateway does not even start with it."""
    memoranda = system.config.policy.directory / "data" / "memoranda.yaml"
    before = memoranda.read_text()
    system.stop_gateway()
    try:
        replace_in(memoranda, SUNSET.isoformat(), (SUNSET + timedelta(days=1)).isoformat())
        message = system.fails_to_start()
        assert "outlives the sunset" in message
    finally:
        memoranda.write_text(before)
        system.start_gateway()


def test_at_the_sunset_everything_that_rests_on_the_rule_ends(system: RunningSystem) -> None:
    assert system.time is not None
    left = datetime.combine(SUNSET, time(0, 1), UTC) - system.time()
    system.time.advance(left)
    # On its last day the rule still holds.
    system.released("transport", RESIDENTS, acknowledge=True, **RELIEF)
    system.time.advance(timedelta(days=1))
    entry = system.refused("LEGAL_BASIS_NOT_IN_FORCE", "transport", RESIDENTS, **RELIEF)
    assert "MEMORANDUM_NOT_IN_FORCE" in entry.reasons
    releases = [each for each in system.entries() if each.kind is EntryKind.EXCHANGE_RELEASED]
    assert all(date.fromisoformat(each.time[:10]) <= SUNSET for each in releases)


def test_the_log_holds_and_no_patient_stands_in_it(system: RunningSystem) -> None:
    system.assert_log_holds()
