"""No account ever holds more than it may, and always what left and what is held."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from gateway.ledger.sqlite import SqliteLedger
from tests.simulators.ledger_machine import LedgerMachine


def test_no_account_ever_holds_too_much():
    with tempfile.TemporaryDirectory() as directory:
        number = 0

        def machine() -> LedgerMachine:
            nonlocal number
            number += 1
            path = Path(directory) / f"{number}.db"
            return LedgerMachine(lambda: SqliteLedger(path))

        run_state_machine_as_test(
            machine, settings=settings(max_examples=60, stateful_step_count=40, deadline=None)
        )
