"""Row 13: commercial credit raters and platform firms.

The state shares with a rater what its memorandum grants: some fields, some of them coarsened or masked, so
many records a day, each delivery to be acknowledged. What was given is counted in the log, and the giving
side can read it.

Missing: reciprocity. What a rater gives in return, the contract that ties the two together, and one meter
over both directions come with contracts and contributions.
"""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

from gateway.client import ClientError, Subject
from gateway.model import EntryKind
from tests.simulators.invented import company
from tests.simulators.sources import Form, Holding
from tests.simulators.system import RunningSystem, System, replace_in
from tests.simulators.waiting import wait_until

PLATFORM = "members/platform/datasets/company-credit"
RATING = {
    "purpose": "credit-rating",
    "legal_basis": "credit-platform-rules-8",
    "memorandum": "platform-credit-rater",
}
BUDGET = 9


def lower_budget(policies: Path) -> None:
    """Lower what the rater may have in a day, so that a few questions use it up."""
    replace_in(policies / "data" / "memoranda.yaml", "limit_volume: 1000,", f"limit_volume: {BUDGET},")


SYSTEM = System(
    consumers=("credit-rater", "tradeplatform", "commerce"),
    change_policies=lower_budget,
    moves_time=True,
    holdings=(
        Holding(
            PLATFORM,
            [
                {
                    "uscc": company(number).uscc,
                    "name": company(number).name,
                    "status": "active",
                    "permits": 3,
                    "penalties": 0,
                    "contract_breaches": 1,
                    "annual_revenue": 7_654_321,
                    "contact_phone": "000-1234567",
                    "inspection_plan": "next spring",
                }
                for number in range(30)
            ],
            form=Form.DATABASE,
        ),
    ),
)


def ask(numbers: range) -> dict[str, object]:
    return {**RATING, "subjects": [Subject("uscc", company(number).uscc) for number in numbers]}


def test_a_rater_gets_the_fields_of_its_memorandum_coarsened(system: RunningSystem) -> None:
    found = system.released("credit-rater", PLATFORM, acknowledge=True, **ask(range(1)))
    [record] = found.records
    assert record["annual_revenue"] == "7000000-7999999"
    assert record["contact_phone"] == "000******67"
    assert record["contract_breaches"] == 1
    assert "inspection_plan" not in record
    assert found.entry.obligations == {"annual_revenue": "generalise", "contact_phone": "mask"}


def test_the_rater_names_whom_it_rates(system: RunningSystem) -> None:
    system.refused("SUBJECTS_NOT_PERMITTED", "credit-rater", PLATFORM, **RATING)
    system.refused("OPERATION_NOT_PERMITTED", "credit-rater", PLATFORM, operation="stream", **ask(range(1)))


def test_others_have_no_part_in_it(system: RunningSystem) -> None:
    system.refused("MEMORANDUM_NOT_APPLICABLE", "tradeplatform", PLATFORM, **ask(range(1)))
    system.refused("PURPOSE_NOT_PERMITTED", "commerce", PLATFORM, **ask(range(1)))


def test_a_day_has_a_budget_and_the_next_day_another(system: RunningSystem) -> None:
    assert system.time is not None
    system.time.advance(timedelta(days=1))
    system.released("credit-rater", PLATFORM, acknowledge=True, **ask(range(6)))
    system.refused("BUDGET_EXHAUSTED", "credit-rater", PLATFORM, **ask(range(6, 12)))
    system.released("credit-rater", PLATFORM, acknowledge=True, **ask(range(6, 9)))
    system.refused("BUDGET_EXHAUSTED", "credit-rater", PLATFORM, **ask(range(9, 10)))
    system.time.advance(timedelta(days=1))
    system.released("credit-rater", PLATFORM, acknowledge=True, **ask(range(9, 10)))


def test_the_giving_side_reads_in_the_log_what_was_taken(system: RunningSystem) -> None:
    entries = [json.loads(data) for _, data in system.client("platform").entries('consumer = "credit-rater"')]
    released = [entry for entry in entries if entry["kind"] == EntryKind.EXCHANGE_RELEASED]
    acknowledged = [entry for entry in entries if entry["kind"] == EntryKind.EXCHANGE_ACKNOWLEDGED]
    assert sum(entry["records"] for entry in released) == 1 + 6 + 3 + 1
    assert [entry["sequence"] for entry in released] == [4, 3, 2, 1]
    assert len(acknowledged) == len(released)


def test_who_does_not_acknowledge_in_time_gets_no_more(system: RunningSystem) -> None:
    assert system.time is not None
    page = system.released("credit-rater", PLATFORM, **ask(range(2))).page
    system.time.advance(timedelta(hours=49))
    # The gateway looks at what is overdue once a second.
    wait_until(lambda: is_refused_as_overdue(system), within_s=20)
    system.refused("ACKNOWLEDGEMENT_OVERDUE", "credit-rater", PLATFORM, **ask(range(1)))
    system.client("credit-rater").acknowledge(page.receipt)
    wait_until(lambda: not is_refused_as_overdue(system), within_s=20)
    system.released("credit-rater", PLATFORM, acknowledge=True, **ask(range(1)))


def is_refused_as_overdue(system: RunningSystem) -> bool:
    """Ask about a company that the platform does not know."""
    try:
        system.client("credit-rater").query(PLATFORM, acknowledge=True, **ask(range(200, 201)))
    except ClientError as error:
        return error.reason == "ACKNOWLEDGEMENT_OVERDUE"
    return False


def test_the_log_holds_and_no_code_stands_in_it(system: RunningSystem) -> None:
    system.assert_log_holds()
