"""Row 4: the Supreme Court's list of judgment defaulters.

Who can fulfil a judgment and does not may buy no flight, no fast train, no luxury stay. Carriers and hotels
ask the list about one customer and hear yes or no, and the class of restriction; never the case, the amount
or the day. The memorandum of 2013 also lets a bank ask. Who has fulfilled the judgment is off the list, and
off it for everybody at once; each recipient acknowledges what it heard. Removal travels to everyone who
heard yes, each answers for it, and the court sees whose answer is missing.

Missing: nothing of this row.
"""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from gateway.client import Listed, Subject
from gateway.model import EntryKind
from tests.simulators.invented import person
from tests.simulators.sources import Form, Holding, delete_record
from tests.simulators.system import RunningSystem, System

DEFAULTERS = "members/court/datasets/judgment-defaulters"
LISTED, OTHER, FULFILLED = person(1)[0], person(150)[0], person(5)[0]
CARRIERS = ("railway", "airline", "hotel-group")
SALE = {
    "purpose": "travel-restriction",
    "legal_basis": "consumption-restriction-rules-3",
    "memorandum": "court-carriers",
    "document": "Consumption restriction order 2026-12",
}

SYSTEM = System(
    consumers=(*CARRIERS, "harbour-bank", "tradeplatform", "telecom"),
    ask_again_at_once=True,
    holdings=(
        Holding(
            DEFAULTERS,
            [
                {
                    "national_id": person(number)[0],
                    "restriction_class": "flights and fast trains",
                    "listed_on": date(2024, 5, 1 + number % 28),
                    "case_number": f"2024-civil-{number}",
                    "amount": 45_000,
                }
                for number in range(40)
            ],
            form=Form.DATABASE,
        ),
    ),
)


def ask(system: RunningSystem, member: str, customer: str) -> Listed:
    """Ask the list, and acknowledge the answer, as the memorandum wants."""
    return system.listed(
        member, DEFAULTERS, subject=Subject("national-id", customer), acknowledge=True, **SALE
    )


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_carrier_hears_yes_or_no_and_the_class_of_restriction(system: RunningSystem, carrier: str) -> None:
    yes = ask(system, carrier, LISTED)
    assert (yes.listed, yes.restrictions) == (True, ("flights and fast trains",))
    no = ask(system, carrier, OTHER)
    assert (no.listed, no.restrictions) == (False, ())
    # Whoever sees the size of an answer does not know which it was.
    assert len(yes.line) == len(no.line)


def test_the_case_is_never_told(system: RunningSystem) -> None:
    yes = ask(system, "railway", LISTED)
    for value in ("2024-civil-1", "45000", "2024-05"):
        assert value not in yes.line.decode()
    for field in ("case_number", "amount", "listed_on"):
        system.refused(
            "FIELD_ABOVE_TIER",
            "railway",
            DEFAULTERS,
            subjects=[Subject("national_id", LISTED)],
            fields=["restriction_class", field],
            **SALE,
        )


def test_the_entry_of_a_yes_reads_like_that_of_a_no(system: RunningSystem) -> None:
    entries = []
    for customer in (LISTED, OTHER):
        answer = ask(system, "airline", customer)
        assert answer.verified is not None
        entries.append(system.entry(answer.verified.index))
    told = [(entry.released, entry.records, entry.bytes, entry.obligations) for entry in entries]
    assert told[0] == told[1]


def test_nobody_reads_the_list_or_asks_about_many(system: RunningSystem) -> None:
    two = [Subject("national_id", LISTED), Subject("national_id", OTHER)]
    system.refused("SUBJECTS_NOT_PERMITTED", "railway", DEFAULTERS, subjects=two, **SALE)
    system.refused("SUBJECTS_NOT_PERMITTED", "railway", DEFAULTERS, **SALE)
    system.refused("OPERATION_NOT_PERMITTED", "railway", DEFAULTERS, operation="stream", **SALE)


def test_who_sells_no_journeys_does_not_ask(system: RunningSystem) -> None:
    about = {"operation": "ask_lists", "subject": Subject("national-id", LISTED)}
    system.refused("MEMORANDUM_NOT_APPLICABLE", "tradeplatform", DEFAULTERS, **about, **SALE)
    system.refused("PURPOSE_NOT_PERMITTED", "harbour-bank", DEFAULTERS, **about, **SALE)
    system.refused("DOCUMENT_MISSING", "railway", DEFAULTERS, **about, **{**SALE, "document": ""})


def test_a_bank_asks_for_its_own_measure_under_its_own_memorandum(system: RunningSystem) -> None:
    own = {
        **SALE,
        "purpose": "financing-restriction",
        "legal_basis": "defaulter-rules-8",
        "memorandum": "court-banks",
    }
    answer = system.listed(
        "harbour-bank", DEFAULTERS, subject=Subject("national-id", LISTED), acknowledge=True, **own
    )
    assert answer.listed
    system.refused(
        "PURPOSE_NOT_PERMITTED",
        "railway",
        DEFAULTERS,
        operation="ask_lists",
        subject=Subject("national-id", LISTED),
        **own,
    )


def test_who_has_fulfilled_the_judgment_is_off_the_list_for_everybody(system: RunningSystem) -> None:
    assert all(ask(system, carrier, FULFILLED).listed for carrier in CARRIERS)
    delete_record(system.members["court"].directory, DEFAULTERS, "national_id", FULFILLED)
    assert not any(ask(system, carrier, FULFILLED).listed for carrier in CARRIERS)


def test_removal_reaches_everyone_who_heard_yes_and_nobody_else(
    system: RunningSystem, tmp_path: Path
) -> None:
    removed = person(7)[0]
    heard = {carrier: ask(system, carrier, removed) for carrier in ("railway", "airline")}
    assert not ask(system, "hotel-group", OTHER).listed
    delete_record(system.members["court"].directory, DEFAULTERS, "national_id", removed)
    # Who hears no has nothing to correct.
    assert not ask(system, "hotel-group", removed).listed
    names = tmp_path / "fulfilled.txt"
    names.write_text(f"{removed}\n")
    code, told, error = system.cli(
        "court", "corrections", "announce", "court/judgment-defaulters", names, "--field", "national_id",
        "--kind", "withdrawn", "--reason", "duty-fulfilled", "--output", "json",
    )  # fmt: skip
    assert code == 0, error
    announced = json.loads(told)
    assert announced["recipients"] == ["airline", "railway"]
    for carrier, answer in heard.items():
        assert answer.verified is not None
        code, shown, error = system.cli(carrier, "corrections", "watch", "--once", "--output", "json")
        assert code == 0, error
        [notice] = json.loads(shown)
        # It got one bit: which question that was, and nothing that it was not told then.
        [group] = notice["releases"]
        assert group["exchanges"] == [{"exchange": answer.verified.entry.exchange, "records": 1}]
        assert "keys" not in group
        assert removed not in shown
    assert (
        json.loads(system.cli("hotel-group", "corrections", "watch", "--once", "--output", "json")[1]) == []
    )
    system.restart_gateway()
    correction = announced["correction"]
    code, _, error = system.cli("railway", "corrections", "acknowledge", correction, "--outcome", "deleted")
    assert code == 0, error
    code, shown, error = system.cli("court", "corrections", "status", "--all", "--output", "json")
    assert code == 0, error
    rows = {row["recipient"]: (row["state"], row["outcome"]) for row in json.loads(shown)}
    assert rows == {"airline": ("told", ""), "railway": ("answered", "deleted")}
    shown = system.officer("corrections", "status", "--gateway", system.deployment.config, "--output", "json")
    assert [(row["recipient"], row["days"]) for row in json.loads(shown)] == [("airline", 0)]
    [entry] = [each for each in system.entries() if each.kind is EntryKind.CORRECTION_ACKNOWLEDGED]
    assert (entry.consumer, entry.detail["outcome"]) == ("railway", "deleted")


def test_the_court_knows_who_heard_and_that_it_arrived(system: RunningSystem) -> None:
    ask(system, "railway", LISTED)
    entries = system.entries()
    releases = {
        index: entry
        for index, entry in enumerate(entries)
        if entry.kind is EntryKind.EXCHANGE_RELEASED and entry.consumer in CARRIERS
    }
    acknowledged = {entry.acknowledges for entry in entries if entry.kind is EntryKind.EXCHANGE_ACKNOWLEDGED}
    assert releases.keys() <= acknowledged
    assert all(entry.duties["acknowledge"]["within_hours"] == 24 for entry in releases.values())
    assert set(releases) <= {index for index, _ in system.client("court").entries()}


def test_the_log_holds_and_no_defaulter_stands_in_it(system: RunningSystem) -> None:
    system.assert_log_holds()
