"""What every ledger must do, whatever keeps it. A test module gives the fixture `opened`: () -> Ledger."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, date, datetime, timedelta

import pytest

from gateway.ledger import (
    EVER,
    Account,
    AccountKind,
    Allowance,
    Charge,
    Debt,
    DebtKind,
    Hold,
    Ledger,
    Reservation,
    Settlement,
    Shortfall,
    Standing,
    budget,
)
from gateway.model.contract import Per

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
TODAY = NOW.date()
DAILY = budget("harbour-bank", "credit-check", NOW)
MONTHLY = Account(AccountKind.QUOTA, "tradeplatform/orders", "", Per.MONTH, date(2026, 11, 1))
GIVEN = Account(AccountKind.GIVEN, "tradeplatform/orders", "tradeplatform", Per.TERM, EVER)
RECEIVED = Account(AccountKind.RECEIVED, "tradeplatform/orders", "tradeplatform", Per.TERM, EVER)

Opened = Callable[[], Ledger]


def charge(account: Account, limit: int) -> Charge:
    return Charge(account, Allowance(limit))


def reserve(ledger: Ledger, records: int, *charges: Charge, exchange: str = "e1") -> Shortfall | None:
    [outcome] = ledger.carry_out([Reservation(exchange, records, charges)])
    return outcome


def settle(ledger: Ledger, left: int, exchange: str = "e1") -> None:
    ledger.carry_out([Settlement(exchange, left)])


def on(ledger: Ledger, account: Account) -> int:
    return ledger.balances([account]).get(account, 0)


def debt(exchange: str = "e1", hours: int = 1, kind: DebtKind = DebtKind.NOTICE) -> Debt:
    return Debt(kind, exchange, "harbour-bank", "registry", "d", NOW + timedelta(hours=hours), "c29tZQ==")


class LedgerContract:
    """The tests. Subclassed once for each store."""

    def test_an_account_takes_what_fits_and_not_one_more(self, opened: Opened) -> None:
        ledger = opened()
        assert reserve(ledger, 7, charge(DAILY, 10)) is None
        short = reserve(ledger, 4, charge(DAILY, 10), exchange="e2")
        assert short == Shortfall(charge(DAILY, 10), 4, balance=7, limit=10)
        assert on(ledger, DAILY) == 7
        assert reserve(ledger, 3, charge(DAILY, 10), exchange="e2") is None
        assert reserve(ledger, 1, charge(DAILY, 10), exchange="e3") is not None
        assert on(ledger, DAILY) == 10

    def test_the_first_reservation_may_not_be_too_large_either(self, opened: Opened) -> None:
        ledger = opened()
        assert reserve(ledger, 11, charge(DAILY, 10)) is not None
        assert on(ledger, DAILY) == 0
        assert ledger.holds() == []

    def test_a_reservation_is_counted_on_all_accounts_or_on_none(self, opened: Opened) -> None:
        ledger = opened()
        assert reserve(ledger, 5, charge(DAILY, 100), charge(MONTHLY, 8)) is None
        assert reserve(ledger, 5, charge(DAILY, 100), charge(MONTHLY, 8), exchange="e2") is not None
        assert (on(ledger, DAILY), on(ledger, MONTHLY)) == (5, 5)

    def test_one_account_under_two_bounds_is_counted_once_under_the_stricter(self, opened: Opened) -> None:
        ledger = opened()
        assert reserve(ledger, 5, charge(DAILY, 100), charge(DAILY, 8)) is None
        assert on(ledger, DAILY) == 5
        assert reserve(ledger, 5, charge(DAILY, 100), charge(DAILY, 8), exchange="e2") is not None

    def test_what_did_not_leave_is_given_back_and_can_be_spent_again(self, opened: Opened) -> None:
        ledger = opened()
        reserve(ledger, 6, charge(DAILY, 10), charge(MONTHLY, 99))
        reserve(ledger, 4, charge(DAILY, 10), charge(MONTHLY, 99))
        assert {hold.records for hold in ledger.holds()} == {10}
        settle(ledger, 6)
        settle(ledger, 0)
        assert (on(ledger, DAILY), on(ledger, MONTHLY)) == (6, 6)
        assert ledger.holds() == []
        assert reserve(ledger, 4, charge(DAILY, 10), exchange="e2") is None

    def test_a_settlement_concerns_its_own_exchange_only(self, opened: Opened) -> None:
        ledger = opened()
        reserve(ledger, 3, charge(DAILY, 10))
        reserve(ledger, 4, charge(DAILY, 10), exchange="e2")
        settle(ledger, 0)
        assert on(ledger, DAILY) == 4
        assert ledger.holds() == [Hold("e2", DAILY, 4)]

    def test_an_exchange_over_midnight_gives_back_what_it_reserved_last(self, opened: Opened) -> None:
        ledger = opened()
        tomorrow = budget("harbour-bank", "credit-check", NOW + timedelta(days=1))
        reserve(ledger, 5, charge(DAILY, 10))
        reserve(ledger, 5, charge(tomorrow, 10))
        settle(ledger, 7)
        assert (on(ledger, DAILY), on(ledger, tomorrow)) == (5, 2)

    def test_what_a_release_earns_is_counted_when_it_has_left(self, opened: Opened) -> None:
        ledger = opened()
        reserve(ledger, 10, charge(MONTHLY, 99), Charge(GIVEN, None))
        assert on(ledger, GIVEN) == 0
        settle(ledger, 8)
        assert (on(ledger, MONTHLY), on(ledger, GIVEN)) == (8, 8)

    def test_what_was_earned_raises_the_bound(self, opened: Opened) -> None:
        ledger = opened()
        in_return = Charge(RECEIVED, Allowance(5, GIVEN, 50))
        assert reserve(ledger, 6, in_return) is not None
        ledger.credit(GIVEN, 3)
        assert reserve(ledger, 6, in_return) is None
        short = reserve(ledger, 1, in_return, exchange="e2")
        assert short == Shortfall(in_return, 1, balance=6, limit=6, earned=3)
        ledger.credit(GIVEN, 1)
        assert reserve(ledger, 1, in_return, exchange="e2") is None

    def test_orders_are_carried_out_one_after_the_other(self, opened: Opened) -> None:
        ledger = opened()
        outcomes = ledger.carry_out(
            [
                Reservation("e1", 8, (charge(DAILY, 10),)),
                Reservation("e2", 8, (charge(DAILY, 10),)),
                Settlement("e1", 1),
                Reservation("e3", 8, (charge(DAILY, 10),)),
                Settlement("e3", 8),
            ]
        )
        assert [outcome is None for outcome in outcomes] == [True, False, True, True, True]
        assert on(ledger, DAILY) == 9
        assert ledger.holds() == []

    def test_it_is_kept_over_restarts(self, opened: Opened) -> None:
        with closing(opened()) as first:
            reserve(first, 7, charge(DAILY, 10))
            first.owe(debt())
        second = opened()
        assert on(second, DAILY) == 7
        assert second.holds() == [Hold("e1", DAILY, 7)]
        assert second.debts(DebtKind.NOTICE) == [debt()]

    def test_old_days_are_forgotten_and_what_never_ends_is_not(self, opened: Opened) -> None:
        ledger = opened()
        ledger.credit(GIVEN, 1)
        reserve(ledger, 7, charge(DAILY, 10), charge(MONTHLY, 10))
        for days, kept in ((7, 7), (8, 0)):
            later = budget("harbour-bank", "credit-check", NOW + timedelta(days=days))
            reserve(ledger, 1, charge(later, 10), exchange=f"after {days}")
            assert on(ledger, DAILY) == kept
        assert (on(ledger, MONTHLY), on(ledger, GIVEN)) == (7, 1)
        # Given back on an account that is gone, it changes nothing.
        settle(ledger, 0)
        assert (on(ledger, DAILY), on(ledger, MONTHLY)) == (0, 0)

    def test_it_tells_how_accounts_stand_and_against_what(self, opened: Opened) -> None:
        ledger = opened()
        ledger.credit(GIVEN, 5)
        reserve(ledger, 7, charge(DAILY, 10), charge(MONTHLY, 20))
        assert ledger.standings() == [
            Standing(DAILY, 7, 10),
            Standing(GIVEN, 5, None),
            Standing(MONTHLY, 7, 20),
        ]
        assert ledger.standings("tradeplatform/orders", NOW + timedelta(days=8)) == [
            Standing(GIVEN, 5, None),
            Standing(MONTHLY, 7, 20),
        ]
        assert ledger.standings("tradeplatform/orders", NOW + timedelta(days=9)) == [Standing(GIVEN, 5, None)]

    def test_balances_are_restated_and_what_is_held_stays_held(self, opened: Opened) -> None:
        ledger = opened()
        reserve(ledger, 7, charge(DAILY, 10), charge(MONTHLY, 20))
        seen: list[Hold] = []

        def count(holds: list[Hold]) -> dict[Account, int]:
            seen.extend(holds)
            return {MONTHLY: 12, GIVEN: 3, DAILY: 99}

        ledger.restate((AccountKind.QUOTA, AccountKind.GIVEN), count)
        assert seen == [Hold("e1", DAILY, 7), Hold("e1", MONTHLY, 7)]
        assert (on(ledger, DAILY), on(ledger, MONTHLY), on(ledger, GIVEN)) == (7, 12, 3)
        settle(ledger, 5)
        assert (on(ledger, DAILY), on(ledger, MONTHLY)) == (5, 10)

    def test_many_at_once_count_no_more_than_fits(self, opened: Opened) -> None:
        """Control: by reading first and writing then, as many would have counted more."""
        opened().close()
        assert race(opened, lambda own, name: reserve(own, 3, *BOTH, exchange=name) is None) == 99
        with closing(opened()) as ledger:
            assert (on(ledger, DAILY), on(ledger, MONTHLY)) == (99, 99)
        assert race(opened, naive) > 99

    def test_pages_of_one_exchange_reserved_from_everywhere_at_once_are_all_held(
        self, opened: Opened
    ) -> None:
        """Control: by reading what is held and writing a sum, pages would have been lost."""
        opened().close()
        pages = (charge(MONTHLY, 100),)
        assert race(opened, lambda own, _: reserve(own, 3, *pages) is None) == 99
        with closing(opened()) as ledger:
            assert ledger.holds() == [Hold("e1", MONTHLY, 99)]
            settle(ledger, 40)
            assert (on(ledger, MONTHLY), ledger.holds()) == (40, [])

    def test_an_exchange_settled_from_everywhere_at_once_is_settled_once(self, opened: Opened) -> None:
        """Control: by reading what is held and counting then, it would have been counted several times."""
        exchanges = [f"e{number}" for number in range(10)]

        def prepare() -> None:
            with closing(opened()) as ledger:
                for exchange in exchanges:
                    reserve(ledger, 3, charge(MONTHLY, 99), Charge(GIVEN, None), exchange=exchange)

        def settle_all(ledger: Ledger, name: str) -> bool:
            if name.endswith("-0"):
                ledger.carry_out([Settlement(exchange, 2) for exchange in exchanges])
            return True

        def read_and_settle(ledger: Ledger, name: str) -> bool:
            if name.endswith("-0"):
                held = [hold for hold in ledger.holds() if hold.account == GIVEN]
                _met.wait()
                ledger.credit(GIVEN, 2 * len(held))
            return True

        prepare()
        race(opened, settle_all)
        with closing(opened()) as ledger:
            assert (on(ledger, MONTHLY), on(ledger, GIVEN), ledger.holds()) == (20, 20, [])
        prepare()
        race(opened, read_and_settle)
        with closing(opened()) as ledger:
            assert on(ledger, GIVEN) > 40

    def test_what_is_held_is_kept_until_its_account_is_open_again(self, opened: Opened) -> None:
        """A rebuild forgets what the log knows nothing of; what is held on it is settled all the same."""
        ledger = opened()
        reserve(ledger, 7, charge(DAILY, 10), Charge(GIVEN, None))
        ledger.restate((AccountKind.BUDGET, AccountKind.GIVEN), lambda _: {})
        assert ledger.standings() == []
        assert ledger.holds() == [Hold("e1", DAILY, 7), Hold("e1", GIVEN, 7)]
        settle(ledger, 5)
        assert (on(ledger, DAILY), on(ledger, GIVEN), ledger.holds()) == (0, 5, [])

    def test_an_exchange_that_goes_on_after_it_was_settled_is_held_anew(self, opened: Opened) -> None:
        ledger = opened()
        reserve(ledger, 7, charge(MONTHLY, 20))
        ledger.carry_out([Settlement("e1", 5), Reservation("e1", 4, (charge(MONTHLY, 20),))])
        assert (on(ledger, MONTHLY), ledger.holds()) == (9, [Hold("e1", MONTHLY, 4)])

    def test_the_ledger_goes_on_after_a_rebuild_that_failed(self, opened: Opened) -> None:
        ledger = opened()

        def fail(_: list[Hold]) -> dict[Account, int]:
            raise LookupError

        for turn in range(8):
            reserve(ledger, 1, charge(MONTHLY, 20))
            with pytest.raises(LookupError):
                ledger.restate((AccountKind.QUOTA,), fail)
            assert on(ledger, MONTHLY) == turn + 1

    def test_debts_are_listed_by_urgency_and_settled_once(self, opened: Opened) -> None:
        ledger = opened()
        for item in (debt("late", 3), debt("soon", 1), debt("ack", 1, DebtKind.ACKNOWLEDGEMENT)):
            ledger.owe(item)
        ledger.owe(debt("late", 99))
        assert ledger.debts(DebtKind.NOTICE) == [debt("soon", 1), debt("late", 3)]
        assert ledger.debts(DebtKind.NOTICE, NOW + timedelta(hours=2)) == [debt("soon", 1)]
        assert ledger.settle(DebtKind.NOTICE, "late")
        assert not ledger.settle(DebtKind.NOTICE, "late")
        assert not ledger.settle(DebtKind.NOTICE, "ack")
        assert ledger.debts(DebtKind.ACKNOWLEDGEMENT) == [debt("ack", 1, DebtKind.ACKNOWLEDGEMENT)]


BOTH = (charge(DAILY, 100), charge(MONTHLY, 200))
_UNGUARDED = budget("harbour-bank", "unguarded", NOW)
_met = threading.Barrier(6)


def naive(ledger: Ledger, _name: str) -> bool:
    """Read, find that there is room, and then count: what a ledger must not do."""
    has_room = on(ledger, _UNGUARDED) + 3 <= 100
    _met.wait()
    if has_room:
        ledger.credit(_UNGUARDED, 3)
    return has_room


def race(opened: Opened, count: Callable[[Ledger, str], bool]) -> int:
    """Let six connections count three records ten times each; return how many were let through."""
    done: list[int] = []

    def spend(number: int) -> None:
        with closing(opened()) as own:
            done.extend(3 for turn in range(10) if count(own, f"{number}-{turn}"))

    threads = [threading.Thread(target=spend, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done)
