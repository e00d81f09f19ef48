"""The books of members as a running gateway keeps them: brought up to date when they are read."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from itertools import zip_longest
from typing import Final

from gateway.audit.filter import And, Field, Filter, Has, Or, since, until
from gateway.audit.store import AuditReader, ScannedEntries
from gateway.usage.book import Book, Counted
from gateway.usage.period import Period
from gateway.usage.seen import COUNTED, REQUESTED, Seen, see, see_all

KEPT_BOOKS: Final = 32
"""Books kept for the next question; the one that was asked for longest ago makes room."""

_READ_AT_ONCE: Final = 16_384
"""Entries searched in one reading: some 20 MiB at most."""


class LogBook:
    """The book of one member over a span of time, and how far into the log it reaches."""

    def __init__(
        self,
        reader: AuditReader,
        member: str,
        begins: datetime | None = None,
        ends: datetime | None = None,
        *,
        with_entries: bool = True,
    ) -> None:
        """Take the span of entries' times; None is the beginning of the log, or no end."""
        self._reader = reader
        self._wanted = _wanted(member, begins, ends)
        self._book = Book(member, self._release, with_entries=with_entries)
        self._lock = threading.Lock()
        self.size = 0
        """The entries below this index are counted."""
        self.counted = 0
        """How many of them tell of this member's records."""

    def read(self, size: int) -> None:
        """Count the entries up to the tree of `size`, in as little memory as two parts of them take.

        While one part is counted, the next is read: the database does that beside Python.
        """
        with self._lock, ThreadPoolExecutor(1, thread_name_prefix="usage") as ahead:
            parts = [
                (start, min(size, start + _READ_AT_ONCE)) for start in range(self.size, size, _READ_AT_ONCE)
            ]
            coming: Future[ScannedEntries] | None = None
            for part, following in zip_longest(parts, parts[1:]):
                found = self._reader.scan(self._wanted, *part) if coming is None else coming.result()
                coming = ahead.submit(self._reader.scan, self._wanted, *following) if following else None
                self._book.add(see_all(found))
                self.size = part[1]
                self.counted += len(found.indices)

    def lines(self, period: Period) -> list[Counted]:
        """Return what was counted for `period`, in a stable order."""
        with self._lock:
            return list(self._book.lines(period, self._request))

    def _release(self, index: int) -> Seen | None:
        return see(self._reader.entry(index).data)

    def _request(self, exchange: str) -> Seen | None:
        wanted = And((Has(Field.EXCHANGE, exchange), Has(Field.KIND, REQUESTED)))
        found = self._reader.find(wanted, 1)
        return see(found[0].data) if found else None


class Books:
    """The books that were asked for last. Safe from any thread; all methods block."""

    def __init__(self, reader: AuditReader) -> None:
        self._reader = reader
        self._kept: OrderedDict[tuple[str, datetime, datetime | None], LogBook] = OrderedDict()
        self._lock = threading.Lock()

    def lines(
        self, member: str, period: Period, begins: datetime, ends: datetime | None, size: int
    ) -> list[Counted]:
        """Return what was counted for `member` in `period`, from the entries below `size` between the times.

        Raises `LogUnavailableError`, and `LogMismatchError` if an entry is not one.
        """
        book = self._book(member, begins, ends)
        if book.size > size:
            book = LogBook(self._reader, member, begins, ends)
        book.read(size)
        return book.lines(period)

    def _book(self, member: str, begins: datetime, ends: datetime | None) -> LogBook:
        key = member, begins, ends
        with self._lock:
            book = self._kept.get(key)
            if book is None:
                book = self._kept[key] = LogBook(self._reader, member, begins, ends)
            self._kept.move_to_end(key)
            if len(self._kept) > KEPT_BOOKS:
                self._kept.popitem(last=False)
        return book


def _wanted(member: str, begins: datetime | None, ends: datetime | None) -> Filter:
    parts: list[Filter] = [
        Has(Field.PROVIDER, member),
        Or(tuple(Has(Field.KIND, kind) for kind in COUNTED)),
    ]
    parts += [] if begins is None else [since(begins)]
    parts += [] if ends is None else [until(ends)]
    return And(tuple(parts))
