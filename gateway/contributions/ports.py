"""What contributions need of others: the contracts in force, and a vault to put records into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from gateway.model import Contract


class ContractSource(Protocol):
    """The contracts as a running gateway sees them; read from the event loop only.

    Both methods raise `GatewayError` while the contracts cannot be read: then nobody is served.
    """

    def in_force(self, now: datetime) -> Sequence[Contract]:
        """Return the contracts under which records may move at `now`."""
        ...

    def contracts(self) -> Sequence[Contract]:
        """Return every version of every contract, whatever its state."""
        ...


@dataclass(frozen=True, slots=True)
class Staged:
    """How far a batch has got in the vault."""

    records: int
    resume: bytes
    """What was given with the records staged last."""


class RecordVault(Protocol):
    """Where contributed records are kept. Safe from any thread; every method blocks.

    A batch goes by a handle of the gateway's making that is never used again. All methods raise
    `GatewayError` (`VAULT_UNAVAILABLE`), having changed nothing.
    """

    def begin(self, contract: Contract, dataset: str, handle: str) -> None:
        """Open a batch for staging; nothing happens if it is open already."""
        ...

    def stage(self, handle: str, records: Sequence[bytes], digests: Sequence[bytes], resume: bytes) -> None:
        """Keep records (canonical JSON, maybe none), their digests and `resume`, all or nothing.

        Durable when it returns, and invisible to everybody until `commit`.
        """
        ...

    def staged(self, handle: str) -> Staged | None:
        """Return what is staged; None if the batch is not open."""
        ...

    def commit(self, handle: str, evidence: bytes) -> None:
        """Make all records of the batch visible at once, each in the place of an earlier one of its key.

        `evidence` is what the company signed over the batch, as JSON. A second call changes nothing.
        """
        ...

    def discard(self, handle: str) -> None:
        """Forget a batch that was not committed; nothing happens if there is none."""
        ...

    def withdraw(self, contract: Contract, dataset: str, keys: Sequence[tuple[str | int | bool, ...]]) -> int:
        """Take records back by the values of their key fields; return how many there were."""
        ...
