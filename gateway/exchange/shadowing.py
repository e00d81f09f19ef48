"""What operators are told of a candidate policy: counts, and one line for each new difference."""

from __future__ import annotations

from typing import Final

import structlog

from gateway.model import Decision
from gateway.policy.comparison import Divergence
from gateway.policy.policy_input import PolicyInput
from gateway.policy.shadow import ShadowResult
from gateway.telemetry.metrics import Metrics

_log: Final = structlog.get_logger()


class ShadowTelling:
    """A `ShadowObserver` that counts, and writes to the operators' log."""

    def __init__(self, metrics: Metrics, candidate: str) -> None:
        """Take the metrics, and the digest of the candidate."""
        self._metrics = metrics
        self._candidate = candidate

    def count_shadow(self, result: ShadowResult) -> None:
        """Count one question."""
        self._metrics.count_shadow(result)

    def tell_divergence(
        self, asked: PolicyInput, decision: Decision, divergence: Divergence, *, is_new: bool
    ) -> None:
        """Count a difference; write a line if the same facts have not differed lately."""
        self._metrics.count_divergence(divergence.kind.value, divergence.rules)
        if is_new:
            _log.info(
                "policy.shadow_differs",
                kind=divergence.kind.value,
                rules=divergence.rules,
                bundle=self._candidate,
                decision=decision.id,
                consumer=asked.consumer.id,
                dataset=asked.dataset.name,
                purpose=asked.purpose,
            )
