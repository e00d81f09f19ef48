"""Writing a report: every entry of a filter, in order, with a digest of what was written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Final

from gateway.audit.filter import Filter
from gateway.audit.report.formats import ReportForm
from gateway.audit.store import MAX_PAGE_SIZE, AuditReader

Progress = Callable[[int, int], None]
"""Takes entries searched and entries in all."""

_SEARCHED_AT_ONCE: Final = 1 << 18


@dataclass(frozen=True, slots=True)
class Written:
    """What stands in a report."""

    entries: int
    first: int | None
    last: int | None
    bytes: int
    sha256: str


def write_report(
    reader: AuditReader, wanted: Filter, size: int, form: ReportForm, file: IO[bytes], progress: Progress
) -> Written:
    """Write the entries of `wanted` below the index `size` to `file`, oldest first, page by page.

    Raises `LogUnavailableError`, and `LogMismatchError` if an entry is not one.
    """
    digest = hashlib.sha256()
    length = entries = 0
    first: int | None = None
    last: int | None = None

    def put(text: bytes) -> None:
        nonlocal length
        file.write(text)
        digest.update(text)
        length += len(text)

    put(form.heading())
    start = 0
    progress(0, size)
    while start < size:
        end = min(size, start + _SEARCHED_AT_ONCE)
        page = reader.follow(wanted, MAX_PAGE_SIZE, start, end)
        for stored in page:
            put(form.write(stored))
        entries += len(page)
        if page:
            first = page[0].index if first is None else first
            last = page[-1].index
        start = page[-1].index + 1 if len(page) == MAX_PAGE_SIZE else end
        progress(start, size)
    return Written(entries, first, last, length, digest.hexdigest())
