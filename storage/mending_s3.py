"""A store in a bucket as files under places, for putting back what is damaged or lost (`storage/mending.py`)."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from datetime import timedelta

from core.clock import Clock, SystemClock
from core.settings import S3Settings
from storage.bucket import Bucket, Lock
from storage.inventory import NAME
from storage.mending import changed
from storage.places import ROOT_FILES, STORE_PLACE, is_root_copy, object_at, segment_at, version_at
from storage.streams import LARGE, PIECE


class S3Places:
    """`Places` of a store in a bucket. What is put back is a new version, locked as what is sealed.

    Args:
        where: the bucket.
        clock: what the end of locks is counted from.
    """

    def __init__(self, where: S3Settings, *, clock: Clock | None = None) -> None:
        self._where = where
        self._bucket = Bucket(where, where.bucket)
        self._clock = clock or SystemClock()

    def read(self, place: str) -> bytes | None:
        if is_root_copy(_within(place)):
            newest = self._bucket.get(place)
            return newest.data if newest else None
        versions = self._bucket.of_key(place)
        fetched = self._bucket.get(place, versions[-1].version) if versions else None
        return fetched.data if fetched else None

    def pieces(self, place: str, digest: str) -> Iterator[bytes] | None:
        for kept in self._bucket.of_key(place):
            if is_root_copy(_within(place)) and not kept.latest:
                continue
            measured = self._bucket.measure(place, kept.version)
            if measured is not None and measured.digest == digest:
                return self._read(place, kept.version)
        return None

    def _read(self, place: str, version: str) -> Iterator[bytes]:
        opened = self._bucket.open(place, version)
        if opened is None:
            raise changed()
        with opened.stream as stream:
            while piece := stream.read(PIECE):
                yield piece

    def put_back(self, place: str, pieces: Iterable[bytes], digest: str) -> bool:
        at = version_at(_within(place))
        # Of these the first version counts, which nothing can take away from its place.
        first = place in (*ROOT_FILES, STORE_PLACE) or segment_at(place) is not None or (at and at[1] == NAME)
        if first and self._bucket.of_key(place):
            return False
        lock = Lock(self._where.lock_mode, self._clock.now() + timedelta(days=self._where.lock_days))
        parts = _parts(pieces, digest)
        first_part = next(parts)
        rest = next(parts, None)
        if rest is not None:
            self._bucket.put_parts(place, itertools.chain([first_part, rest], parts), lock)
        else:
            self._bucket.put(place, first_part, None if is_root_copy(_within(place)) else lock)
        return True

    def last(self) -> int:
        numbers = (segment_at(kept.key) for kept in self._bucket.versions("journal/") if not kept.marker)
        return max((number for number in numbers if number), default=0)


def _within(place: str) -> str:
    at = object_at(place)
    return at[1] if at else ""


def _parts(pieces: Iterable[bytes], digest: str) -> Iterator[bytes]:
    """The pieces in parts of `LARGE` bytes, at least one; `DigestMismatch` instead of the last when they make something else."""
    hasher, held = hashlib.sha512(), bytearray()
    for piece in pieces:
        hasher.update(piece)
        held += piece
        while len(held) > LARGE:
            yield bytes(held[:LARGE])
            del held[:LARGE]
    if hasher.hexdigest() != digest:
        raise changed()
    yield bytes(held)
