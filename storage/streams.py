"""Files too large to hold: read in pieces, digested on the way, checked before their end is told. What the bytes mean and
where they lie is not decided here.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, BinaryIO

from storage.port import Content, ObjectStore, Pin
from storage.refusals import damaged

PIECE = 1 << 20
"""Bytes at a time."""

LARGE = 8 << 20
"""Bytes: a file of more is never held whole."""


def size_of(content: Content) -> int:
    """Its length in bytes."""
    return len(content) if isinstance(content, bytes) else content.size


class Digesting:
    """The pieces of a file, digested as they go by.

    Args:
        size: bytes of a piece; what is in memory already comes as one where it is no longer than `LARGE`.
    """

    def __init__(self, content: Content, size: int = PIECE) -> None:
        self._content = content
        self._size = size
        self._hasher = hashlib.sha512()

    def __iter__(self) -> Iterator[bytes]:
        if isinstance(self._content, bytes) and len(self._content) <= LARGE:
            self._hasher.update(self._content)
            yield self._content
            return
        with io.BytesIO(self._content) if isinstance(self._content, bytes) else self._content.open() as stream:
            while piece := stream.read(self._size):
                self._hasher.update(piece)
                yield piece

    @property
    def digest(self) -> str:
        """SHA-512 (hex) of what was taken so far."""
        return self._hasher.hexdigest()


def digest_of(content: Content) -> str:
    """SHA-512 (hex), read through once."""
    read = Digesting(content)
    for _ in read:
        pass
    return read.digest


class Raw(io.RawIOBase):
    """What readers of ours are made from: `_next` gives up to `size` bytes, none at the end."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        into = memoryview(buffer).cast("B")
        piece = self._next(len(into))
        into[: len(piece)] = piece
        return len(piece)

    def _next(self, size: int) -> bytes:
        raise NotImplementedError


def buffered(raw: io.RawIOBase) -> BinaryIO:
    """A reader that asks `raw` for whole pieces."""
    return io.BufferedReader(raw, PIECE)


class Proved(Raw):
    """A sealed file while it is read: where its end would be told, `DigestMismatch` is raised when the bytes are not
    those with the SHA-512 `digest`. Closes `inner`.
    """

    def __init__(self, inner: IO[bytes] | io.RawIOBase, digest: str) -> None:
        self._inner = inner
        self._digest = digest
        self._hasher = hashlib.sha512()

    def _next(self, size: int) -> bytes:
        piece = self._inner.read(size) or b""
        self._hasher.update(piece)
        if not piece and self._hasher.hexdigest() != self._digest:
            raise damaged("digest.mismatch")
        return piece

    def close(self) -> None:
        self._inner.close()
        super().close()


@dataclass(frozen=True)
class Stored:
    """A file of a sealed version as a `Source`; reading it to its end proves it, as `ObjectStore.open` does."""

    objects: ObjectStore
    pin: Pin
    path: str
    size: int

    def open(self) -> BinaryIO:
        return self.objects.open(self.pin, self.path)


@dataclass(frozen=True)
class Spooled:
    """A file of ours on the disk as a `Source`, read through its descriptor: it may have no name any more. Whoever made
    the file closes it when nobody reads it any more.
    """

    file: IO[bytes]
    size: int

    def open(self) -> BinaryIO:
        return buffered(_At(self.file.fileno()))


class _At(Raw):
    """Reads a descriptor from the beginning, leaving its position alone."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._at = 0

    def _next(self, size: int) -> bytes:
        piece = os.pread(self._fd, size, self._at)
        self._at += len(piece)
        return piece
