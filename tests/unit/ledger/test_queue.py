"""Orders from an event loop: whoever asked may go, what was ordered is carried out."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

import pytest

from gateway.ledger import Hold, LedgerQueue, LedgerUnavailableError, Reservation, Settlement
from gateway.ledger.sqlite import SqliteLedger
from tests.simulators.ledger import DAILY, charge, on

pytestmark = pytest.mark.asyncio


@pytest.fixture
def ledger(tmp_path: Path):
    with closing(SqliteLedger(tmp_path / "ledger.db")) as ledger:
        yield ledger


def order(exchange: str, records: int = 3) -> Reservation:
    return Reservation(exchange, records, (charge(DAILY, 10),))


async def reserved_and_cancelled(queue: LedgerQueue) -> None:
    task = asyncio.create_task(queue.reserve(order("gone")))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_whoever_is_cancelled_has_reserved_all_the_same(ledger):
    """Control: who comes at the same time and is not cancelled is told."""
    queue = LedgerQueue(ledger)
    stays = asyncio.create_task(queue.reserve(order("stays")))
    await reserved_and_cancelled(queue)
    assert await stays is None
    assert sorted(ledger.holds()) == [Hold("gone", DAILY, 3), Hold("stays", DAILY, 3)]
    await queue.settle(Settlement("gone", 0))
    assert on(ledger, DAILY) == 3
    await queue.close()


async def test_the_queue_goes_on_after_a_fault_that_met_one_who_was_cancelled(ledger, monkeypatch):
    """Control: who was not cancelled is told of the fault."""
    queue = LedgerQueue(ledger)

    def fail(_):
        raise LedgerUnavailableError("Not now.")

    with monkeypatch.context() as broken:
        broken.setattr(ledger, "carry_out", fail)
        stays = asyncio.create_task(queue.reserve(order("stays")))
        await reserved_and_cancelled(queue)
        with pytest.raises(LedgerUnavailableError):
            await stays
    assert await queue.reserve(order("next", 10)) is None
    assert ledger.holds() == [Hold("next", DAILY, 10)]
    await queue.close()
