"""Row 7: lists of key scrutiny, and the warning at three of them.

Four offices each watch companies and tell nobody whom. The national platform may ask one thing: does this
company stand on at least three of the four lists? It hears yes or no. Which lists they are, how many, and
why a company is watched stays with the offices, and no question is made of which that could be put
together.

Missing: nothing of this row.
"""

from __future__ import annotations

import pytest

from gateway.client import Subject
from tests.simulators.invented import company
from tests.simulators.sources import Holding
from tests.simulators.system import RunningSystem, System

OFFICES = ("customs", "tax", "environment", "market-regulator")
LISTS = {office: f"members/{office}/datasets/scrutiny-list" for office in OFFICES}
SET = "list-sets/key-scrutiny"
WARNING = {"purpose": "scrutiny-check", "legal_basis": "scrutiny-order-6", "at_least": 3}
ON = {"all": OFFICES, "three": OFFICES[1:], "two": OFFICES[:2], "one": OFFICES[:1], "none": ()}
COMPANIES = {name: company(number).uscc for number, name in enumerate(ON)}
CROWD = range(100, 130)
"""Companies on every list, so that none is so short that a yes would name somebody."""

SYSTEM = System(
    consumers=("platform", "inspectorate", "harbour-bank"),
    ask_again_at_once=True,
    holdings=tuple(
        Holding(
            name,
            [
                {"uscc": code, "risk": "high"}
                for code in (
                    *(company(number).uscc for number in CROWD),
                    *(COMPANIES[name] for name, offices in ON.items() if office in offices),
                )
            ],
        )
        for office, name in LISTS.items()
    ),
)


def about(name: str) -> dict[str, object]:
    return {"subject": Subject("uscc", COMPANIES[name]), **WARNING}


@pytest.mark.parametrize(
    ("name", "answer"), [("all", True), ("three", True), ("two", False), ("one", False), ("none", False)]
)
def test_three_lists_at_once_make_a_warning_and_nothing_else_is_told(
    system: RunningSystem, name: str, answer: bool
) -> None:
    found = system.listed("platform", SET, **about(name))
    assert (found.listed, found.restrictions) == (answer, ())
    assert found.verified is not None
    entry = system.entry(found.verified.index)
    assert (entry.dataset, entry.provider, entry.memorandum) == (SET, "", "")
    assert not any(office in str(entry) for office in ("customs", "environment", "market-regulator"))


def test_all_answers_look_alike(system: RunningSystem) -> None:
    answers = [system.listed("platform", SET, **about(name)) for name in ("all", "three", "two", "none")]
    assert len({len(answer.line) for answer in answers}) == 1
    entries = [system.entry(answer.verified.index) for answer in answers if answer.verified]
    assert len({(entry.records, entry.bytes, entry.duration_ms) for entry in entries}) == 1


def test_no_list_is_asked_alone_or_with_another_number(system: RunningSystem) -> None:
    for office, name in LISTS.items():
        system.refused(
            "OPERATION_NOT_PERMITTED",
            "platform",
            name,
            operation="ask_lists",
            subject=Subject("uscc", COMPANIES["one"]),
            memorandum=f"{office}-scrutiny",
            purpose=WARNING["purpose"],
            legal_basis=WARNING["legal_basis"],
        )
    for number in (1, 2, 4):
        system.refused(
            "FILTER_UNSUPPORTED",
            "platform",
            SET,
            operation="ask_lists",
            **{**about("two"), "at_least": number},
        )


@pytest.mark.parametrize("operation", ["query", "stream"])
def test_no_list_is_read(system: RunningSystem, operation: str) -> None:
    for office, name in LISTS.items():
        system.refused(
            "OPERATION_NOT_PERMITTED",
            "platform",
            name,
            operation=operation,
            subjects=[Subject("uscc", COMPANIES["one"])],
            memorandum=f"{office}-scrutiny",
            purpose=WARNING["purpose"],
            legal_basis=WARNING["legal_basis"],
        )


def test_nobody_but_the_platform_asks(system: RunningSystem) -> None:
    system.refused("MEMORANDUM_NOT_APPLICABLE", "inspectorate", SET, operation="ask_lists", **about("all"))
    system.refused("PURPOSE_NOT_PERMITTED", "harbour-bank", SET, operation="ask_lists", **about("all"))


def test_the_log_holds_and_no_company_stands_in_it(system: RunningSystem) -> None:
    system.assert_log_holds()
