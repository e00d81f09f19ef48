"""Writing an audit log to SQLite: one transaction for each batch, signed and flushed before it counts."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any, Final, Self

from gateway.audit.blocks import COLUMNS, BlockSummary
from gateway.audit.errors import LogMismatchError, LogUnavailableError
from gateway.audit.numbering import Pair
from gateway.audit.open_block import OpenBlock
from gateway.audit.sqlite_reader import SqliteIndex, SqliteTiles
from gateway.audit.sqlite_schema import check_schema, connect_for_writing, schema_script
from gateway.audit.store import Appended, LogIdentity, Once, PendingEntry, SignHead, give_numbers
from gateway.audit.tiles import TILE_WIDTH
from gateway.audit.transaction import (
    Head,
    StoredHead,
    closes_log,
    contradiction,
    full_tiles,
    head_after,
    microseconds,
    refuse_closed,
    verify_head,
    verify_identity,
)
from gateway.audit.tree import EMPTY_ROOT, Batch, Frontier, append, leaf_hash
from gateway.errors import ConfigError

DEFAULT_LOCK_TIMEOUT_S: Final = 2.0

_FOLD_AFTER_PAGES: Final = 2000
"""From about this length on, the write-ahead log is copied back into the database, between appends
rather than within a commit, where SQLite would do it and callers would wait for it."""
_PAGES_A_COMMIT: Final = 8
_PAGE_BYTES: Final = 4096

_COLUMNS: Final = len(COLUMNS)
_MAX_ROWS: Final = 256
"""Rows of one INSERT: 256 rows of 12 values stay far below SQLite's limit of 32,766 parameters."""

_EXACT_ROWS: Final = 64
"""Up to this many rows there is a prepared statement for each number of rows."""

_VERIFIED_AFTER_FAULT: Final = 4096
"""Entries read back after an error of the disk: more than are ever appended between two flushes."""

_LOCK_POLL_S: Final = 0.0005

_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CONSTRAINT})
_ADVICE: Final = {
    sqlite3.SQLITE_BUSY: "another process holds the log; end it, and the gateway goes on by itself",
    sqlite3.SQLITE_LOCKED: "another process holds the log; end it, and the gateway goes on by itself",
    sqlite3.SQLITE_FULL: "its disk is full; free some space, and the gateway goes on by itself",
    sqlite3.SQLITE_READONLY: "its file is read-only; make it writable, and the gateway goes on by itself",
    sqlite3.SQLITE_CANTOPEN: "its file cannot be opened; check path and permissions",
    sqlite3.SQLITE_IOERR: "its disk reports an error; check disk, space and file limits",
}


_IF_EXPIRED: Final = "ON CONFLICT (key) DO UPDATE SET until = excluded.until WHERE once.until <= ?"
_PRUNE_INTERVAL_US: Final = 1_000_000
_PRUNED_AT_ONCE: Final = 10_000
"""Expired once-keys that go in one transaction: more than come in a second, and a few milliseconds."""


class SqliteStore:
    """The writing side of an audit log in one SQLite file of mode 0600.

    Several processes may append to one file: each transaction starts from the head it finds there,
    under a file lock beside the database, which is fairer and faster than SQLite's own.

    After every error but a lock that was not free, the connection is given up. The next append opens
    the file anew, copies what SQLite recovered into the database with a flush of its own (after a
    failed flush, the pages in memory are no proof that the disk has them), and verifies the head
    before it builds on it. After an error of the disk it also has the system forget the pages it keeps
    of the file, and verifies the newest entries as the disk gives them (docs/adr/0029).
    """

    def __init__(self, path: Path, *, lock_timeout_s: float = DEFAULT_LOCK_TIMEOUT_S) -> None:
        self.path = path
        self._path_text = str(path)
        self._lock_timeout_s = lock_timeout_s
        self._lock_file: int | None = None
        self._connection: sqlite3.Connection | None = None
        self._identity: LogIdentity | None = None
        self._file: tuple[int, int] | None = None
        self._head: Head | None = None
        self._numbers: dict[Pair, int] = {}
        """Last numbers of pairs as of `_head`."""
        self._block = OpenBlock()
        self._prune_from_us = 0
        self._unfolded_pages = 0
        self._disk_failed = False
        """Whether the disk has reported an error since the log was last read from it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self, identity: LogIdentity, sign: SignHead) -> None:
        """Open the log at the path; make it, with a signed checkpoint of size 0, if there is none.

        Raises `LogMismatchError` if the file holds another log or contradicts its own checkpoint,
        `LogUnavailableError` if it cannot be opened for writing, and `ConfigError` if other users may
        read or write it.
        """
        self._identity = identity
        with self._faults(), self._file_lock():
            new = not self.path.exists()
            if new:
                os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            if stat.S_IMODE(self.path.stat().st_mode) & 0o077:
                raise ConfigError(f"The audit log {self.path} is open to others; run: chmod 600 {self.path}")
            connection = self._connect()
            if not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
                connection.executescript(schema_script())
            check_schema(connection)
            if not connection.execute("SELECT 1 FROM log UNION ALL SELECT 1 FROM entry").fetchone():
                _create_log(connection, identity, sign)
            self._fold(connection, despite_readers=True)
            self._head = self._verified_head(connection)
            refuse_closed(self._head)
            if new:
                _flush_directory(self.path.parent)

    def append(self, pending: Sequence[PendingEntry], sign: SignHead, now: datetime) -> Appended:
        """Append entries in one transaction; when it returns, they are durable.

        Entries whose once-key is taken are left out and named in the answer. Raises
        `LogUnavailableError`: then nothing may be taken as logged, though after an error of the disk
        some of it may turn out to be.
        """
        with self._writing() as connection:
            head = self._current_head(connection)
            refuse_closed(head)
            refused = self._claim(connection, pending, now)
            accepted = [item for at, item in enumerate(pending) if at not in refused] if refused else pending
            if not accepted:
                return Appended(None, head.note, refused)
            closed = closes_log(accepted)
            accepted, given = give_numbers(accepted, partial(self._last_number, connection))
            batch = append(head.frontier, [item.leaf_hash for item in accepted])
            _insert_entries(connection, batch.first, accepted)
            tail = head.tail + tuple([item.leaf_hash for item in accepted])
            if len(tail) >= TILE_WIDTH:
                _insert_tiles(connection, batch, tail)
                _insert_blocks(
                    connection, self._block.summaries(batch, accepted, SqliteIndex(connection).rows)
                )
            if given:
                _keep_numbers(connection, given)
            # Signed last, so that a transaction that fails before its commit leaves no signature.
            note = sign(batch.frontier.size, batch.root)
            updated = connection.execute(
                "UPDATE head SET size = ?, frontier = ?, note = ? WHERE size = ?",
                (batch.frontier.size, batch.frontier.to_bytes(), note, batch.first),
            )
            if updated.rowcount != 1:
                raise LogMismatchError("The head of the audit log moved within a transaction.")
            connection.execute("COMMIT")
            self._head = head_after(batch, note, tail, closed=closed)
        # Estimated: the leaf twice (table and index, both with room to spare) and the pages above.
        self._unfolded_pages += _PAGES_A_COMMIT + sum(len(item.data) for item in accepted) * 2 // _PAGE_BYTES
        self._numbers |= given
        self._block.follow(batch, accepted)
        return Appended(batch, note, refused, accepted)

    def _last_number(self, connection: sqlite3.Connection, pair: Pair) -> int:
        known = self._numbers.get(pair)
        if known is None:
            row = connection.execute(
                "SELECT last FROM pair WHERE consumer = ? AND provider = ?", pair
            ).fetchone()
            known = self._numbers[pair] = 0 if row is None else row[0]
        return known

    def _claim(
        self, connection: sqlite3.Connection, pending: Sequence[PendingEntry], now: datetime
    ) -> frozenset[int]:
        """Claim the once-keys of a batch; return the positions of those that are taken."""
        claims = [item.once for item in pending if item.once is not None]
        if not claims:
            return frozenset()
        now_us = microseconds(now)
        if now_us >= self._prune_from_us:
            connection.execute(
                "DELETE FROM once WHERE key IN "
                "(SELECT key FROM once WHERE until <= ? ORDER BY until LIMIT ?)",
                (now_us, _PRUNED_AT_ONCE),
            )
            self._prune_from_us = now_us + _PRUNE_INTERVAL_US
        # Together, which is one statement: all are free unless somebody replays.
        if _claim(connection, claims, now_us):
            return frozenset()
        connection.execute("ROLLBACK")
        connection.execute("BEGIN IMMEDIATE")
        return _claim_each(connection, pending, now_us)

    def probe(self) -> None:
        """Prove with a durable write that the log can append, opening it anew where need be."""
        with self._writing() as connection:
            refuse_closed(self._current_head(connection))
            connection.execute("UPDATE probe SET count = count + 1")
            connection.execute("COMMIT")

    def maintain(self) -> None:
        """Copy a long write-ahead log back into the database, without waiting for readers; sum up entries."""
        self._block.sum_up()
        connection = self._connection
        if connection is None:
            return
        if self._unfolded_pages > _FOLD_AFTER_PAGES:
            with self._faults():
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            self._unfolded_pages = 0

    def close(self) -> None:
        """Close the file. May be called twice."""
        self._give_up()
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Hold the lock and a write transaction; roll back unless the block commits."""
        with self._faults(), self._file_lock():
            connection = self._connection if self._is_same_file() else None
            if connection is None:
                connection = self._reopen()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Turn faults of SQLite and the disk into our errors; give up the connection where it is unsure."""
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
            if code not in _BUSY:
                self._give_up()
            if code == sqlite3.SQLITE_IOERR:
                self._disk_failed = True
            if code in _DAMAGED:
                raise LogMismatchError(
                    "The audit log is damaged; run `gateway audit fsck` and restore it."
                ) from error
            advice = _ADVICE.get(code, "SQLite refused; check the log with `gateway audit fsck`")
            raise LogUnavailableError(f"The audit log cannot be written: {advice}.") from error
        except OSError as error:
            self._give_up()
            raise LogUnavailableError(
                "The audit log's file or its lock file cannot be reached; check path and permissions."
            ) from error
        except LogMismatchError:
            self._give_up()
            raise

    @contextmanager
    def _file_lock(self) -> Iterator[None]:
        if self._lock_file is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._lock_file = os.open(f"{self.path}.lock", flags, 0o600)
        deadline = time.monotonic() + self._lock_timeout_s
        while True:
            try:
                fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    raise LogUnavailableError(
                        "The audit log cannot be written: another process holds its lock; "
                        "end it, and the gateway goes on by itself."
                    ) from error
                time.sleep(_LOCK_POLL_S)
        try:
            yield
        finally:
            fcntl.flock(self._lock_file, fcntl.LOCK_UN)

    def _connect(self) -> sqlite3.Connection:
        self._give_up()
        connection = connect_for_writing(self.path, self._lock_timeout_s)
        self._connection = connection
        status = self.path.stat()
        self._file = (status.st_dev, status.st_ino)
        return connection

    def _reopen(self) -> sqlite3.Connection:
        """Open the file after a fault; nothing is built on it before it is flushed and verified."""
        connection = self._connect()
        try:
            self._fold(connection, despite_readers=False)
            if self._disk_failed:
                # What memory holds is no proof of what the disk does: read it from there.
                self._give_up()
                _forget_cached_pages(self.path)
                connection = self._connect()
                _verify_newest(connection)
            self._head = self._verified_head(connection)
        except BaseException:
            self._give_up()
            raise
        self._disk_failed = False
        return connection

    def _give_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _is_same_file(self) -> bool:
        """Return whether the path still leads to the file that is open: nobody has put another there."""
        if self._connection is None:
            return False
        status = os.stat(self._path_text)  # noqa: PTH116 -- on the path of every commit, and thrice as fast
        return (status.st_dev, status.st_ino) == self._file

    def _fold(self, connection: sqlite3.Connection, *, despite_readers: bool) -> None:
        """Copy the write-ahead log into the database, flushed.

        A reader in the middle of a long read can prevent that. After a fault this is not put up with;
        at start, when there is no sign of a fault, it is.
        """
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy and not despite_readers:
            raise LogUnavailableError(
                "The audit log cannot be written after a fault while a reader holds its write-ahead log; "
                "end long reads, and the gateway goes on by itself."
            )
        self._unfolded_pages = 0

    def _current_head(self, connection: sqlite3.Connection) -> Head:
        """Return the head to build on: the one this process wrote, or a verified one by another."""
        row = connection.execute("SELECT size, note FROM head").fetchone()
        known = self._head
        if known is None or row != (known.frontier.size, known.note):
            known = self._head = self._verified_head(connection)
        return known

    def _verified_head(self, connection: sqlite3.Connection) -> Head:
        """Return the stored head once identity, checkpoint, right edge and entries agree."""
        self._numbers = {}
        assert self._identity is not None, "the store is opened first"
        identity = connection.execute("SELECT origin, vkey FROM log").fetchone()
        verify_identity(identity, self._identity)
        row = connection.execute("SELECT size, frontier, note FROM head").fetchone()
        if row is None:
            raise LogMismatchError("The audit log has no head; run `gateway audit fsck` and restore it.")
        size, frontier, note = row
        last, kind = connection.execute("SELECT max(idx), kind FROM entry").fetchone()
        kept = connection.execute("SELECT note FROM checkpoint WHERE size = ?", (size,)).fetchone()
        stored = StoredHead(identity, size, frontier, note, last, kind, None if kept is None else kept[0])
        verified = verify_head(stored, SqliteTiles(connection), self._identity, self._head)
        return Head(verified, note, _read_tail(connection, size), stored.closed)


def _read_tail(connection: sqlite3.Connection, size: int) -> tuple[bytes, ...]:
    rows = connection.execute(
        "SELECT hash FROM entry WHERE idx >= ? ORDER BY idx", (size - size % TILE_WIDTH,)
    )
    return tuple(hashed for (hashed,) in rows)


def _create_log(connection: sqlite3.Connection, identity: LogIdentity, sign: SignHead) -> None:
    note = sign(0, EMPTY_ROOT)
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO log VALUES (1, ?, ?)", (identity.origin, identity.verifier.vkey()))
    connection.execute("INSERT INTO head VALUES (1, 0, ?, ?)", (Frontier().to_bytes(), note))
    connection.execute("INSERT INTO checkpoint VALUES (0, ?)", (note,))
    connection.execute("COMMIT")


def _forget_cached_pages(path: Path) -> None:
    """Have the system drop the pages of the file that it holds in memory, all of which are flushed."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def _verify_newest(connection: sqlite3.Connection) -> None:
    """Raise `LogMismatchError` unless the newest entries have the leaf hashes stored with them."""
    rows = connection.execute(
        "SELECT hash, data FROM entry ORDER BY idx DESC LIMIT ?", (_VERIFIED_AFTER_FAULT,)
    )
    if not all(isinstance(data, bytes) and leaf_hash(data) == hashed for hashed, data in rows):
        raise contradiction()


def _flush_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _claim(connection: sqlite3.Connection, claims: list[Once], now_us: int) -> bool:
    """Claim once-keys that are free or expired; return whether all of them were.

    If not, some of them are claimed now: the transaction must be rolled back.
    """
    claimed = 0
    for chunk in _chunks([(once.key, microseconds(once.until)) for once in claims]):
        cursor = connection.execute(
            f"{_insert('once', 2, len(chunk))} {_IF_EXPIRED}", [*chain.from_iterable(chunk), now_us]
        )
        claimed += cursor.rowcount
    return claimed == len(claims)


def _claim_each(
    connection: sqlite3.Connection, pending: Sequence[PendingEntry], now_us: int
) -> frozenset[int]:
    """Claim the once-keys of a batch one by one; return the positions of those that are taken."""
    refused = set()
    for at, item in enumerate(pending):
        if item.once is not None and not _claim(connection, [item.once], now_us):
            refused.add(at)
    return frozenset(refused)


def _insert_entries(connection: sqlite3.Connection, first: int, accepted: Sequence[PendingEntry]) -> None:
    rows = [(first + at, item.leaf_hash, *item.row[:_COLUMNS], item.data) for at, item in enumerate(accepted)]
    # Many rows in one statement: each statement gives up the interpreter lock, and getting it back
    # from a busy event loop costs far more than the statement.
    for chunk in _chunks(rows):
        connection.execute(
            _insert("entry", _COLUMNS + 3, len(chunk)), [value for row in chunk for value in row]
        )


def _keep_numbers(connection: sqlite3.Connection, given: Mapping[Pair, int]) -> None:
    for chunk in _chunks([(*pair, number) for pair, number in given.items()]):
        connection.execute(
            f"{_insert('pair', 3, len(chunk))} ON CONFLICT DO UPDATE SET last = excluded.last",
            [value for row in chunk for value in row],
        )


def _insert_blocks(connection: sqlite3.Connection, full: Iterable[tuple[int, BlockSummary]]) -> None:
    for number, summary in full:
        connection.execute(
            "INSERT INTO block VALUES (?, ?, ?)", (number, summary.first_time, summary.last_time)
        )
        rows = [(term, number, bits) for term, bits in sorted(summary.bits.items())]
        for chunk in _chunks(rows):
            connection.execute(
                _insert("block_term", 3, len(chunk)), [value for row in chunk for value in row]
            )


def _insert_tiles(connection: sqlite3.Connection, batch: Batch, tail: Sequence[bytes]) -> None:
    """Store the tiles that the batch made full. `tail` begins with the first of those of level 0."""
    for tile, root, hashes in full_tiles(batch, tail, SqliteTiles(connection).row):
        connection.execute("INSERT INTO tile VALUES (?, ?, ?, ?)", (tile.level, tile.number, root, hashes))


def _chunks(rows: list[Any]) -> Iterator[list[Any]]:
    """Yield the rows in pieces for one statement each, of few different lengths once there are many."""
    start = 0
    while start < len(rows):
        length = min(_MAX_ROWS, len(rows) - start)
        if length > _EXACT_ROWS:
            length -= length % _EXACT_ROWS
        yield rows[start : start + length]
        start += length


@cache
def _insert(table: str, columns: int, rows: int) -> str:
    """Return an INSERT of that many rows. `table` is one of the fixed names above."""
    row = f"({', '.join('?' * columns)})"
    return f"INSERT INTO {table} VALUES {', '.join([row] * rows)}"  # noqa: S608
