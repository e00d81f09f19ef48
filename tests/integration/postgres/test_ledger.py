"""The ledger in PostgreSQL: what nodes share of it is exact, whoever writes meanwhile."""

from __future__ import annotations

from contextlib import ExitStack, closing

import pytest

from gateway.ledger import LedgerUnavailableError, open_ledger
from tests.simulators.ledger import DAILY, LedgerContract, charge, on, reserve

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
