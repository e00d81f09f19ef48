"""Transactions on the tables of corrections, in a SQLite file beside the log or in the log's PostgreSQL.

Statements are written once, with `:name` for values; what differs between the two is here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, Protocol

from gateway.database.address import PostgresAddress

CHANNEL: Final = "sluicegate_corrections"


class Statements(Protocol):
    """One open transaction."""

    def execute(self, statement: str, values: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Run `statement`; return its rows."""
        ...

    def execute_many(self, statement: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run `statement` once for each of `rows`."""
        ...

    def iterate(self, statement: str, values: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query that may be many, without holding them all."""
        ...

    def contains(self, column: str, value: str) -> str:
        """Return a condition that lets pass, at least, the rows whose `column` holds the bytes of `value`.

        It spares reading the others where the engine is quicker at it.
        """
        ...

    def announce_change(self) -> None:
        """Have every node hear, once this transaction is committed, that there is something new."""
        ...


class Tables(Protocol):
    """The tables. Safe from any thread; one transaction at a time."""

    def transaction(self) -> AbstractContextManager[Statements]:
        """Hold one durable transaction; nothing is kept if the block fails.

        Raises `CorrectionsUnavailableError`.
        """
        ...

    def reading(self) -> AbstractContextManager[Statements]:
        """Hold one transaction that only reads, and keeps nobody from writing. Raises as `transaction`."""
        ...

    def overwrite_erased(self) -> None:
        """Have what was erased overwritten where the engine leaves copies, unless somebody reads them now."""
        ...

    async def await_change(self, timeout_s: float) -> None:
        """Return when something may be new, at the latest after `timeout_s`; never raises."""
        ...

    def close(self) -> None:
        """Release everything. May be called twice."""
        ...


def open_tables(log: Path | PostgresAddress, purpose: str = "corrections") -> Tables:
    """Open the tables of the deployment whose log is at `log`; make the file if there is none.

    `purpose` shows in a server's list of sessions. Raises `CorrectionsUnavailableError`, and `ConfigError`
    if other users may read or write the file.
    """
    if isinstance(log, PostgresAddress):
        # Only deployments with PostgreSQL pay for the driver.
        from gateway.corrections.postgres import PostgresTables  # noqa: PLC0415

        return PostgresTables(log, purpose)
    from gateway.corrections.sqlite import SqliteTables  # noqa: PLC0415 - as above

    return SqliteTables(corrections_file(log))


def corrections_file(log: Path) -> Path:
    """Return where the tables are of the deployment whose log is the file `log`: beside it."""
    return log.with_name(f"{log.stem}-corrections.db")
