"""Which engine keeps the ledger: a SQLite file beside the log's, or the PostgreSQL that holds the log."""

from __future__ import annotations

from pathlib import Path

from gateway.database.address import PostgresAddress
from gateway.ledger.sqlite import SqliteLedger
from gateway.ledger.store import Ledger


def open_ledger(log: Path | PostgresAddress) -> Ledger:
    """Open the ledger that belongs to the log at `log`; make the file if there is none.

    Raises `LedgerUnavailableError`, and `ConfigError` if other users may read or write the file.
    """
    if isinstance(log, PostgresAddress):
        # Only deployments with PostgreSQL pay for the driver.
        from gateway.ledger.postgres import PostgresLedger  # noqa: PLC0415

        return PostgresLedger(log)
    return SqliteLedger(ledger_file(log))


def ledger_file(log: Path) -> Path:
    """Return where the ledger of the log in the file `log` is: beside it."""
    return log.with_name(f"{log.stem}-ledger.db")
