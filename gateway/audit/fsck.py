"""Checking a stored log from its entries up, without trusting anything the writer has derived.

Every leaf hash, tile, block summary, root and the right edge is computed again from the entries;
every checkpoint is compared with the root so found and its signature verified. Only the two hash
functions and the formats' parsers are shared with the code that wrote the log.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from gateway.audit.blocks import (
    BLOCK_ENTRIES,
    COLUMNS,
    NOTHING_LISTED,
    WITHOUT_CONTRACT,
    GrowingSummary,
    IndexColumns,
    IndexRow,
)
from gateway.audit.checkpoint import Checkpoint, open_checkpoint
from gateway.audit.disclosure import is_bound
from gateway.audit.entry_forms import CLOCK_TOLERANCE, EntryForms
from gateway.audit.errors import LogMismatchError, LogUnavailableError, NoteError
from gateway.audit.findings import MAX_FINDINGS, Finding, Progress
from gateway.audit.growth import GrownTile, TreeGrowth
from gateway.audit.note import Ed25519Verifier
from gateway.audit.numbering import Numbering
from gateway.audit.sqlite_publications import contradictions
from gateway.audit.sqlite_schema import check_schema, connect_for_reading, expected_objects
from gateway.audit.tiles import TILE_WIDTH
from gateway.audit.tree import HASH_BYTES, leaf_hash, leaf_hashes
from gateway.audit.uses import COUNTABLE, is_term_of_use
from gateway.evidence.canonical import DECODE_ERRORS
from gateway.model.entry import Entry, EntryKind

__all__ = ["CLOCK_TOLERANCE", "MAX_FINDINGS", "Finding", "FsckReport", "Progress", "fsck"]

_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII)
_CHUNK_ENTRIES: Final = TILE_WIDTH
"""Few enough that what is made of them stays in the processor's cache until it is done with."""
_ROOM_BYTES: Final = 8 << 20
"""More than the texts of a chunk of usual entries take, several times over."""
_NOTES_TOGETHER: Final = 64
_TASKS_PENDING: Final = 8

_ROWS: Final = (
    f"SELECT idx, hash, data, {', '.join(COLUMNS)} FROM entry WHERE idx >= ? "  # noqa: S608
    f"ORDER BY idx LIMIT {_CHUNK_ENTRIES}"
)
_TOGETHER: Final = (
    "SELECT count(*), min(idx), max(idx), "  # noqa: S608 -- fixed names
    f"sum(length(hash) = {HASH_BYTES}), group_concat(hash, ''), group_concat(data, '\n'), "
    + ", ".join(f"group_concat({name}, '\n')" for name in COLUMNS)
    + " FROM entry WHERE idx >= ? AND idx < ?"
)

_Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Entries that were examined, up to a tile of them."""

    leaves: Sequence[bytes]
    columns: IndexColumns
    """What the index must say of them."""
    entries: Sequence[Entry | None]
    """None where the bytes are not an entry."""


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
    _let_memory_stay()
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
        self._growth = TreeGrowth()
        self._forms = EntryForms()
        self._full_tiles = 0
        self._block = GrowingSummary()
        self._block_terms = 0
        self._numbering = Numbering()
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
        if _objects(self._connection) != expected_objects():
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
        self._checkpoints = self._connection.execute("SELECT size, note FROM checkpoint ORDER BY size")
        self._pending = self._checkpoints.fetchone()
        if self._pending is None or self._pending[0] != 0:
            yield Finding("checkpoint", "the checkpoint of the empty log is missing", 0)
        self._progress(0, total)
        while True:
            chunk = self._read_sound_chunk()
            if chunk is None:
                rows = self._read_rows()
                sound = _contiguous(rows, self.size)
                if sound:
                    chunk, findings = self._examine_rows(rows[:sound])
                    yield from findings
                if chunk is not None:
                    yield from self._add(chunk)
                if sound < len(rows):
                    self._submit_notes()
                    yield from self._collect_notes(0)
                    yield Finding("entry", "entries are missing before this one", rows[sound][0])
                    return
                if chunk is None:
                    break
            else:
                yield from self._add(chunk)
            self._progress(self.size, total)
        yield from self._examine_checkpoints(None)
        self._submit_notes()
        yield from self._collect_notes(0)

    def _read_sound_chunk(self) -> _Chunk | None:
        """Return the next entries if they are as they must be, as is told by looking at them together.

        The values of each column come as one text, a line for each row: to make objects of them all
        would cost as much as the examination. None calls for `_read_rows`: there may be nothing left,
        or something wrong, or something that cannot be told apart in this way.
        """
        texts = self._connection.execute(_TOGETHER, (self.size, self.size + _CHUNK_ENTRIES)).fetchone()
        count, first, last, whole_hashes, hashes, lines, *columns = texts
        if not count or (first, last) != (self.size, self.size + count - 1) or whole_hashes != count:
            return None
        # What is NULL is left out of a text, and its line with it: there are fewer lines than rows.
        entries = [] if lines is None else lines.split(b"\n")
        if len(entries) != count:
            return None
        leaves = leaf_hashes(entries)
        if b"".join(leaves) != hashes:
            return None
        examined = self._forms.examine_lines(lines, entries)
        if examined is None:
            return None
        expected = IndexColumns.of(examined)
        for column, listed in zip(expected[:-2], columns, strict=True):
            text = "\n".join(column)
            # With a line break in a value, lines are no rows.
            if text.encode() != listed or text.count("\n") != count - 1:
                return None
        return _Chunk(leaves, expected, examined)

    def _read_rows(self) -> list[_Row]:
        """Return the next rows of the table of entries, after whatever is missing."""
        return self._connection.execute(_ROWS, (self.size,)).fetchall()

    def _examine_rows(self, rows: Sequence[_Row]) -> tuple[_Chunk, list[Finding]]:
        """Examine entries without a gap, of which the first begins a tile, one by one."""
        findings: list[Finding] = []
        entries: list[bytes] = []
        leaves: list[bytes] = []
        for index, stored, data, *_ in rows:
            if not isinstance(data, bytes):
                # Damage to the file can turn a value into one of another type, whatever the table says.
                findings.append(Finding("entry", "its bytes are gone", index))
            entries.append(data if isinstance(data, bytes) else b"")
            leaves.append(leaf_hash(entries[-1]))
            if leaves[-1] != stored:
                findings.append(Finding("entry", "its bytes do not have the stored leaf hash", index))
        examined = self._forms.examine(rows[0][0], entries)
        findings.extend(examined.findings)
        for (index, _, _, *listed), entry in zip(rows, examined.entries, strict=True):
            if entry is not None and listed != [text.encode() for text in IndexRow.of(entry)[:-2]]:
                what = "the entry's row in the index says something else than the entry"
                findings.append(Finding("index", what, index))
        return _Chunk(leaves, _columns(examined.entries), examined.entries), findings

    def _add(self, chunk: _Chunk) -> Iterator[Finding]:
        """Let the tree grow by examined entries, and examine what they make complete."""
        first = self.size
        tiles = self._growth.add(chunk.leaves)
        self.size = self._growth.size
        for tile in tiles:
            yield from self._examine_tile(tile)
        if EntryKind.ENTRY_DISCLOSED in chunk.columns.kind:
            for index, kind in enumerate(chunk.columns.kind, first):
                if kind == EntryKind.ENTRY_DISCLOSED:
                    yield from self._examine_disclosure(index)
        yield from self._examine_sequence(first, chunk.entries)
        # A block is a whole number of chunks, of which only the log's last is not whole.
        self._block.add(chunk.columns)
        if self._block.entries == BLOCK_ENTRIES:
            yield from self._examine_block()
        yield from self._examine_checkpoints(self.size)

    def _examine_sequence(self, first: int, entries: Sequence[Entry | None]) -> Iterator[Finding]:
        """Examine whether releases are numbered as they must be, and nothing else is."""
        if self._numbering.take_sound(entries):
            return
        for index, entry in enumerate(entries, first):
            if entry is not None and (fault := self._numbering.find_fault(entry)) is not None:
                yield Finding("entry", fault, index)

    def _examine_disclosure(self, index: int) -> Iterator[Finding]:
        """Compare what the log has told an outsider of an entry with that entry (see docs/privacy.md)."""
        entry = self._entry(index)
        if entry is None:
            return
        number = entry.subject.removeprefix("entries/")
        target = int(number) if _INDEX.fullmatch(number) else index
        (data,) = self._connection.execute("SELECT data FROM entry WHERE idx = ?", (target,)).fetchone() or (
            None,
        )
        if target >= index or not (isinstance(data, bytes) and is_bound(entry, target, data)):
            yield Finding("entry", "it tells an outsider of an entry what that entry does not say", index)

    def _entry(self, index: int) -> Entry | None:
        """Return an entry that has been examined; None if it has not the form of one, which was told then."""
        (data,) = self._connection.execute("SELECT data FROM entry WHERE idx = ?", (index,)).fetchone()
        try:
            return msgspec.json.decode(data, type=Entry)
        except DECODE_ERRORS:
            return None

    def _examine_tile(self, tile: GrownTile) -> Iterator[Finding]:
        self._full_tiles += 1
        stored = self._connection.execute(
            "SELECT root, hashes FROM tile WHERE level = ? AND number = ?", (tile.level, tile.number)
        ).fetchone()
        if stored != (tile.root, tile.hashes):
            what = f"tile {tile.number} of level {tile.level} is missing or wrong"
            yield Finding("tile", what, tile.first_entry)

    def _examine_block(self) -> Iterator[Finding]:
        summary, self._block = self._block.summary(), GrowingSummary()
        number = self.size // BLOCK_ENTRIES - 1
        bits = dict(summary.bits)
        # Summed up by an earlier release, or as if it were: entries of this block are read instead.
        if not self._stored_bits(WITHOUT_CONTRACT, number):
            bits = {term: one for term, one in bits.items() if not term.startswith(WITHOUT_CONTRACT)}
        if not self._stored_bits(COUNTABLE, number):
            bits = {term: one for term, one in bits.items() if not is_term_of_use(term)}
        self._block_terms += len(bits)
        times = self._connection.execute(
            "SELECT first_time, last_time FROM block WHERE number = ?", (number,)
        ).fetchone()
        stored = {term: self._stored_bits(term, number) for term in bits}
        expected = (summary.first_time.encode(), summary.last_time.encode())
        if times != expected or stored != {term: (one,) for term, one in bits.items()}:
            yield Finding("index", "the summary of this block of entries is wrong", number * BLOCK_ENTRIES)

    def _stored_bits(self, term: str, number: int) -> Any:
        return self._connection.execute(
            "SELECT bits FROM block_term WHERE term = ? AND number = ?", (term, number)
        ).fetchone()

    def _examine_checkpoints(self, up_to: int | None) -> Iterator[Finding]:
        """Examine the checkpoints that come next, up to a size; all that are left if it is None."""
        while self._pending is not None and (up_to is None or self._pending[0] <= up_to):
            yield from self._examine_checkpoint(*self._pending)
            self._pending = self._checkpoints.fetchone()

    def _examine_checkpoint(self, size: int, note: Any) -> Iterator[Finding]:
        self.checkpoints += 1
        if not isinstance(note, bytes):
            yield Finding("checkpoint", "its text is gone", size)
            return
        if not 0 <= size <= self.size:
            yield Finding("checkpoint", "it covers entries that are not there", size)
            return
        self._notes.append((size, note, self._growth.root_at(size)))
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
        expected = self.size.to_bytes(8, "big") + self._growth.frontier()
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
        rows = self._connection.execute("SELECT consumer, provider, last FROM pair")
        kept = {(consumer, provider): last for consumer, provider, last in rows}
        if kept != {(one.encode(), two.encode()): last for (one, two), last in self._numbering.last.items()}:
            yield Finding("index", "the last numbers kept for pairs of members are not those of the entries")


def _let_memory_stay() -> None:
    """Let the C library keep what is freed for what is needed next.

    By default glibc gives the texts of each chunk back to the system, which costs a page fault for
    every fourth entry. It ceases to once a larger block was freed (mallopt(3), M_MMAP_THRESHOLD).
    """
    block = bytes(_ROOM_BYTES)
    del block


def _objects(connection: sqlite3.Connection) -> set[tuple[str, ...]]:
    rows = connection.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    return {tuple(value.decode(errors="replace") for value in row) for row in rows}


def _contiguous(rows: Sequence[_Row], first: int) -> int:
    """Return how many rows have the indices that follow one another from `first`."""
    for at, row in enumerate(rows):
        if row[0] != first + at:
            return at
    return len(rows)


def _columns(entries: Sequence[Entry | None]) -> IndexColumns:
    """Return what the index must say of the entries; of what is no entry, nothing."""
    rows = [NOTHING_LISTED if entry is None else IndexRow.of(entry) for entry in entries]
    return IndexColumns._make(zip(*rows, strict=True))
