"""Entries to fill logs with, each different from the others, and the log they stand in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.clock import rfc3339
from gateway.model.entry import Entry, EntryKind

ORIGIN = "audit.example.org/log/2026"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def make_entry(number: int = 0, **members: Any) -> Entry:
    """Return the entry of this number; `members` stand over what it would say."""
    return Entry(
        v=1,
        **{
            "kind": EntryKind.EXCHANGE_RELEASED,
            "time": rfc3339(NOON + timedelta(milliseconds=number)),
            "exchange": f"0195512e-0000-7000-8000-{number:012x}",
            "consumer": f"bank-{number % 3}",
            "provider": "registry",
            "dataset": f"members/registry/datasets/set-{number % 5}",
            "records": number,
            **members,
        },
    )
