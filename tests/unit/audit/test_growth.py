"""The examiner's tree against the writer's, at every size."""

import pytest

from gateway.audit.growth import TreeGrowth
from gateway.audit.tiles import TILE_WIDTH, tile_width
from gateway.audit.tree import EMPTY_ROOT, Frontier, append, leaf_hash

LEAVES = [leaf_hash(number.to_bytes(4, "big")) for number in range(3 * TILE_WIDTH + 77)]


def grown(leaves):
    growth, tiles = TreeGrowth(), []
    for start in range(0, len(leaves), TILE_WIDTH):
        tiles += growth.add(leaves[start : start + TILE_WIDTH])
    return growth, tiles


def test_the_root_of_every_size_is_that_of_the_writer():
    growth, frontier = TreeGrowth(), Frontier()
    assert growth.root_at(0) == EMPTY_ROOT
    for start in range(0, len(LEAVES), TILE_WIDTH):
        chunk = LEAVES[start : start + TILE_WIDTH]
        growth.add(chunk)
        for leaf in chunk:
            frontier = append(frontier, [leaf]).frontier
            assert growth.root_at(frontier.size) == frontier.root()


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 512, 513, 768, 845])
def test_the_right_edge_is_that_of_the_writer(size):
    growth, _ = grown(LEAVES[:size])
    assert growth.size == size
    assert (
        growth.size.to_bytes(8, "big") + growth.frontier()
        == append(Frontier(), LEAVES[:size]).frontier.to_bytes()
    )


@pytest.mark.parametrize("size", [1, 256, 300, 845])
def test_full_and_partial_tiles_are_all_the_tiles_of_the_tree(size):
    growth, tiles = grown(LEAVES[:size])
    widths = {(tile.level, tile.number): len(tile.hashes) // 32 for tile in [*tiles, *growth.partial_tiles()]}
    expected = {(level, number): tile_width(level, number, size) for level in range(3) for number in range(4)}
    assert widths == {place: width for place, width in expected.items() if width}
    assert b"".join(tile.hashes for tile in [*tiles, *growth.partial_tiles()] if tile.level == 0) == b"".join(
        LEAVES[:size]
    )


def test_a_full_tile_of_the_second_level_holds_the_roots_of_the_first():
    growth = TreeGrowth()
    leaves = LEAVES[:TILE_WIDTH]
    for _ in range(TILE_WIDTH):
        tiles = growth.add(leaves)
    assert [(tile.level, tile.number, tile.first_entry) for tile in tiles] == [
        (0, TILE_WIDTH - 1, TILE_WIDTH * (TILE_WIDTH - 1)),
        (1, 0, 0),
    ]
    assert tiles[1].hashes == tiles[0].root * TILE_WIDTH
    assert tiles[1].root == growth.root_at(TILE_WIDTH**2)
    assert [(tile.level, len(tile.hashes)) for tile in growth.partial_tiles()] == [(2, 32)]


def test_a_tree_does_not_grow_past_a_partial_tile():
    growth, _ = grown(LEAVES[:300])
    for leaves in ([LEAVES[0]], []):
        with pytest.raises(ValueError, match="whole tiles"):
            growth.add(leaves)
    with pytest.raises(ValueError, match="last tile"):
        growth.root_at(256)
    with pytest.raises(ValueError, match="last tile"):
        growth.root_at(301)
