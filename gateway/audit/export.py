"""Exporting a log as a static tlog-tiles directory (c2sp.org/tlog-tiles): files any verifier reads.

What is published only grows: a second export adds the tiles that are new, after proving that the log
extends the one exported before. The checkpoint comes last, so that whoever finds one finds all it covers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.audit.bundle import encode_bundle
from gateway.audit.checkpoint import Checkpoint, open_checkpoint
from gateway.audit.errors import LogMismatchError, NoteError, ProofError
from gateway.audit.findings import Progress
from gateway.audit.note import Verifier
from gateway.audit.proof import verify_consistency
from gateway.audit.store import AuditReader
from gateway.audit.tile_files import TileWriter, read_checkpoint, writing_to
from gateway.audit.tiles import TILE_WIDTH, Tile, row_length, tile_width
from gateway.audit.tree import EMPTY_ROOT


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export has done."""

    checkpoint: Checkpoint
    """The checkpoint that the directory ends with now."""
    previous_size: int
    """How many entries the directory held before."""
    files: int
    """How many files were added, the checkpoint not counted."""


def export_tiles(
    reader: AuditReader, directory: Path, verifiers: Sequence[Verifier], progress: Progress | None = None
) -> Exported:
    """Write the log up to its latest checkpoint to `directory`, or what is missing there.

    `verifiers` are the keys that may have signed the log. Files get the access rights that the process's
    umask leaves; a directory made here can be entered by its owner only. Raises `NoteError` and
    `NoteSignatureError` if the checkpoint is not signed as it must be, `LogMismatchError` if the
    directory holds a log that this one does not extend, `ConfigError` if it holds other things, and
    `LogUnavailableError`.
    """
    note = reader.checkpoint()
    checkpoint = open_checkpoint(note, verifiers)
    told = progress or (lambda *_: None)
    with writing_to(directory) as writer:
        old_size = _extended_size(reader, directory, verifiers, checkpoint)
        told(old_size, checkpoint.size)
        # Nothing below the old size is read: those tiles were durable before the old checkpoint was.
        for number in range(old_size // TILE_WIDTH, -(-checkpoint.size // TILE_WIDTH)):
            start = number * TILE_WIDTH
            width = tile_width(0, number, checkpoint.size)
            entries = reader.entries(start, start + width)
            writer.add(Tile(None, number, width), encode_bundle(entries))
            writer.add(Tile(0, number, width), reader.tile(0, number, width))
            told(start + width, checkpoint.size)
        _add_upper_levels(reader, writer, old_size, checkpoint.size)
        writer.finish(note)
        return Exported(checkpoint, old_size, writer.written)


def _add_upper_levels(reader: AuditReader, writer: TileWriter, old_size: int, size: int) -> None:
    level = 1
    while row_length(level, size):
        first = row_length(level, old_size) // TILE_WIDTH
        for number in range(first, -(-row_length(level, size) // TILE_WIDTH)):
            width = tile_width(level, number, size)
            writer.add(Tile(level, number, width), reader.tile(level, number, width))
        level += 1


def _extended_size(
    reader: AuditReader, directory: Path, verifiers: Sequence[Verifier], checkpoint: Checkpoint
) -> int:
    """Return the size of the log in `directory` once it is proven that the new one extends it."""
    try:
        note = read_checkpoint(directory)
        if note is None:
            return 0
        old = open_checkpoint(note, verifiers, origin=checkpoint.origin)
        if old.size > checkpoint.size:
            raise LogMismatchError(
                f"The directory holds {old.size} entries of this log, which has {checkpoint.size} only: it "
                "was rolled back to an older state. Keep the directory; restore the newest copy of the log."
            )
        proof = reader.consistency_proof(old.size, checkpoint.size)
        old_root = EMPTY_ROOT if old.size == 0 else old.root
        verify_consistency(old.size, old_root, checkpoint.size, checkpoint.root, proof)
    except (NoteError, ProofError) as error:
        raise LogMismatchError(
            "The directory holds another log, or one that this log does not extend: its history was changed. "
            "Keep both; run `gateway audit fsck` and `gateway audit verify`, or export to a fresh folder."
        ) from error
    return old.size
