"""Step 6: the port to the holders of the data."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from gateway.errors import GatewayError, Reason
from gateway.evidence.dsse import Envelope
from gateway.evidence.keys import VerifyKey
from gateway.members import Directory
from gateway.model import Dataset, Held, Member


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


class Providers:
    """Whom to ask for the records of a dataset: the member that holds them, or the vault for it."""

    def __init__(
        self,
        directory: Directory,
        members: RecordProvider,
        vault: RecordProvider | None = None,
        vault_keys: Mapping[str, VerifyKey] = MappingProxyType({}),
    ) -> None:
        """Take what asks members; and the vault, with the keys by id that it signs deliveries with."""
        self._directory = directory
        self._members = members
        self._vault = vault
        self._vault_keys = vault_keys

    def holder(self, dataset: Dataset) -> Member:
        """Return the active member whose records they are; raise `GatewayError` if it cannot be asked."""
        if dataset.held is Held.VAULT:
            return self._directory.contributor(dataset.provider)
        return self._directory.provider(dataset.provider)

    def records(self, dataset: Dataset) -> RecordProvider:
        """Return what fetches them; raise `GatewayError` with `PROVIDER_UNAVAILABLE` if nothing does."""
        if dataset.held is not Held.VAULT:
            return self._members
        if self._vault is None:
            raise GatewayError(
                "This gateway keeps no contributed records; ask its operator to configure the vault.",
                reason=Reason.PROVIDER_UNAVAILABLE,
                provider=dataset.provider,
            )
        return self._vault

    def signing_keys(self, dataset: Dataset) -> Mapping[str, VerifyKey]:
        """Return the keys by id that deliveries of its records are signed with."""
        if dataset.held is Held.VAULT:
            return self._vault_keys
        return self._directory.signing_keys(dataset.provider)
