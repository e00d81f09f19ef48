"""Examining a static tlog-tiles directory: a log on another computer, without the gateway.

Everything is computed from the bundles of entries up, as `gateway.audit.fsck` does it in the database;
the directory and the log's public key are all that is needed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from gateway.audit.bundle import encode_bundle, split_bundle
from gateway.audit.checkpoint import Checkpoint, open_checkpoint
from gateway.audit.entry_forms import EntryForms
from gateway.audit.errors import LogUnavailableError, NoteError, ProofError
from gateway.audit.findings import MAX_FINDINGS, Finding, Progress
from gateway.audit.growth import GrownTile, TreeGrowth
from gateway.audit.note import Verifier
from gateway.audit.tile_files import CHECKPOINT, WRITING, read_checkpoint, read_tile
from gateway.audit.tiles import TILE_WIDTH, Tile, parse_tile_path, tile_path, tile_width
from gateway.audit.tree import HASH_BYTES, leaf_hashes

_WIDTH: Final = re.compile(r"[1-9][0-9]{0,2}", re.ASCII)


@dataclass(frozen=True, slots=True)
class DirectoryReport:
    """The outcome. The directory holds the log that its key has signed if there are no findings."""

    checkpoint: Checkpoint | None
    """The checkpoint examined; None if there is none that the log's key has signed."""
    entries: int
    """How many entries were examined."""
    findings: tuple[Finding, ...]


def examine_directory(
    directory: Path,
    verifiers: Sequence[Verifier],
    *,
    kept: Checkpoint | None = None,
    progress: Progress | None = None,
) -> DirectoryReport:
    """Examine the log in `directory`, whose checkpoint one of `verifiers` must have signed.

    `kept` is a verified checkpoint from earlier, of the same log, that this log must extend. Files of a
    size beyond the checkpoint (an export under way) are not examined. Everything that is not as it must
    be is a finding; none raises.
    """
    examination = _Examination(directory, verifiers, kept, progress or (lambda *_: None))
    findings = []
    try:
        for finding in examination.run():
            findings.append(finding)
            if len(findings) == MAX_FINDINGS:
                break
    except LogUnavailableError as error:
        findings.append(Finding("directory", error.message, examination.growth.size))
    return DirectoryReport(examination.checkpoint, examination.growth.size, tuple(findings))


class _Examination:
    """One pass over a directory."""

    def __init__(
        self, directory: Path, verifiers: Sequence[Verifier], kept: Checkpoint | None, progress: Progress
    ) -> None:
        self._directory = directory
        self._verifiers = verifiers
        self._kept = kept
        self._progress = progress
        self._forms = EntryForms()
        self.growth = TreeGrowth()
        self.checkpoint: Checkpoint | None = None

    def run(self) -> Iterator[Finding]:
        """Examine everything; yield what is found."""
        checkpoint = self._open_checkpoint()
        if isinstance(checkpoint, Finding):
            yield checkpoint
            return
        self.checkpoint = checkpoint
        size = checkpoint.size
        if self._kept is not None and (self._kept.origin != checkpoint.origin or self._kept.size > size):
            yield Finding("checkpoint", "it is of another log, or older, than the one kept before", size)
        self._progress(0, size)
        for number in range(-(-size // TILE_WIDTH)):
            leaves = yield from self._examine_bundle(number, tile_width(0, number, size))
            if not leaves:
                what = (
                    f"tile {number} of level 0 is missing or wrong too: nothing from here on can be examined"
                )
                yield Finding("tile", what, number * TILE_WIDTH)
                return
            for tile in self.growth.add(leaves):
                yield from self._examine_tile(tile)
            yield from self._compare_with_kept(number * TILE_WIDTH)
            self._progress(self.growth.size, size)
        for tile in self.growth.partial_tiles():
            yield from self._examine_tile(tile)
        if self.growth.root_at(size) != checkpoint.root:
            what = "its root is not that of the entries: some were changed, dropped, added or reordered"
            yield Finding("checkpoint", what, size)
        yield from self._find_strangers()

    def _open_checkpoint(self) -> Checkpoint | Finding:
        try:
            note = read_checkpoint(self._directory)
            if note is None:
                return Finding("checkpoint", "there is none: this is no directory of a log")
            return open_checkpoint(note, self._verifiers)
        except (NoteError, ProofError):
            return Finding("checkpoint", "it is malformed or not signed by the log's key")

    def _examine_bundle(self, number: int, width: int) -> Generator[Finding, None, list[bytes]]:
        """Examine a bundle; the generator's value is the leaf hashes to go on with, if there are any."""
        first = number * TILE_WIDTH
        stored = self._read_hashes(Tile(0, number, width))
        entries = self._read_entries(Tile(None, number, width))
        if entries is None:
            yield Finding("entry", "the bundle of entries that begins here is missing or malformed", first)
            # The tile's hashes stand in, so that what comes after is examined all the same.
            return stored
        leaves = leaf_hashes(entries)
        for index, (leaf, hashed) in enumerate(zip(leaves, stored, strict=False), first):
            if leaf != hashed:
                yield Finding("entry", "its bytes do not have the hash that stands in its tile", index)
        if self._forms.examine_together(entries) is None:
            yield from self._forms.examine(first, entries).findings
        for older in self._older(Tile(None, number, width)):
            if read_tile(self._directory, older) != encode_bundle(entries[: older.width]):
                yield Finding("entry", f"its bundle of width {older.width} says something else", first)
        return leaves

    def _examine_tile(self, grown: GrownTile) -> Iterator[Finding]:
        width = len(grown.hashes) // HASH_BYTES
        tile = Tile(grown.level, grown.number, width)
        expected: list[tuple[Tile, bytes | None]] = [(tile, b"".join(self._read_hashes(tile)))]
        expected += [(older, _content(self._directory, older)) for older in self._older(tile)]
        for found, content in expected:
            if content != grown.hashes[: found.width * HASH_BYTES]:
                what = f"tile {tile.number} of level {tile.level}, width {found.width}, is missing or wrong"
                yield Finding("tile", what, grown.first_entry)

    def _compare_with_kept(self, start: int) -> Iterator[Finding]:
        kept = self._kept
        if kept is None or not start < kept.size <= self.growth.size:
            return
        if self.growth.root_at(kept.size) != kept.root:
            what = "the log does not extend the checkpoint kept before: its history was changed"
            yield Finding("checkpoint", what, kept.size)

    def _find_strangers(self) -> Iterator[Finding]:
        """Find files that belong to no tile: nobody has proven anything of them."""
        for folder, folders, files in os.walk(self._directory):
            here = Path(folder)
            if here == self._directory and WRITING in folders:
                folders.remove(WRITING)
            links = [name for name in folders if (here / name).is_symlink()]
            for name in (*files, *links):
                path = (here / name).relative_to(self._directory).as_posix()
                if path != CHECKPOINT and not _names_tile(path):
                    yield Finding("directory", "it holds a file that belongs to no tile of a log")

    def _read_entries(self, tile: Tile) -> list[bytes] | None:
        """Return the entries of a bundle; None if it is missing or malformed."""
        for width in dict.fromkeys((tile.width, TILE_WIDTH)):
            raw = _content(self._directory, replace(tile, width=width))
            if raw is not None:
                try:
                    return split_bundle(raw, width)[: tile.width]
                except ProofError:
                    return None
        return None

    def _read_hashes(self, tile: Tile) -> list[bytes]:
        """Return the hashes of a tile; none if it is missing or malformed."""
        for width in dict.fromkeys((tile.width, TILE_WIDTH)):
            raw = _content(self._directory, replace(tile, width=width))
            if raw is not None:
                whole = len(raw) == width * HASH_BYTES
                return [raw[at * HASH_BYTES :][:HASH_BYTES] for at in range(tile.width)] if whole else []
        return []

    def _older(self, tile: Tile) -> list[Tile]:
        """Return the narrower tiles that stand beside `tile`, left from exports before."""
        folder = self._directory / tile_path(replace(tile, width=1))
        try:
            names = [path.name for path in folder.parent.iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        widths = sorted(int(name) for name in names if _WIDTH.fullmatch(name))
        return [replace(tile, width=width) for width in widths if width < tile.width]


def _content(directory: Path, tile: Tile) -> bytes | None:
    try:
        return read_tile(directory, tile)
    except ProofError:
        return b""


def _names_tile(path: str) -> bool:
    try:
        parse_tile_path(path)
    except ProofError:
        return False
    return True
