"""Which engine keeps what contributors see: a SQLite file beside the log's, or the PostgreSQL of the log."""

from __future__ import annotations

from pathlib import Path

from gateway.database.address import PostgresAddress
from gateway.usage.sqlite import SqliteUsageStore
from gateway.usage.store import UsageStore


def open_usage_store(log: Path | PostgresAddress) -> UsageStore:
    """Open the store that belongs to the log at `log`; make the file if there is none.

    Raises `UsageStoreUnavailableError`, and `ConfigError` if other users may read or write the file.
    """
    if isinstance(log, PostgresAddress):
        # Only deployments with PostgreSQL pay for the driver.
        from gateway.usage.postgres import PostgresUsageStore  # noqa: PLC0415

        return PostgresUsageStore(log)
    return SqliteUsageStore(usage_file(log))


def usage_file(log: Path) -> Path:
    """Return where the store of the log in the file `log` is: beside it."""
    return log.with_name(f"{log.stem}-usage.db")
