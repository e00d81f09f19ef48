"""A tree that grows by tiles of 256 leaves, as one who examines a log computes it anew.

It shares nothing with the algorithm by which the writer appends but the hash functions: there a row
of any length is merged with the right edge, here whole tiles are added to a list of peaks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gateway.audit.tiles import TILE_HEIGHT, TILE_WIDTH
from gateway.audit.tree import EMPTY_ROOT, node_hash, parent_hashes


@dataclass(frozen=True, slots=True)
class GrownTile:
    """A tile as computed from the entries."""

    level: int
    number: int
    hashes: bytes
    """The tile's row: 32 bytes for each of its hashes, 256 if it is full."""
    root: bytes
    """The root over a full tile; of a partial one nothing is known."""

    @property
    def first_entry(self) -> int:
        """The index of the first entry under the tile."""
        return self.number << TILE_HEIGHT * (self.level + 1)


class TreeGrowth:
    """The tree over the leaves added so far. Remembers the right edge, and the rows of the last tile."""

    def __init__(self) -> None:
        self.size = 0
        self._start = 0
        self._peaks: list[tuple[int, bytes]] = []
        self._rows: list[list[bytes]] = [[]]
        self._partial: list[list[bytes]] = [[]]

    def add(self, leaves: Sequence[bytes]) -> list[GrownTile]:
        """Add the leaves of the next tile; return the tiles that are full now, lowest level first.

        All but the last call take 256 leaf hashes. Raises `ValueError` after one that took fewer.
        """
        if self.size - self._start not in {0, TILE_WIDTH} or not 1 <= len(leaves) <= TILE_WIDTH:
            raise ValueError("a tree grows by whole tiles, and by one partial tile at its end")
        self._close_tile()
        self._rows = [list(leaves)]
        while len(self._rows[-1]) > 1:
            self._rows.append(parent_hashes(self._rows[-1]))
        self.size += len(leaves)
        return list(self._full_tiles()) if len(leaves) == TILE_WIDTH else []

    def root_at(self, size: int) -> bytes:
        """Return the root of the first `size` leaves: 0, or a size that the last `add` reached or passed.

        Raises `ValueError` for other sizes.
        """
        if size == 0:
            return EMPTY_ROOT
        if not self._start < size <= self.size:
            raise ValueError("the tree remembers the roots of its last tile only")
        peaks = [*self._peaks, *self._peaks_within(size - self._start)]
        root = peaks.pop()[1]
        while peaks:
            root = node_hash(peaks.pop()[1], root)
        return root

    def frontier(self) -> bytes:
        """Return the roots of the complete subtrees that make up the tree, largest first, joined."""
        peaks = list(self._peaks)
        for peak in self._peaks_within(self.size - self._start):
            _merge(peaks, peak)
        return b"".join(node for _, node in peaks)

    def partial_tiles(self) -> Iterator[GrownTile]:
        """Yield the tiles at the right edge that are not full, lowest level first."""
        within = [] if self.size - self._start == TILE_WIDTH else self._rows[0]
        for level, row in enumerate([within, *self._partial[1:]]):
            if row:
                number = (self.size >> TILE_HEIGHT * level) // TILE_WIDTH
                yield GrownTile(level, number, b"".join(row), b"")

    def _close_tile(self) -> None:
        if self.size - self._start == TILE_WIDTH:
            _merge(self._peaks, (TILE_HEIGHT, self._rows[TILE_HEIGHT][0]))
            self._start = self.size

    def _peaks_within(self, width: int) -> Iterator[tuple[int, bytes]]:
        """Yield the peaks over the first `width` leaves of the last tile, largest first."""
        for height in reversed(range(width.bit_length())):
            if width >> height & 1:
                yield height, self._rows[height][(width >> height) - 1]

    def _full_tiles(self) -> Iterator[GrownTile]:
        row, root = self._rows[0], self._rows[TILE_HEIGHT][0]
        level = 0
        while True:
            number = (self.size >> TILE_HEIGHT * (level + 1)) - 1
            yield GrownTile(level, number, b"".join(row), root)
            level += 1
            if level == len(self._partial):
                self._partial.append([])
            row = self._partial[level]
            row.append(root)
            if len(row) < TILE_WIDTH:
                return
            self._partial[level] = []
            nodes = row
            while len(nodes) > 1:
                nodes = parent_hashes(nodes)
            root = nodes[0]


def _merge(peaks: list[tuple[int, bytes]], peak: tuple[int, bytes]) -> None:
    """Add a complete subtree to the right of `peaks`, joining those of equal height."""
    height, node = peak
    while peaks and peaks[-1][0] == height:
        node = node_hash(peaks.pop()[1], node)
        height += 1
    peaks.append((height, node))
