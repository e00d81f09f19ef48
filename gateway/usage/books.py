"""The books of members as a running gateway keeps them: brought up to date when they are read."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import Final

from gateway.audit.filter import And, Field, Filter, Has, Or, since, until
from gateway.audit.store import AuditReader, ScannedEntries
from gateway.usage.book import Book, Counted
from gateway.usage.period import Period
from gateway.usage.seen import COUNTED, REQUESTED, Seen, see, see_all

KEPT_BOOKS: Final = 32
"""Books kept for the next question; the one that was asked for longest ago makes room."""

_READ_AT_ONCE: Final = 262_144
"""Entries searched together: 2 MiB of indices, if all are found."""


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
        self._empty = partial(Book, member, self._release, with_entries=with_entries)
        self._book = self._empty()
        self._lock = threading.Lock()
        self.size = 0
        """The entries below this index are counted."""
        self.counted = 0
        """How many of them tell of this member's records."""

    def read(self, size: int) -> None:
        """Count the entries up to the tree of `size`.

        While some are counted, the next are read: the database does that beside Python. Raises
        `LogUnavailableError`, and `LogMismatchError` if an entry is not one; may then be called again.
        """
        with self._lock:
            for start in range(self.size, size, _READ_AT_ONCE):
                self._read_part(start, min(size, start + _READ_AT_ONCE))

    def _read_part(self, start: int, end: int) -> None:
        scan = self._reader.scan(self._wanted, start, end)
        with ThreadPoolExecutor(1, thread_name_prefix="usage") as ahead:
            coming = ahead.submit(next, scan, None)
            while (found := coming.result()) is not None:
                coming = ahead.submit(next, scan, None)
                self._count(found)
        self.size = end

    def _count(self, found: ScannedEntries) -> None:
        entries = see_all(found)
        try:
            self._book.add(entries)
        except BaseException:
            # Some of them may be counted: the next reading begins with the first entry again.
            self._book, self.size, self.counted = self._empty(), 0, 0
            raise
        self.size = found.indices[-1] + 1
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
