"""The ledger in PostgreSQL: what nodes share of it is exact, whoever writes meanwhile."""

from __future__ import annotations

import random
import threading
from contextlib import ExitStack, closing

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from gateway.ledger import LedgerUnavailableError, budget, open_ledger
from tests.simulators.ledger import DAILY, NOW, LedgerContract, charge, on, reserve
from tests.simulators.ledger_machine import LedgerMachine

pytestmark = pytest.mark.postgres


@pytest.fixture
def opened(address):
    with ExitStack() as stack:
        yield lambda: stack.enter_context(closing(open_ledger(address)))


@pytest.fixture
def ledger(opened):
    return opened()


class TestPostgresLedger(LedgerContract):
    """All that a ledger must do."""


def test_a_ledger_goes_on_after_its_session_was_cut(server, ledger):
    """Control: while it is cut, what needs it is refused."""
    reserve(ledger, 7, charge(DAILY, 10))
    with server.admin() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'sluicegate ledger'"
        )
    with pytest.raises(LedgerUnavailableError):
        reserve(ledger, 1, charge(DAILY, 10))
    reserve(ledger, 1, charge(DAILY, 10))
    assert on(ledger, DAILY) == 8


def test_no_account_ever_holds_too_much(server):
    def machine() -> LedgerMachine:
        address = server.database()
        return LedgerMachine(lambda: open_ledger(address))

    run_state_machine_as_test(
        machine, settings=settings(max_examples=8, stateful_step_count=40, deadline=None)
    )


def test_many_that_open_the_same_accounts_at_once_do_not_wait_in_a_circle(opened):
    """Each opens some that others open too, in another order."""
    accounts = [budget("harbour-bank", f"purpose-{number}", NOW) for number in range(12)]
    gate, faults = threading.Barrier(6), []

    def spend(number: int) -> None:
        shuffled = random.Random(number).sample(accounts, 8)
        with closing(opened()) as own:
            own.balances([])
            gate.wait()
            try:
                assert reserve(own, 1, *(charge(one, 99) for one in shuffled), exchange=f"e{number}") is None
            except LedgerUnavailableError as error:
                faults.append(error)

    threads = [threading.Thread(target=spend, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert sum(opened().balances(accounts).values()) == 6 * 8
