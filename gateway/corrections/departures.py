"""Whether a page that was noted did leave: the log tells.

A row is written before its page's entry, so a crash or a refusal in between leaves a row of a page that
nobody got. Whoever was told of it would learn what it was not given.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from gateway.audit.filter import Field, Has
from gateway.audit.store import MAX_PAGE_SIZE, AuditReader
from gateway.clock import parse_rfc3339
from gateway.corrections.register import NamedPage
from gateway.model import Entry, EntryKind, Operation

UNDER_WAY: Final = timedelta(minutes=20)
"""Longer than any exchange lasts: a younger page whose exchange has no end yet may leave any moment."""

_ENDS: Final = frozenset({EntryKind.EXCHANGE_RELEASED, EntryKind.EXCHANGE_FAILED, EntryKind.EXCHANGE_DENIED})
_decode: Final = msgspec.json.Decoder(Entry).decode


class Departures:
    """Looks exchanges up in the log and the closed ones before it. Blocks; safe from any thread."""

    def __init__(self, readers: Sequence[AuditReader]) -> None:
        """Take the readers of the logs, the newest first."""
        self._readers = readers

    def departed(self, pages: Iterable[NamedPage], now: datetime) -> Iterator[NamedPage]:
        """Yield those of `pages` that have left, or may yet. Raises `LogUnavailableError`."""
        by_exchange: dict[str, list[NamedPage]] = {}
        for page in pages:
            by_exchange.setdefault(page.page.exchange, []).append(page)
        for exchange, found in by_exchange.items():
            entries = self._entries(exchange)
            for page in found:
                if has_left(page, entries, now):
                    yield page

    def _entries(self, exchange: str) -> list[Entry]:
        wanted, found = Has(Field.EXCHANGE, exchange), list[Entry]()
        for reader in self._readers:
            before: int | None = None
            while stored := reader.find(wanted, MAX_PAGE_SIZE, before):
                found += [_decode(one.data) for one in stored]
                before = stored[-1].index
            if any(entry.kind is EntryKind.EXCHANGE_REQUESTED for entry in found):
                break
        return found


def has_left(page: NamedPage, entries: Sequence[Entry], now: datetime) -> bool:
    """Whether `page` has left, or may yet, by the entries of its exchange.

    Of an exchange that no log here knows it is taken for granted: its log is not at hand any more.
    """
    if not entries:
        return True
    kinds = {entry.kind for entry in entries}
    is_stream = any(entry.operation == Operation.STREAM.value for entry in entries)
    if is_stream and any(
        entry.kind is EntryKind.EXCHANGE_PAGE and entry.page == page.page.page for entry in entries
    ):
        return True
    if not kinds & _ENDS:
        return now - parse_rfc3339(page.page.time) < UNDER_WAY
    return not is_stream and EntryKind.EXCHANGE_RELEASED in kinds and EntryKind.EXCHANGE_FAILED not in kinds
