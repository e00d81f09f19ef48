"""Row 13: commercial credit raters and platform firms.

The state shares with a rater what its memorandum grants: some fields, some of them coarsened or masked, so
many records a day, each delivery to be acknowledged. What was given is counted in the log, and the giving
side can read it.

In return the rater hands in what it knows of payments, under a contract with a clause of reciprocity: what
it gives opens what it may receive, both are counted, and the rater sees who used its records. While it
suspends the contract neither side gets anything.

Missing: nothing of this row.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.client import Choice, ClientError, Subject, record_line
from gateway.contracts.document import read_terms
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
PAYMENTS = "members/credit-rater/datasets/payment-experience"
CONTRACT = {
    "v": 1,
    "contract": "payments-for-credit",
    "version": 1,
    "title": "Payment experience in return for company credit",
    "parties": [
        {"member": "credit-rater", "role": "contributor"},
        {"member": "platform", "role": "recipient"},
    ],
    "datasets": [
        {
            "name": PAYMENTS,
            "held": "vault",
            "key": ["uscc"],
            "description": {
                "apiVersion": "v3.1.0",
                "kind": "DataContract",
                "id": "payment-experience",
                "name": "Payment experience",
                "version": "1.0.0",
                "status": "active",
                "customProperties": [
                    {"property": "provider", "value": "credit-rater"},
                    {"property": "tier", "value": "public"},
                    {"property": "catalogueCitation", "value": "Catalogue of private contributions, item 1"},
                ],
                "schema": [
                    {
                        "name": "experience",
                        "properties": [
                            {
                                "name": "uscc",
                                "logicalType": "string",
                                "required": True,
                                "classification": "public",
                                "customProperties": [
                                    {"property": "identifierKind", "value": "uscc"},
                                    {"property": "lookup", "value": True},
                                ],
                            },
                            {"name": "late_payments", "logicalType": "integer", "classification": "public"},
                        ],
                    }
                ],
            },
        }
    ],
    "purposes": ["public-lookup"],
    "recipients": {"members": ["platform"]},
    "quotas": [{"records": 5, "per": "term"}],
    "reciprocity": {"datasets": [PLATFORM], "received_per_hundred_given": 50, "allowance": 1},
    "valid_from": "2026-01-01T00:00:00Z",
    "valid_until": "2036-01-01T00:00:00Z",
}


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


def contribute(system: RunningSystem, numbers: range) -> int:
    """Hand in what the rater knows of these companies; return how many records were accepted."""
    done = system.client("credit-rater").contribute(
        lambda: (record_line({"uscc": company(n).uscc, "late_payments": n % 4}) for n in numbers),
        contract="payments-for-credit",
        dataset=PAYMENTS,
        batch=f"experience-{numbers.start}",
        choice=Choice.ALL_OR_NOTHING,
    )
    return done.report.accepted


@pytest.fixture(scope="module")
def signed(system: RunningSystem) -> Iterator[None]:
    """A new day, on which the rater proposes the contract and the platform signs it."""
    assert system.time is not None
    system.time.advance(timedelta(days=1))
    terms = read_terms(CONTRACT)
    system.client("credit-rater").contracts.propose(terms)
    assert system.client("platform").contracts.sign(terms).state == "active"
    wait_until(lambda: PAYMENTS in [one.name for one in system.client("platform").datasets()], within_s=20)
    return


def accounts(system: RunningSystem) -> dict[str, int]:
    """Return what an operator is shown: kind of account to what stands on it."""
    shown = system.officer(
        "ledger", "list", "--contract", "credit-rater/payments-for-credit", "--output", "jsonl"
    )
    return {row["kind"]: row["records"] for row in map(json.loads, shown.splitlines())}


@pytest.mark.usefixtures("signed")
def test_what_the_rater_gives_opens_what_it_may_receive(system: RunningSystem) -> None:
    """The control is the same question, before it has given and after."""
    first = system.released("credit-rater", PLATFORM, acknowledge=True, **ask(range(1))).entry
    assert first.in_return == first.contract != ""
    refused = system.refused("RECIPROCITY_EXHAUSTED", "credit-rater", PLATFORM, **ask(range(1, 4)))
    assert refused.in_return == first.in_return
    assert contribute(system, range(6)) == 6
    system.released("credit-rater", PLATFORM, acknowledge=True, **ask(range(1, 4)))
    system.refused("RECIPROCITY_EXHAUSTED", "credit-rater", PLATFORM, **ask(range(4, 5)))
    wait_until(lambda: accounts(system) == {"given": 6, "received": 4}, within_s=20)


@pytest.mark.usefixtures("signed")
def test_the_state_uses_what_the_rater_gave_up_to_its_quota(system: RunningSystem) -> None:
    look_up = {"purpose": "public-lookup"}
    found = system.released(
        "platform", PAYMENTS, subjects=[Subject("uscc", company(n).uscc) for n in range(4)], **look_up
    )
    assert sorted(record["late_payments"] for record in found.records) == [0, 1, 2, 3]
    assert found.entry.in_return == ""
    two = [Subject("uscc", company(n).uscc) for n in (4, 5)]
    system.refused("QUOTA_EXHAUSTED", "platform", PAYMENTS, subjects=two, **look_up)
    system.refused("CONTRACT_NOT_APPLICABLE", "commerce", PAYMENTS, subjects=two, **look_up)
    wait_until(lambda: accounts(system) == {"given": 6, "received": 4, "quota": 4}, within_s=20)


@pytest.mark.usefixtures("signed")
def test_the_rater_sees_who_used_its_records_and_what_was_refused(system: RunningSystem) -> None:
    assert system.time is not None
    today = system.time().date().isoformat()

    def rows() -> dict[str, tuple[int, int, int]]:
        code, shown, told = system.cli(
            "credit-rater", "usage", "show", "--since", today, "--until", today, "--output", "jsonl"
        )
        assert code == 0, told
        found = [json.loads(line) for line in shown.splitlines()]
        assert {row["dataset"] for row in found} <= {PAYMENTS}, "what it received is no use of its records"
        return {row["consumer"]: (row["released"], row["denied"], row["records"]) for row in found}

    wait_until(lambda: "platform" in rows(), within_s=20)
    used = rows()
    assert used["platform"][0::2] == (1, 4)
    assert used["commerce"][1:] == (1, 0)


@pytest.mark.usefixtures("signed")
def test_the_ledger_is_what_the_log_says(system: RunningSystem) -> None:
    before = accounts(system)
    system.officer("ledger", "rebuild")
    assert accounts(system) == before == {"given": 6, "received": 4, "quota": 4}


@pytest.mark.usefixtures("signed")
def test_while_the_contract_is_suspended_nobody_gets_anything(system: RunningSystem) -> None:
    """Control: with the contract in force again, the records that are left are given."""
    assert contribute(system, range(6, 10)) == 4
    rater = system.client("credit-rater").contracts
    name = "contracts/payments-for-credit/versions/1"
    rater.suspend(name, "a doubt")
    one = {"purpose": "public-lookup", "subjects": [Subject("uscc", company(4).uscc)]}
    system.refused("CONTRACT_NOT_IN_FORCE", "credit-rater", PLATFORM, **ask(range(4, 5)))
    with pytest.raises(ClientError) as caught:
        system.client("platform").query(PAYMENTS, **one)
    assert caught.value.reason in {"CONTRACT_MISSING", "CONTRACT_NOT_IN_FORCE"}
    rater.resume(name)
    wait_until(lambda: PAYMENTS in [one.name for one in system.client("platform").datasets()], within_s=20)
    system.released("credit-rater", PLATFORM, acknowledge=True, **ask(range(4, 5)))
    system.released("platform", PAYMENTS, **one)


def test_the_log_holds_and_no_code_stands_in_it(system: RunningSystem) -> None:
    system.assert_log_holds()
