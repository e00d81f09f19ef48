"""Carrying the vault from a file to the shared database, sealed as it is: no key is needed for it.

Data keys that are destroyed later must be gone: so the file does not stay behind as a copy. Without them
nobody can read the rest of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from gateway.database.carrying import CarriedFile, CarriedTable
from gateway.vault.sqlite import APPLICATION_ID, SCHEMA_VERSION
from gateway.vault.tables import COLUMNS

_ORDER: Final = {
    "vault_key": ("holding", "number"),
    "vault_token": ("run", "token", "place"),
    "vault_keyed": ("run", "token", "place"),
    "vault_live": ("holding", "token"),
    "vault_dead": ("place",),
}
"""Where it is not the number."""

_SPEND: Final = {
    "vault_holding": (
        "INSERT INTO vault_holding (contract, dataset, version, alive, retention, time)"
        " SELECT '', n::text, 0, 0, '', '' FROM generate_series(1, %(count)s) AS n"
    ),
    "vault_batch": (
        "INSERT INTO vault_batch (holding, name, identity, key, layout, records, pages, resume, evidence,"
        " touched, bound, discarded)"
        " SELECT (SELECT min(number) FROM vault_holding), n::text, '', 0, '', 0, 0, '', '', '', '', 0"
        " FROM generate_series(1, %(count)s) AS n"
    ),
    "vault_page": (
        "INSERT INTO vault_page (run, batch, place, records, content)"
        " SELECT 0, 0, 0, 0, '' FROM generate_series(1, %(count)s)"
    ),
}


def carried_vault(path: Path) -> CarriedFile:
    """Return what of the vault at `path` is carried: everything."""
    return CarriedFile(
        path=path,
        application=APPLICATION_ID,
        version=SCHEMA_VERSION,
        tables=tuple(
            CarriedTable(
                name=name, columns=columns, order=_ORDER.get(name, ("number",)), spend=_SPEND.get(name, "")
            )
            for name, columns in COLUMNS.items()
        ),
        erased=("vault_key",),
    )
