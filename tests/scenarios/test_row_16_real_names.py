"""Row 16: real-name registration.

Does this ID belong to this name? A firm that must register its users asks just that and hears yes or no. It
gets no record, no address, and cannot look for an ID or a name that it does not have.

Missing: nothing of this row.
"""

from __future__ import annotations

import pytest

from gateway.client import Subject
from tests.simulators.invented import person
from tests.simulators.sources import Form, Holding
from tests.simulators.system import RunningSystem, System

IDENTITIES = "members/police/datasets/identities"
CHECK = {
    "purpose": "real-name-check",
    "legal_basis": "real-name-rules-5",
    "memorandum": "police-real-name",
}
USER, NAME = person(1)

SYSTEM = System(
    consumers=("telecom", "tradeplatform", "hotel-group", "harbour-bank", "commerce"),
    holdings=(
        Holding(
            IDENTITIES,
            [
                {"national_id": person(number)[0], "name": person(number)[1], "address": f"Quay {number}"}
                for number in range(30)
            ],
            form=Form.DATABASE,
        ),
    ),
)


@pytest.mark.parametrize("member", ["telecom", "tradeplatform"])
@pytest.mark.parametrize(
    ("subject", "name", "answer"),
    [
        (USER, NAME, True),
        (USER.lower(), f"  {NAME.upper()} ", True),
        (USER, person(2)[1], False),
        (person(150)[0], NAME, False),
    ],
    ids=["the same", "written differently", "another name", "an unknown number"],
)
def test_yes_or_no_and_no_record(
    system: RunningSystem, member: str, subject: str, name: str, answer: bool
) -> None:
    found = system.matched(
        member, IDENTITIES, subject=Subject("national_id", subject), match={"name": name}, **CHECK
    )
    assert bool(found) is answer
    assert found.verified is not None
    # The entry tells the yes and the no in the same words.
    told = found.verified.entry
    assert told.records == 1
    assert (told.purpose, told.tier) == ("real-name-check", "limited")


def test_a_number_that_is_none_is_refused(system: RunningSystem) -> None:
    system.refused(
        "IDENTIFIER_INVALID",
        "telecom",
        IDENTITIES,
        subject=Subject("national_id", USER[:-1] + ("1" if USER[-1] != "1" else "2")),
        match={"name": NAME},
        **CHECK,
    )


def test_nobody_looks_up_a_name_or_a_number(system: RunningSystem) -> None:
    subjects = [Subject("national_id", USER)]
    system.refused("OPERATION_NOT_PERMITTED", "telecom", IDENTITIES, subjects=subjects, **CHECK)
    system.refused("OPERATION_NOT_PERMITTED", "telecom", IDENTITIES, operation="stream", **CHECK)
    system.refused("FILTER_UNSUPPORTED", "telecom", IDENTITIES, filters={"name": NAME}, **CHECK)


def test_the_address_cannot_be_guessed_at(system: RunningSystem) -> None:
    system.refused(
        "FIELD_ABOVE_TIER",
        "telecom",
        IDENTITIES,
        subject=Subject("national_id", USER),
        match={"name": NAME, "address": "Quay 1"},
        **CHECK,
    )


def test_who_need_not_register_users_does_not_ask(system: RunningSystem) -> None:
    ask = {**CHECK, "subject": Subject("national_id", USER), "match": {"name": NAME}}
    system.refused("MEMORANDUM_NOT_APPLICABLE", "hotel-group", IDENTITIES, **ask)
    for member in ("harbour-bank", "commerce"):
        system.refused("PURPOSE_NOT_PERMITTED", member, IDENTITIES, **ask)
    system.refused("LEGAL_BASIS_MISSING", "telecom", IDENTITIES, **{**ask, "legal_basis": ""})


def test_the_log_holds_and_nobody_stands_in_it(system: RunningSystem) -> None:
    system.assert_log_holds()
    told = "".join(str(entry) for entry in system.entries())
    assert NAME not in told
