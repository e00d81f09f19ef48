"""What operators are told of an ended exchange: counts, and one line."""

from __future__ import annotations

from typing import Final

import structlog

from gateway.errors import GatewayError, Reason
from gateway.exchange.state import Exchange
from gateway.model import Dataset
from gateway.telemetry.metrics import Metrics, Outcome

_log: Final = structlog.get_logger()


class OutcomeTelling:
    """Counts ended exchanges, and writes to the operators' log."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def _count_records(self, exchange: Exchange, dataset: Dataset) -> None:
        """Count what was seen in the records of an ended exchange."""
        metrics = self._metrics
        if exchange.records:
            metrics.count_records(dataset.name, exchange.records)
        if exchange.expired:
            metrics.count_withheld(dataset.name, exchange.expired)
        if exchange.newest is not None:
            metrics.note_newest(dataset.name, exchange.newest)
        if exchange.unknown_fields:
            metrics.count_unknown_fields(dataset.name, exchange.unknown_fields)
        for name, count in exchange.invalid_identifiers.items():
            metrics.count_invalid_identifiers(dataset.name, dataset.fields[name].identifier or "", count)

    def tell(self, exchange: Exchange, error: GatewayError | None, entry: int) -> None:
        """Count an ended exchange and write its one line for operators."""
        outcome: Outcome = "released"
        if error is not None:
            outcome = "denied"
            if error.reason is Reason.CANCELLED:
                outcome = "cancelled"
            elif exchange.requested:
                outcome = "failed"
        reason = error.reason.value if error is not None else "none"
        seconds = exchange.stopwatch.finish()
        dataset = exchange.resolved.dataset.name if exchange.resolved else ""
        metrics = self._metrics
        metrics.count_exchange(exchange.operation.value, outcome, reason)
        if exchange.provider is not None and exchange.provider_seconds:
            metrics.time_provider(exchange.provider.id, exchange.provider_seconds)
        if exchange.resolved is not None:
            self._count_records(exchange, exchange.resolved.dataset)
        _log.info(
            "exchange",
            exchange=exchange.id,
            operation=exchange.operation.value,
            consumer=exchange.consumer.id if exchange.consumer else "",
            dataset=dataset,
            outcome=outcome,
            reason=reason,
            records=exchange.records,
            pages=exchange.pages,
            duration_ms=round(seconds * 1000, 3),
            entry=entry,
        )
