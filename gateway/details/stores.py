"""Which engine keeps the details: a SQLite file on one host, or PostgreSQL for several nodes."""

from __future__ import annotations

from pathlib import Path

from gateway.database.address import PostgresAddress
from gateway.details.sqlite import SqliteDetailsStore
from gateway.details.store import DetailsStore


def open_details_store(place: Path | PostgresAddress, origin: str) -> DetailsStore:
    """Open the store of details of the log `origin`; raise `ConfigError` if it is another's.

    A file is made if there is none. Raises `DetailsUnavailableError`.
    """
    if isinstance(place, PostgresAddress):
        # Only deployments with PostgreSQL pay for the driver.
        from gateway.details.postgres import PostgresDetailsStore  # noqa: PLC0415

        return PostgresDetailsStore(place, origin)
    return SqliteDetailsStore(place, origin)
