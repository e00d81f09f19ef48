"""Where bundle files and approvals lie for every process and node, as everybody sees it.

Nothing that lies there is in force for that: the log says what is, and each reader verifies what it takes.
Rows are added and never changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Proposal:
    """A bundle file and the approval of it, unverified."""

    sequence: int
    statement: str
    """Digest of the statement."""
    envelope: bytes
    file: bytes


class Shelf(Protocol):
    """Keeps proposals. Every method is one transaction, blocks, and raises `ShelfError` on a fault."""

    def latest(self) -> tuple[int, str]:
        """Return (number, digest of the statement) of the newest proposal; (0, "") without any."""
        ...

    def put(self, statement: str, envelope: bytes, bundle: str, file_digest: str, file: bytes) -> None:
        """Keep an approval and its bundle file; what lies there already stays as it is.

        A statement that was put there before is put there again, so that it is the newest.
        """
        ...

    def find(self, statement: str) -> Proposal | None:
        """Return the newest proposal with the statement of this digest."""
        ...

    def file_of(self, bundle: str) -> bytes | None:
        """Return the newest bundle file whose bundle has this digest, unverified."""
        ...

    async def await_change(self, timeout_s: float) -> None:
        """Return when there may be a new proposal, at the latest after `timeout_s`; never raises."""
        ...

    def close(self) -> None:
        """Release everything. May be called twice."""
        ...
