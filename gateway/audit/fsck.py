"""Checking a stored log from its entries up, without trusting anything the writer has derived.

Every leaf hash, tile, block summary, root and the right edge is computed again from the entries;
every checkpoint is compared with the root so found and its signature verified. Only the two hash
functions and the formats' parsers are shared with the code that wrote the log.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec

from gateway.audit.checkpoint import Checkpoint, open_checkpoint
from gateway.audit.errors import LogMismatchError, LogUnavailableError, NoteError
from gateway.audit.note import Ed25519Verifier
from gateway.audit.numbering import Numbering
from gateway.audit.search import BLOCK_ENTRIES, BlockSummary, IndexRow
from gateway.audit.sqlite_publications import contradictions
from gateway.audit.sqlite_schema import (
    NUMBERED_SINCE_VERSION,
    check_schema,
    connect_for_reading,
    expected_objects,
    schema_version,
)
from gateway.audit.store import ENTRY_TIME, MAX_ENTRY_BYTES
from gateway.audit.tree import EMPTY_ROOT, leaf_hash, node_hash
from gateway.evidence.canonical import encode_canonical
from gateway.model.entry import ENTRY_VERSION, Entry

MAX_FINDINGS: Final = 1000
"""After so many the examination stops: the log is broken, and which entries are sound is known."""

CLOCK_TOLERANCE: Final = timedelta(minutes=5)
"""By how much an entry's time may lie before that of an earlier one. Times are taken before entries
queue, so that neighbours may be out of order; more than this is a clock set back."""

_CHUNK_ENTRIES: Final = 2048
_TILE_LEAVES: Final = 256
_NOTES_TOGETHER: Final = 64
_TASKS_PENDING: Final = 8

Progress = Callable[[int, int], None]
"""Takes entries examined and entries in all."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in the log that is not as it must be."""

    place: str
    """`database`, `log`, `entry`, `index`, `tile`, `checkpoint`, `published` or `head`."""
    what: str
    """What is wrong, for people. Never a value from an entry."""
    index: int | None = None
    """The entry's index; of a checkpoint its size; of a tile or block its first entry."""


@dataclass(frozen=True, slots=True)
class FsckReport:
    """The outcome. The log is sound if and only if there are no findings."""

    entries: int
    checkpoints: int
    findings: tuple[Finding, ...]


def fsck(path: Path, verifier: Ed25519Verifier, progress: Progress | None = None) -> FsckReport:
    """Examine the log at `path`, whose checkpoints `verifier` must have signed.

    Works beside a running writer (what is committed while it runs is not examined) and on a copy.
    Raises `LogUnavailableError` if the file cannot be opened; everything else is a finding.
    """
    try:
        connection = connect_for_reading(path)
    except sqlite3.Error as error:
        raise LogUnavailableError("The audit log cannot be opened; check path and permissions.") from error
    # Damaged text must become a finding, not an error of the database driver.
    connection.text_factory = bytes
    with closing(connection), ThreadPoolExecutor(thread_name_prefix="fsck") as pool:
        examination = _Examination(connection, verifier, pool, progress or (lambda *_: None))
        findings = []
        try:
            for finding in examination.run():
                findings.append(finding)
                if len(findings) == MAX_FINDINGS:
                    break
        except sqlite3.Error:
            findings.append(
                Finding("database", "SQLite cannot read on: the file is damaged", examination.size)
            )
        pool.shutdown(cancel_futures=True)
        return FsckReport(examination.size, examination.checkpoints, tuple(findings))


@dataclass(slots=True)
class _Tree:
    """The tree as it grows leaf by leaf, where the writer's algorithm goes by rows."""

    peaks: list[tuple[int, bytes]] = field(default_factory=list)
    """(height, root) of the complete subtrees, largest first."""

    def add(self, leaf: bytes) -> Iterator[tuple[int, bytes]]:
        """Add a leaf; yield (height, root) of each subtree it completes, from the leaf itself up."""
        height, node = 0, leaf
        yield height, node
        while self.peaks and self.peaks[-1][0] == height:
            node = node_hash(self.peaks.pop()[1], node)
            height += 1
            yield height, node
        self.peaks.append((height, node))

    def root(self) -> bytes:
        """Return the root of all leaves added."""
        root = b""
        for _, peak in reversed(self.peaks):
            root = node_hash(peak, root) if root else peak
        return root or EMPTY_ROOT


class _Examination:
    """One pass over a log."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        verifier: Ed25519Verifier,
        pool: ThreadPoolExecutor,
        progress: Progress,
    ) -> None:
        self._connection = connection
        self._verifier = verifier
        self._pool = pool
        self._progress = progress
        self._tree = _Tree()
        self._rows: list[list[bytes]] = [[]]
        self._full_tiles = 0
        self._block: list[IndexRow] = []
        self._block_terms = 0
        self._latest: datetime | None = None
        self._numbering = Numbering()
        self._decoder = msgspec.json.Decoder(Entry)
        self._notes: list[tuple[int, bytes, bytes]] = []
        self._opened: list[tuple[list[tuple[int, bytes, bytes]], Future[list[Checkpoint | None]]]] = []
        self._last_sound_size = 0
        self._forked = False
        self.size = 0
        self.checkpoints = 0

    def run(self) -> Iterator[Finding]:
        """Examine everything in one snapshot; yield what is found."""
        self._connection.execute("BEGIN")
        try:
            check_schema(self._connection)
        except LogMismatchError as error:
            yield Finding("database", error.message)
            return
        if _objects(self._connection) != expected_objects(schema_version(self._connection)):
            yield Finding("database", "its tables, indices or triggers are not those of its version")
        yield from self._examine_identity()
        yield from self._examine_entries()
        yield from self._examine_head()
        yield from self._examine_surplus()
        yield from self._examine_numbers()
        for size, what in contradictions(self._connection):
            yield Finding("published", what, size)
        # Last, as it names no entry: what SQLite's own structures (pages, indices) have to say.
        for (message,) in self._connection.execute("PRAGMA integrity_check(10)"):
            if message != b"ok":
                yield Finding("database", f"SQLite: {message.decode(errors='replace')}")

    def _examine_identity(self) -> Iterator[Finding]:
        expected = (self._verifier.name.encode(), self._verifier.vkey().encode())
        if self._connection.execute("SELECT origin, vkey FROM log").fetchall() != [expected]:
            yield Finding("log", "the log's origin or key is not the one given")

    def _examine_entries(self) -> Iterator[Finding]:
        (total,) = self._connection.execute("SELECT count(*) FROM entry").fetchone()
        checkpoints = self._connection.execute("SELECT size, note FROM checkpoint ORDER BY size")
        pending = checkpoints.fetchone()
        if pending is None or pending[0] != 0:
            yield Finding("checkpoint", "the checkpoint of the empty log is missing", 0)
        cursor = self._connection.execute(
            "SELECT idx, hash, data, time, kind, exchange, consumer, provider, dataset, reasons "
            "FROM entry ORDER BY idx"
        )
        self._progress(0, total)
        while rows := cursor.fetchmany(_CHUNK_ENTRIES):
            for row in rows:
                if row[0] != self.size:
                    self._submit_notes()
                    yield from self._collect_notes(0)
                    yield Finding("entry", "entries are missing before this one", row[0])
                    return
                while pending is not None and pending[0] <= self.size:
                    yield from self._examine_checkpoint(*pending)
                    pending = checkpoints.fetchone()
                yield from self._examine_entry(row)
            self._progress(self.size, total)
        while pending is not None:
            yield from self._examine_checkpoint(*pending)
            pending = checkpoints.fetchone()
        self._submit_notes()
        yield from self._collect_notes(0)

    def _examine_entry(self, row: tuple[Any, ...]) -> Iterator[Finding]:
        index, stored_hash, data = row[:3]
        self.size += 1
        if not isinstance(data, bytes):
            # Damage to the file can turn a value into one of another type, whatever the table says.
            yield Finding("entry", "its bytes are gone", index)
            data = b""
        hashed = leaf_hash(data)
        if hashed != stored_hash:
            yield Finding("entry", "its bytes do not have the stored leaf hash", index)
        yield from self._examine_form(index, data, row[3:])
        for height, node in self._tree.add(hashed):
            if height % 8 == 0:
                yield from self._examine_tile(height // 8, node)
        if self.size % BLOCK_ENTRIES == 0:
            yield from self._examine_block()

    def _examine_form(self, index: int, data: bytes, columns: tuple[bytes, ...]) -> Iterator[Finding]:
        try:
            entry = self._decoder.decode(data)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            yield Finding("entry", "its bytes are not an entry of the known form", index)
            self._block.append(IndexRow("", "", "", "", "", "", ""))
            return
        if encode_canonical(entry) != data:
            yield Finding("entry", "its bytes are not in canonical form", index)
        if entry.v != ENTRY_VERSION or len(data) > MAX_ENTRY_BYTES:
            yield Finding("entry", "its version is unknown, or it is too large", index)
        row = IndexRow.of(entry)
        self._block.append(row)
        if columns != tuple([column.encode() for column in row]):
            yield Finding("index", "the entry's row in the index says something else than the entry", index)
        if (fault := self._numbering.find_fault(entry)) is not None:
            yield Finding("entry", fault, index)
        yield from self._examine_time(index, entry.time)

    def _examine_time(self, index: int, text: str) -> Iterator[Finding]:
        if ENTRY_TIME.fullmatch(text) is None:
            yield Finding("entry", "its time is not in the one form for times", index)
            return
        try:
            time = datetime.fromisoformat(text)
        except ValueError:
            yield Finding("entry", "its time does not exist", index)
            return
        if self._latest is None or time > self._latest:
            self._latest = time
        elif self._latest - time > CLOCK_TOLERANCE:
            yield Finding("entry", "its time lies far before that of an earlier entry", index)

    def _examine_tile(self, level: int, node: bytes) -> Iterator[Finding]:
        """Take note of a node of a tile row; compare the tile with the stored one when it is full."""
        if level == len(self._rows):
            self._rows.append([])
        row = self._rows[level]
        row.append(node)
        if len(row) < _TILE_LEAVES:
            return
        self._rows[level] = []
        self._full_tiles += 1
        leaves = _TILE_LEAVES ** (level + 1)
        number = self.size // leaves - 1
        stored = self._connection.execute(
            "SELECT root, hashes FROM tile WHERE level = ? AND number = ?", (level, number)
        ).fetchone()
        if stored != (_root_over(row), b"".join(row)):
            yield Finding("tile", f"tile {number} of level {level} is missing or wrong", number * leaves)

    def _examine_block(self) -> Iterator[Finding]:
        rows, self._block = self._block, []
        number = self.size // BLOCK_ENTRIES - 1
        summary = BlockSummary.of(rows)
        self._block_terms += len(summary.terms)
        times = self._connection.execute(
            "SELECT first_time, last_time FROM block WHERE number = ?", (number,)
        ).fetchone()
        found = 0
        for term in summary.terms:
            found += self._connection.execute(
                "SELECT count(*) FROM block_term WHERE term = ? AND number = ?", (term, number)
            ).fetchone()[0]
        expected = (summary.first_time.encode(), summary.last_time.encode())
        if times != expected or found != len(summary.terms):
            yield Finding("index", "the summary of this block of entries is wrong", number * BLOCK_ENTRIES)

    def _examine_checkpoint(self, size: int, note: Any) -> Iterator[Finding]:
        self.checkpoints += 1
        if not isinstance(note, bytes):
            yield Finding("checkpoint", "its text is gone", size)
            return
        if size > self.size:
            yield Finding("checkpoint", "it covers entries that are not there", size)
            return
        self._notes.append((size, note, self._tree.root()))
        if len(self._notes) == _NOTES_TOGETHER:
            self._submit_notes()
            yield from self._collect_notes(_TASKS_PENDING)

    def _submit_notes(self) -> None:
        notes, self._notes = self._notes, []
        self._opened.append((notes, self._pool.submit(self._open_all, [note for _, note, _ in notes])))

    def _open_all(self, notes: list[bytes]) -> list[Checkpoint | None]:
        return [self._open(note) for note in notes]

    def _open(self, note: bytes) -> Checkpoint | None:
        """Return the checkpoint if it is one and the log's key signed it."""
        try:
            return open_checkpoint(note.decode(), [self._verifier], origin=self._verifier.name)
        except (NoteError, UnicodeDecodeError):
            return None

    def _collect_notes(self, remain: int) -> Iterator[Finding]:
        """Compare opened checkpoints with the roots computed, until only `remain` tasks are pending."""
        while len(self._opened) > remain:
            notes, opened = self._opened.pop(0)
            for (size, _, root), checkpoint in zip(notes, opened.result(), strict=True):
                yield from self._compare(size, checkpoint, root)

    def _compare(self, size: int, checkpoint: Checkpoint | None, root: bytes) -> Iterator[Finding]:
        if checkpoint is None:
            yield Finding("checkpoint", "it is malformed or not signed by the log's key", size)
        elif checkpoint.size != size:
            yield Finding("checkpoint", "it was signed for another size", size)
        elif checkpoint.root == root:
            self._last_sound_size = size
        elif not self._forked:
            # Every later root differs as well; saying so for each would drown the place.
            self._forked = True
            yield Finding(
                "checkpoint",
                "its root is not that of the entries: something was changed between entry "
                f"{self._last_sound_size} and entry {size - 1}, and all later roots are in doubt",
                size,
            )

    def _examine_head(self) -> Iterator[Finding]:
        heads = self._connection.execute("SELECT size, frontier, note FROM head").fetchall()
        if len(heads) != 1:
            yield Finding("head", "the head is missing")
            return
        size, frontier, note = heads[0]
        if size != self.size:
            yield Finding("head", "its size is not the number of entries", size)
        expected = self.size.to_bytes(8, "big") + b"".join(peak for _, peak in self._tree.peaks)
        if frontier != expected:
            yield Finding("head", "its right edge is not that of the entries", size)
        kept = self._connection.execute("SELECT note FROM checkpoint WHERE size = ?", (self.size,)).fetchone()
        if kept != (note,):
            yield Finding("head", "its checkpoint is not the one kept for the last entry", size)

    def _examine_surplus(self) -> Iterator[Finding]:
        """Find rows beside those that the entries call for, which were each compared."""
        expected = {
            "tile": self._full_tiles,
            "block": self.size // BLOCK_ENTRIES,
            "block_term": self._block_terms,
        }
        for table, count in expected.items():
            (stored,) = self._connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608
            if stored > count:
                place = "tile" if table == "tile" else "index"
                yield Finding(place, f"table {table} has rows that belong to no entry")

    def _examine_numbers(self) -> Iterator[Finding]:
        """Compare the numbers that the writer goes on from with those that the entries have."""
        if schema_version(self._connection) < NUMBERED_SINCE_VERSION:
            return
        rows = self._connection.execute("SELECT consumer, provider, last FROM pair")
        kept = {(consumer, provider): last for consumer, provider, last in rows}
        if kept != {(one.encode(), two.encode()): last for (one, two), last in self._numbering.last.items()}:
            yield Finding("index", "the last numbers kept for pairs of members are not those of the entries")


def _objects(connection: sqlite3.Connection) -> set[tuple[str, ...]]:
    rows = connection.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    return {tuple(value.decode(errors="replace") for value in row) for row in rows}


def _root_over(nodes: Sequence[bytes]) -> bytes:
    if len(nodes) == 1:
        return nodes[0]
    middle = len(nodes) // 2
    return node_hash(_root_over(nodes[:middle]), _root_over(nodes[middle:]))
