"""Orders from an event loop to the ledger: those that come while it writes are carried out together next.

No timer: a lone order is written at once, and under load one commit carries many.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from gateway.ledger.accounts import Account, Order, Reservation, Settlement, Shortfall
from gateway.ledger.store import Ledger, LedgerUnavailableError

MAX_TOGETHER: Final = 256
"""Orders of one transaction."""

_Outcome = asyncio.Future[Shortfall | None]


class LedgerQueue:
    """Carries out orders one after the other. One for each process; for its event loop only."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._waiting: list[tuple[Order, _Outcome]] = []
        self._unsettled: list[Settlement] = []
        self._writing: asyncio.Task[None] | None = None

    async def reserve(self, order: Reservation) -> Shortfall | None:
        """Reserve; return what kept it from being. Raises `LedgerUnavailableError`.

        Whoever is cancelled meanwhile has reserved all the same: the settlement gives it back.
        """
        return await self._submit(order)

    def settle(self, order: Settlement) -> _Outcome:
        """Settle after all that was submitted before; what is returned is done when that is durable.

        If the ledger cannot be written now, it is kept for the next orders, and what is returned is done.
        """
        return self._submit(order)

    async def balances(self, accounts: Sequence[Account]) -> dict[Account, int]:
        """Return what stands on `accounts`; raise `LedgerUnavailableError`."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._ledger.balances, accounts)

    async def close(self) -> None:
        """Write what waits; what cannot be stays held, for `gateway.exchange.quotas.leftovers` to settle."""
        while self._writing is not None:
            await asyncio.shield(self._writing)
        if self._unsettled:
            await self._carry_out([])
        self._thread.shutdown(wait=True)

    def _submit(self, order: Order) -> _Outcome:
        outcome: _Outcome = asyncio.get_running_loop().create_future()
        self._waiting.append((order, outcome))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        return outcome

    async def _write(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:MAX_TOGETHER], self._waiting[MAX_TOGETHER:]
                await self._carry_out(batch)
        finally:
            self._writing = None

    async def _carry_out(self, batch: Sequence[tuple[Order, _Outcome]]) -> None:
        earlier, self._unsettled = self._unsettled, []
        orders = [*earlier, *(order for order, _ in batch)]
        try:
            outcomes = await asyncio.get_running_loop().run_in_executor(
                self._thread, self._ledger.carry_out, orders
            )
        except LedgerUnavailableError as error:
            self._unsettled = [order for order in orders if isinstance(order, Settlement)]
            for order, outcome in batch:
                if outcome.cancelled():
                    continue
                if isinstance(order, Settlement):
                    outcome.set_result(None)
                else:
                    outcome.set_exception(LedgerUnavailableError(error.message))
                    # Seen here, in case whoever asked is gone.
                    outcome.exception()
            return
        except Exception as error:  # noqa: BLE001 - whoever waits is told; the next orders are tried
            for _, outcome in batch:
                if not outcome.cancelled():
                    outcome.set_exception(error)
                    outcome.exception()
            return
        for (_, outcome), done in zip(batch, outcomes[len(earlier) :], strict=True):
            if not outcome.cancelled():
                outcome.set_result(done)
