"""Overdue acknowledgements: who does not say that releases have arrived gets no more of them.

The ledger says where to look; what counts is the log. A debt that a crash left behind, of a release
that never came about, is found out here and forgotten.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final

from gateway.audit.store import AuditReader
from gateway.clock import Clock
from gateway.errors import GatewayError, Reason
from gateway.exchange.duties.standing import is_owed
from gateway.ledger import Debt, DebtKind, Ledger

REFRESH_S: Final = 1.0
STALE_AFTER_S: Final = 10.0
"""After so long without a look at the ledger nothing is released that must be acknowledged."""


class Overdue:
    """What is overdue, as of a moment ago. The event loop reads it; a task renews it."""

    def __init__(self, ledger: Ledger, reader: AuditReader, clock: Clock, tolerated: int) -> None:
        """Take how many overdue acknowledgements of one consumer are tolerated."""
        self._ledger = ledger
        self._reader = reader
        self._clock = clock
        self._tolerated = tolerated
        self._known: set[tuple[DebtKind, str]] = set()
        self._by_consumer: Counter[str] = Counter()
        self._read_at: float | None = None
        self.acknowledgements = 0
        """Acknowledgements that are overdue."""
        self.notices = 0
        """Notices to subjects that are overdue."""

    def require(self, consumer: str, *, must_acknowledge: bool) -> None:
        """Raise `GatewayError` if `consumer` owes too many acknowledgements, or nobody can tell."""
        if self._by_consumer[consumer] > self._tolerated:
            raise GatewayError(
                "Acknowledgements of earlier releases are overdue. Make them (AcknowledgeExchange) or, after "
                "seven days, ask the operator of the gateway.",
                reason=Reason.ACKNOWLEDGEMENT_OVERDUE,
                overdue=self._by_consumer[consumer],
            )
        if must_acknowledge and self._read_at is not None and _now() - self._read_at > STALE_AFTER_S:
            raise GatewayError(
                "The gateway cannot tell whether acknowledgements are overdue; try again later.",
                reason=Reason.LEDGER_UNAVAILABLE,
            )

    async def keep_fresh(self, on_error: Callable[[GatewayError], None]) -> None:
        """Look again and again, until cancelled; `on_error` hears of each look that failed."""
        self._read_at = _now()
        while True:
            try:
                await self.refresh()
                self._read_at = _now()
            except GatewayError as error:
                on_error(error)
            await asyncio.sleep(REFRESH_S)

    async def refresh(self) -> None:
        """Look at the ledger, and at the log for what is overdue for the first time."""
        acknowledgements = await asyncio.to_thread(self._look, DebtKind.ACKNOWLEDGEMENT)
        notices = await asyncio.to_thread(self._look, DebtKind.NOTICE)
        self._by_consumer = Counter(debt.consumer for debt in acknowledgements)
        self.acknowledgements, self.notices = len(acknowledgements), len(notices)
        self._known = {(debt.kind, debt.exchange) for debt in (*acknowledgements, *notices)}

    def _look(self, kind: DebtKind) -> list[Debt]:
        overdue = []
        for debt in self._ledger.debts(kind, self._clock()):
            if (kind, debt.exchange) in self._known or is_owed(self._reader, debt):
                overdue.append(debt)
            else:
                self._ledger.settle(kind, debt.exchange)
        return overdue


def _now() -> float:
    return asyncio.get_running_loop().time()
