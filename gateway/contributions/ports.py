"""What contributions need of others: the contracts in force, and a vault to put records into."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol, TypeVar

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


class StagedBatch(Protocol):
    """A batch in the vault, as it stands."""

    @property
    def records(self) -> int:
        """How many records are staged, durably."""
        ...

    @property
    def resume(self) -> bytes:
        """What was given with the last of them; empty before the first."""
        ...

    @property
    def version(self) -> int | None:
        """The version of the dataset that it has become; None while it is staged."""
        ...


class Withdrawn(Protocol):
    """What a withdrawal did."""

    @property
    def records(self) -> int:
        """How many records are gone."""
        ...


_Staged = TypeVar("_Staged", bound=StagedBatch)


class RecordVault(Protocol[_Staged]):
    """Where contributed records are kept. Safe from any thread; every method blocks.

    All raise `GatewayError`, having changed nothing: `VAULT_UNAVAILABLE` if trying again may help.
    """

    def begin(self, contract: Contract, dataset: str, batch: str) -> _Staged:
        """Begin the batch, or find it as an earlier call left it."""
        ...

    def staged(self, contract: Contract, dataset: str, batch: str) -> _Staged | None:
        """Return the batch as it stands, without beginning it; None if there is none."""
        ...

    def stage(
        self, batch: _Staged, records: Sequence[bytes], digests: Sequence[bytes], resume: bytes
    ) -> _Staged:
        """Add records (canonical JSON, at least one) with their digests, and `resume`; all or nothing.

        Durable when it returns, and invisible until `commit`. Raises if the batch has moved on meanwhile.
        """
        ...

    def commit(self, batch: _Staged, evidence: bytes) -> int:
        """Make the batch the newest version of its dataset, all of it at once; return the version.

        `evidence` is what the company signed over it, as JSON.
        """
        ...

    def discard(self, batch: _Staged) -> bool:
        """Let a staged batch go; return whether it was there."""
        ...

    def withdraw(
        self, contract: Contract, dataset: str, keys: Sequence[tuple[str | int | bool, ...]]
    ) -> Withdrawn:
        """Take records back by the values of their key fields; older versions still have them."""
        ...
