"""Making proofs from stored tiles (RFC 6962 sections 2.1.1 and 2.1.2)."""

from __future__ import annotations

from typing import Protocol

from gateway.audit.tiles import TILE_HEIGHT, TILE_WIDTH, subtree_root, tile_width
from gateway.audit.tree import HASH_BYTES, Frontier, node_hash


class HashReader(Protocol):
    """Where the hashes of a tree come from."""

    def tile(self, level: int, number: int, width: int) -> bytes:
        """Return the first `width` hashes (32 bytes each) of a tile."""
        ...


class TreeHashes:
    """The hashes of the tree of `size` leaves; reads each tile at most once."""

    def __init__(self, reader: HashReader, size: int) -> None:
        self._reader = reader
        self._tiles: dict[tuple[int, int], bytes] = {}
        self.size = size

    def subtree(self, height: int, position: int) -> bytes:
        """Return the root of the complete subtree of 2^height leaves at `position`."""
        level, rest = divmod(height, TILE_HEIGHT)
        number, within = divmod(position << rest, TILE_WIDTH)
        tile = self._tiles.get((level, number))
        if tile is None:
            tile = self._reader.tile(level, number, tile_width(level, number, self.size))
            self._tiles[level, number] = tile
        return subtree_root(tile[within * HASH_BYTES : (within + (1 << rest)) * HASH_BYTES])

    def root_of(self, start: int, end: int) -> bytes:
        """Return the root over the leaves from `start` to before `end`.

        `start` must be a multiple of the largest power of two that fits into the range, as it is for
        every node of the tree.
        """
        roots = []
        while start < end:
            height = (end - start).bit_length() - 1
            roots.append(self.subtree(height, start >> height))
            start += 1 << height
        root = roots.pop()
        while roots:
            root = node_hash(roots.pop(), root)
        return root

    def frontier(self) -> Frontier:
        """Return the right edge of the tree."""
        hashes = []
        start = 0
        for height in reversed(range(self.size.bit_length())):
            if self.size >> height & 1:
                hashes.append(self.subtree(height, start >> height))
                start += 1 << height
        return Frontier(self.size, tuple(hashes))

    def inclusion_proof(self, index: int) -> tuple[bytes, ...]:
        """Return the proof of leaf `index`, from the leaf's sibling up.

        Raises `ValueError` unless 0 <= index < size.
        """
        if not 0 <= index < self.size:
            raise ValueError("the tree has no such leaf")
        hashes = []
        for height in range((self.size - 1).bit_length()):
            sibling = (index >> height) ^ 1
            start = sibling << height
            if start < self.size:
                hashes.append(self.root_of(start, min(start + (1 << height), self.size)))
        return tuple(hashes)

    def consistency_proof(self, old_size: int) -> tuple[bytes, ...]:
        """Return the proof that this tree extends its first `old_size` leaves.

        Raises `ValueError` unless 0 <= old_size <= size. Empty for 0 and for the size itself.
        """
        if not 0 <= old_size <= self.size:
            raise ValueError("the tree has never had this size")
        if old_size in {0, self.size}:
            return ()
        hashes: list[bytes] = []
        start, end = 0, self.size
        # SUBPROOF of RFC 6962 section 2.1.2, from the root down; what it appends is collected in
        # reverse. The node that the older tree ends with is left out where it is the older root.
        while old_size != end:
            split = start + (1 << (end - start - 1).bit_length() - 1)
            if old_size <= split:
                hashes.append(self.root_of(split, end))
                end = split
            else:
                hashes.append(self.root_of(start, split))
                start = split
        if start:
            hashes.append(self.root_of(start, end))
        return tuple(reversed(hashes))
