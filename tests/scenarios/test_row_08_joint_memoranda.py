"""Row 8: memoranda for joint incentives and joint discipline.

37 public memoranda say which agencies act on which list with which measures. Here a memorandum is data:
owner of the list, receiving agencies, permitted measures, dates, citation. Nothing flows outside it.

Shown on the shipped memoranda, and on 37 more that are made for this test, each for one receiver and one
measure.

Missing: nothing of this row.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

from gateway.client import Subject
from tests.simulators.invented import company
from tests.simulators.sources import Holding
from tests.simulators.system import RunningSystem, System

BREACHES = "members/tax/datasets/major-violations"
RED_LIST = "members/customs/datasets/certified-exporters"
LISTED = Subject("uscc", company(1).uscc)

DISCIPLINE = {
    "purpose": "procurement-exclusion",
    "legal_basis": "tax-discipline-memorandum-act-4",
    "memorandum": "tax-joint-discipline",
    "document": "Decision TX-2025-90",
    "subjects": [LISTED],
}
INCENTIVE = {
    "purpose": "joint-incentive",
    "legal_basis": "customs-credit-measures-5",
    "memorandum": "customs-joint-incentive",
    "subjects": [LISTED],
}

RECEIVERS = {"procurement": "agency", "market-regulator": "agency", "harbour-bank": "bank"}
MEASURES = {"agency": ("procurement-exclusion", "joint-discipline"), "bank": ("financing-restriction",)}
STRANGERS = {
    "procurement": ("market-regulator", "MEMORANDUM_NOT_APPLICABLE"),
    "market-regulator": ("procurement", "MEMORANDUM_NOT_APPLICABLE"),
    "harbour-bank": ("procurement", "PURPOSE_NOT_PERMITTED"),
}
"""For each receiver somebody else who tries, and what is wrong with it."""
ENDED = {5, 6, 7}
MEMORANDUM = """\
  joint-{number:02d}:
    title: Joint discipline, number {number}
    provider: tax
    datasets: [{dataset}]
    consumers: [{consumer}]
    purposes: [{purpose}]
    tier: limited
    legal_bases: [tax-discipline-memorandum-act-4]
    valid_from: 2015-01-01
{end}    citation: Memorandum JD/2015/{number}, section 1
"""


def agreed(number: int) -> tuple[str, str]:
    """Return receiver and measure of the memorandum of this number."""
    ways = [(member, measure) for member, kind in RECEIVERS.items() for measure in MEASURES[kind]]
    return ways[number % len(ways)]


def conclude(policies: Path) -> None:
    """Add 37 memoranda to the shipped ones; three of them have ended."""
    texts = []
    for number in range(1, 38):
        consumer, purpose = agreed(number)
        end = "    valid_until: 2020-12-31\n" if number in ENDED else ""
        texts.append(
            MEMORANDUM.format(number=number, dataset=BREACHES, consumer=consumer, purpose=purpose, end=end)
        )
    with (policies / "data" / "memoranda.yaml").open("a") as file:
        file.write("".join(texts))


SYSTEM = System(
    consumers=("procurement", "market-regulator", "commerce", "harbour-bank", "tax"),
    change_policies=conclude,
    holdings=(
        Holding(
            BREACHES,
            [
                {
                    "uscc": LISTED.value,
                    "breach": "false invoices",
                    "decided_on": date(2025, 2, 3),
                    "amount": 9_876_543,
                }
            ],
        ),
        Holding(RED_LIST, [{"uscc": LISTED.value, "certificate": "AEO-3", "since": date(2022, 8, 1)}]),
    ),
)


def test_a_receiving_agency_takes_the_permitted_measure(system: RunningSystem) -> None:
    found = system.released("procurement", BREACHES, **DISCIPLINE)
    assert found.records[0]["breach"] == "false invoices"
    assert found.entry.memorandum == "tax-joint-discipline"


def test_a_receiving_agency_gives_the_preference(system: RunningSystem) -> None:
    for member in ("commerce", "tax"):
        found = system.released(member, RED_LIST, **INCENTIVE)
        assert found.records[0]["certificate"] == "AEO-3"


def test_who_is_no_receiver_gets_nothing(system: RunningSystem) -> None:
    system.refused("MEMORANDUM_NOT_APPLICABLE", "commerce", BREACHES, **DISCIPLINE)
    system.refused("MEMORANDUM_NOT_APPLICABLE", "procurement", RED_LIST, **INCENTIVE)


def test_a_measure_that_is_not_permitted_is_not_taken(system: RunningSystem) -> None:
    for purpose in ("joint-discipline", "law-enforcement"):
        system.refused(
            "MEMORANDUM_NOT_APPLICABLE", "procurement", BREACHES, **{**DISCIPLINE, "purpose": purpose}
        )


def test_a_memorandum_covers_the_owners_list_and_no_other(system: RunningSystem) -> None:
    system.refused(
        "MEMORANDUM_NOT_APPLICABLE",
        "procurement",
        "members/tax/datasets/arrears",
        **{**DISCIPLINE, "purpose": "licensing"},
    )
    system.refused("MEMORANDUM_NOT_APPLICABLE", "commerce", BREACHES, **{**INCENTIVE, "purpose": "licensing"})


def test_a_memorandum_that_does_not_exist_opens_nothing(system: RunningSystem) -> None:
    system.refused("MEMORANDUM_UNKNOWN", "procurement", BREACHES, **{**DISCIPLINE, "memorandum": "joint-99"})


def test_a_measure_is_taken_on_an_official_document_only(system: RunningSystem) -> None:
    system.refused("DOCUMENT_MISSING", "procurement", BREACHES, **{**DISCIPLINE, "document": ""})


def test_of_37_memoranda_each_opens_its_own_measure_to_its_own_receiver(system: RunningSystem) -> None:
    for number in range(1, 38):
        consumer, purpose = agreed(number)
        ask = {**DISCIPLINE, "memorandum": f"joint-{number:02d}", "purpose": purpose}
        if number in ENDED:
            system.refused("MEMORANDUM_NOT_IN_FORCE", consumer, BREACHES, **ask)
            continue
        found = system.released(consumer, BREACHES, **ask)
        assert found.entry.memorandum == f"joint-{number:02d}"
        stranger, reason = STRANGERS[consumer]
        system.refused(reason, stranger, BREACHES, **ask)


def test_the_log_holds_and_no_code_stands_in_it(system: RunningSystem) -> None:
    system.assert_log_holds()
