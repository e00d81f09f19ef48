import pytest

from gateway.audit.tiles import completed_tiles, subtree_root
from gateway.audit.tree import Frontier, append, leaf_hash

LEAVES = [leaf_hash(bytes([index])) for index in range(9)]


def test_an_empty_batch_is_refused():
    with pytest.raises(ValueError, match="at least one leaf"):
        append(Frontier(), [])


def test_a_batch_proves_only_its_own_leaves():
    batch = append(append(Frontier(), LEAVES[:4]).frontier, LEAVES[4:])
    assert batch.first == 4
    for offset in (-1, 5):
        with pytest.raises(IndexError):
            batch.inclusion_proof(offset)


@pytest.mark.parametrize(
    "raw", [b"", bytes(7), bytes(9), (1).to_bytes(8, "big"), bytes(8) + bytes(32), b"\xff" * 8]
)
def test_bytes_that_are_no_frontier_are_refused(raw):
    with pytest.raises(ValueError, match="frontier"):
        Frontier.from_bytes(raw)


def test_a_frontier_with_the_wrong_number_of_hashes_is_refused():
    with pytest.raises(ValueError, match="frontier"):
        Frontier(3, (LEAVES[0],))


def test_a_subtree_has_a_power_of_two_of_leaves():
    assert subtree_root(b"".join(LEAVES[:8])) == append(Frontier(), LEAVES[:8]).root
    with pytest.raises(ValueError, match="power of two"):
        subtree_root(b"".join(LEAVES[:3]))


def test_tiles_are_completed_level_by_level():
    assert list(completed_tiles(0, 255)) == []
    assert [(tile.level, tile.number) for tile in completed_tiles(255, 256)] == [(0, 0)]
    assert [(tile.level, tile.number) for tile in completed_tiles(256, 65_536)][-2:] == [(0, 255), (1, 0)]
    assert list(completed_tiles(65_536, 65_791)) == []
