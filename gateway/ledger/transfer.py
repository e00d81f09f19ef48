"""Carrying the ledger from a file to the shared database: what is counted and owed goes on there."""

from __future__ import annotations

from pathlib import Path

from gateway.database.carrying import CarriedFile, CarriedTable
from gateway.ledger.sqlite import APPLICATION_ID, SCHEMA_VERSION, SqliteLedger


def carried_ledger(path: Path) -> CarriedFile:
    """Return what of the ledger at `path` is carried: everything.

    One of an earlier version is brought up to date. Raises `LedgerUnavailableError` and `ConfigError`.
    """
    if path.exists():
        SqliteLedger(path).close()
    account = ("kind", "owner", "consumer", "per", "first")
    return CarriedFile(
        path=path,
        application=APPLICATION_ID,
        version=SCHEMA_VERSION,
        tables=(
            CarriedTable(name="account", columns=(*account, "ends", "records", "bound"), order=account),
            CarriedTable(
                name="hold", columns=("exchange", *account, "records"), order=("exchange", *account)
            ),
            CarriedTable(
                name="debt",
                columns=("kind", "exchange", "consumer", "provider", "dataset", "until", "subject"),
                order=("kind", "exchange"),
            ),
        ),
    )
