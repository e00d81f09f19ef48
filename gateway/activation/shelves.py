"""Which engine keeps bundles and approvals: a SQLite file on one host, or PostgreSQL for several nodes."""

from __future__ import annotations

from pathlib import Path

from gateway.activation.shelf import Shelf
from gateway.activation.sqlite import SqliteShelf
from gateway.database import PostgresAddress


def open_shelf(log_database: Path | PostgresAddress, file: Path) -> Shelf:
    """Name the shelf of a deployment: with a log in PostgreSQL it is there, else in `file`."""
    if isinstance(log_database, PostgresAddress):
        # Only deployments with PostgreSQL pay for the driver.
        from gateway.activation.postgres import PostgresShelf  # noqa: PLC0415

        return PostgresShelf(log_database)
    return SqliteShelf(file)
