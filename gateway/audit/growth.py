"""How a stored log grows: what every engine does within its transaction, whatever it stores in.

An engine reads the stored head, has it verified here, appends to it, and stores what this module
derives: tiles and blocks that have become full, and the head after the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.audit.checkpoint import open_checkpoint
from gateway.audit.errors import EntryNotFoundError, LogMismatchError, NoteError
from gateway.audit.prover import HashReader, TreeHashes
from gateway.audit.search import BLOCK_ENTRIES, BlockSummary, IndexRow
from gateway.audit.store import LogIdentity
from gateway.audit.tiles import TILE_HEIGHT, TILE_WIDTH, Tile, completed_tiles
from gateway.audit.tree import Batch, Frontier, append

ReadRow = Callable[[int, int, int], Sequence[bytes]]
"""Takes a level and positions from, to before; returns the hashes stored there."""


@dataclass(frozen=True, slots=True)
class Head:
    """The log's right edge and the checkpoint over it."""

    frontier: Frontier
    note: str
    tail: tuple[tuple[bytes, IndexRow], ...]
    """Leaf hash and index row of the entries after the last full block, so that an append reads
    nothing back. A block of the search and a tile of level 0 are the same 256 entries."""

    def tail_after(self, added: Sequence[tuple[bytes, IndexRow]]) -> list[tuple[bytes, IndexRow]]:
        """Return the entries from the last full block on, with those `added`."""
        return [*self.tail, *added]


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
    kept: str | None
    """The checkpoint kept for `size`."""


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
    added: Sequence[tuple[bytes, IndexRow]],
    identity: LogIdentity,
) -> Head:
    """Return the head that another process has written over `known`, verified to extend it.

    `added` are leaf hash and index row of each entry since. Raises `LogMismatchError`.
    """
    if not added or known.frontier.size + len(added) != size:
        raise contradiction()
    batch = append(known.frontier, [hashed for hashed, _ in added])
    try:
        checkpoint = open_checkpoint(note, [identity.verifier], origin=identity.origin)
    except NoteError as error:
        raise contradiction() from error
    if batch.frontier.to_bytes() != frontier or (checkpoint.size, checkpoint.root) != (size, batch.root):
        raise contradiction()
    return head_after(batch, note, known.tail_after(added))


def head_after(batch: Batch, note: str, tail: Sequence[tuple[bytes, IndexRow]]) -> Head:
    """Return the head after `batch`. `tail` ends with the batch's entries."""
    return Head(batch.frontier, note, tuple(tail[len(tail) - batch.frontier.size % TILE_WIDTH :]))


def contradiction() -> LogMismatchError:
    """Return the error for a log that does not agree with itself."""
    return LogMismatchError(
        "The audit log contradicts its own checkpoint; run `gateway audit fsck` and restore it."
    )


def full_blocks(batch: Batch, tail: Sequence[IndexRow]) -> Iterator[tuple[int, BlockSummary]]:
    """Yield (number, summary) of the blocks that the batch made full. `tail` begins with the first."""
    first = batch.first // BLOCK_ENTRIES
    for number in range(first, batch.frontier.size // BLOCK_ENTRIES):
        start = (number - first) * BLOCK_ENTRIES
        yield number, BlockSummary.of(tail[start : start + BLOCK_ENTRIES])


def full_tiles(
    batch: Batch, tail: Sequence[bytes], stored_row: ReadRow
) -> Iterator[tuple[Tile, bytes, bytes]]:
    """Yield (tile, root over it, its hashes) for the tiles that the batch made full.

    `tail` begins with the first leaf hash of the first of level 0. Of the levels above, what stood
    before the batch is read with `stored_row`.
    """
    for tile in completed_tiles(batch.first, batch.frontier.size):
        assert tile.level is not None
        start, height = tile.number * TILE_WIDTH, TILE_HEIGHT * tile.level
        if tile.level == 0:
            offset = start - batch.first // TILE_WIDTH * TILE_WIDTH
            hashes = list(tail[offset : offset + TILE_WIDTH])
        else:
            before = batch.first >> height
            hashes = list(stored_row(tile.level, start, before)) if start < before else []
            hashes += batch.completed(height)[max(start - before, 0) : start + TILE_WIDTH - before]
        above = height + TILE_HEIGHT
        root = batch.completed(above)[tile.number - (batch.first >> above)]
        yield tile, root, b"".join(hashes)


def microseconds(moment: datetime) -> int:
    """Return the time as microseconds since 1970 (UTC)."""
    return int(moment.timestamp() * 1_000_000)
