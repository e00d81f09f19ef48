"""No account ever holds more than it may, and always what left and what is held."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from gateway.ledger import book
from gateway.ledger.sqlite import SqliteLedger
from tests.simulators.ledger_machine import LedgerMachine


def run(directory: Path, examples: int) -> None:
    number = 0

    def machine() -> LedgerMachine:
        nonlocal number
        number += 1
        path = directory / f"{number}.db"
        return LedgerMachine(lambda: SqliteLedger(path))

    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_no_account_ever_holds_too_much(tmp_path):
    run(tmp_path, 60)


def test_control_a_ledger_that_does_not_compare_is_found_out(tmp_path, monkeypatch):
    monkeypatch.setattr(book, "shortfall", lambda *_: None)
    with pytest.raises(AssertionError, match="counted what does not"):
        run(tmp_path, 60)


def test_control_a_ledger_that_keeps_what_did_not_leave_is_found_out(tmp_path, monkeypatch):
    monkeypatch.setattr(
        book, "spread", lambda held, left: [(account, records, records) for account, records in held]
    )
    with pytest.raises(AssertionError):
        run(tmp_path, 60)
