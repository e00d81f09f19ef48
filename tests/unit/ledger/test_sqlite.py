"""The ledger in SQLite: durable, shared, exact under many writers, and closed to others."""

from __future__ import annotations

import sqlite3
import stat
import threading
from contextlib import closing
from datetime import UTC, date, datetime, timedelta

import pytest

from gateway.errors import ConfigError, Reason
from gateway.ledger import (
    Account,
    BudgetExhaustedError,
    Debt,
    DebtKind,
    LedgerUnavailableError,
    open_ledger,
    reopens_at,
)
from gateway.ledger.sqlite import SqliteLedger
from gateway.ledger.stores import ledger_file

TODAY = date(2026, 11, 22)
ACCOUNT = Account("harbour-bank", "credit-check", TODAY)
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def debt(exchange: str = "e1", hours: int = 1, kind: DebtKind = DebtKind.NOTICE) -> Debt:
    return Debt(kind, exchange, "harbour-bank", "registry", "d", NOW + timedelta(hours=hours), "c29tZQ==")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path):
    with closing(SqliteLedger(path)) as opened:
        yield opened


def test_a_budget_takes_what_fits_and_not_one_more(ledger):
    ledger.reserve(ACCOUNT, 7, 10)
    with pytest.raises(BudgetExhaustedError) as raised:
        ledger.reserve(ACCOUNT, 4, 10)
    assert raised.value.reason is Reason.BUDGET_EXHAUSTED
    assert raised.value.details == {"limit": "10", "opens": "2026-11-23T00:00:00.000000Z"}
    assert ledger.spent(ACCOUNT) == 7
    ledger.reserve(ACCOUNT, 3, 10)
    with pytest.raises(BudgetExhaustedError):
        ledger.reserve(ACCOUNT, 1, 10)


def test_the_first_reservation_may_not_be_too_large_either(ledger):
    with pytest.raises(BudgetExhaustedError):
        ledger.reserve(ACCOUNT, 11, 10)
    assert ledger.spent(ACCOUNT) == 0


def test_accounts_are_told_apart_by_consumer_purpose_and_day(ledger):
    others = [
        Account("northern-bank", "credit-check", TODAY),
        Account("harbour-bank", "tender-check", TODAY),
        Account("harbour-bank", "credit-check", TODAY + timedelta(days=1)),
    ]
    for account in (ACCOUNT, *others):
        ledger.reserve(account, 10, 10)
        assert ledger.spent(account) == 10


def test_what_is_given_back_can_be_spent_again(ledger):
    ledger.reserve(ACCOUNT, 10, 10)
    ledger.give_back(ACCOUNT, 4)
    ledger.reserve(ACCOUNT, 4, 10)
    ledger.give_back(ACCOUNT, 99)
    assert ledger.spent(ACCOUNT) == 0


def test_a_ledger_is_kept_over_restarts(path):
    with closing(SqliteLedger(path)) as first:
        first.reserve(ACCOUNT, 7, 10)
        first.owe(debt())
    with closing(SqliteLedger(path)) as second:
        assert second.spent(ACCOUNT) == 7
        assert second.debts(DebtKind.NOTICE) == [debt()]


def test_old_days_are_forgotten(ledger):
    ledger.reserve(ACCOUNT, 7, 10)
    ledger.reserve(Account("harbour-bank", "credit-check", TODAY + timedelta(days=7)), 1, 10)
    assert ledger.spent(ACCOUNT) == 7
    ledger.reserve(Account("harbour-bank", "credit-check", TODAY + timedelta(days=8)), 1, 10)
    assert ledger.spent(ACCOUNT) == 0


def test_many_connections_together_spend_no_more_than_the_limit(path):
    """Control: without the limit's condition, all of them would have spent."""
    SqliteLedger(path).close()
    done = []

    def spend() -> None:
        with closing(SqliteLedger(path)) as own:
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
    with closing(SqliteLedger(path)) as ledger:
        assert ledger.spent(ACCOUNT) == sum(done) == 99
    assert 6 * 10 * 3 > 100


def test_many_can_open_a_new_ledger_at_once(path):
    """As the workers of a gateway do that starts for the first time."""
    gate, faults = threading.Barrier(8), []

    def open_it() -> None:
        gate.wait()
        try:
            with closing(SqliteLedger(path)) as own:
                own.reserve(ACCOUNT, 1, 8)
        except LedgerUnavailableError as error:
            faults.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    with closing(SqliteLedger(path)) as ledger:
        assert ledger.spent(ACCOUNT) == 8


def test_debts_are_listed_by_urgency_and_settled_once(ledger):
    for item in (debt("late", 3), debt("soon", 1), debt("ack", 1, DebtKind.ACKNOWLEDGEMENT)):
        ledger.owe(item)
    ledger.owe(debt("late", 99))
    assert [item.exchange for item in ledger.debts(DebtKind.NOTICE)] == ["soon", "late"]
    assert ledger.debts(DebtKind.NOTICE, NOW + timedelta(hours=2)) == [debt("soon", 1)]
    assert ledger.settle(DebtKind.NOTICE, "late")
    assert not ledger.settle(DebtKind.NOTICE, "late")
    assert not ledger.settle(DebtKind.NOTICE, "ack")
    assert [item.exchange for item in ledger.debts(DebtKind.ACKNOWLEDGEMENT)] == ["ack"]


def test_the_file_is_beside_the_log_and_for_nobody_else(tmp_path):
    open_ledger(tmp_path / "audit.db").close()
    file = ledger_file(tmp_path / "audit.db")
    assert file == tmp_path / "audit-ledger.db"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        SqliteLedger(file)


def test_another_file_is_refused(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE something (x)")
    path.chmod(0o600)
    with pytest.raises(LedgerUnavailableError, match="no ledger"):
        SqliteLedger(path)


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(LedgerUnavailableError, match="cannot be made"):
        SqliteLedger(tmp_path / "nowhere" / "ledger.db")


def test_a_row_that_nobody_writes_is_told(ledger, path):
    ledger.owe(debt())
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE debt SET until = 'soon'")
    with pytest.raises(LedgerUnavailableError):
        ledger.debts(DebtKind.NOTICE)


def test_a_ledger_that_is_gone_is_told_without_its_name(ledger, path):
    ledger.reserve(ACCOUNT, 1, 10)
    ledger.close()
    with pytest.raises(sqlite3.ProgrammingError):
        ledger._connection.execute("SELECT 1")
    with pytest.raises(LedgerUnavailableError) as raised:
        ledger.spent(ACCOUNT)
    assert str(path) not in raised.value.message


def test_a_budget_opens_at_midnight_utc():
    assert reopens_at(date(2026, 12, 31)) == datetime(2027, 1, 1, tzinfo=UTC)
