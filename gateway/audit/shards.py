"""Shards: a log that ends, and the log that goes on from it.

The last entry of a closed log (`log.closed`) names the origin of the next; the first entry of the
next (`log.opened`) holds the closed log's final checkpoint, the signed note itself. So every
checkpoint of the newer log commits to the whole of the older one. See docs/formats/audit-log.md.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from gateway.audit.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint
from gateway.audit.errors import EntryNotFoundError, LogMismatchError, NoteError
from gateway.audit.filter import Field, Has
from gateway.audit.note import Ed25519Verifier, parse_note
from gateway.audit.store import AuditReader
from gateway.audit.stores import Place, open_reader
from gateway.evidence.canonical import DECODE_ERRORS
from gateway.model.entry import Entry, EntryKind

_MAX_NAMED: Final = 20
"""Misplaced entries that are named for each shard; one is enough to break a chain."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One log of a chain, and the key it must be signed with."""

    database: Place
    verifier: Ed25519Verifier

    @property
    def origin(self) -> str:
        """The log's name."""
        return self.verifier.name


@dataclass(frozen=True, slots=True)
class Break:
    """Where a chain does not hold."""

    origin: str
    what: str
    index: int | None = None


def closing_detail(next_origin: str) -> Mapping[str, str]:
    """Return the `detail` of the entry that closes a log."""
    return {"next": next_origin}


def opening_detail(final_note: str) -> Mapping[str, str]:
    """Return the `detail` of the entry that goes on from the log whose final checkpoint is given."""
    checkpoint = parse_checkpoint(parse_note(final_note).text)
    return {
        "previous": checkpoint.origin,
        "size": str(checkpoint.size),
        "root": base64.b64encode(checkpoint.root).decode(),
        "checkpoint": final_note,
    }


def find_breaks(shards: Sequence[Shard]) -> list[Break]:
    """Return where the chain of `shards`, oldest first, does not hold.

    Each must have been examined for itself (`gateway.audit.fsck`). A chain holds if its oldest log
    goes on from no other, its newest is not closed, and between each two:
    the older ends with an entry that names the newer, and the newer begins with one that holds the
    older's final checkpoint, signed by the older's key. Raises `LogUnavailableError`.
    """
    breaks: list[Break] = []
    older: _Ends | None = None
    for shard in shards:
        ends = _read_ends(shard)
        breaks += _misplaced(shard, ends.size)
        breaks += _joint(older, ends)
        older = ends
    if older is not None and older.closing is not None:
        breaks.append(
            Break(older.shard.origin, "it was closed, and the log it goes on in is not given", older.size - 1)
        )
    return breaks


@dataclass(frozen=True, slots=True)
class _Ends:
    """What joins a shard to its neighbours."""

    shard: Shard
    size: int
    note: str
    opening: Entry | None
    """Its first entry, if it goes on from another log."""
    closing: Entry | None
    """Its last entry, if it was closed."""


def _read_ends(shard: Shard) -> _Ends:
    with open_reader(shard.database) as reader:
        size = reader.size()
        return _Ends(
            shard,
            size,
            reader.checkpoint(),
            _entry_of(reader, 0, EntryKind.LOG_OPENED) if size else None,
            _entry_of(reader, size - 1, EntryKind.LOG_CLOSED) if size else None,
        )


def _entry_of(reader: AuditReader, index: int, kind: EntryKind) -> Entry | None:
    try:
        entry = msgspec.json.decode(reader.entry(index).data, type=Entry)
    except (*DECODE_ERRORS, EntryNotFoundError):
        # Not an entry, so not one that joins; the examination of the log itself says what it is.
        return None
    return entry if entry.kind is kind else None


def _misplaced(shard: Shard, size: int) -> Iterator[Break]:
    with open_reader(shard.database) as reader:
        for kind, place in ((EntryKind.LOG_OPENED, 0), (EntryKind.LOG_CLOSED, size - 1)):
            try:
                for found in reader.find(Has(Field.KIND, kind.value), _MAX_NAMED):
                    if found.index != place:
                        yield Break(shard.origin, f"an entry {kind.value} stands where none may", found.index)
            except LogMismatchError:
                yield Break(shard.origin, "its index is damaged: entries in the wrong place cannot be found")
                return


def _joint(older: _Ends | None, newer: _Ends) -> Iterator[Break]:
    """Yield what is wrong where two neighbours meet; `older` is None for the first of the chain."""
    origin = newer.shard.origin
    if older is None:
        if newer.opening is not None:
            yield Break(origin, "it goes on from an older log that is not given", 0)
        return
    if older.closing is None:
        yield Break(older.shard.origin, "it was not closed, though another log is said to go on from it")
    elif older.closing.detail != closing_detail(origin):
        yield Break(
            older.shard.origin, "it was closed in favour of another log than the one given", older.size - 1
        )
    if newer.opening is None:
        yield Break(origin, "its first entry does not go on from an older log", 0)
        return
    held = _held_checkpoint(newer.opening, older.shard.verifier)
    if held is None:
        yield Break(origin, "its first entry holds no checkpoint signed by the key of the older log", 0)
        return
    try:
        final = open_checkpoint(older.note, [older.shard.verifier], origin=older.shard.origin)
    except NoteError:
        yield Break(older.shard.origin, "its final checkpoint is not signed by its key", older.size)
        return
    if (held.size, held.root) != (final.size, final.root):
        yield Break(origin, "the log before it is not the one it goes on from: size or root is another", 0)


def _held_checkpoint(opening: Entry, verifier: Ed25519Verifier) -> Checkpoint | None:
    """Return the older log's checkpoint in `opening` if it is signed, and all of the entry says the same."""
    note = opening.detail.get("checkpoint", "")
    try:
        checkpoint = open_checkpoint(note, [verifier], origin=verifier.name)
    except NoteError:
        return None
    return checkpoint if opening.detail == opening_detail(note) else None
