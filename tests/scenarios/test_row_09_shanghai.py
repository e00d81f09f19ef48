"""Row 9: Shanghai.

More than 600 categories to share; approvals and penalties are to be public within 7 days of the decision.
The holder promises freshness in the dataset's description. Whoever fetches the whole dataset makes its
state visible: the log's entry says by how many days it is late, `gateway datasets late` shows it to
officers, and metrics tell the newest day seen beside the promise, for an alert.

Missing: lateness of a single record. When a record could first be had is known to its holder alone; a
dataset that gets new records in time, and one of them late, is not noticed.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.client import StreamSummary, Subject
from gateway.model import Entry
from tests.simulators.invented import company
from tests.simulators.sources import Form, Holding, insert_record
from tests.simulators.system import RunningSystem, System

PENALTIES = "members/shanghai/datasets/administrative-penalties"
PUBLIC = {"purpose": "public-lookup"}
TODAY = datetime.now(UTC).date()
NEWEST = "sluicegate_dataset_newest_record_timestamp_seconds"
PROMISE = "sluicegate_dataset_freshness_promise_seconds"


def penalty(number: int, decided_on: date) -> dict[str, object]:
    return {
        "uscc": company(number).uscc,
        "penalty": "fine",
        "decided_on": decided_on,
        "published_on": decided_on + timedelta(days=3),
        "case_officer": "officer 7",
    }


SYSTEM = System(
    consumers=("harbour-bank", "commerce"),
    moves_time=True,
    metrics=True,
    holdings=(
        Holding(
            PENALTIES,
            [penalty(number, TODAY - timedelta(days=4 + 10 * number)) for number in range(12)],
            form=Form.DATABASE,
        ),
    ),
)


def fetch_all(system: RunningSystem) -> Entry:
    """Fetch the whole dataset, as the national platform does every night; return the entry of the release."""
    *_, summary = system.client("commerce").stream(PENALTIES, **PUBLIC)
    assert isinstance(summary, StreamSummary)
    assert summary.verified is not None
    return system.entry(summary.verified.index)


def metric(system: RunningSystem, name: str) -> float:
    with urllib.request.urlopen(f"{system.metrics_url}", timeout=5) as answer:
        text = str(answer.read(), "utf-8")
    [value] = [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and sample.labels == {"dataset": PENALTIES}
    ]
    return value


def late_datasets(system: RunningSystem) -> list[dict[str, object]]:
    """Return what an officer is shown as late, of what this holder holds."""
    shown = system.officer("datasets", "late", "--output", "jsonl")
    return [row for line in shown.splitlines() if (row := json.loads(line))["dataset"] == PENALTIES]


def at(day: date) -> float:
    return datetime.combine(day, time(), UTC).timestamp()


def test_penalties_are_public_and_their_officer_is_not(system: RunningSystem) -> None:
    ask = {**PUBLIC, "subjects": [Subject("uscc", company(2).uscc)]}
    found = system.released("harbour-bank", PENALTIES, **ask)
    assert found.records[0]["decided_on"] == (TODAY - timedelta(days=24)).isoformat()
    assert found.entry.withheld == ("case_officer",)
    system.refused("FIELD_ABOVE_TIER", "harbour-bank", PENALTIES, fields=["uscc", "case_officer"], **ask)


def test_a_dataset_that_nobody_has_fetched_is_not_called_in_time(system: RunningSystem) -> None:
    [row] = late_datasets(system)
    assert (row["days_late"], row["entry"]) == (None, None)


def test_a_dataset_in_time_is_not_called_late(system: RunningSystem) -> None:
    assert fetch_all(system).detail == {"days_late": "0"}
    assert late_datasets(system) == []
    assert metric(system, PROMISE) == 7 * 86400
    assert metric(system, NEWEST) == at(TODAY - timedelta(days=4))


@pytest.fixture(scope="module")
def silent_for_a_week(system: RunningSystem) -> Iterator[None]:
    """Shanghai publishes nothing for eight days."""
    assert system.time is not None
    system.time.advance(timedelta(days=8))
    return


@pytest.mark.usefixtures("silent_for_a_week")
def test_a_look_at_one_company_tells_nothing_about_the_dataset(system: RunningSystem) -> None:
    found = system.released("harbour-bank", PENALTIES, subjects=[Subject("uscc", company(2).uscc)], **PUBLIC)
    assert "days_late" not in found.entry.detail


@pytest.mark.usefixtures("silent_for_a_week")
def test_lateness_is_visible_to_officers_and_as_a_metric(system: RunningSystem) -> None:
    entry = fetch_all(system)
    assert entry.detail == {"days_late": "5"}
    shown = system.officer(
        "audit", "list", "--dataset", "shanghai/administrative-penalties", "--output", "json"
    )
    assert '"days_late": "5"' in shown or '"days_late":"5"' in shown
    [row] = late_datasets(system)
    assert (row["promised_days"], row["days_late"]) == (7, 5)
    assert system.entry(row["entry"]) == entry
    assert system.time is not None
    late_s = system.time().timestamp() - metric(system, NEWEST) - metric(system, PROMISE)
    assert 5 * 86400 <= late_s < 6 * 86400


@pytest.mark.usefixtures("silent_for_a_week")
def test_when_it_has_caught_up_it_is_in_time_again(system: RunningSystem) -> None:
    decided = TODAY + timedelta(days=2)
    insert_record(system.members["shanghai"].directory, system.description(PENALTIES), penalty(20, decided))
    assert fetch_all(system).detail == {"days_late": "0"}
    assert late_datasets(system) == []
    assert metric(system, NEWEST) == at(decided)


def test_the_log_holds_and_no_code_stands_in_it(system: RunningSystem) -> None:
    system.assert_log_holds()
