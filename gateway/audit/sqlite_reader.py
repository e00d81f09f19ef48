"""Reading an audit log in SQLite, beside the process that writes it."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from gateway.audit.errors import EntryNotFoundError, LogUnavailableError
from gateway.audit.note import Ed25519Verifier
from gateway.audit.prover import TreeHashes
from gateway.audit.search import BLOCK_ENTRIES, EntryFilter
from gateway.audit.sqlite_schema import check_schema, connect_for_reading
from gateway.audit.store import MAX_PAGE_SIZE, StoredEntry
from gateway.audit.tiles import TILE_WIDTH, row_length
from gateway.audit.tree import HASH_BYTES


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


class SqliteReader:
    """An audit log in SQLite, read-only. Safe from any thread.

    Each read sees one committed state. Opening raises `LogUnavailableError` if the file cannot be
    opened and `LogMismatchError` if it is not an audit log of the version known here.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._idle: list[sqlite3.Connection] = []
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

    def verifier(self) -> Ed25519Verifier:
        """Return the key that the log is kept under, as its writer found it to be the configured one."""
        with self._snapshot() as connection:
            row = connection.execute("SELECT vkey FROM log").fetchone()
        if row is None:
            raise EntryNotFoundError("The log does not say which key it is kept under.")
        return Ed25519Verifier.from_vkey(row[0])

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

    def find(self, wanted: EntryFilter, page_size: int, before: int | None = None) -> list[StoredEntry]:
        """Return at most `page_size` entries of `wanted` with an index below `before`, newest first."""
        if not 1 <= page_size <= MAX_PAGE_SIZE:
            raise ValueError(f"a page holds 1 to {MAX_PAGE_SIZE} entries")
        found: list[StoredEntry] = []
        with self._snapshot() as connection:
            for start, end in _ranges(connection, wanted, before):
                found.extend(_matches(connection, wanted, (start, end), page_size - len(found)))
                if len(found) == page_size:
                    break
        return found

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
            yield TreeHashes(SqliteTiles(connection), size)

    @contextmanager
    def _snapshot(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._closed:
                raise LogUnavailableError("The audit log is closed.")
            connection = self._idle.pop() if self._idle else None
        try:
            if connection is None:
                connection = connect_for_reading(self.path)
            connection.execute("BEGIN")
            yield connection
            connection.execute("COMMIT")
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


def _ranges(
    connection: sqlite3.Connection, wanted: EntryFilter, before: int | None
) -> Iterator[tuple[int, int]]:
    """Yield the ranges (start, end) of indices that may hold a match, newest first."""
    size = _size(connection)
    end = size if before is None else max(0, min(before, size))
    if wanted.exchange is not None:
        # The one column with an index of its own: nothing to narrow down.
        yield 0, end
        return
    tail = max(end - end % BLOCK_ENTRIES, 0)
    yield tail, end
    conditions = wanted.conditions()
    values: dict[str, str | int] = {"tail": tail // BLOCK_ENTRIES}
    narrowing = ["number < :tail"]
    for name, condition in (("since", "last_time >= :since"), ("until", "first_time < :until")):
        if name in conditions:
            narrowing.append(condition)
            values[name] = conditions[name][1]
    for at, term in enumerate(wanted.terms()):
        narrowing.append(f"number IN (SELECT number FROM block_term WHERE term = :term{at})")  # noqa: S608
        values[f"term{at}"] = term
    blocks = connection.execute(
        f"SELECT number FROM block WHERE {' AND '.join(narrowing)} ORDER BY number DESC",  # noqa: S608
        values,
    )
    for (number,) in blocks:
        yield number * BLOCK_ENTRIES, (number + 1) * BLOCK_ENTRIES


def _matches(
    connection: sqlite3.Connection, wanted: EntryFilter, bounds: tuple[int, int], limit: int
) -> list[StoredEntry]:
    # Only the fixed conditions become part of the statement; what is looked for stays a parameter.
    conditions = wanted.conditions()
    terms = ["idx >= :start", "idx < :end", *(condition for condition, _ in conditions.values())]
    values = {name: value for name, (_, value) in conditions.items()}
    rows = connection.execute(
        f"SELECT idx, data FROM entry WHERE {' AND '.join(terms)} ORDER BY idx DESC LIMIT :limit",  # noqa: S608
        {**values, "start": bounds[0], "end": bounds[1], "limit": limit},
    )
    return [StoredEntry(index, data) for index, data in rows]
