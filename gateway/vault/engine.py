"""The port to the database that keeps the vault: one SQL for both, with parameters `:name`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

Row = tuple[Any, ...]


class Session(Protocol):
    """A transaction, or a look at the committed state."""

    def rows(self, statement: str, values: Mapping[str, Any]) -> list[Row]:
        """Run a statement; return its rows."""
        ...

    def change(self, statement: str, values: Mapping[str, Any]) -> int:
        """Run a statement; return how many rows it made, changed or removed."""
        ...

    def insert(self, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        """Add many rows of one table."""
        ...


class Engine(Protocol):
    """A database. Safe from any thread; every method raises `VaultUnavailableError`."""

    def writing(self) -> AbstractContextManager[Session]:
        """Hold the one write transaction; durable when the block ends, undone if it fails."""
        ...

    def reading(self) -> AbstractContextManager[Session]:
        """Read what is committed, without waiting for a writer."""
        ...

    def scrub(self) -> bool:
        """Remove what is left in the database's own files of data keys deleted before; return whether it is.

        It is not while somebody reads a state from before: it may be called again.
        """
        ...

    def close(self) -> None:
        """Release everything. May be called twice."""
        ...
