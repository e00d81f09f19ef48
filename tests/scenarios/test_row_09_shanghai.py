"""Row 9: Shanghai.

More than 600 categories to share; approvals and penalties are to be public within 7 days of the decision.
The holder promises freshness in the dataset's description. Whoever fetches the whole dataset makes its
state visible: the log's entry says by how many days it is late, `gateway datasets late` shows it to
officers, and metrics tell the newest day seen beside the promise, for an alert.

A single record's lateness is seen where records come in: a district that hands its penalties in under
contract is told, and the log tells, how many of a batch were late, be the newest in time or not.

Missing: nothing of this row. When a record that stays with its holder could first be had, the holder alone
knows.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.client import StreamSummary, Subject, record_line
from gateway.contracts.document import read_terms
from gateway.model import Entry, EntryKind, Role
from tests.simulators.invented import company
from tests.simulators.sources import Form, Holding, insert_record
from tests.simulators.system import Newcomer, RunningSystem, System
from tests.simulators.waiting import wait_until

PENALTIES = "members/shanghai/datasets/administrative-penalties"
PUBLIC = {"purpose": "public-lookup"}
DISTRICT = "members/pudong/datasets/district-penalties"
CONTRACT = {
    "v": 1,
    "contract": "district-penalties",
    "version": 1,
    "title": "Penalties of the district, handed in within seven days",
    "parties": [
        {"member": "pudong", "role": "contributor"},
        {"member": "commerce", "role": "recipient"},
    ],
    "datasets": [
        {
            "name": DISTRICT,
            "held": "vault",
            "description": {
                "apiVersion": "v3.1.0",
                "kind": "DataContract",
                "id": "district-penalties",
                "name": "Penalties of the district",
                "version": "1.0.0",
                "status": "active",
                "customProperties": [
                    {"property": "provider", "value": "pudong"},
                    {"property": "tier", "value": "public"},
                    {
                        "property": "catalogueCitation",
                        "value": "National catalogue of public credit information, item P-01",
                    },
                    {"property": "freshness", "value": "decided_on:7"},
                ],
                "schema": [
                    {
                        "name": "penalty",
                        "properties": [
                            {
                                "name": "uscc",
                                "logicalType": "string",
                                "classification": "public",
                                "customProperties": [{"property": "identifierKind", "value": "uscc"}],
                            },
                            {"name": "decided_on", "logicalType": "date", "classification": "public"},
                        ],
                    }
                ],
            },
        }
    ],
    "purposes": ["public-lookup"],
    "recipients": {"classes": ["agency"]},
    "valid_from": "2026-01-01T00:00:00Z",
    "valid_until": "2036-01-01T00:00:00Z",
}
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
    newcomers=(Newcomer("pudong", "agency", frozenset({Role.CONTRIBUTOR})),),
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


def test_a_single_late_record_is_told_where_it_comes_in(system: RunningSystem) -> None:
    """Control: two batches whose newest record is as new; of one, every record is in time."""
    district = system.client("pudong")
    district.contracts.propose(read_terms(CONTRACT))
    system.client("commerce").contracts.sign(read_terms(CONTRACT))
    wait_until(lambda: DISTRICT in [one.name for one in district.datasets()], within_s=20)
    assert system.time is not None
    today = system.time().date()
    for batch, ages, late in (("in-time", (2, 5, 7), 0), ("one-late", (2, 5, 12), 1)):
        lines = [
            record_line(
                {"uscc": company(number).uscc, "decided_on": (today - timedelta(days=age)).isoformat()}
            )
            for number, age in enumerate(ages)
        ]
        done = district.contribute(
            lambda lines=lines: lines, contract="district-penalties", dataset=DISTRICT, batch=batch
        )
        assert (done.report.accepted, done.report.days_late, done.report.late) == (3, 0, late)
        [entry] = [
            one
            for one in system.entries()
            if one.kind is EntryKind.CONTRIBUTION_ACCEPTED and batch in one.detail.values()
        ]
        assert entry.detail["late"] == str(late)
    shown = system.officer("audit", "list", "--dataset", "pudong/district-penalties", "--output", "jsonl")
    told = [json.loads(line).get("detail", {}).get("late") for line in shown.splitlines()]
    assert [late for late in told if late is not None] == ["1", "0"]


def test_the_log_holds_and_no_code_stands_in_it(system: RunningSystem) -> None:
    system.assert_log_holds()
