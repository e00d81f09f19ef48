"""The Merkle tree of RFC 6962 section 2.1: hashes, the right edge, and appending batches.

A `Frontier` is all that appending needs: the roots of the complete subtrees that make up the tree,
one for each set bit of its size. Appending a batch to it yields the new frontier, the new root, and
the inclusion proof of every leaf of the batch, without reading the tree.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = sha256(b"").digest()
"""The root of the tree without leaves."""

MAX_SIZE: Final = 2**63 - 1
"""The largest tree size; keeps sizes within a signed 64-bit integer."""

_LEAF: Final = b"\x00"
_NODE: Final = b"\x01"
_SIZE_BYTES: Final = 8


def leaf_hash(data: bytes) -> bytes:
    """Return the 32-byte hash of the leaf that holds `data` (RFC 6962 section 2.1)."""
    return sha256(_LEAF + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the 32-byte hash of the node over two 32-byte hashes (RFC 6962 section 2.1)."""
    return sha256(_NODE + left + right).digest()


def leaf_hashes(entries: Iterable[bytes]) -> list[bytes]:
    """Return the leaf hash of each entry; many at a time cost less than each by itself."""
    return [sha256(_LEAF + data).digest() for data in entries]


def parent_hashes(nodes: Sequence[bytes]) -> list[bytes]:
    """Return the hashes of the nodes over each pair of 32-byte hashes; an odd last one is left out."""
    lefts = iter(nodes)
    return [sha256(_NODE + left + right).digest() for left, right in zip(lefts, lefts, strict=False)]


def hash_pairs(hashes: bytes) -> bytes:
    """Return the node hashes over each two adjacent 32-byte hashes, one after the other."""
    pair = 2 * HASH_BYTES
    return b"".join([sha256(_NODE + hashes[at : at + pair]).digest() for at in range(0, len(hashes), pair)])


@dataclass(frozen=True, slots=True)
class Frontier:
    """The right edge of a tree: `hashes` holds the roots of its complete subtrees, largest first."""

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.size <= MAX_SIZE or len(self.hashes) != self.size.bit_count():
            raise ValueError("a frontier holds one hash for each set bit of its size")

    def root(self) -> bytes:
        """Return the 32-byte root of the tree."""
        if not self.hashes:
            return EMPTY_ROOT
        root = self.hashes[-1]
        for left in self.hashes[-2::-1]:
            root = node_hash(left, root)
        return root

    def to_bytes(self) -> bytes:
        """Return the size as 8 bytes, big-endian, then the hashes."""
        return self.size.to_bytes(_SIZE_BYTES, "big") + b"".join(self.hashes)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Frontier:
        """Read what `to_bytes` wrote; raise `ValueError` if it is anything else."""
        size = int.from_bytes(raw[:_SIZE_BYTES], "big")
        if len(raw) != _SIZE_BYTES + HASH_BYTES * size.bit_count():
            raise ValueError("not the bytes of a frontier")
        return cls(
            size,
            tuple(raw[start : start + HASH_BYTES] for start in range(_SIZE_BYTES, len(raw), HASH_BYTES)),
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """Leaves just appended, and everything the append has computed."""

    first: int
    """Index of the batch's first leaf: the size of the tree before."""
    leaf_hashes: tuple[bytes, ...]
    frontier: Frontier
    """The frontier after the append."""
    root: bytes
    rows: tuple[tuple[int, list[bytes]], ...]
    """For each height: (position of the first node, nodes). A row starts with the left neighbour of
    the batch where the first pair needs it, and ends with the incomplete right edge if there is one."""

    def inclusion_proof(self, offset: int) -> tuple[bytes, ...]:
        """Return the proof that leaf `offset` of this batch is in the tree after the append.

        The hashes run from the leaf's sibling up (RFC 6962 section 2.1.1).
        """
        if not 0 <= offset < len(self.leaf_hashes):
            raise IndexError("the batch has no such leaf")
        position = self.first + offset
        hashes = []
        for start, nodes in self.rows:
            sibling = (position ^ 1) - start
            if sibling < len(nodes):
                hashes.append(nodes[sibling])
            position >>= 1
        return tuple(hashes)

    def completed(self, height: int) -> list[bytes]:
        """Return the nodes of `height` that this batch made complete.

        They stand at the positions from `first >> height` up to the new size `>> height`.
        """
        if height >= len(self.rows):
            return []
        start, nodes = self.rows[height]
        return nodes[(self.first >> height) - start : (self.frontier.size >> height) - start]


def append(frontier: Frontier, leaf_hashes: Sequence[bytes]) -> Batch:
    """Append leaves (at least one 32-byte hash) to the tree that ends in `frontier`."""
    if not leaf_hashes:
        raise ValueError("a batch has at least one leaf")
    old_size, size = frontier.size, frontier.size + len(leaf_hashes)
    neighbours = list(frontier.hashes)
    kept: list[bytes] = []
    rows: list[tuple[int, list[bytes]]] = []
    nodes = list(leaf_hashes)
    edge: bytes | None = None
    # `edge` is the root of what lies right of the last complete node of the height: it has no hash
    # of its own in the tree, but it is a sibling on the paths of the leaves left of it.
    for height in range(size.bit_length()):
        if old_size >> height & 1:
            nodes.insert(0, neighbours.pop())
        complete = len(nodes)
        parents = [node_hash(nodes[at], nodes[at + 1]) for at in range(0, complete - 1, 2)]
        rows.append(((old_size >> height) & ~1, nodes))
        last = nodes[-1] if complete & 1 else None
        if edge is not None:
            nodes.append(edge)
        if last is not None:
            kept.append(last)
            edge = last if edge is None else node_hash(last, edge)
        nodes = parents
    assert edge is not None
    return Batch(
        first=old_size,
        leaf_hashes=tuple(leaf_hashes),
        frontier=Frontier(size, tuple(reversed(kept))),
        root=edge,
        rows=tuple(rows),
    )
