"""Reading an audit log in PostgreSQL, beside the nodes that write it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Self, TypeVar

import psycopg

from gateway.audit.errors import EntryNotFoundError, LogMismatchError, LogUnavailableError
from gateway.audit.prover import TreeHashes
from gateway.audit.search import BLOCK_ENTRIES, EntryFilter
from gateway.audit.store import MAX_PAGE_SIZE, StoredEntry
from gateway.audit.tiles import TILE_WIDTH, row_length
from gateway.audit.tree import HASH_BYTES
from gateway.database.address import PostgresAddress
from gateway.database.errors import DatabaseRefusedError, DatabaseUnavailableError
from gateway.database.session import advice_for, connect

READ_TIMEOUT_S: Final = 30.0
_PARAMETER: Final = re.compile(r":([a-z_][a-z0-9_]*)")

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


class PostgresReader:
    """An audit log in PostgreSQL, read-only. Safe from any thread; each read sees one committed state.

    Opening raises `LogUnavailableError` if the database cannot be reached, and `LogMismatchError` if it
    is not one that this release may use.
    """

    def __init__(self, address: PostgresAddress) -> None:
        self.address = address
        self._idle: list[_Connection] = []
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

    def find(self, wanted: EntryFilter, page_size: int, before: int | None = None) -> list[StoredEntry]:
        """Return at most `page_size` entries of `wanted` with an index below `before`, newest first."""
        if not 1 <= page_size <= MAX_PAGE_SIZE:
            raise ValueError(f"a page holds 1 to {MAX_PAGE_SIZE} entries")

        def search(connection: _Connection) -> list[StoredEntry]:
            found: list[StoredEntry] = []
            for start, end in _ranges(connection, wanted, before):
                found.extend(_matches(connection, wanted, (start, end), page_size - len(found)))
                if len(found) == page_size:
                    break
            return found

        return self._read(search)

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
            hashes = _tree(connection, size)
            if not 0 <= index < size:
                raise EntryNotFoundError("The tree of this size has no entry with this index.")
            return hashes.inclusion_proof(index)

        return self._read(prove)

    def consistency_proof(self, old_size: int, new_size: int) -> tuple[bytes, ...]:
        """Return the proof that the tree of `new_size` extends that of `old_size`."""

        def prove(connection: _Connection) -> tuple[bytes, ...]:
            hashes = _tree(connection, new_size)
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

    def _one(self, statement: str, *values: object) -> tuple[Any, ...] | None:
        def read(connection: _Connection) -> tuple[Any, ...] | None:
            return connection.execute(statement, values, binary=True).fetchone()

        return self._read(read)

    def _read(self, action: Callable[[_Connection], _Result]) -> _Result:
        with self._snapshot() as connection:
            return action(connection)

    @contextmanager
    def _snapshot(self) -> Iterator[_Connection]:
        connection = self._take()
        try:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield connection
            connection.execute("COMMIT")
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


def _tree(connection: _Connection, size: int) -> TreeHashes:
    if not 0 <= size <= _size(connection):
        raise EntryNotFoundError("The log has not grown to this size.")
    return TreeHashes(PostgresTiles(connection), size)


def _size(connection: _Connection) -> int:
    row = connection.execute("SELECT size FROM head").fetchone()
    return 0 if row is None else int(row[0])


def _ranges(connection: _Connection, wanted: EntryFilter, before: int | None) -> Iterator[tuple[int, int]]:
    """Yield the ranges (start, end) of indices that may hold a match, newest first."""
    size = _size(connection)
    end = size if before is None else max(0, min(before, size))
    if wanted.exchange is not None:
        # The one column with an index of its own: nothing to narrow down.
        yield 0, end
        return
    tail = end - end % BLOCK_ENTRIES
    yield tail, end
    conditions = wanted.conditions()
    values: dict[str, str | int] = {"tail": tail // BLOCK_ENTRIES}
    narrowing = ["number < %(tail)s"]
    for name, condition in (("since", "last_time >= %(since)s"), ("until", "first_time < %(until)s")):
        if name in conditions:
            narrowing.append(condition)
            values[name] = conditions[name][1]
    for at, term in enumerate(wanted.terms()):
        narrowing.append(f"number IN (SELECT number FROM block_term WHERE term = %(term{at})s)")  # noqa: S608
        values[f"term{at}"] = term
    blocks = connection.execute(
        f"SELECT number FROM block WHERE {' AND '.join(narrowing)} ORDER BY number DESC",  # noqa: S608
        values,
    )
    for (number,) in blocks:
        yield number * BLOCK_ENTRIES, (number + 1) * BLOCK_ENTRIES


def _matches(
    connection: _Connection, wanted: EntryFilter, bounds: tuple[int, int], limit: int
) -> list[StoredEntry]:
    # Only the fixed conditions become part of the statement; what is looked for stays a parameter.
    conditions = wanted.conditions()
    terms = ["idx >= %(start)s", "idx < %(end)s", *(_translate(term) for term, _ in conditions.values())]
    values = {name: value for name, (_, value) in conditions.items()}
    rows = connection.execute(
        f"SELECT idx, data FROM entry WHERE {' AND '.join(terms)} ORDER BY idx DESC LIMIT %(limit)s",  # noqa: S608
        {**values, "start": bounds[0], "end": bounds[1], "limit": limit},
        binary=True,
    )
    return [StoredEntry(index, data) for index, data in rows]


def _translate(condition: str) -> str:
    """Return a condition, written for SQLite, as PostgreSQL and its driver read it."""
    return _PARAMETER.sub(r"%(\1)s", condition).replace("instr(", "strpos(")
