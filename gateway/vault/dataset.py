"""A dataset in the vault as a source of records, like any provider's (`gateway.sources.RecordSource`)."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import groupby, islice
from typing import Any, Final

import msgspec

from gateway.errors import Reason
from gateway.sources.cursor import CursorSeal, cursor_scope
from gateway.sources.source import EMPTY_PAGE, FetchRequest, SourceError, SourcePage
from gateway.vault.layout import text_of
from gateway.vault.reading import Found, VaultReader
from gateway.vault.tables import PLACES, Holding

_NULL: Final = b"null"
_Step = tuple[tuple[int, ...], int, list[int]]
"""The beginning of where to go on; a page; positions of the records wanted there, none: all."""


class HeldDataset:
    """One holding. Every method blocks and may be called from several threads at once."""

    def __init__(self, reader: VaultReader, holding: Holding, cursors: CursorSeal) -> None:
        self._reader = reader
        self._holding = holding
        self._cursors = cursors

    def fetch(self, request: FetchRequest) -> SourcePage:
        """Return one page; the pages that follow by cursor are of the same version.

        Raises `SourceError`, `CursorError`, `VaultUnavailableError` and `RecordsDestroyedError`.
        """
        return next(self._cut(request))

    def stream(self, request: FetchRequest) -> Generator[SourcePage, None, None]:
        """Return all pages of the newest version; at least one, maybe empty. Raises as `fetch` does."""
        yield from self._cut(request)

    def count_records(self) -> int:
        """Return how many records the newest version has."""
        return self._reader.newest(self._holding).alive

    def _cut(self, request: FetchRequest) -> Generator[SourcePage, None, None]:
        scope = cursor_scope(
            self._holding.dataset, request.subject_field, request.subject_values, request.filters
        )
        after: tuple[int, ...] = ()
        if request.cursor is None:
            version = self._reader.newest(self._holding).version
        else:
            version, *rest = self._cursors.open(request.cursor, scope)
            after = tuple(rest)
        lines: list[bytes] = []
        size = 0
        # One record ahead: the last page must say that it is.
        for position, line in self._records(request, version, after):
            full = len(lines) >= request.page_size or size + len(line) + 1 > request.page_bytes
            if lines and full:
                cursor = self._cursors.seal((version, *after), scope)
                yield SourcePage(records=b"\n".join(lines) + b"\n", count=len(lines), next_cursor=cursor)
                lines, size = [], 0
            lines.append(line)
            size += len(line) + 1
            after = position
        yield (
            SourcePage(records=b"\n".join(lines) + b"\n", count=len(lines), next_cursor=None)
            if lines
            else EMPTY_PAGE
        )

    def _records(
        self, request: FetchRequest, version: int, after: tuple[Any, ...]
    ) -> Iterator[tuple[tuple[int, ...], bytes]]:
        """Yield each record wanted, with where to go on behind it."""
        for prefix, number, positions in self._steps(request, version, after):
            page = self._reader.open_page(self._holding, number)
            if page is None:
                continue
            wanted = [position for position in positions or range(len(page.lines)) if page.lines[position]]
            if not prefix and after:
                wanted = [position for position in wanted if number * PLACES + position > after[-1]]
            alive = self._reader.alive(number, wanted, version)
            matching = _project(request, [page.lines[position] for position in alive])
            for position, line in zip(alive, matching, strict=True):
                if line is not None:
                    yield (*prefix, number * PLACES + position), line

    def _steps(self, request: FetchRequest, version: int, after: tuple[int, ...]) -> Iterator[_Step]:
        """Yield the pages to look at, in a stable order: by the index if there is one, else all of them.

        Where to go on is (look-up, run, place), or (place,).
        """
        lookups = _lookups(request)
        if not lookups or not self._reader.is_indexed(self._holding, version, lookups[0][0]):
            first = after[0] // PLACES - 1 if after else 0
            for number in self._reader.pages(self._holding, version, first):
                yield (), number, []
            return
        for at, (field, text) in islice(enumerate(lookups), after[0] if after else 0, None):
            begin = Found(*after[1:]) if after and at == after[0] else Found(0, 0)
            places = self._reader.places(self._holding, version, field, text, begin)
            for (run, number), found in groupby(places, lambda one: (one.run, one.place // PLACES)):
                yield (at, run), number, [one.place % PLACES for one in found]


def _lookups(request: FetchRequest) -> list[tuple[str, str]]:
    """Return (field, text) of what is looked up by the index, each record under one of them only."""
    if request.subject_field:
        return [(request.subject_field, value) for value in sorted(set(request.subject_values))]
    return sorted(request.filters.items())[:1]


def _project(request: FetchRequest, lines: Sequence[bytes]) -> list[bytes | None]:
    """Return each record with the fields wanted, or None if it is not one of those asked for."""
    if not lines:
        return []
    decoder, wanted, encode = _projection(
        request.fields, tuple(sorted({*request.filters, *filter(None, [request.subject_field])}))
    )
    try:
        records = decoder.decode_lines(b"\n".join(lines))
    except msgspec.DecodeError as error:
        raise SourceError(
            "A record in the vault is no JSON object.", reason=Reason.PROVIDER_SCHEMA
        ) from error
    conditions: Mapping[str, frozenset[str]] = {
        **{field: frozenset((text,)) for field, text in request.filters.items()},
        **({request.subject_field: _with(request)} if request.subject_field else {}),
    }
    tests = [(wanted[field], texts) for field, texts in conditions.items()]
    found: list[bytes | None] = []
    count = len(request.fields)
    for record in records:
        values = msgspec.structs.astuple(record)
        fits = all(_reads(values[at], texts) for at, texts in tests)
        found.append(encode(values[:count]) if fits else None)
    return found


def _with(request: FetchRequest) -> frozenset[str]:
    subjects = frozenset(request.subject_values)
    filtered = request.filters.get(request.subject_field)
    return subjects if filtered is None else subjects & {filtered}


def _reads(raw: msgspec.Raw, texts: frozenset[str]) -> bool:
    value = msgspec.json.decode(raw)
    return value is not None and not isinstance(value, list | dict) and text_of(value) in texts


@lru_cache(maxsize=256)
def _projection(fields: tuple[str, ...], conditions: tuple[str, ...]) -> tuple[Any, dict[str, int], Any]:
    """Return what reads these fields as they are written, where each is then, and what writes the wanted."""
    names = (*fields, *(name for name in conditions if name not in fields))
    record = msgspec.defstruct(
        "Held",
        [(f"f{at}", msgspec.Raw, msgspec.Raw(_NULL)) for at in range(len(names))],
        rename={f"f{at}": name for at, name in enumerate(names)},
        gc=False,
    )
    labels = [msgspec.json.encode(name) + b":" for name in fields]

    def encode(values: Sequence[msgspec.Raw]) -> bytes:
        parts = (label + bytes(value) for label, value in zip(labels, values, strict=True))
        return b"{" + b",".join(parts) + b"}"

    return msgspec.json.Decoder(record), {name: at for at, name in enumerate(names)}, encode
