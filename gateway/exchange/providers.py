"""Step 6: the port to the holders of the data."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Protocol

from gateway.evidence.dsse import Envelope
from gateway.evidence.keys import VerifyKey
from gateway.members import Directory
from gateway.model import Dataset, Member


@dataclass(frozen=True, slots=True)
class DeliveredPage:
    """A page as a provider sent it; nothing in it has been checked."""

    records: bytes
    """JSON Lines."""
    count: int
    salt: bytes
    delivery: Envelope
    """The provider's signed delivery statement."""
    entrusted: bool = False
    """Whether it is from what the gateway keeps itself (`EntrustedRecords`), which no provider can say."""


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


class EntrustedRecords(Protocol):
    """The datasets whose records the gateway keeps itself, on behalf of the members that gave them."""

    @property
    def delivery_keys(self) -> Mapping[str, VerifyKey]:
        """The gateway's keys that sign deliveries of these datasets, and of no others."""
        ...

    def holds(self, dataset: str) -> bool:
        """Whether this is one of them."""
        ...


def provider_of(dataset: Dataset, directory: Directory, entrusted: EntrustedRecords | None) -> Member:
    """Return the member whose dataset it is; raise `GatewayError` if its records cannot be had now."""
    if entrusted is not None and entrusted.holds(dataset.name):
        return directory.contributor(dataset.provider)
    return directory.provider(dataset.provider)
