"""The books of members as a running gateway keeps them: brought up to date when they are read."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from itertools import chain, groupby
from typing import Final

from gateway.audit.blocks import BLOCK_ENTRIES, term_of
from gateway.audit.filter import And, Field, Filter, Has, Or, since, until
from gateway.audit.store import AuditReader, ScannedEntries
from gateway.clock import rfc3339
from gateway.usage.book import Book, Counted
from gateway.usage.period import Period
from gateway.usage.seen import COUNTED, REQUESTED, Seen, see, see_all
from gateway.usage.summing import PREFIXES, SummedBlock

KEPT_BOOKS: Final = 32
"""Books kept for the next question; the one that was asked for longest ago makes room."""

_READ_AT_ONCE: Final = 262_144
"""Entries searched together: 2 MiB of indices, if all are found."""

_BLOCKS_AT_ONCE: Final = 512
"""Blocks of which the summaries are read together: usually some 20 MiB."""

_FOR_EVER: Final = "9999"
"""After every time of an entry."""


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
        self._member = member
        self._wanted = _wanted(member, begins, ends)
        self._begins = "" if begins is None else rfc3339(begins)
        self._ends = _FOR_EVER if ends is None else rfc3339(ends)
        self._empty = partial(Book, member, self._release, with_entries=with_entries)
        self._book = self._empty()
        self._lock = threading.Lock()
        self.size = 0
        """The entries below this index are counted."""
        self.counted = 0
        """How many of them tell of this member's records."""

    def read(self, size: int) -> None:
        """Count the entries up to the tree of `size`.

        Full blocks are counted by their summaries where these suffice. Raises `LogUnavailableError`, and
        `LogMismatchError` if an entry is not one; may then be called again.
        """
        with self._lock:
            first, end = -(-self.size // BLOCK_ENTRIES), size // BLOCK_ENTRIES
            if first < end:
                self._read_entries(first * BLOCK_ENTRIES)
                for number in range(first, end, _BLOCKS_AT_ONCE):
                    self._read_blocks(number, min(end, number + _BLOCKS_AT_ONCE))
            self._read_entries(size)

    def _read_blocks(self, first: int, end: int) -> None:
        own = term_of(Field.PROVIDER, self._member)
        with_own = [
            number
            for number, summary in enumerate(self._reader.summaries([own], first, end), first)
            if own in summary.bits and summary.last_time >= self._begins and summary.first_time < self._ends
        ]
        if with_own:
            self.size, last = with_own[0] * BLOCK_ENTRIES, with_own[-1] + 1
            summaries = self._reader.summaries([own, *PREFIXES], with_own[0], last)
            blocks = [
                SummedBlock(number, summary, self._member)
                for number, summary in enumerate(summaries, with_own[0])
            ]
            for suffices, run in groupby(blocks, lambda block: block.suffices(self._begins, self._ends)):
                together = list(run)
                if suffices:
                    self._count_blocks(together)
                else:
                    self._read_entries(together[-1].end)
        self.size = end * BLOCK_ENTRIES

    def _read_entries(self, end: int) -> None:
        """Read those before `end` one by one. While some are counted the next are read: beside Python."""
        for start in range(self.size, end, _READ_AT_ONCE):
            scan = self._reader.scan(self._wanted, start, min(end, start + _READ_AT_ONCE))
            with ThreadPoolExecutor(1, thread_name_prefix="usage") as ahead:
                coming = ahead.submit(next, scan, None)
                while (found := coming.result()) is not None:
                    coming = ahead.submit(next, scan, None)
                    self._count(found)
        self.size = max(self.size, end)

    def _count_blocks(self, blocks: Sequence[SummedBlock]) -> None:
        rest = [index for block in blocks for index in block.rest()]
        with self._anew_on_error():
            self._book.add_sums(chain.from_iterable(block.sums() for block in blocks))
            for found in self._reader.gather(rest):
                self._book.add(see_all(found))
        self.size = blocks[-1].end
        self.counted += sum(block.told for block in blocks)

    def _count(self, found: ScannedEntries) -> None:
        entries = see_all(found)
        with self._anew_on_error():
            self._book.add(entries)
        self.size = found.indices[-1] + 1
        self.counted += len(found.indices)

    @contextmanager
    def _anew_on_error(self) -> Iterator[None]:
        """Where counting fails some may be counted: let the next reading begin with the first entry again."""
        try:
            yield
        except BaseException:
            self._book, self.size, self.counted = self._empty(), 0, 0
            raise

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
