"""A log as static files after C2SP `tlog-tiles`: hashes of the tree in tiles of 256, what the leaves hold in bundles of 256, and a checkpoint.

    checkpoint            the newest checkpoint, a signed note
    log.vkey              the public key that it is signed with
    tile/L/N[.p/W]        hashes N*256 … of level L; level 0 are the leaves', each higher level stands on full tiles of the one below
    tile/entries/N[.p/W]  what leaves N*256 … hold, each after its length (two bytes, big-endian)

A tile that is not full carries its width. All of it can be made again from what the leaves hold; where that comes from is decided elsewhere.
"""

from __future__ import annotations

import fcntl
import functools
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from core.errors import DigestMismatch
from storage import durable
from storage.merkle import HASH, RootOf, node_hash, root, split

WIDTH = 256
LONGEST_LEAF = 0xFFFF
"""Bytes a leaf may hold, so that its length fits a bundle."""

ENTRIES = -1
"""Stands for the level of bundles."""

CHECKPOINT = "checkpoint"
PUBLIC_KEY = "log.vkey"

_AT_ONCE = 128
"""Files that share a sync."""


@dataclass(frozen=True)
class Tile:
    """One file of the log: `level` (ENTRIES for a bundle), `index` within it, how many hashes or leaves it holds, and its bytes."""

    level: int
    index: int
    width: int
    data: bytes

    @property
    def place(self) -> str:
        """Its path in the log's folder."""
        return tile_place(self.level, self.index, self.width)


def tile_place(level: int, index: int, width: int = WIDTH) -> str:
    """Path of a tile or bundle in the log's folder."""
    parts = [f"{index % 1000:03d}"]
    while index := index // 1000:
        parts.insert(0, f"x{index % 1000:03d}")
    name = "/".join(parts)
    partial = "" if width == WIDTH else f".p/{width}"
    return f"tile/{'entries' if level == ENTRIES else level}/{name}{partial}"


def partial_width(size: int, level: int) -> int:
    """How many hashes the tile that is not full has at this level, in a log of `size` leaves; 0 where there is none."""
    return (size >> 8 * level) % WIDTH


class Edge:
    """The right edge of a growing tree: of each level, the hashes of the tile that is not full yet. At most 255 hashes a level."""

    def __init__(self) -> None:
        self.size = 0
        self.levels: list[list[bytes]] = [[]]

    def add(self, leaf: bytes) -> list[Tile]:
        """Take the hash of the next leaf; the tiles that it fills, lowest first."""
        return self.extend(leaf)

    def extend(self, leaves: bytes) -> list[Tile]:
        """The same with the hashes of the next leaves, one after the other."""
        tiles: list[Tile] = []
        at = 0
        while at < len(leaves):
            lowest = self.levels[0]
            end = min(at + (WIDTH - len(lowest)) * HASH, len(leaves))
            lowest += [leaves[each : each + HASH] for each in range(at, end, HASH)]
            self.size += (end - at) // HASH
            at = end
            if len(lowest) == WIDTH:
                tiles += self._full()
        return tiles

    def _full(self) -> list[Tile]:
        tiles: list[Tile] = []
        level = 0
        while len(hashes := self.levels[level]) == WIDTH:
            index = self.size // WIDTH ** (level + 1) - 1
            tiles.append(Tile(level, index, WIDTH, b"".join(hashes)))
            if level + 1 == len(self.levels):
                self.levels.append([])
            self.levels[level + 1].append(root(hashes))
            self.levels[level] = []
            level += 1
        return tiles

    def partial(self) -> list[Tile]:
        """The tiles that are not full, lowest first."""
        return [
            Tile(level, self.size // WIDTH ** (level + 1), len(hashes), b"".join(hashes))
            for level, hashes in enumerate(self.levels)
            if hashes
        ]

    def root(self) -> bytes:
        """Root over all leaves so far."""
        below: list[bytes] = []
        for hashes in self.levels:
            if hashes or below:
                below = [root([*hashes, *below])]
        return root(below)


def bundle(leaves: Sequence[bytes]) -> bytes:
    """A bundle of what up to 256 leaves hold."""
    return b"".join(len(data).to_bytes(2, "big") + data for data in leaves)


def unbundled(data: bytes) -> list[bytes]:
    """What the leaves of a bundle hold; `ValueError` where it is cut short or holds too many."""
    leaves: list[bytes] = []
    at, stop = 0, len(data)
    while at < stop:
        begin = at + 2
        at = begin + (data[at] << 8) + data[at + 1] if begin <= stop else stop + 1
        if at > stop or len(leaves) == WIDTH:
            raise ValueError("not a bundle")
        leaves.append(data[begin:at])
    return leaves


class LogFolder:
    """A folder that holds a log in this layout. Any number of readers; writers hold `alone`."""

    def __init__(self, root_folder: Path) -> None:
        self.root = root_folder

    def read(self, place: str) -> bytes | None:
        """The bytes of a file of the log; None where it is not there or cannot be read."""
        try:
            return durable.read_regular(self.root / place)
        except (FileNotFoundError, DigestMismatch):
            return None

    def tile(self, level: int, index: int, width: int) -> bytes | None:
        """The first `width` hashes of a tile, from the file of this width or from the full one; None where neither is there and long enough."""
        for each in (width, WIDTH):
            data = self.read(tile_place(level, index, each))
            if data is not None and len(data) == each * HASH:
                return data[: width * HASH]
        return None

    def leaves(self, index: int, width: int) -> list[bytes] | None:
        """What the first `width` leaves of a bundle hold; None where no file of it is there and whole."""
        for each in (width, WIDTH):
            data = self.read(tile_place(ENTRIES, index, each))
            try:
                held = unbundled(data) if data is not None else []
            except ValueError:
                continue
            if len(held) == each:
                return held[:width]
        return None

    def partial_widths(self, level: int, index: int) -> list[int]:
        """Widths of the files that hold a part of this tile or bundle."""
        folder = self.root / f"{tile_place(level, index)}.p"
        try:
            return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def edge(self, size: int) -> tuple[Edge, list[bytes]] | None:
        """The edge of the log at `size` leaves, and what its last, partial bundle holds; None where a file is missing."""
        edge = Edge()
        edge.size = size
        edge.levels = []
        level = 0
        while size >> 8 * level:
            width = partial_width(size, level)
            data = self.tile(level, size // WIDTH ** (level + 1), width) if width else b""
            if data is None:
                return None
            edge.levels.append([data[at : at + HASH] for at in range(0, len(data), HASH)])
            level += 1
        edge.levels = edge.levels or [[]]
        width = partial_width(size, 0)
        held = self.leaves(size // WIDTH, width) if width else []
        return None if held is None else (edge, held)

    def roots(self, size: int) -> RootOf:
        """Roots over ranges of leaves of the log at `size`, from its tiles: for proofs. What it gives raises `LookupError` where a tile is
        missing; that a tile is right, only the proof shows.
        """

        @functools.cache
        def hashes(level: int, index: int) -> bytes:
            whole = (index + 1) * WIDTH ** (level + 1) <= size
            data = self.tile(level, index, WIDTH if whole else partial_width(size, level))
            if data is None:
                raise LookupError(tile_place(level, index))
            return data

        def over(begin: int, end: int) -> bytes:
            half = split(end - begin) if end - begin > 1 else 0
            if 2 * half not in (0, end - begin):
                return node_hash(over(begin, begin + half), over(begin + half, end))
            level, within = divmod((end - begin).bit_length() - 1, 8)
            index, offset = divmod(begin >> 8 * level, WIDTH)
            data = hashes(level, index)[offset * HASH : (offset + (1 << within)) * HASH]
            if len(data) != HASH << within:
                raise LookupError(tile_place(level, index))
            return root([data[at : at + HASH] for at in range(0, len(data), HASH)])

        return over

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else writes to the folder meanwhile; waits for who does."""
        with durable.writing():
            self.root.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                yield
            finally:
                os.close(handle)

    def put(self, tiles: Sequence[Tile]) -> None:
        """Write tiles and bundles, replacing what is there; durable on return. Parts of what is full now are removed."""
        for first in range(0, len(tiles), _AT_ONCE):
            self._put({each.place: each.data for each in tiles[first : first + _AT_ONCE]})
        for each in tiles:
            if each.width == WIDTH:
                shutil.rmtree(self.root / f"{each.place}.p", ignore_errors=True)

    def publish(self, checkpoint: str, key: str) -> None:
        """Let `checkpoint`, signed with the key of this public line, be the log's newest; durable on return."""
        self._put({PUBLIC_KEY: f"{key}\n".encode()})
        self._put({CHECKPOINT: checkpoint.encode()})

    def clear(self) -> None:
        """Remove every tile and bundle, before they are made again."""
        with durable.writing():
            shutil.rmtree(self.root / "tile", ignore_errors=True)

    def _put(self, files: dict[str, bytes]) -> None:
        with durable.writing(), durable.Group(self.root, len(files)) as group:
            written = []
            try:
                for place, data in files.items():
                    path = self.root / place
                    group.mkdir(path.parent)
                    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
                    written.append((temporary, path))
                    group.write(temporary, data)
                group.sync()
                for temporary, path in written:
                    temporary.replace(path)
                    group.touched(path.parent)
                group.sync()
            finally:
                for temporary, _ in written:
                    temporary.unlink(missing_ok=True)
