"""The ledger in PostgreSQL: what nodes share of it is exact, whoever writes meanwhile."""

from __future__ import annotations

import random
import threading
from contextlib import ExitStack, closing

import psycopg
import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from gateway.ledger import (
    Charge,
    Hold,
    LedgerUnavailableError,
    Reservation,
    Settlement,
    budget,
    open_ledger,
)
from gateway.ledger.postgres_rows import TAKE
from tests.simulators.cutting import CuttingProxy
from tests.simulators.ledger import DAILY, GIVEN, NOW, LedgerContract, charge, on, reserve, settle
from tests.simulators.ledger_machine import LedgerMachine
from tests.simulators.waiting import wait_until

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


@pytest.mark.parametrize("side", ["question", "answer"])
@pytest.mark.parametrize("chunk", range(2))
def test_a_connection_cut_at_any_point_of_an_order_leaves_it_whole_or_not_at_all(
    server, address, ledger, chunk, side
):
    """Both round trips are cut, in their question and in their answer."""
    with (
        closing(CuttingProxy(server.port)) as proxy,
        closing(open_ledger(server.through(address, proxy.port))) as cut,
    ):
        reserve(cut, 3, charge(DAILY, 10), Charge(GIVEN, None))
        proxy.cut_at(chunk, side)
        orders = [Settlement("e1", 2), Reservation("e2", 4, (charge(DAILY, 10),))]
        with pytest.raises(LedgerUnavailableError, match="cannot be reached"):
            cut.carry_out(orders)
        assert proxy.cuts == 1
        before = (3, 0, [Hold("e1", DAILY, 3), Hold("e1", GIVEN, 3)])
        after = (6, 2, [Hold("e2", DAILY, 4)])
        # Only the answer to the second may be missing after it is written.
        expected = after if (chunk, side) == (1, "answer") else before
        wait_until(lambda: (on(ledger, DAILY), on(ledger, GIVEN), ledger.holds()) == expected)
        # What is settled again counts once: the queue asks again.
        cut.carry_out([Settlement("e1", 2), Settlement("e2", 4)])
        assert on(ledger, GIVEN) == 2
        assert on(ledger, DAILY) == (6 if expected is after else 2)
        assert ledger.holds() == []


def test_an_order_waits_for_accounts_that_another_node_has_locked_no_longer_than_allowed(address, ledger):
    """Control: once they are free, it is carried out."""
    reserve(ledger, 3, charge(DAILY, 10))
    with psycopg.connect(**address.parameters()) as other:
        other.execute("SELECT 1 FROM sluicegate.account FOR UPDATE")
        with pytest.raises(LedgerUnavailableError):
            ledger.carry_out([Settlement("e1", 2)])
        other.rollback()
    assert (on(ledger, DAILY), ledger.holds()) == (3, [Hold("e1", DAILY, 3)])
    settle(ledger, 2)
    assert (on(ledger, DAILY), ledger.holds()) == (2, [])


def test_accounts_are_looked_up_however_many_there_are(server, address, ledger):
    """Control: left to itself, the server would read them all for every batch."""
    reserve(ledger, 3, charge(DAILY, 10))
    with server.owner(address) as connection:
        connection.execute(
            "INSERT INTO sluicegate.hold SELECT n::text, 'quota', 'o', n::text, 'day', '2026-11-22', 1"
            " FROM generate_series(1, 5000) AS n"
        )
        connection.execute("ANALYZE sluicegate.hold; ANALYZE sluicegate.account")
    session = ledger._open()
    asked = f"EXPLAIN EXECUTE {TAKE.name} ({', '.join(['ARRAY[]::text[]'] * 6)})"

    def joins() -> set[str]:
        session.execute("SET plan_cache_mode = force_generic_plan")
        plan = "\n".join(line for (line,) in session.execute(asked))
        return {join for join in ("Nested Loop", "Hash Join", "Merge Join") if join in plan}

    assert joins() == {"Nested Loop"}
    session.execute("RESET enable_hashjoin; RESET enable_mergejoin; DISCARD PLANS")
    assert joins() & {"Hash Join", "Merge Join"}


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
