"""Carrying what is kept for contributors from a file to the shared database."""

from __future__ import annotations

from pathlib import Path

from gateway.database.carrying import CarriedFile, CarriedTable
from gateway.usage.sqlite import APPLICATION_ID, SCHEMA_VERSION


def carried_usage(path: Path) -> CarriedFile:
    """Return what of the store at `path` is carried: everything. Notices keep their numbers."""
    return CarriedFile(
        path=path,
        application=APPLICATION_ID,
        version=SCHEMA_VERSION,
        tables=(
            CarriedTable(name="usage_webhook", columns=("member", "url", "moment"), order=("member",)),
            CarriedTable(
                name="usage_notice",
                columns=("id", "member", "key", "time", "body"),
                order=("id",),
                spend=(
                    "INSERT INTO usage_notice (member, key, time, body)"
                    " SELECT '', n::text, '', '' FROM generate_series(1, %(count)s) AS n"
                ),
            ),
            CarriedTable(
                name="usage_delivery",
                columns=("notice", "member", "attempts", "due"),
                order=("notice",),
                # Of a notice that is gone, nothing is delivered; the database has no row without one.
                condition="notice IN (SELECT id FROM usage_notice)",
            ),
            CarriedTable(
                name="usage_statement", columns=("member", "month", "envelope"), order=("member", "month")
            ),
        ),
    )
