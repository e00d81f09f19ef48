"""The register of batches: which there are, how each ended, and which keys each has brought."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from gateway.errors import GatewayError, Reason


class RegisterUnavailableError(GatewayError):
    """The register cannot be read or written now; nothing was changed."""

    reason = Reason.VAULT_UNAVAILABLE


class BatchBusyError(GatewayError):
    """Another upload of the same batch is under way."""

    reason = Reason.CONTRIBUTION_BUSY

    def __init__(self) -> None:
        super().__init__("Another upload of this batch is under way; try again when it has ended.")


class BatchState(StrEnum):
    """Where a batch stands."""

    OPEN = "open"
    """Records are being staged."""
    SEALED = "sealed"
    """All is checked and its end is decided; what is left to do will be done, whatever happens."""
    DONE = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch as the register knows it."""

    contributor: str
    name: str
    """The id that the company chose; unique among its batches."""
    exchange: str
    """UUIDv7, of the gateway's making: joins its entries, and is its handle in the vault."""
    contract: str
    dataset: str
    choice: str
    seed: bytes
    state: BatchState = BatchState.OPEN
    outcome: bytes = b""
    """Sealed: what is to be done. Done: what the company is told, again and again."""
    touched: str
    """RFC 3339: when something was staged last."""


class BatchRegister(Protocol):
    """Safe from any thread; each method is one durable transaction and blocks.

    A batch is written to inside of `exclusively` only. All raise `RegisterUnavailableError`, having changed
    nothing.
    """

    def find(self, contributor: str, name: str) -> Batch | None:
        """Return the batch that a company calls `name`."""
        ...

    def add(self, batch: Batch) -> None:
        """Take note of a new batch; raise `BatchBusyError` if it has come in another way meanwhile."""
        ...

    def claim(self, exchange: str, claims: Sequence[tuple[int, bytes]], now: datetime) -> set[int]:
        """Take note of (row, token of its key) in rising order; return the rows whose key came before.

        The same claims made again are answered the same.
        """
        ...

    def release(self, exchange: str, row: int) -> None:
        """Forget the claims from `row` on: what was not staged in the end has claimed nothing."""
        ...

    def settle(self, exchange: str, state: BatchState, outcome: bytes) -> None:
        """Take note of how far the end of a batch has come; when it is done, its claims go."""
        ...

    def forget(self, exchange: str) -> None:
        """Forget a batch and all its claims; its name is free again."""
        ...

    def unfinished(self) -> list[Batch]:
        """Return the batches that are not done, the one that lies longest first."""
        ...

    def exclusively(self, contributor: str, name: str) -> AbstractContextManager[None]:
        """Keep every other upload of this batch out, also of other processes, until the block ends.

        Ends with the process, however that ends. Entering and leaving block too. Raises `BatchBusyError`.
        """
        ...

    def close(self) -> None:
        """Release everything. May be called twice."""
        ...


@contextmanager
def hold_undecided(register: BatchRegister, exchange: str) -> Iterator[bool]:
    """Keep the end of a batch from being decided until the block ends; yield whether it is undecided.

    Only then may its records be let go. Raises `RegisterUnavailableError`.
    """
    with ExitStack() as stack:
        batch = _unfinished(register, exchange)
        try:
            if batch is not None:
                stack.enter_context(register.exclusively(batch.contributor, batch.name))
                # As it is now that nobody else works on it.
                batch = _unfinished(register, exchange)
        except BatchBusyError:
            undecided = False
        else:
            # What the register does not know nobody goes on with.
            undecided = batch is None or batch.state is BatchState.OPEN
        yield undecided


def _unfinished(register: BatchRegister, exchange: str) -> Batch | None:
    return next((batch for batch in register.unfinished() if batch.exchange == exchange), None)
