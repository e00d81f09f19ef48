"""Which engine keeps the contracts: a SQLite file on one host, or PostgreSQL for several nodes."""

from __future__ import annotations

from pathlib import Path

from gateway.contracts.sqlite import SqliteContractStore
from gateway.contracts.store import ContractStore
from gateway.database.address import PostgresAddress


def open_contract_store(place: Path | PostgresAddress) -> ContractStore:
    """Open the store of contracts at `place`; make the file if there is none.

    Raises `ContractsUnavailableError`, and `ConfigError` if other users may read or write the file.
    """
    if isinstance(place, PostgresAddress):
        # Only deployments with PostgreSQL pay for the driver.
        from gateway.contracts.postgres import PostgresContractStore  # noqa: PLC0415

        return PostgresContractStore(place)
    return SqliteContractStore(place)
