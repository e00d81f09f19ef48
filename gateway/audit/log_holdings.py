"""What the log itself holds of a member's exchanges, and which of them nobody has acknowledged."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from datetime import datetime

import msgspec

from gateway.audit import filter as filters
from gateway.audit.filter import Field, Filter, Has
from gateway.audit.holdings import Holding, Holdings, Outcome, Side
from gateway.audit.store import MAX_PAGE_SIZE, AuditReader
from gateway.audit.tree import leaf_hash
from gateway.model.entry import Entry, EntryKind

Progress = Callable[[int, int | None], None]
"""Takes entries read, and None: how many there are in all is not known before."""

_decode = msgspec.json.Decoder(Entry).decode


def _ignore(*_: object) -> None:
    """Take no notice."""


def about(member: str | None, since: datetime | None) -> Filter:
    """Return the filter for what concerns `member`, or anybody, and is not before `since`."""
    parts: list[Filter] = [] if member is None else [Has(Field.MEMBER, member)]
    parts += [] if since is None else [filters.since(since)]
    return filters.both(*parts)


def read_holdings(
    reader: AuditReader,
    member: str,
    origin: str,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    progress: Progress = _ignore,
) -> Holdings:
    """Return the exchanges of `member` (its id), as consumer or provider, released from `since` to `until`.

    Also those that failed after a provider may have delivered. Raises `LogUnavailableError`.
    """
    return Holdings(Side.LOG, member, tuple(_read(reader, member, since, until, progress)), origin)


def read_unacknowledged(
    reader: AuditReader,
    *,
    member: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    progress: Progress = _ignore,
) -> list[Holding]:
    """Return the releases of that time, to `member` or anybody, that nobody acknowledged, oldest first."""
    return [
        item
        for item in _read(reader, member, since, until, progress)
        if item.outcome is Outcome.RELEASED and item.acknowledged is None and member in {None, item.consumer}
    ]


def _read(
    reader: AuditReader,
    member: str | None,
    since: datetime | None,
    until: datetime | None,
    progress: Progress,
) -> Iterator[Holding]:
    """Yield the exchanges, oldest first; each with what later entries say of it."""
    read = 0

    def entries(kind: EntryKind, before_time: datetime | None) -> Iterator[tuple[int, bytes, Entry]]:
        nonlocal read
        parts: list[Filter] = [Has(Field.KIND, kind), about(member, since)]
        parts += [] if before_time is None else [filters.until(before_time)]
        wanted = filters.both(*parts)
        before: int | None = None
        while page := reader.find(wanted, MAX_PAGE_SIZE, before):
            read += len(page)
            progress(read, None)
            for stored in page:
                yield stored.index, stored.data, _decode(stored.data)
            before = page[-1].index

    # Releases first: what is said of one stands after it.
    releases = list(entries(EntryKind.EXCHANGE_RELEASED, until))
    # Later entries may lie beyond `until` and still be about what lies before.
    acknowledged = {
        entry.acknowledges: index for index, _, entry in entries(EntryKind.EXCHANGE_ACKNOWLEDGED, None)
    }
    failed = list(entries(EntryKind.EXCHANGE_FAILED, None))
    withdrawn = {entry.withdraws for _, _, entry in failed if entry.withdraws is not None}
    found = [
        Holding(
            exchange=entry.exchange,
            consumer=entry.consumer,
            provider=entry.provider,
            outcome=Outcome.WITHDRAWN if index in withdrawn else Outcome.RELEASED,
            time=entry.time,
            index=index,
            leaf_hash=base64.b64encode(leaf_hash(data)).decode(),
            sequence=entry.sequence,
            pages=entry.pages,
            acknowledged=acknowledged.get(index),
        )
        for index, data, entry in releases
    ]
    released = {item.exchange for item in found}
    found += [
        Holding(
            exchange=entry.exchange,
            consumer=entry.consumer,
            provider=entry.provider,
            outcome=Outcome.FAILED,
            time=entry.time,
            pages=entry.pages,
        )
        for _, _, entry in failed
        if entry.exchange not in released
    ]
    yield from sorted(found, key=lambda item: item.time)
