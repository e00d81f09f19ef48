"""The tree against its definition: every size, index and pair of sizes up to 200, and random batches."""

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.audit import prover
from gateway.audit.errors import ConsistencyProofError, InclusionProofError
from gateway.audit.proof import verify_consistency, verify_inclusion
from gateway.audit.prover import KnownTiles, TileNodes, TreeHashes
from gateway.audit.tree import EMPTY_ROOT, Frontier, append, leaf_hash, node_hash

LIMIT = 200
LEAVES = [leaf_hash(str(index).encode()) for index in range(70_000)]


@cache
def defined_root(start, end):
    """RFC 6962 section 2.1, word for word."""
    if start == end:
        return EMPTY_ROOT
    if end - start == 1:
        return LEAVES[start]
    split = 1
    while 2 * split < end - start:
        split *= 2
    return node_hash(defined_root(start, start + split), defined_root(start + split, end))


class DefinedTiles:
    """Tiles computed from the definition."""

    def tile(self, level, number, width):
        leaves = 256**level
        first = number * 256
        return b"".join(
            defined_root(position * leaves, (position + 1) * leaves)
            for position in range(first, first + width)
        )


def test_every_inclusion_proof_up_to_200_leaves_is_made_and_verifies():
    for size in range(1, LIMIT + 1):
        hashes = TreeHashes(DefinedTiles(), size)
        assert hashes.frontier().root() == defined_root(0, size)
        for index in range(size):
            proof = hashes.inclusion_proof(index)
            verify_inclusion(LEAVES[index], index, size, proof, defined_root(0, size))


def test_every_consistency_proof_up_to_200_leaves_is_made_and_verifies():
    for size in range(LIMIT + 1):
        hashes = TreeHashes(DefinedTiles(), size)
        for old_size in range(size + 1):
            proof = hashes.consistency_proof(old_size)
            verify_consistency(old_size, defined_root(0, old_size), size, defined_root(0, size), proof)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 600), st.integers(1, 90))
def test_a_batch_proves_each_of_its_leaves_from_the_old_frontier_alone(old_size, count):
    size = old_size + count
    frontier = TreeHashes(DefinedTiles(), old_size).frontier()
    batch = append(frontier, LEAVES[old_size:size])
    whole = TreeHashes(DefinedTiles(), size)
    assert batch.root == defined_root(0, size)
    assert batch.frontier == whole.frontier()
    for offset in range(count):
        assert batch.inclusion_proof(offset) == whole.inclusion_proof(old_size + offset)
    for height in range(12):
        leaves = 1 << height
        positions = range(old_size >> height, size >> height)
        assert batch.completed(height) == [defined_root(at * leaves, (at + 1) * leaves) for at in positions]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 70_000), st.data())
def test_proofs_across_several_tile_levels_verify(size, data):
    index = data.draw(st.integers(0, size - 1))
    old_size = data.draw(st.integers(0, size))
    hashes = TreeHashes(DefinedTiles(), size)
    verify_inclusion(LEAVES[index], index, size, hashes.inclusion_proof(index), defined_root(0, size))
    verify_consistency(
        old_size,
        defined_root(0, old_size),
        size,
        defined_root(0, size),
        hashes.consistency_proof(old_size),
    )


class CountedTiles(DefinedTiles):
    def __init__(self):
        self.read = []

    def tile(self, level, number, width):
        self.read.append((level, number, width))
        return super().tile(level, number, width)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 70_000), st.randoms()), min_size=2, max_size=6))
def test_known_tiles_serve_trees_of_any_size_in_any_order(asked):
    known = KnownTiles()
    for size, chance in asked:
        index = chance.randrange(size)
        proof = TreeHashes(DefinedTiles(), size, known).inclusion_proof(index)
        assert proof == TreeHashes(DefinedTiles(), size).inclusion_proof(index)
        verify_inclusion(LEAVES[index], index, size, proof, defined_root(0, size))


def test_a_second_proof_reads_but_the_tile_of_its_leaf():
    tiles, known = CountedTiles(), KnownTiles()
    TreeHashes(tiles, 69_000, known).inclusion_proof(5)
    tiles.read.clear()
    TreeHashes(tiles, 69_000, known).inclusion_proof(40_000)
    assert tiles.read == [(0, 156, 256)]


def test_known_tiles_are_kept_within_bounds(monkeypatch):
    monkeypatch.setattr(prover, "KEPT_TILES", 2)
    known, tile = KnownTiles(), TileNodes(LEAVES[0])
    for number in (1, 2):
        known.keep(1, number, tile)
    assert known.get(1, 1, 1) is tile
    known.keep(1, 3, tile)
    assert [known.get(1, number, 1) for number in (1, 2, 3)] == [tile, None, tile]
    assert known.get(1, 3, 2) is None  # it is narrower than that


@given(st.lists(st.integers(1, 50), max_size=12))
def test_a_frontier_survives_its_bytes(counts):
    frontier = Frontier()
    for count in counts:
        frontier = append(frontier, LEAVES[frontier.size : frontier.size + count]).frontier
    assert Frontier.from_bytes(frontier.to_bytes()) == frontier


def flipped(data, bit):
    raw = bytearray(data)
    raw[bit // 8] ^= 1 << bit % 8
    return bytes(raw)


@st.composite
def altered_paths(draw, hashes):
    """Return `hashes` with one bit flipped, one hash dropped, added or shortened, or two swapped."""
    others = [[*hashes[:at], LEAVES[-1], *hashes[at:]] for at in range(len(hashes) + 1)]
    for at, item in enumerate(hashes):
        others.append([*hashes[:at], *hashes[at + 1 :]])
        others.append([*hashes[:at], flipped(item, draw(st.integers(0, 255))), *hashes[at + 1 :]])
        others.append([*hashes[:at], item[:-1], *hashes[at + 1 :]])
        if at and item != hashes[at - 1]:
            others.append([*hashes[: at - 1], item, hashes[at - 1], *hashes[at + 1 :]])
    return draw(st.sampled_from(others))


@settings(max_examples=300, deadline=None)
@given(st.integers(1, LIMIT), st.data())
def test_no_altered_inclusion_proof_is_accepted(size, data):
    index = data.draw(st.integers(0, size - 1))
    proof = TreeHashes(DefinedTiles(), size).inclusion_proof(index)
    true = (LEAVES[index], index, size, proof, defined_root(0, size))
    verify_inclusion(*true)  # the control: unaltered it is accepted
    part = data.draw(st.sampled_from(["leaf", "index", "size", "path", "root"]))
    leaf, at, count, hashes, root = true
    bit = data.draw(st.integers(0, 255))
    match part:
        case "leaf":
            leaf = flipped(leaf, bit)
        case "index":
            at = data.draw(st.integers(-1, 2 * size).filter(lambda other: other != index))
        case "size":
            count = data.draw(st.integers(0, 2 * size).filter(lambda other: other != size))
            root = defined_root(0, count)
        case "path":
            hashes = data.draw(altered_paths(hashes))
        case "root":
            root = flipped(root, bit)
    with pytest.raises(InclusionProofError):
        verify_inclusion(leaf, at, count, hashes, root)


@settings(max_examples=300, deadline=None)
@given(st.integers(1, LIMIT), st.data())
def test_no_altered_consistency_proof_is_accepted(size, data):
    old_size = data.draw(st.integers(1, size))
    proof = TreeHashes(DefinedTiles(), size).consistency_proof(old_size)
    old_root, root = defined_root(0, old_size), defined_root(0, size)
    verify_consistency(old_size, old_root, size, root, proof)  # the control
    hashes, old, new = proof, old_size, size
    part = data.draw(st.sampled_from(["old root", "root", "old size", "size", "path"]))
    bit = data.draw(st.integers(0, 255))
    match part:
        case "old root":
            old_root = flipped(old_root, bit)
        case "root":
            root = flipped(root, bit)
        case "old size":
            old = data.draw(st.integers(1, size + 5).filter(lambda other: other != old_size))
            old_root = defined_root(0, old)
        case "size":
            new = data.draw(st.integers(0, 2 * size).filter(lambda other: other != size))
            root = defined_root(0, new)
        case "path":
            hashes = data.draw(altered_paths(hashes))
    with pytest.raises(ConsistencyProofError):
        verify_consistency(old, old_root, new, root, hashes)


def test_a_forked_tree_of_the_same_size_is_refused():
    with pytest.raises(ConsistencyProofError):
        verify_consistency(7, defined_root(0, 7), 7, defined_root(1, 8), [])


def test_an_empty_older_tree_with_a_foreign_root_is_refused():
    verify_consistency(0, EMPTY_ROOT, 5, defined_root(0, 5), [])
    with pytest.raises(ConsistencyProofError):
        verify_consistency(0, defined_root(0, 1), 5, defined_root(0, 5), [])
