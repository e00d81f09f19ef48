"""The port through which a release waits for witnesses."""

from __future__ import annotations

from typing import Protocol

from gateway.audit.committed import Committed


class Witnessing(Protocol):
    """Sees to it that witnesses have cosigned the log before something leaves."""

    async def witnessed(self, committed: Committed, timeout_s: float) -> Committed:
        """Return the entry's place under a checkpoint that a quorum has cosigned.

        Raises `WitnessUnavailableError` if there is none within `timeout_s`, or sooner.
        """
        ...
