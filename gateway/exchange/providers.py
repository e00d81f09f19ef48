"""Step 6: the port to the holders of the data."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from gateway.evidence.dsse import Envelope
from gateway.model import Member


@dataclass(frozen=True, slots=True)
class DeliveredPage:
    """A page as a provider sent it; nothing in it has been checked."""

    records: bytes
    """JSON Lines."""
    count: int
    salt: bytes
    delivery: Envelope
    """The provider's signed delivery statement."""


class RecordProvider(Protocol):
    """Fetches records at the member that holds them.

    Both methods raise `GatewayError` with `PROVIDER_UNAVAILABLE`, `PROVIDER_TIMEOUT`,
    `PROVIDER_REFUSED` or `PROVIDER_SCHEMA`, and stop the provider's work when cancelled.
    """

    async def fetch(
        self, provider: Member, order: Envelope, page_size: int, cursor: bytes, timeout_s: float
    ) -> tuple[DeliveredPage, bytes]:
        """Return one page and where the next begins (empty: nowhere)."""
        ...

    def stream(
        self, provider: Member, order: Envelope, page_size: int, timeout_s: float
    ) -> AsyncGenerator[DeliveredPage, None]:
        """Yield all pages."""
        ...
