"""Tiles and bundles lie where C2SP tlog-tiles says, hold what it says, and proofs from them are those of the whole tree."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.merkle import (
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root,
    verify_consistency,
    verify_inclusion,
)
from storage.tiles import (
    CHECKPOINT,
    ENTRIES,
    PUBLIC_KEY,
    WIDTH,
    Edge,
    LogFolder,
    Tile,
    bundle,
    partial_width,
    tile_place,
    unbundled,
)

DATA = [f"entry {number}".encode() for number in range(70_000)]
LEAVES = [leaf_hash(data) for data in DATA]


def test_places_are_those_of_the_specification() -> None:
    assert tile_place(0, 0) == "tile/0/000"
    assert tile_place(3, 1234067) == "tile/3/x001/x234/067"
    assert tile_place(1, 5, 17) == "tile/1/005.p/17"
    assert tile_place(ENTRIES, 1000, 9) == "tile/entries/x001/000.p/9"


def test_the_tree_of_the_specifications_example() -> None:
    edge, full = Edge(), []
    for leaf in LEAVES:
        full += edge.add(leaf)
    assert [len([tile for tile in full if tile.level == level]) for level in range(3)] == [273, 1, 0]
    assert [(tile.level, tile.index, tile.width) for tile in edge.partial()] == [(0, 273, 112), (1, 1, 17), (2, 0, 1)]
    assert [partial_width(70_000, level) for level in range(4)] == [112, 17, 1, 0]
    assert full[0].data == b"".join(LEAVES[:WIDTH])
    assert edge.partial()[2].data == root(LEAVES[: WIDTH**2])
    assert edge.root() == root(LEAVES)


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 511, 512, 513, 1000, 65_536, 65_537])
def test_the_edge_has_the_root_of_the_whole(size: int) -> None:
    edge = Edge()
    for leaf in LEAVES[:size]:
        edge.add(leaf)
    assert (edge.size, edge.root()) == (size, root(LEAVES[:size]))


def written(log: LogFolder, size: int, before: int = 0) -> Edge:
    """The log's folder brought from `before` to `size` leaves."""
    found = log.edge(before)
    assert found is not None
    edge, held = found
    tiles: list[Tile] = []
    for number in range(before, size):
        held.append(DATA[number])
        if full := edge.add(LEAVES[number]):
            tiles += [Tile(ENTRIES, full[0].index, WIDTH, bundle(held)), *full]
            held = []
    rest = [Tile(ENTRIES, size // WIDTH, len(held), bundle(held))] if held else []
    log.put([*tiles, *rest, *edge.partial()])
    return edge


def test_a_log_goes_on_from_its_files(tmp_path: Path) -> None:
    log, before = LogFolder(tmp_path / "log"), 0
    for size in (1, 200, 256, 300, 700, 1024, 1500):
        with log.alone():
            assert written(log, size, before).root() == root(LEAVES[:size])
        before = size
    assert log.leaves(2, 256) == DATA[512:768]
    assert log.leaves(5, 220) == DATA[1280:1500]
    assert log.partial_widths(0, 0) == []  # a part of what is full is removed
    assert not [path for path in log.root.rglob(".*") if path.name != "lock"]


@pytest.mark.parametrize("size", [1, 7, 256, 300, 1023])
def test_proofs_come_from_the_tiles(size: int, tmp_path: Path) -> None:
    log = LogFolder(tmp_path / "log")
    with log.alone():
        whole = written(log, size).root()
    roots = log.roots(size)
    for index in {0, 1, size // 2, size - 1} & set(range(size)):
        proof = inclusion_proof(index, size, roots)
        assert verify_inclusion(LEAVES[index], index, size, proof, whole)
        proof = consistency_proof(index + 1, size, roots)
        assert verify_consistency(index + 1, size, proof, root(LEAVES[: index + 1]), whole)


def test_a_tile_that_is_not_there_or_cut_short_gives_no_proof(tmp_path: Path) -> None:
    log = LogFolder(tmp_path / "log")
    with log.alone():
        written(log, 600)
    place = log.root / tile_place(0, 0)
    place.chmod(0o600)
    place.write_bytes(place.read_bytes()[:-1])
    assert log.tile(0, 0, WIDTH) is None
    with pytest.raises(LookupError):
        inclusion_proof(3, 600, log.roots(600))
    assert log.edge(600) is not None  # it needs only what is not full
    (log.root / tile_place(0, 2, 88)).unlink()
    assert log.edge(600) is None


def test_bundles_hold_up_to_256_leaves_of_up_to_64_kib() -> None:
    leaves = [b"", b"x", b"y" * 65_535]
    assert unbundled(bundle(leaves)) == leaves
    assert bundle([b"ab"]) == b"\0\2ab"
    for wrong in (b"\0", b"\0\2a", bundle([b""] * 257)):
        with pytest.raises(ValueError, match="bundle"):
            unbundled(wrong)


def test_the_checkpoint_is_replaced_whole(tmp_path: Path) -> None:
    log = LogFolder(tmp_path / "log")
    for text in ("one\n", "two\n"):
        with log.alone():
            log.publish(text, "key")
    assert (log.read(CHECKPOINT), log.read(PUBLIC_KEY)) == (b"two\n", b"key\n")
