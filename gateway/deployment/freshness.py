"""How late datasets were when all of each was last released: the promises, held against the log."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from gateway.audit.filter import Field, Has, both
from gateway.audit.store import MAX_PAGE_SIZE, AuditReader
from gateway.catalogue import Catalogue
from gateway.model import Dataset, Entry, EntryKind

_LOOKED_AT: Final = 10 * MAX_PAGE_SIZE
"""The newest releases of a dataset among which one of the whole is looked for."""

_decode: Final = msgspec.json.Decoder(Entry).decode


@dataclass(frozen=True, slots=True)
class Lateness:
    """How a dataset stood when it was last measured."""

    dataset: str
    promised_days: int
    days_late: int | None
    """Beyond the promise; 0 in time; None if no release among the newest was of the whole dataset."""
    measured: str = ""
    """RFC 3339."""
    entry: int | None = None
    """Index of the entry that says so."""


def lateness(catalogue: Catalogue, reader: AuditReader) -> list[Lateness]:
    """Return how every dataset with a promise of freshness stands, the latest first.

    Raises `LogUnavailableError`.
    """
    found = [_measured(dataset, reader) for dataset in catalogue if dataset.freshness is not None]
    # Nobody knows of those that were never measured: they come before those that are in time.
    return sorted(
        found, key=lambda one: (-(one.days_late if one.days_late is not None else 0.5), one.dataset)
    )


def _measured(dataset: Dataset, reader: AuditReader) -> Lateness:
    promised = dataset.freshness.days if dataset.freshness is not None else 0
    for index, entry in _releases(dataset.name, reader):
        if "days_late" in entry.detail:
            return Lateness(dataset.name, promised, int(entry.detail["days_late"]), entry.time, index)
    return Lateness(dataset.name, promised, None)


def _releases(dataset: str, reader: AuditReader) -> Iterator[tuple[int, Entry]]:
    wanted = both(Has(Field.DATASET, dataset), Has(Field.KIND, EntryKind.EXCHANGE_RELEASED))
    before, seen = None, 0
    while seen < _LOOKED_AT and (page := reader.find(wanted, MAX_PAGE_SIZE, before)):
        for stored in page:
            yield stored.index, _decode(stored.data)
        seen += len(page)
        before = page[-1].index
