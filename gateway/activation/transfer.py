"""Carrying bundle files and approvals from a file to the shared database: the policy in force stays so."""

from __future__ import annotations

from pathlib import Path

from gateway.activation.sqlite import SCHEMA_VERSION
from gateway.database.carrying import CarriedFile, CarriedTable


def carried_shelf(path: Path) -> CarriedFile:
    """Return what of the shelf at `path` is carried: everything."""
    return CarriedFile(
        path=path,
        application=0,
        version=SCHEMA_VERSION,
        tables=(
            CarriedTable(name="policy_file", columns=("digest", "bundle", "content"), order=("digest",)),
            CarriedTable(
                name="policy_proposal",
                columns=("sequence", "statement", "file", "envelope"),
                order=("sequence",),
            ),
        ),
    )
