"""What every engine does within the transaction of an append, whatever it stores in.

An engine reads the stored head, has it verified here, appends to it, and stores what this module
derives: tiles and blocks that have become full, and the head after the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.audit.checkpoint import open_checkpoint
from gateway.audit.errors import EntryNotFoundError, LogClosedError, LogMismatchError, NoteError
from gateway.audit.prover import HashReader, TreeHashes
from gateway.audit.store import LogIdentity, PendingEntry
from gateway.audit.tiles import TILE_HEIGHT, TILE_WIDTH, Tile, completed_tiles
from gateway.audit.tree import Batch, Frontier, append
from gateway.model.entry import EntryKind

ReadHashes = Callable[[int, int, int], Sequence[bytes]]
"""Takes a level and positions from, to before; returns the hashes stored there."""


@dataclass(frozen=True, slots=True)
class Head:
    """The log's right edge and the checkpoint over it."""

    frontier: Frontier
    note: str
    tail: tuple[bytes, ...]
    """Leaf hashes of the entries after the last full tile, so that an append need not read them."""
    closed: bool = False
    """Whether the last entry closes the log."""


@dataclass(frozen=True, slots=True)
class StoredHead:
    """What a store says of its log, before anything of it is believed."""

    identity: tuple[str, str] | None
    """Origin and verifier key."""
    size: int
    frontier: bytes
    note: str
    last: int | None
    """The highest index of an entry."""
    last_kind: str | None
    """The kind of that entry."""
    kept: str | None
    """The checkpoint kept for `size`."""

    @property
    def closed(self) -> bool:
        """Whether the last entry closes the log."""
        return self.last_kind == EntryKind.LOG_CLOSED


def verify_identity(stored: tuple[str, str] | None, identity: LogIdentity) -> None:
    """Raise `LogMismatchError` unless the stored origin and key are those of `identity`."""
    if stored != (identity.origin, identity.verifier.vkey()):
        raise LogMismatchError(
            "This audit log has another origin or key than configured; check path, origin and key file."
        )


def verify_head(stored: StoredHead, tiles: HashReader, identity: LogIdentity, known: Head | None) -> Frontier:
    """Return the right edge once identity, checkpoint, right edge, tiles and entries agree.

    `known` is the last head this process has seen; a log that is behind it has lost entries. Raises
    `LogMismatchError`.
    """
    verify_identity(stored.identity, identity)
    try:
        frontier = Frontier.from_bytes(stored.frontier)
        checkpoint = open_checkpoint(stored.note, [identity.verifier], origin=identity.origin)
        derived = TreeHashes(tiles, stored.size).frontier()
    except (ValueError, NoteError, EntryNotFoundError) as error:
        raise contradiction() from error
    agrees = (
        frontier == derived
        and frontier.size == checkpoint.size == stored.size
        and frontier.root() == checkpoint.root
        and (-1 if stored.last is None else stored.last) == stored.size - 1
        and stored.kept == stored.note
    )
    if not agrees:
        raise contradiction()
    went_back = known is not None and (
        stored.size < known.frontier.size
        or (stored.size == known.frontier.size and frontier != known.frontier)
    )
    if went_back:
        raise LogMismatchError(
            "The audit log lost entries that were acknowledged; restore the newest copy before going on."
        )
    return frontier


def follow_head(
    known: Head,
    size: int,
    frontier: bytes,
    note: str,
    added: Sequence[tuple[bytes, str]],
    identity: LogIdentity,
) -> Head:
    """Return the head that another process has written over `known`, verified to extend it.

    `added` are leaf hash and kind of each entry since. Raises `LogMismatchError`.
    """
    if not added or known.frontier.size + len(added) != size:
        raise contradiction()
    leaves = [hashed for hashed, _ in added]
    batch = append(known.frontier, leaves)
    try:
        checkpoint = open_checkpoint(note, [identity.verifier], origin=identity.origin)
    except NoteError as error:
        raise contradiction() from error
    if batch.frontier.to_bytes() != frontier or (checkpoint.size, checkpoint.root) != (size, batch.root):
        raise contradiction()
    return head_after(batch, note, [*known.tail, *leaves], closed=added[-1][1] == EntryKind.LOG_CLOSED)


def head_after(batch: Batch, note: str, tail: Sequence[bytes], *, closed: bool) -> Head:
    """Return the head after `batch`. `tail` ends with the batch's leaf hashes."""
    return Head(batch.frontier, note, tuple(tail[len(tail) - batch.frontier.size % TILE_WIDTH :]), closed)


def refuse_closed(head: Head) -> None:
    """Raise `LogClosedError` if nothing may follow `head`."""
    if head.closed:
        raise LogClosedError(
            "This audit log was closed and takes no more entries; its last entry names the log that goes on "
            "from it: set log.origin and log.database to that one."
        )


def closes_log(accepted: Sequence[PendingEntry]) -> bool:
    """Return whether the last entry closes the log; raise `LogClosedError` if an earlier one does."""
    if any(item.row.kind == EntryKind.LOG_CLOSED for item in accepted[:-1]):
        raise LogClosedError("Nothing may follow the entry that closes a log.")
    return accepted[-1].row.kind == EntryKind.LOG_CLOSED


def contradiction() -> LogMismatchError:
    """Return the error for a log that does not agree with itself."""
    return LogMismatchError(
        "The audit log contradicts its own checkpoint; run `gateway audit fsck` and restore it."
    )


def full_tiles(
    batch: Batch, tail: Sequence[bytes], stored_hashes: ReadHashes
) -> Iterator[tuple[Tile, bytes, bytes]]:
    """Yield (tile, root over it, its hashes) for the tiles that the batch made full.

    `tail` begins with the first leaf hash of the first of level 0. Of the levels above, what stood
    before the batch is read with `stored_hashes`.
    """
    for tile in completed_tiles(batch.first, batch.frontier.size):
        assert tile.level is not None
        start, height = tile.number * TILE_WIDTH, TILE_HEIGHT * tile.level
        if tile.level == 0:
            offset = start - batch.first // TILE_WIDTH * TILE_WIDTH
            hashes = list(tail[offset : offset + TILE_WIDTH])
        else:
            before = batch.first >> height
            hashes = list(stored_hashes(tile.level, start, before)) if start < before else []
            hashes += batch.completed(height)[max(start - before, 0) : start + TILE_WIDTH - before]
        above = height + TILE_HEIGHT
        root = batch.completed(above)[tile.number - (batch.first >> above)]
        yield tile, root, b"".join(hashes)


def microseconds(moment: datetime) -> int:
    """Return the time as microseconds since 1970 (UTC)."""
    return int(moment.timestamp() * 1_000_000)
