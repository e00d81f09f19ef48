"""Reading an audit log in PostgreSQL, beside the nodes that write it."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, Final, Self, TypeVar

import psycopg

from gateway.audit.blocks import COLUMNS, BlockSummary, IndexRow, beside_columns
from gateway.audit.errors import EntryNotFoundError, LogMismatchError, LogUnavailableError
from gateway.audit.filter import Filter
from gateway.audit.prover import KnownTiles, TreeHashes
from gateway.audit.search import search, search_page
from gateway.audit.store import MAX_PAGE_SIZE, SCANNED_AT_ONCE, EntryPage, ScannedEntries, StoredEntry
from gateway.audit.summaries import read_summaries
from gateway.audit.tiles import TILE_WIDTH, row_length
from gateway.audit.tree import HASH_BYTES
from gateway.database.address import PostgresAddress
from gateway.database.errors import DatabaseRefusedError, DatabaseUnavailableError
from gateway.database.session import advice_for, connect

READ_TIMEOUT_S: Final = 30.0
_TERMS: Final = """
WITH RECURSIVE found (term) AS (
    SELECT min(term) FROM block_term WHERE term >= %(prefix)s
    UNION ALL
    SELECT (SELECT min(term) FROM block_term WHERE term > found.term) FROM found
    WHERE starts_with(found.term, %(prefix)s)
)
SELECT term FROM found WHERE starts_with(term, %(prefix)s)
"""
"""From one term to the next: each stands in many rows."""
_LEAVES: Final = "SELECT data FROM entry WHERE idx >= %s AND idx < %s ORDER BY idx"
_ROWS: Final = f"SELECT {', '.join(COLUMNS)}, data FROM entry WHERE idx >= %s AND idx < %s ORDER BY idx"  # noqa: S608
_COLUMN: Final = {
    name: f"SELECT {name} FROM entry WHERE idx >= %s AND idx < %s ORDER BY idx"  # noqa: S608 -- fixed names
    for name in COLUMNS
}
_JOINED: Final = (
    r"SELECT count(*), string_agg(data, '\x0a'::bytea ORDER BY idx) FROM entry WHERE idx = ANY(%s)"
)

_Connection = psycopg.Connection[Any]
_Result = TypeVar("_Result")


class PostgresTiles:
    """The tiles of the log as one session sees them. Raises `psycopg.Error`."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    def tile(self, level: int, number: int, width: int) -> bytes:
        """Return the first `width` hashes of a tile; raise `EntryNotFoundError` if there are fewer.

        Full tiles are stored; a partial one is put together from the row below it.
        """
        if level < 0 or number < 0 or not 1 <= width <= TILE_WIDTH:
            raise EntryNotFoundError("The log has no such tile.")
        row = self._connection.execute(
            "SELECT hashes FROM tile WHERE level = %s AND number = %s", (level, number), binary=True
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
                "SELECT hash FROM entry WHERE idx >= %s AND idx < %s ORDER BY idx", (start, end), binary=True
            )
        else:
            rows = self._connection.execute(
                "SELECT root FROM tile WHERE level = %s AND number >= %s AND number < %s ORDER BY number",
                (level - 1, start, end),
                binary=True,
            )
        return [hashed for (hashed,) in rows]


class PostgresIndex:
    """What a search asks of the log, as one session sees it (`gateway.audit.search.SearchIndex`).

    Raises `psycopg.Error`.
    """

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    def times(self, first: int, end: int) -> Sequence[tuple[str, str]]:
        """Return (earliest, latest) time of the blocks from `first` to before `end`, in order."""
        return self._connection.execute(
            "SELECT first_time, last_time FROM block WHERE number >= %s AND number < %s ORDER BY number",
            (first, end),
        ).fetchall()

    def bits(self, term: str, first: int, end: int) -> Sequence[tuple[int, bytes]]:
        """Return (number, bits) of the blocks in that range in which `term` occurs, in order."""
        return self._connection.execute(
            "SELECT number, bits FROM block_term WHERE term = %s AND number >= %s AND number < %s "
            "ORDER BY number",
            (term, first, end),
            binary=True,
        ).fetchall()

    def terms(self, prefix: str) -> Sequence[str]:
        """Return the terms that begin with `prefix`, in whatever block."""
        return [term for (term,) in self._connection.execute(_TERMS, {"prefix": prefix})]

    def rows(self, start: int, end: int) -> Sequence[IndexRow]:
        """Return the rows of the entries from `start` to before `end`, in order."""
        rows = self._connection.execute(_ROWS, (start, end), binary=True).fetchall()
        beside = beside_columns(data for *_, data in rows)
        return [IndexRow._make((*row[:-1], *found)) for row, found in zip(rows, beside, strict=True)]

    def column(self, name: str, start: int, end: int) -> Sequence[str]:
        """Return a field of the rows of the entries from `start` to before `end`, in order."""
        if name == "contract":
            leaves = self._connection.execute(_LEAVES, (start, end), binary=True)
            return [contract for contract, _ in beside_columns(leaf for (leaf,) in leaves)]
        rows = self._connection.execute(_COLUMN[name], (start, end), binary=True)
        return [value for (value,) in rows]

    def of_exchange(self, exchange: str) -> Sequence[int]:
        """Return the indices of the entries of an exchange."""
        rows = self._connection.execute("SELECT idx FROM entry WHERE exchange = %s", (exchange,), binary=True)
        return [index for (index,) in rows]


class PostgresReader:
    """An audit log in PostgreSQL, read-only. Safe from any thread; each read sees one committed state.

    Opening raises `LogUnavailableError` if the database cannot be reached, and `LogMismatchError` if it
    is not one that this release may use.
    """

    def __init__(self, address: PostgresAddress) -> None:
        self.address = address
        self._idle: list[_Connection] = []
        self._known = KnownTiles()
        self._lock = threading.Lock()
        self._closed = False
        with self._snapshot():
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the idle sessions; those in use are closed when their reads end."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def identity(self) -> tuple[str, str]:
        """Return the log's origin and verifier key, as the database states them."""
        row = self._one("SELECT origin, vkey FROM log")
        if row is None:
            raise EntryNotFoundError("The log has no origin.")
        return str(row[0]), str(row[1])

    def size(self) -> int:
        """Return the number of entries."""
        return self._read(_size)

    def exists(self) -> bool:
        """Whether the database holds a log."""
        return self._one("SELECT 1 FROM log") is not None

    def entry(self, index: int) -> StoredEntry:
        """Return one entry; raise `EntryNotFoundError` if there is none at `index`."""
        row = self._one("SELECT data FROM entry WHERE idx = %s", index)
        if row is None:
            raise EntryNotFoundError("The log has no entry with this index.")
        return StoredEntry(index, row[0])

    def entries(self, start: int, end: int) -> list[bytes]:
        """Return the leaves at the indices from `start` to before `end`, at most a page of them.

        Raises `EntryNotFoundError` if the log does not hold all of them.
        """
        if not 0 <= end - start <= MAX_PAGE_SIZE:
            raise ValueError(f"a page holds at most {MAX_PAGE_SIZE} entries")

        def read(connection: _Connection) -> list[bytes]:
            rows = connection.execute(
                "SELECT data FROM entry WHERE idx >= %s AND idx < %s ORDER BY idx", (start, end), binary=True
            )
            return [data for (data,) in rows]

        found = self._read(read)
        if len(found) != end - start:
            raise EntryNotFoundError("The log has no entries with these indices yet.")
        return found

    def find(self, wanted: Filter, page_size: int, before: int | None = None) -> list[StoredEntry]:
        """Return at most `page_size` entries of `wanted` with an index below `before`, newest first."""

        def read(connection: _Connection) -> list[StoredEntry]:
            size = _size(connection)
            end = size if before is None else max(0, min(before, size))
            return _page(connection, wanted, (0, end), page_size, newest_first=True)

        return self._read(read)

    def page(self, wanted: Filter, page_size: int, before: int | None = None) -> EntryPage:
        """Return what `find` does, but no more than is found within a bounded amount of work."""
        return self._read(lambda connection: _bounded_page(connection, wanted, before, page_size))

    def follow(self, wanted: Filter, page_size: int, start: int, end: int) -> list[StoredEntry]:
        """Return at most `page_size` entries of `wanted` from `start` to before `end`, oldest first."""

        def read(connection: _Connection) -> list[StoredEntry]:
            bounds = max(0, start), min(end, _size(connection))
            return _page(connection, wanted, bounds, page_size, newest_first=False)

        return self._read(read)

    def scan(self, wanted: Filter, start: int, end: int) -> Iterator[ScannedEntries]:
        """Yield all entries of `wanted` from `start` to before `end`, oldest first, many together."""
        with self._snapshot() as connection:
            size = _size(connection)
            start, end = max(0, start), min(end, size)
            found = search(PostgresIndex(connection), wanted, start, end, newest_first=False, size=size)
            indices = array("Q", found)
        yield from self.gather(indices)

    def gather(self, indices: Sequence[int]) -> Iterator[ScannedEntries]:
        """Yield the entries at `indices`, in their order, many together."""
        for first in range(0, len(indices), SCANNED_AT_ONCE):
            with self._session() as connection:
                scanned = _scanned(connection, list(indices[first : first + SCANNED_AT_ONCE]))
            yield scanned

    def summaries(self, prefixes: Sequence[str], first: int, end: int) -> Sequence[BlockSummary]:
        """Return the summaries of full blocks, with the terms that begin with one of `prefixes`."""
        with self._snapshot() as connection:
            return read_summaries(PostgresIndex(connection), prefixes, first, end)

    def checkpoint(self) -> str:
        """Return the latest checkpoint as a signed note."""
        row = self._one("SELECT note FROM head")
        if row is None:
            raise EntryNotFoundError("The log has no checkpoint yet.")
        return str(row[0])

    def checkpoint_at(self, size: int) -> str:
        """Return the checkpoint of exactly `size` entries; raise `EntryNotFoundError` without one."""
        row = self._one("SELECT note FROM checkpoint WHERE size = %s", size)
        if row is None:
            raise EntryNotFoundError("The log has no checkpoint of this size.")
        return str(row[0])

    def inclusion_proof(self, index: int, size: int) -> tuple[bytes, ...]:
        """Return the proof of entry `index` in the tree of `size`, from the leaf's sibling up."""

        def prove(connection: _Connection) -> tuple[bytes, ...]:
            hashes = self._tree(connection, size)
            if not 0 <= index < size:
                raise EntryNotFoundError("The tree of this size has no entry with this index.")
            return hashes.inclusion_proof(index)

        return self._read(prove)

    def consistency_proof(self, old_size: int, new_size: int) -> tuple[bytes, ...]:
        """Return the proof that the tree of `new_size` extends that of `old_size`."""

        def prove(connection: _Connection) -> tuple[bytes, ...]:
            hashes = self._tree(connection, new_size)
            if not 0 <= old_size <= new_size:
                raise EntryNotFoundError("The older size must not exceed the newer.")
            return hashes.consistency_proof(old_size)

        return self._read(prove)

    def tile(self, level: int, number: int, width: int) -> bytes:
        """Return the first `width` hashes of a tile; raise `EntryNotFoundError` if it has fewer."""

        def read(connection: _Connection) -> bytes:
            if level < 0 or number * TILE_WIDTH + width > row_length(level, _size(connection)):
                raise EntryNotFoundError("The log has no such tile yet.")
            return PostgresTiles(connection).tile(level, number, width)

        return self._read(read)

    def _tree(self, connection: _Connection, size: int) -> TreeHashes:
        if not 0 <= size <= _size(connection):
            raise EntryNotFoundError("The log has not grown to this size.")
        return TreeHashes(PostgresTiles(connection), size, self._known)

    def _one(self, statement: str, *values: object) -> tuple[Any, ...] | None:
        def read(connection: _Connection) -> tuple[Any, ...] | None:
            return connection.execute(statement, values, binary=True).fetchone()

        return self._read(read)

    def _read(self, action: Callable[[_Connection], _Result]) -> _Result:
        with self._snapshot() as connection:
            return action(connection)

    @contextmanager
    def _snapshot(self) -> Iterator[_Connection]:
        """Yield a session that sees one committed state."""
        with self._session() as connection:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield connection
            connection.execute("COMMIT")

    @contextmanager
    def _session(self) -> Iterator[_Connection]:
        """Yield a session each of whose statements sees a state of its own."""
        connection = self._take()
        try:
            yield connection
        except psycopg.Error as error:
            connection.close()
            raise LogUnavailableError(f"The audit log cannot be read: {advice_for(error)}.") from None
        except BaseException:
            # An error of the caller's own leaves the session sound.
            connection.rollback()
            self._give_back(connection)
            raise
        self._give_back(connection)

    def _take(self) -> _Connection:
        while True:
            with self._lock:
                if self._closed:
                    raise LogUnavailableError("The audit log is closed.")
                if not self._idle:
                    break
                connection = self._idle.pop()
            # A session that the server ended while it was idle is no fault of this read.
            if _is_alive(connection):
                return connection
            connection.close()
        try:
            return connect(self.address, "read", statement_timeout_s=READ_TIMEOUT_S)
        except DatabaseUnavailableError as error:
            raise LogUnavailableError(error.message) from error
        except DatabaseRefusedError as error:
            raise LogMismatchError(error.message) from error

    def _give_back(self, connection: _Connection) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()


def _is_alive(connection: _Connection) -> bool:
    try:
        connection.execute("")
    except psycopg.Error:
        return False
    return True


def _size(connection: _Connection) -> int:
    row = connection.execute("SELECT size FROM head").fetchone()
    return 0 if row is None else int(row[0])


def _page(
    connection: _Connection,
    wanted: Filter,
    bounds: tuple[int, int],
    page_size: int,
    *,
    newest_first: bool,
) -> list[StoredEntry]:
    _check_page_size(page_size)
    start, end = bounds
    found = search(
        PostgresIndex(connection), wanted, start, end, newest_first=newest_first, size=_size(connection)
    )
    return _stored(connection, list(islice(found, page_size)))


def _bounded_page(connection: _Connection, wanted: Filter, before: int | None, page_size: int) -> EntryPage:
    _check_page_size(page_size)
    size = _size(connection)
    end = size if before is None else max(0, min(before, size))
    indices, further = search_page(PostgresIndex(connection), wanted, end, page_size=page_size, size=size)
    return EntryPage(_stored(connection, indices), further)


def _check_page_size(page_size: int) -> None:
    if not 1 <= page_size <= MAX_PAGE_SIZE:
        raise ValueError(f"a page holds 1 to {MAX_PAGE_SIZE} entries")


def _scanned(connection: _Connection, indices: list[int]) -> ScannedEntries:
    row = connection.execute(_JOINED, (indices,), binary=True).fetchone()
    count, lines = row or (0, None)
    if count != len(indices):
        raise LogMismatchError("The audit log lacks an entry that its index has; run `gateway audit fsck`.")
    return ScannedEntries(indices, bytes(lines or b""))


def _stored(connection: _Connection, indices: Sequence[int]) -> list[StoredEntry]:
    rows = connection.execute(
        "SELECT idx, data FROM entry WHERE idx = ANY(%s)", (list(indices),), binary=True
    )
    data = dict(rows.fetchall())
    for index in indices:
        if index not in data:
            raise LogMismatchError(
                "The audit log lacks an entry that its index has; run `gateway audit fsck`.", index=index
            )
    return [StoredEntry(index, data[index]) for index in indices]
