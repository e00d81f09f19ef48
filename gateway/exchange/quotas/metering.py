"""Counting what leaves: on the budget that policy has set and on all accounts of the contract, or on none.

require_open  before the request is recorded: refused is what has nothing left
reserve       before a page's entry: its records are counted
settle        when the exchange has ended: what did not leave is given back
"""

from __future__ import annotations

import asyncio
from datetime import datetime

from gateway.clock import Clock
from gateway.exchange.state import Exchange
from gateway.ledger import (
    Allowance,
    Charge,
    Ledger,
    LedgerQueue,
    Reservation,
    Settlement,
    Shortfall,
    budget,
    exhausted,
)
from gateway.ledger.book import shortfall, touched
from gateway.ledger.contracts import charges_in_return, charges_under
from gateway.model import Duties


class Meter:
    """Counts for all exchanges of a process, on its event loop."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._queue = LedgerQueue(ledger)
        self._clock = clock

    async def require_open(self, exchange: Exchange, duties: Duties) -> None:
        """Raise `ExhaustedError` if not one record more would fit; `LedgerUnavailableError`."""
        charges = charges_of(exchange, duties, self._clock())
        if not charges:
            return
        balances = await self._queue.balances(sorted(touched(charges)))
        for charge in charges:
            short = shortfall(charge, 1, balances)
            if short is not None:
                raise exhausted(short)

    async def reserve(self, exchange: Exchange, duties: Duties, records: int) -> None:
        """Count `records`, before their entry; raise `ExhaustedError` or `LedgerUnavailableError`."""
        if not records:
            return
        charges = charges_of(exchange, duties, self._clock())
        if not charges:
            return
        # Even if it fails, or nobody waits for it any more: the settlement finds out what was counted.
        exchange.metered = True
        short = await self._queue.reserve(Reservation(exchange.id, records, charges))
        if short is not None:
            raise exhausted(short)

    def settle(self, exchange: Exchange) -> asyncio.Future[Shortfall | None] | None:
        """Give back what did not leave of an exchange that has ended; None if nothing was counted.

        What is returned is done when that is durable, or will be tried again.
        """
        if not exchange.metered:
            return None
        exchange.metered = False
        return self._queue.settle(Settlement(exchange.id, exchange.records))

    async def close(self) -> None:
        """Write what waits."""
        await self._queue.close()


def charges_of(exchange: Exchange, duties: Duties, moment: datetime) -> tuple[Charge, ...]:
    """Return all accounts that what leaves in `exchange` at `moment` is counted on."""
    consumer = exchange.consumer.id if exchange.consumer is not None else ""
    found: list[Charge] = []
    if duties.limit_volume is not None:
        purpose = exchange.statement.query.purpose if exchange.statement is not None else ""
        found.append(Charge(budget(consumer, purpose, moment), Allowance(duties.limit_volume.records)))
    if exchange.contract is not None and exchange.resolved is not None:
        found += charges_under(exchange.contract, consumer, exchange.resolved.dataset.name, moment)
    if exchange.reciprocity is not None and exchange.resolved is not None:
        found += charges_in_return(exchange.reciprocity, consumer, exchange.resolved.dataset.name)
    return tuple(found)
