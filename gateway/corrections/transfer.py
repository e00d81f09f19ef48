"""Carrying the register of recipients and open corrections from a file to the shared database.

Recipients and notices are forgotten in time: so the file does not stay behind as a copy.
"""

from __future__ import annotations

from pathlib import Path

from gateway.corrections.sqlite import APPLICATION_ID, SCHEMA_VERSION
from gateway.database.carrying import CarriedFile, CarriedTable


def carried_corrections(path: Path) -> CarriedFile:
    """Return what of the file at `path` is carried: everything; what is sealed stays so."""
    return CarriedFile(
        path=path,
        application=APPLICATION_ID,
        version=SCHEMA_VERSION,
        tables=(
            CarriedTable(
                name="recipient",
                columns=(
                    *("exchange", "page", "consumer", "provider", "dataset", "purpose", "key_epoch", "form"),
                    *("time", "records", "tokens"),
                ),
                # Nothing refers to its number.
                order=("id",),
            ),
            CarriedTable(
                name="correction",
                columns=(
                    *("id", "announcer", "dataset", "kind", "reason", "effective", "announced", "records"),
                    "entry",
                ),
                order=("id",),
            ),
            CarriedTable(
                name="correction_notice",
                columns=(
                    *("correction", "recipient", "digest", "position", "delivered", "answered", "outcome"),
                    "content",
                ),
                order=("correction", "recipient"),
            ),
            CarriedTable(
                name="correction_head",
                columns=("position",),
                order=("id",),
                taken="position <> 0",
                put="UPDATE correction_head SET position = %s",
            ),
        ),
        erased=("correction_notice", "correction", "recipient"),
    )
