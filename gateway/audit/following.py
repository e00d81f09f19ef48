"""Following the log as it grows."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.audit.filter import Filter
from gateway.audit.store import MAX_PAGE_SIZE, AuditReader, StoredEntry


class Follower:
    """Gives the entries of a filter in the order of the log, each once."""

    def __init__(self, reader: AuditReader, wanted: Filter, start: int = 0) -> None:
        """Begin with the entry at `start`."""
        self._reader = reader
        self._wanted = wanted
        self._next = start

    @classmethod
    def from_the_last(cls, reader: AuditReader, wanted: Filter, count: int) -> Follower:
        """Return one that begins with the newest `count` entries of `wanted` that there are now."""
        size = reader.size()
        newest = reader.find(wanted, count, size) if count else []
        return cls(reader, wanted, newest[-1].index if newest else size)

    def take(self) -> Iterator[StoredEntry]:
        """Yield what the log holds now and was not given yet."""
        size = self._reader.size()
        while self._next < size:
            page = self._reader.follow(self._wanted, MAX_PAGE_SIZE, self._next, size)
            for entry in page:
                self._next = entry.index + 1
                yield entry
            if len(page) < MAX_PAGE_SIZE:
                self._next = size
