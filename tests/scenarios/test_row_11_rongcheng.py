"""Row 11: Rongcheng, which identifies by four kinds of numbers.

People by national ID, government bodies by organisation code, companies by social credit code, villages by
area code. Each is checked and brought into its one spelling before it is used; what is wrong is refused and
never guessed at. Who counts events in villages is told of no small group.

Missing: nothing of this row.
"""

from __future__ import annotations

from datetime import date

import pytest

from gateway.client import Subject
from tests.simulators.invented import company, organisation, person
from tests.simulators.sources import Holding
from tests.simulators.system import RunningSystem, System

EVENTS = "members/rongcheng/datasets/honesty-events"
LICENSING = {
    "purpose": "licensing",
    "legal_basis": "rongcheng-credit-measures-7",
    "memorandum": "rongcheng-tax",
}
COUNTING = {
    "purpose": "village-statistics",
    "legal_basis": "rongcheng-credit-measures-9",
    "memorandum": "rongcheng-tax",
}
LARGE, SMALL = "371082", "371002"

# A person whose number ends in the letter that stands for 10.
PERSON = next(person(number)[0] for number in range(200) if person(number)[0].endswith("X"))
BODY, COMPANY = organisation(7), company(1).uscc


def event(number: int, **subject: str) -> dict[str, object]:
    return {**subject, "event": f"event {number}", "happened_on": date(2025, 1, 1 + number % 28)}


SYSTEM = System(
    consumers=("tax", "commerce", "tradeplatform"),
    holdings=(
        Holding(
            EVENTS,
            [
                event(1, national_id=PERSON, area_code=LARGE),
                event(2, organisation_code=BODY),
                event(3, uscc=COMPANY, area_code=LARGE),
                *(event(number, national_id=person(number)[0], area_code=LARGE) for number in range(10, 23)),
                *(event(number, national_id=person(number)[0], area_code=SMALL) for number in range(30, 34)),
            ],
        ),
    ),
)


def wide(text: str) -> str:
    """Return `text` as some keyboards write it, in full width."""
    return "".join(chr(ord(character) + 0xFEE0) for character in text)


@pytest.mark.parametrize(
    ("field", "value", "spelt"),
    [
        ("national_id", PERSON, PERSON.lower()),
        ("national_id", PERSON, wide(PERSON)),
        ("organisation_code", BODY, f"{BODY[:8]}-{BODY[8:]}" if "-" not in BODY else BODY.replace("-", "")),
        ("organisation_code", BODY, f"  {BODY.lower()} "),
        ("uscc", COMPANY, COMPANY.lower()),
        ("uscc", COMPANY, wide(COMPANY)),
    ],
)
def test_one_subject_is_found_however_its_number_is_written(
    system: RunningSystem, field: str, value: str, spelt: str
) -> None:
    plain = system.released("tax", EVENTS, subjects=[Subject(field, value)], **LICENSING)
    other = system.released("tax", EVENTS, subjects=[Subject(field, spelt)], **LICENSING)
    assert len(plain.records) == 1
    assert other.records == plain.records


def test_a_village_is_found_by_its_area_code(system: RunningSystem) -> None:
    found = system.released("tax", EVENTS, subjects=[Subject("area_code", wide(LARGE))], **LICENSING)
    assert {record["area_code"] for record in found.records} == {LARGE}
    assert len(found.records) == 15


def test_people_go_out_under_pseudonyms_and_bodies_and_companies_by_their_number(
    system: RunningSystem,
) -> None:
    by_person = system.released("tax", EVENTS, subjects=[Subject("national_id", PERSON)], **LICENSING)
    assert by_person.records[0]["national_id"].startswith("sg1:")
    assert by_person.entry.obligations["national_id"] == "pseudonymise"
    by_company = system.released("tax", EVENTS, subjects=[Subject("uscc", COMPANY)], **LICENSING)
    assert by_company.records[0]["uscc"] == COMPANY


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("national_id", PERSON[:-1] + "1"),
        ("national_id", PERSON[:6] + "20231345" + PERSON[14:]),
        ("national_id", COMPANY),
        ("organisation_code", BODY[:-1] + ("0" if BODY[-1] != "0" else "1")),
        ("uscc", COMPANY[:-1] + ("A" if COMPANY[-1] != "A" else "B")),
        ("uscc", COMPANY[:17]),
        ("area_code", "990000"),
    ],
)
def test_a_number_that_is_none_is_refused_and_not_guessed_at(
    system: RunningSystem, field: str, value: str
) -> None:
    system.refused("IDENTIFIER_INVALID", "tax", EVENTS, subjects=[Subject(field, value)], **LICENSING)


def test_who_counts_is_told_of_no_small_group(system: RunningSystem) -> None:
    large = system.released("tax", EVENTS, filters={"area_code": LARGE}, fields=["event"], **COUNTING)
    assert large.page.fields == ("event",)
    assert large.entry.records in {10, 20}  # fifteen, rounded to tens
    system.refused(
        "COHORT_TOO_SMALL", "tax", EVENTS, filters={"area_code": SMALL}, fields=["event"], **COUNTING
    )


def test_nobody_else_and_nothing_else(system: RunningSystem) -> None:
    ask = {**LICENSING, "subjects": [Subject("uscc", COMPANY)]}
    system.refused("MEMORANDUM_NOT_APPLICABLE", "commerce", EVENTS, **ask)
    system.refused("PURPOSE_NOT_PERMITTED", "tradeplatform", EVENTS, **ask)
    # The basis of the statistics does not carry a decision about somebody.
    system.refused(
        "LEGAL_BASIS_NOT_PERMITTED", "tax", EVENTS, **{**ask, "legal_basis": COUNTING["legal_basis"]}
    )


def test_the_log_holds_and_none_of_the_numbers_stands_in_it(system: RunningSystem) -> None:
    system.assert_log_holds()
