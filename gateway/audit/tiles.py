"""Tiles: the tree cut into rows of 256 hashes (c2sp.org/tlog-tiles).

Tile `number` of `level` holds the hashes of the complete subtrees of 256^level leaves at the
positions from `number * 256`. A tile of fewer than 256 hashes is partial; its width says how many.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gateway.audit.errors import ProofError
from gateway.audit.tree import HASH_BYTES, MAX_SIZE, hash_pairs

TILE_HEIGHT: Final = 8
TILE_WIDTH: Final = 256
MAX_LEVEL: Final = 63
"""The largest level a path may name (c2sp.org/tlog-tiles, "Merkle Tree")."""

_PATH: Final = re.compile(
    r"tile/(?P<level>0|[1-9][0-9]?|entries)/"
    r"(?P<number>(?:x[0-9]{3}/){0,6}[0-9]{3})"
    r"(?:\.p/(?P<width>[1-9][0-9]{0,2}))?"
)


@dataclass(frozen=True, slots=True, order=True)
class Tile:
    """The place of a tile. `level` is None for a bundle of entries."""

    level: int | None
    number: int
    width: int = TILE_WIDTH


def tile_path(tile: Tile) -> str:
    """Return the path of `tile` under the log's prefix, such as `tile/0/x001/x234/067.p/9`."""
    groups = f"{tile.number % 1000:03d}"
    rest = tile.number // 1000
    while rest:
        groups = f"x{rest % 1000:03d}/{groups}"
        rest //= 1000
    level = "entries" if tile.level is None else str(tile.level)
    suffix = "" if tile.width == TILE_WIDTH else f".p/{tile.width}"
    return f"tile/{level}/{groups}{suffix}"


def parse_tile_path(path: str) -> Tile:
    """Read a path in its one exact form; raise `ProofError` for every other."""
    match = _PATH.fullmatch(path)
    if match is None:
        raise ProofError("This is not the path of a tile.")
    tile = Tile(
        level=None if match["level"] == "entries" else int(match["level"]),
        number=int(match["number"].replace("x", "").replace("/", "")),
        width=TILE_WIDTH if match["width"] is None else int(match["width"]),
    )
    too_far = tile.number > MAX_SIZE // TILE_WIDTH or (tile.level or 0) > MAX_LEVEL
    if too_far or tile_path(tile) != path or tile.width > TILE_WIDTH:
        raise ProofError("This is not the path of a tile.")
    return tile


def row_length(level: int, size: int) -> int:
    """Return how many hashes the rows of `level` hold in a tree of `size` leaves."""
    return size >> (TILE_HEIGHT * level)


def tile_width(level: int, number: int, size: int) -> int:
    """Return the width of a tile in a tree of `size` leaves, from 0 (absent) to 256 (full)."""
    return max(0, min(TILE_WIDTH, row_length(level, size) - number * TILE_WIDTH))


def completed_tiles(old_size: int, size: int) -> Iterator[Tile]:
    """Yield the tiles that are full at `size` and were not at `old_size`, lowest level first."""
    level = 0
    while row_length(level, size) >= TILE_WIDTH:
        for number in range(row_length(level + 1, old_size), row_length(level + 1, size)):
            yield Tile(level, number)
        level += 1


def subtree_root(hashes: bytes) -> bytes:
    """Return the root over a power of two of adjacent 32-byte hashes."""
    count, rest = divmod(len(hashes), HASH_BYTES)
    if rest or count.bit_count() != 1:
        raise ValueError("a complete subtree has a power of two of leaves")
    while len(hashes) > HASH_BYTES:
        hashes = hash_pairs(hashes)
    return hashes
