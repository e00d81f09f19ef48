"""The ledger in PostgreSQL: what nodes share of budgets and debts is exact, whoever writes meanwhile."""

from __future__ import annotations

import threading
from contextlib import closing
from datetime import UTC, date, datetime, timedelta

import pytest

from gateway.ledger import (
    Account,
    BudgetExhaustedError,
    Debt,
    DebtKind,
    LedgerUnavailableError,
    open_ledger,
)

pytestmark = pytest.mark.postgres

TODAY = date(2026, 11, 22)
ACCOUNT = Account("harbour-bank", "credit-check", TODAY)
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def debt(exchange: str, hours: int = 1, kind: DebtKind = DebtKind.NOTICE) -> Debt:
    return Debt(kind, exchange, "harbour-bank", "registry", "d", NOW + timedelta(hours=hours), "c29tZQ==")


@pytest.fixture
def ledger(address):
    with closing(open_ledger(address)) as opened:
        yield opened


def test_a_budget_takes_what_fits_and_not_one_more(ledger, address):
    ledger.reserve(ACCOUNT, 7, 10)
    with pytest.raises(BudgetExhaustedError) as raised:
        ledger.reserve(ACCOUNT, 4, 10)
    assert raised.value.details == {"limit": "10", "opens": "2026-11-23T00:00:00.000000Z"}
    with pytest.raises(BudgetExhaustedError):
        ledger.reserve(Account("harbour-bank", "tender-check", TODAY), 11, 10)
    ledger.give_back(ACCOUNT, 2)
    ledger.reserve(ACCOUNT, 5, 10)
    with closing(open_ledger(address)) as other:
        assert other.spent(ACCOUNT) == 10
        other.give_back(ACCOUNT, 99)
    assert ledger.spent(ACCOUNT) == 0


def test_old_days_are_forgotten(ledger):
    ledger.reserve(ACCOUNT, 7, 10)
    ledger.reserve(Account("harbour-bank", "credit-check", TODAY + timedelta(days=8)), 1, 10)
    assert ledger.spent(ACCOUNT) == 0


def test_many_nodes_together_spend_no_more_than_the_limit(address, ledger):
    done = []

    def spend() -> None:
        with closing(open_ledger(address)) as own:
            for _ in range(10):
                try:
                    own.reserve(ACCOUNT, 3, 100)
                except BudgetExhaustedError:
                    continue
                done.append(3)

    threads = [threading.Thread(target=spend) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.spent(ACCOUNT) == sum(done) == 99


def test_debts_are_listed_by_urgency_and_settled_once(ledger):
    for item in (debt("late", 3), debt("soon", 1), debt("ack", 1, DebtKind.ACKNOWLEDGEMENT)):
        ledger.owe(item)
    ledger.owe(debt("late", 99))
    assert ledger.debts(DebtKind.NOTICE) == [debt("soon", 1), debt("late", 3)]
    assert ledger.debts(DebtKind.NOTICE, NOW + timedelta(hours=2)) == [debt("soon", 1)]
    assert ledger.settle(DebtKind.NOTICE, "late")
    assert not ledger.settle(DebtKind.NOTICE, "late")
    assert ledger.debts(DebtKind.ACKNOWLEDGEMENT) == [debt("ack", 1, DebtKind.ACKNOWLEDGEMENT)]


def test_a_ledger_goes_on_after_its_session_was_cut(server, ledger):
    """Control: while it is cut, what needs it is refused."""
    ledger.reserve(ACCOUNT, 7, 10)
    with server.admin() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'sluicegate ledger'"
        )
    with pytest.raises(LedgerUnavailableError):
        ledger.reserve(ACCOUNT, 1, 10)
    ledger.reserve(ACCOUNT, 1, 10)
    assert ledger.spent(ACCOUNT) == 8
