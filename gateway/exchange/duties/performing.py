"""The duties of an exchange, carried out at the hooks that its steps give.

accept        before the request is recorded: refused is what cannot be fulfilled
hold          after that: the answer waits, with nothing fetched
page_size     before a page is fetched: never more than may leave
left          while pages come: how much may still leave
begin_page    before a page's entry: its records are counted (`gateway.exchange.quotas`)
releasing     around the entry of the release: what is owed after it is noted first
settle        when the exchange has ended: what did not leave is given back
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Final

from gateway.clock import Clock
from gateway.exchange.duties.cohort import too_small
from gateway.exchange.duties.holding import HeldAnswers, require_time
from gateway.exchange.duties.overdue import Overdue
from gateway.exchange.quotas.metering import Meter
from gateway.exchange.state import Exchange
from gateway.exchange.transform import TransformPlan
from gateway.ledger import Debt, DebtKind, Ledger, LedgerUnavailableError, Shortfall
from gateway.model import NO_DUTIES, Duties, Operation
from gateway.telemetry.metrics import Metrics

_UNLIMITED: Final = 10**12


class DutyPerformer:
    """Carries out duties. One instance serves all exchanges of a process, on its event loop."""

    def __init__(
        self,
        ledger: Ledger,
        overdue: Overdue,
        clock: Clock,
        metrics: Metrics,
        held: HeldAnswers | None = None,
    ) -> None:
        self._ledger = ledger
        self._meter = Meter(ledger, clock)
        self._overdue = overdue
        self._clock = clock
        self._metrics = metrics
        self.held: Final = held or HeldAnswers()

    async def accept(self, exchange: Exchange, duties: Duties) -> None:
        """Raise `GatewayError` for an exchange whose duties cannot be fulfilled, whatever it would answer."""
        consumer = exchange.consumer.id if exchange.consumer is not None else ""
        self._overdue.require(consumer, must_acknowledge=duties.acknowledge is not None)
        self._require_feasible(exchange, duties)
        await self._meter.require_open(exchange, duties)

    def _require_feasible(self, exchange: Exchange, duties: Duties) -> None:
        if duties.smallest_cohort is not None:
            most = 1 if exchange.operation in {Operation.MATCH, Operation.LIST} else _most_records(duties)
            if most < duties.smallest_cohort.records:
                raise too_small()
        if duties.delay is not None:
            require_time(duties.delay.seconds, exchange.remaining_s())

    async def hold(self, exchange: Exchange, duties: Duties) -> bool:
        """Wait for as long as the answer is to be held; return whether it was at all."""
        if duties.delay is None:
            return False
        consumer = exchange.consumer.id if exchange.consumer is not None else ""
        await self.held.hold(consumer, duties.delay.seconds)
        exchange.stopwatch.skip()
        return True

    def page_size(self, duties: Duties, asked: int, released: int) -> int:
        """Return how many records to fetch for a page, when `released` of the answer have left before."""
        return max(min(asked, self.left(duties, released)), 1)

    def left(self, duties: Duties, released: int) -> int:
        """Return how many records of an answer may still leave, when `released` have."""
        return max(_most_records(duties) - released, 0)

    def settle(self, exchange: Exchange) -> asyncio.Future[Shortfall | None] | None:
        """Give back what was counted and did not leave, of an exchange that has ended; see `Meter.settle`."""
        return self._meter.settle(exchange)

    async def close(self) -> None:
        """Write to the ledger what waits."""
        await self._meter.close()

    async def begin_page(self, exchange: Exchange, plan: TransformPlan, records: int) -> None:
        """Do what must be done before a page of a stream is recorded, and may leave."""
        await self._meter.reserve(exchange, plan.duties, records)
        if records:
            await self._owe(exchange, plan.duties, DebtKind.NOTICE)

    @asynccontextmanager
    async def releasing(self, exchange: Exchange) -> AsyncIterator[None]:
        """Hold the moment of the release: what fails in it leaves no debt, and what was counted goes back.

        Of a stream, whose pages have left, that stays counted and the subjects are told all the same.
        """
        duties = exchange.duties
        if duties is NO_DUTIES and exchange.contract is None and exchange.reciprocity is None:
            yield
            return
        is_stream = exchange.operation is Operation.STREAM
        try:
            if not is_stream:
                await self._meter.reserve(exchange, duties, exchange.records)
                if exchange.records:
                    await self._owe(exchange, duties, DebtKind.NOTICE)
            await self._owe(exchange, duties, DebtKind.ACKNOWLEDGEMENT)
            yield
        except BaseException:
            exchange.retract()
            await asyncio.shield(asyncio.ensure_future(self._undo(exchange, is_stream=is_stream)))
            raise
        self._metrics.count_duties(exchange.decision.duties if exchange.decision is not None else ())

    async def _owe(self, exchange: Exchange, duties: Duties, kind: DebtKind) -> None:
        if kind is DebtKind.NOTICE:
            within = timedelta(days=duties.notify_subject.within_days) if duties.notify_subject else None
        else:
            within = timedelta(hours=duties.acknowledge.within_hours) if duties.acknowledge else None
        if within is None or kind in exchange.due:
            return
        until = self._clock() + within
        debt = Debt(
            kind=kind,
            exchange=exchange.id,
            consumer=exchange.consumer.id if exchange.consumer is not None else "",
            provider=exchange.provider.id if exchange.provider is not None else "",
            dataset=exchange.resolved.dataset.name if exchange.resolved is not None else "",
            until=until,
            subject=exchange.commitments.get("subject", ""),
        )
        exchange.due[kind] = until
        await asyncio.to_thread(self._ledger.owe, debt)

    async def _undo(self, exchange: Exchange, *, is_stream: bool) -> None:
        kinds = [DebtKind.ACKNOWLEDGEMENT] if is_stream else list(exchange.due)
        # If the ledger cannot be written, `Overdue` finds out from the log that nothing is owed.
        with suppress(LedgerUnavailableError):
            for kind in kinds:
                if exchange.due.pop(kind, None) is not None:
                    await asyncio.to_thread(self._ledger.settle, kind, exchange.id)


def _most_records(duties: Duties) -> int:
    return duties.limit_records.records if duties.limit_records is not None else _UNLIMITED
