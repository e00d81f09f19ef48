"""How far quotas are used up, for operators: read from the ledger, so over all nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.ledger import AccountKind, Ledger, Standing

REFRESH_S: Final = 5.0

Labels = tuple[str, str, str]
"""The contract, as `contributor/contract`; the period; and whether it is each consumer's, or all's."""


class QuotaUse:
    """How far quotas are used up, as of a moment ago. A task renews it."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self.ratios: Mapping[Labels, float] = {}

    async def keep_fresh(self, on_error: Callable[[GatewayError], None]) -> None:
        """Look again and again, until cancelled; `on_error` hears of each look that failed."""
        while True:
            try:
                standings = await asyncio.to_thread(self._ledger.standings, "", self._clock())
                self.ratios = used_ratios(standings)
            except GatewayError as error:
                on_error(error)
            await asyncio.sleep(REFRESH_S)


def used_ratios(standings: Iterable[Standing]) -> dict[Labels, float]:
    """Return the used part (0 to 1) of each quota; of one that each consumer has, the greatest of all."""
    found: dict[Labels, float] = {}
    for standing in standings:
        account = standing.account
        if account.kind is AccountKind.QUOTA and standing.limit:
            labels = (account.owner, account.per.value, "consumer" if account.consumer else "contract")
            found[labels] = max(found.get(labels, 0.0), standing.records / standing.limit)
    return found
