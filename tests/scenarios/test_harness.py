"""The controls of what the scenarios rest on: each look fails when what it looks for is not as it must be."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from gateway.client import Subject
from gateway.demo.world import COMPANIES
from tests.simulators.invented import company
from tests.simulators.sources import Form, Holding
from tests.simulators.system import RunningSystem, System

SYSTEM = System(
    consumers=("tradeplatform",),
    holdings=(Holding(COMPANIES, [asdict(company(number)) for number in range(5)], form=Form.DATABASE),),
)
PUBLIC = {"purpose": "public-lookup", "subjects": [Subject("uscc", company(3).uscc)]}


def test_a_release_is_no_refusal(system: RunningSystem) -> None:
    with pytest.raises(AssertionError, match="released, though"):
        system.refused("FIELD_ABOVE_TIER", "tradeplatform", COMPANIES, **PUBLIC)


def test_a_refusal_for_another_reason_is_noticed(system: RunningSystem) -> None:
    with pytest.raises(AssertionError, match="refused for"):
        system.refused("MEMORANDUM_MISSING", "tradeplatform", COMPANIES, fields=["phone"], **PUBLIC)


def test_an_identifier_in_the_log_is_noticed(system: RunningSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    system.released("tradeplatform", COMPANIES, **PUBLIC)
    assert company(3).uscc in system.secrets()
    system.assert_log_holds()
    monkeypatch.setattr(system, "secrets", lambda: {system.entries()[-1].exchange})
    with pytest.raises(AssertionError, match="stands in the log"):
        system.assert_log_holds()


def test_nothing_of_a_system_is_left_running(system: RunningSystem) -> None:
    """The last test of the module: it stops everything, and nobody answers any more."""
    processes = [system.gateway.process, *(each.process for each in system.providers.values())]
    assert all(process.poll() is None for process in processes)
    system.stop()
    assert all(process.poll() is not None for process in processes)
