"""Which engine keeps the members: a SQLite file on one host, or PostgreSQL for several nodes."""

from __future__ import annotations

from pathlib import Path

from gateway.database.address import PostgresAddress
from gateway.members.sqlite import SqliteMemberStore
from gateway.members.store import MemberStore


def open_member_store(place: Path | PostgresAddress) -> MemberStore:
    """Name the store of members at `place`; nothing is read yet."""
    if isinstance(place, PostgresAddress):
        # Only deployments with PostgreSQL pay for the driver.
        from gateway.members.postgres import PostgresMemberStore  # noqa: PLC0415

        return PostgresMemberStore(place)
    return SqliteMemberStore(place)
