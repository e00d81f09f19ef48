"""What the log says has left, of exchanges that ended in every way there is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.clock import rfc3339
from gateway.exchange.quotas.logged import CONTRIBUTION_ACCEPTED, LoggedAccounts, left_of
from gateway.exchange.quotas.rebuilding import began
from gateway.exchange.state import new_exchange_id
from gateway.ledger import AccountKind
from gateway.model import Entry, EntryKind
from gateway.model.contract import Contract, Per, Quota, Reciprocity
from tests.simulators.contracts import GIVEN_DATASET, KnownContracts, make_contract

NOW = datetime(2026, 11, 22, 23, 59, tzinfo=UTC)
REQUESTED, PAGE = EntryKind.EXCHANGE_REQUESTED, EntryKind.EXCHANGE_PAGE
RELEASED, FAILED = EntryKind.EXCHANGE_RELEASED, EntryKind.EXCHANGE_FAILED
ROUNDED = {"round_counts": {"to": 10}}


def entry(kind: Any, records: int = 0, *, after_s: int = 0, exchange: str = "e1", **members: Any) -> Entry:
    if kind is PAGE:
        members.setdefault("bytes", 1)
    elif exchange:
        members = {"dataset": GIVEN_DATASET, "contract": CONTRACT.id, **members}
    return Entry(
        v=1,
        kind=kind,
        time=rfc3339(NOW + timedelta(seconds=after_s)),
        exchange=exchange,
        consumer="harbour-bank",
        records=records,
        **members,
    )


def contract(**clause: Any) -> Contract:
    return make_contract(
        Quota(records=100, per=Per.DAY),
        reciprocity=Reciprocity(datasets=("d",), received_per_hundred_given=10, **clause),
    )


CONTRACT = contract(counts="released")


def totals(*entries: Entry, of: Contract = CONTRACT, without: frozenset[str] = frozenset()) -> Any:
    """Return what should stand on the accounts: (kind, first day) to records."""
    counted = LoggedAccounts(KnownContracts(of))
    for one in entries:
        counted.add(one)
    return {
        (account.kind, account.first.isoformat()): records
        for account, records in counted.totals(without).items()
    }


@pytest.mark.parametrize(
    ("entries", "left"),
    [
        ([], 0),
        ([entry(REQUESTED)], 0),
        ([entry(REQUESTED), entry(RELEASED, 7)], 7),
        ([entry(REQUESTED), entry(RELEASED, 7), entry(FAILED, 0, withdraws=1)], 0),
        ([entry(REQUESTED), entry(PAGE, 5), entry(PAGE, 5)], 10),
        ([entry(REQUESTED), entry(PAGE, 5), entry(PAGE, 5), entry(FAILED, 5)], 5),
        ([entry(REQUESTED), entry(PAGE, 5), entry(PAGE, 5), entry(RELEASED, 10)], 10),
        ([entry(REQUESTED), entry(RELEASED, 20, duties=ROUNDED)], 24),
        ([entry(REQUESTED), entry(RELEASED, 1, duties={**ROUNDED, "one_bit": {}})], 1),
        ([entry(REQUESTED), entry(PAGE, 10, bytes=0)], None),
    ],
)
def test_what_left_is_told_by_the_entries(entries: list[Entry], left: int | None) -> None:
    assert left_of(entries) == left


def test_pages_count_on_the_day_that_they_were_recorded_on() -> None:
    """Of a stream over midnight, which was cut: the last page was recorded and did not leave."""
    pages = [entry(PAGE, 5), entry(PAGE, 5, after_s=90), entry(PAGE, 5, after_s=95)]
    found = totals(entry(REQUESTED), *pages, entry(FAILED, 10, after_s=99))
    assert found == {
        (AccountKind.QUOTA, "2026-11-22"): 5,
        (AccountKind.QUOTA, "2026-11-23"): 5,
        (AccountKind.GIVEN, "1970-01-01"): 10,
    }


def test_of_rounded_counts_most_is_spent_and_least_is_earned() -> None:
    found = totals(entry(REQUESTED), entry(RELEASED, 20, duties=ROUNDED))
    assert found == {(AccountKind.QUOTA, "2026-11-22"): 24, (AccountKind.GIVEN, "1970-01-01"): 15}


def test_what_is_under_no_contract_or_left_out_is_not_counted() -> None:
    assert totals(entry(RELEASED, 7, contract="")) == {}
    assert totals(entry(RELEASED, 7, contract=f"sha256:{'f' * 64}")) == {}
    assert totals(entry(RELEASED, 7), without=frozenset({"e1"})) == {}


def test_accepted_contributions_are_given_where_they_count() -> None:
    """Control: where releases count, they are not."""
    accepted = entry(CONTRIBUTION_ACCEPTED, 40, exchange="", contract=CONTRACT.id)
    assert totals(accepted, accepted) == {}
    found = totals(accepted, accepted, of=contract(counts="contributed"))
    assert found == {(AccountKind.GIVEN, "1970-01-01"): 80}


def test_an_exchange_says_when_it_began() -> None:
    assert began(new_exchange_id(NOW)) == NOW
