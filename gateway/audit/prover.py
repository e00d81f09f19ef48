"""Making proofs from stored tiles (RFC 6962 sections 2.1.1 and 2.1.2)."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final, Protocol

from gateway.audit.tiles import TILE_HEIGHT, TILE_WIDTH, tile_width
from gateway.audit.tree import HASH_BYTES, Frontier, hash_pairs, node_hash

KEPT_TILES: Final = 512
"""Of 16 KiB each with their nodes: the upper tiles of a log of 33 million entries."""


class HashReader(Protocol):
    """Where the hashes of a tree come from."""

    def tile(self, level: int, number: int, width: int) -> bytes:
        """Return the first `width` hashes (32 bytes each) of a tile."""
        ...


class TileNodes:
    """A tile, full or partial, and the nodes of the tree within it."""

    def __init__(self, hashes: bytes) -> None:
        self._rows = [hashes]
        while len(self._rows[-1]) >= 2 * HASH_BYTES:
            row = self._rows[-1]
            self._rows.append(hash_pairs(row[: len(row) // (2 * HASH_BYTES) * (2 * HASH_BYTES)]))

    @property
    def width(self) -> int:
        """How many hashes the tile has."""
        return len(self._rows[0]) // HASH_BYTES

    def node(self, height: int, position: int) -> bytes:
        """Return the root over the 2^height hashes at `position`; raise `ValueError` if some are missing."""
        row = self._rows[height] if height < len(self._rows) else b""
        node = row[position * HASH_BYTES : (position + 1) * HASH_BYTES]
        if len(node) != HASH_BYTES:
            raise ValueError("the tile does not reach so far")
        return node


class KnownTiles:
    """The tiles that proof after proof leans on, kept by a reader of one log. Safe from any thread.

    These are those above the lowest level, and the partial ones at the right edge. A log only grows: what
    was read once stays so, and a partial tile serves every tree that it is wide enough for.
    """

    def __init__(self) -> None:
        self._tiles: OrderedDict[tuple[int, int], TileNodes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, level: int, number: int, width: int) -> TileNodes | None:
        """Return the tile if it is kept with at least the first `width` of its hashes."""
        with self._lock:
            tile = self._tiles.get((level, number))
            if tile is None or tile.width < width:
                return None
            self._tiles.move_to_end((level, number))
            return tile

    def keep(self, level: int, number: int, tile: TileNodes) -> None:
        """Keep a tile if it is of those that serve again; that which served longest ago makes room."""
        if level == 0 and tile.width == TILE_WIDTH:
            return
        with self._lock:
            self._tiles[level, number] = tile
            self._tiles.move_to_end((level, number))
            if len(self._tiles) > KEPT_TILES:
                self._tiles.popitem(last=False)


class TreeHashes:
    """The hashes of the tree of `size` leaves; reads each tile at most once, and those `known` not at all."""

    def __init__(self, reader: HashReader, size: int, known: KnownTiles | None = None) -> None:
        self._reader = reader
        self._known = known
        self._tiles: dict[tuple[int, int], TileNodes] = {}
        self.size = size

    def subtree(self, height: int, position: int) -> bytes:
        """Return the root of the complete subtree of 2^height leaves at `position`."""
        level, rest = divmod(height, TILE_HEIGHT)
        number, within = divmod(position, TILE_WIDTH >> rest)
        tile = self._tiles.get((level, number))
        if tile is None:
            tile = self._tiles[level, number] = self._tile(level, number)
        return tile.node(rest, within)

    def _tile(self, level: int, number: int) -> TileNodes:
        width = tile_width(level, number, self.size)
        tile = None if self._known is None else self._known.get(level, number, width)
        if tile is None:
            tile = TileNodes(self._reader.tile(level, number, width))
            if self._known is not None:
                self._known.keep(level, number, tile)
        return tile

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
