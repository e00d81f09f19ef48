"""Reading an audit log in SQLite, beside the process that writes it."""

from __future__ import annotations

import json
import sqlite3
import threading
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Final, Self

from gateway.audit.blocks import BLOCK_BYTES, COLUMNS, BlockSummary, IndexRow, beside_columns
from gateway.audit.errors import EntryNotFoundError, LogMismatchError, LogUnavailableError
from gateway.audit.filter import Filter
from gateway.audit.prover import KnownTiles, TreeHashes
from gateway.audit.search import damaged_index, search, search_page
from gateway.audit.sqlite_schema import check_schema, connect_for_reading
from gateway.audit.store import MAX_PAGE_SIZE, SCANNED_AT_ONCE, EntryPage, ScannedEntries, StoredEntry
from gateway.audit.summaries import read_summaries
from gateway.audit.tiles import TILE_WIDTH, row_length
from gateway.audit.tree import HASH_BYTES

_BITS: Final = f"""
SELECT count(*), sum(length(bits) = {BLOCK_BYTES}), min(number), max(number), group_concat(number),
    CAST(group_concat(bits, '') AS BLOB)
FROM block_term WHERE term = ? AND number >= ? AND number < ?
"""  # noqa: S608 -- a fixed number
"""The rows stand in the order of the primary key, which is the term and the number."""
_COLUMN: Final = {
    name: f"SELECT {name} FROM entry WHERE idx >= ? AND idx < ? ORDER BY idx"  # noqa: S608 -- fixed names
    for name in COLUMNS
}
_TERMS: Final = """
WITH RECURSIVE found (term) AS (
    SELECT min(term) FROM block_term WHERE term >= :prefix
    UNION ALL
    SELECT (SELECT min(term) FROM block_term WHERE term > found.term) FROM found
    WHERE substr(found.term, 1, length(:prefix)) = :prefix
)
SELECT term FROM found WHERE substr(term, 1, length(:prefix)) = :prefix
"""
"""From one term to the next: each stands in many rows."""
_LEAVES: Final = "SELECT data FROM entry WHERE idx >= ? AND idx < ? ORDER BY idx"
_ROWS: Final = f"SELECT {', '.join(COLUMNS)}, data FROM entry WHERE idx >= ? AND idx < ? ORDER BY idx"  # noqa: S608

_JOINED: Final = """
SELECT count(*), CAST(group_concat(data, x'0a') AS BLOB) FROM json_each(?) CROSS JOIN entry ON idx = value
"""
"""Leaves in the order of the indices given: CROSS JOIN keeps it."""


class SqliteTiles:
    """The tiles of the log as one connection sees them."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def tile(self, level: int, number: int, width: int) -> bytes:
        """Return the first `width` hashes of a tile; raise `EntryNotFoundError` if there are fewer.

        Full tiles are stored. A partial tile is put together from the row below it: leaf hashes, or
        the roots of the full tiles one level down.
        """
        if level < 0 or number < 0 or not 1 <= width <= TILE_WIDTH:
            raise EntryNotFoundError("The log has no such tile.")
        row = self._connection.execute(
            "SELECT hashes FROM tile WHERE level = ? AND number = ?", (level, number)
        ).fetchone()
        if row is not None:
            return bytes(row[0][: width * HASH_BYTES])
        start = number * TILE_WIDTH
        hashes = self.row(level, start, start + width)
        if len(hashes) != width:
            raise EntryNotFoundError("The log has no such tile yet.")
        return b"".join(hashes)

    def row(self, level: int, start: int, end: int) -> list[bytes]:
        """Return the hashes of a level at the positions from `start` to before `end`, as far as stored."""
        if level == 0:
            rows = self._connection.execute(
                "SELECT hash FROM entry WHERE idx >= ? AND idx < ? ORDER BY idx", (start, end)
            )
        else:
            rows = self._connection.execute(
                "SELECT root FROM tile WHERE level = ? AND number >= ? AND number < ? ORDER BY number",
                (level - 1, start, end),
            )
        return [hashed for (hashed,) in rows]


class SqliteIndex:
    """What a search asks of the log, as one connection sees it (`gateway.audit.search.SearchIndex`)."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def times(self, first: int, end: int) -> Sequence[tuple[str, str]]:
        """Return (earliest, latest) time of the blocks from `first` to before `end`, in order."""
        return self._connection.execute(
            "SELECT first_time, last_time FROM block WHERE number >= ? AND number < ? ORDER BY number",
            (first, end),
        ).fetchall()

    def bits(self, term: str, first: int, end: int) -> Sequence[tuple[int, bytes]]:
        """Return (number, bits) of the blocks in that range in which `term` occurs, in order.

        Blocks that follow one another come together; a row of its own for each would cost three times as
        much.
        """
        found = self._connection.execute(_BITS, (term, first, end)).fetchone()
        count, whole, lowest, highest, numbers, joined = found
        if not count:
            return []
        if whole != count:
            raise damaged_index()
        if highest - lowest + 1 == count:
            return [(lowest, joined)]
        return [
            (int(number), joined[at * BLOCK_BYTES : (at + 1) * BLOCK_BYTES])
            for at, number in enumerate(numbers.split(","))
        ]

    def terms(self, prefix: str) -> Sequence[str]:
        """Return the terms that begin with `prefix`, in whatever block."""
        return [term for (term,) in self._connection.execute(_TERMS, {"prefix": prefix})]

    def rows(self, start: int, end: int) -> Sequence[IndexRow]:
        """Return the rows of the entries from `start` to before `end`, in order."""
        rows = self._connection.execute(_ROWS, (start, end)).fetchall()
        beside = beside_columns(data for *_, data in rows)
        return [IndexRow._make((*row[:-1], *found)) for row, found in zip(rows, beside, strict=True)]

    def column(self, name: str, start: int, end: int) -> Sequence[str]:
        """Return a field of the rows of the entries from `start` to before `end`, in order."""
        if name == "contract":
            leaves = self._connection.execute(_LEAVES, (start, end))
            return [contract for contract, _ in beside_columns(leaf for (leaf,) in leaves)]
        return [value for (value,) in self._connection.execute(_COLUMN[name], (start, end))]

    def of_exchange(self, exchange: str) -> Sequence[int]:
        """Return the indices of the entries of an exchange."""
        rows = self._connection.execute("SELECT idx FROM entry WHERE exchange = ?", (exchange,))
        return [index for (index,) in rows]


class SqliteReader:
    """An audit log in SQLite, read-only. Safe from any thread.

    Each read sees one committed state. Opening raises `LogUnavailableError` if the file cannot be
    opened and `LogMismatchError` if it is not an audit log of the version known here.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._idle: list[sqlite3.Connection] = []
        self._known = KnownTiles()
        self._lock = threading.Lock()
        self._closed = False
        with self._snapshot() as connection:
            check_schema(connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the idle connections; those in use are closed when their reads end."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def identity(self) -> tuple[str, str]:
        """Return the log's origin and verifier key, as the file states them."""
        with self._snapshot() as connection:
            row = connection.execute("SELECT origin, vkey FROM log").fetchone()
        if row is None:
            raise EntryNotFoundError("The log has no origin.")
        return str(row[0]), str(row[1])

    def size(self) -> int:
        """Return the number of entries."""
        with self._snapshot() as connection:
            return _size(connection)

    def entry(self, index: int) -> StoredEntry:
        """Return one entry; raise `EntryNotFoundError` if there is none at `index`."""
        with self._snapshot() as connection:
            row = connection.execute("SELECT data FROM entry WHERE idx = ?", (index,)).fetchone()
        if row is None:
            raise EntryNotFoundError("The log has no entry with this index.")
        return StoredEntry(index, row[0])

    def entries(self, start: int, end: int) -> list[bytes]:
        """Return the leaves at the indices from `start` to before `end`, at most a page of them.

        Raises `EntryNotFoundError` if the log does not hold all of them.
        """
        if not 0 <= end - start <= MAX_PAGE_SIZE:
            raise ValueError(f"a page holds at most {MAX_PAGE_SIZE} entries")
        with self._snapshot() as connection:
            rows = connection.execute(
                "SELECT data FROM entry WHERE idx >= ? AND idx < ? ORDER BY idx", (start, end)
            ).fetchall()
        if len(rows) != end - start:
            raise EntryNotFoundError("The log has no entries with these indices yet.")
        return [data for (data,) in rows]

    def find(self, wanted: Filter, page_size: int, before: int | None = None) -> list[StoredEntry]:
        """Return at most `page_size` entries of `wanted` with an index below `before`, newest first."""
        with self._snapshot() as connection:
            size = _size(connection)
            end = size if before is None else max(0, min(before, size))
            return _page(connection, wanted, (0, end), page_size, newest_first=True)

    def page(self, wanted: Filter, page_size: int, before: int | None = None) -> EntryPage:
        """Return what `find` does, but no more than is found within a bounded amount of work."""
        with self._snapshot() as connection:
            return _bounded_page(connection, wanted, before, page_size)

    def follow(self, wanted: Filter, page_size: int, start: int, end: int) -> list[StoredEntry]:
        """Return at most `page_size` entries of `wanted` from `start` to before `end`, oldest first."""
        with self._snapshot() as connection:
            bounds = max(0, start), min(end, _size(connection))
            return _page(connection, wanted, bounds, page_size, newest_first=False)

    def scan(self, wanted: Filter, start: int, end: int) -> Iterator[ScannedEntries]:
        """Yield all entries of `wanted` from `start` to before `end`, oldest first, many together."""
        with self._snapshot() as connection:
            size = _size(connection)
            start, end = max(0, start), min(end, size)
            found = search(SqliteIndex(connection), wanted, start, end, newest_first=False, size=size)
            indices = array("Q", found)
        yield from self.gather(indices)

    def gather(self, indices: Sequence[int]) -> Iterator[ScannedEntries]:
        """Yield the entries at `indices`, in their order, many together."""
        for first in range(0, len(indices), SCANNED_AT_ONCE):
            with self._connection() as connection:
                scanned = _scanned(connection, list(indices[first : first + SCANNED_AT_ONCE]))
            yield scanned

    def summaries(self, prefixes: Sequence[str], first: int, end: int) -> Sequence[BlockSummary]:
        """Return the summaries of full blocks, with the terms that begin with one of `prefixes`."""
        with self._snapshot() as connection:
            return read_summaries(SqliteIndex(connection), prefixes, first, end)

    def checkpoint(self) -> str:
        """Return the latest checkpoint as a signed note."""
        with self._snapshot() as connection:
            row = connection.execute("SELECT note FROM head").fetchone()
        if row is None:
            raise EntryNotFoundError("The log has no checkpoint yet.")
        return str(row[0])

    def checkpoint_at(self, size: int) -> str:
        """Return the checkpoint of exactly `size` entries; raise `EntryNotFoundError` without one."""
        with self._snapshot() as connection:
            row = connection.execute("SELECT note FROM checkpoint WHERE size = ?", (size,)).fetchone()
        if row is None:
            raise EntryNotFoundError("The log has no checkpoint of this size.")
        return str(row[0])

    def inclusion_proof(self, index: int, size: int) -> tuple[bytes, ...]:
        """Return the proof of entry `index` in the tree of `size`, from the leaf's sibling up."""
        with self._tree(size) as hashes:
            if not 0 <= index < size:
                raise EntryNotFoundError("The tree of this size has no entry with this index.")
            return hashes.inclusion_proof(index)

    def consistency_proof(self, old_size: int, new_size: int) -> tuple[bytes, ...]:
        """Return the proof that the tree of `new_size` extends that of `old_size`."""
        with self._tree(new_size) as hashes:
            if not 0 <= old_size <= new_size:
                raise EntryNotFoundError("The older size must not exceed the newer.")
            return hashes.consistency_proof(old_size)

    def tile(self, level: int, number: int, width: int) -> bytes:
        """Return the first `width` hashes of a tile; raise `EntryNotFoundError` if it has fewer."""
        with self._snapshot() as connection:
            if level < 0 or number * TILE_WIDTH + width > row_length(level, _size(connection)):
                raise EntryNotFoundError("The log has no such tile yet.")
            return SqliteTiles(connection).tile(level, number, width)

    @contextmanager
    def _tree(self, size: int) -> Iterator[TreeHashes]:
        with self._snapshot() as connection:
            if not 0 <= size <= _size(connection):
                raise EntryNotFoundError("The log has not grown to this size.")
            yield TreeHashes(SqliteTiles(connection), size, self._known)

    @contextmanager
    def _snapshot(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection that sees one committed state."""
        with self._connection() as connection:
            connection.execute("BEGIN")
            yield connection
            connection.execute("COMMIT")

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection each of whose statements sees a state of its own."""
        with self._lock:
            if self._closed:
                raise LogUnavailableError("The audit log is closed.")
            connection = self._idle.pop() if self._idle else None
        try:
            if connection is None:
                connection = connect_for_reading(self.path)
            yield connection
        except sqlite3.Error as error:
            if connection is not None:
                connection.close()
            raise LogUnavailableError(
                "The audit log cannot be read; check that its file exists, is readable and is not damaged."
            ) from error
        except BaseException:
            # An error of the caller's own leaves the connection sound.
            if connection is not None:
                connection.rollback()
                self._give_back(connection)
            raise
        self._give_back(connection)

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()


def _size(connection: sqlite3.Connection) -> int:
    row = connection.execute("SELECT size FROM head").fetchone()
    return 0 if row is None else int(row[0])


def _page(
    connection: sqlite3.Connection,
    wanted: Filter,
    bounds: tuple[int, int],
    page_size: int,
    *,
    newest_first: bool,
) -> list[StoredEntry]:
    _check_page_size(page_size)
    start, end = bounds
    found = search(
        SqliteIndex(connection), wanted, start, end, newest_first=newest_first, size=_size(connection)
    )
    return _stored(connection, islice(found, page_size))


def _bounded_page(
    connection: sqlite3.Connection, wanted: Filter, before: int | None, page_size: int
) -> EntryPage:
    _check_page_size(page_size)
    size = _size(connection)
    end = size if before is None else max(0, min(before, size))
    indices, further = search_page(SqliteIndex(connection), wanted, end, page_size=page_size, size=size)
    return EntryPage(_stored(connection, indices), further)


def _check_page_size(page_size: int) -> None:
    if not 1 <= page_size <= MAX_PAGE_SIZE:
        raise ValueError(f"a page holds 1 to {MAX_PAGE_SIZE} entries")


def _scanned(connection: sqlite3.Connection, indices: Sequence[int]) -> ScannedEntries:
    # Rows of their own, fetched one by one, would cost twice as much.
    count, lines = connection.execute(_JOINED, (json.dumps(indices),)).fetchone()
    if count != len(indices):
        raise LogMismatchError("The audit log lacks an entry that its index has; run `gateway audit fsck`.")
    return ScannedEntries(indices, lines or b"")


def _stored(connection: sqlite3.Connection, indices: Iterable[int]) -> list[StoredEntry]:
    page = []
    for index in indices:
        row = connection.execute("SELECT data FROM entry WHERE idx = ?", (index,)).fetchone()
        if row is None:
            raise LogMismatchError(
                "The audit log lacks an entry that its index has; run `gateway audit fsck`.", index=index
            )
        page.append(StoredEntry(index, row[0]))
    return page
