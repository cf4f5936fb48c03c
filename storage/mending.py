"""Putting back what was sealed and is damaged or lost, from a second copy of the store: no byte is written that its digest
does not prove.

A store here is files under places (`storage/places.py`), past its ports, so that it can be looked at although it does not open. What is
told by an object's highest pinned inventory proves all else of it: the digests of every content file, and, since inventories are canonical,
the bytes of every inventory before it.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from core.errors import DigestMismatch
from storage import durable
from storage.canonical import sha256_hex, sha512_hex
from storage.filesystem import Scratch
from storage.inventory import NAME, OBJECT_DECLARATION, SIDECAR, Inventory, earlier, missing, parsed, sidecar
from storage.places import (
    ROOT_FILES,
    STORE_PLACE,
    description,
    object_place,
    segment_at,
    segment_place,
)
from storage.refusals import gap

_READ = 1 << 20  # bytes at a time


class Places(Protocol):
    """A store as files under places. Any number of readers; `put_back` only for what a digest proves."""

    def read(self, place: str) -> bytes | None:
        """The bytes that count under `place`; None where there are none or they cannot be had."""
        ...

    def pieces(self, place: str, digest: str) -> Iterator[bytes] | None:
        """The bytes under `place` that have the SHA-512 `digest`, a piece at a time, read through and compared before; None where none have."""
        ...

    def put_back(self, place: str, pieces: Iterable[bytes], digest: str) -> bool:
        """Put bytes whose SHA-512 is `digest` under `place`; durable on return. False, and nothing changed, where what lies there cannot give way.

        `DigestMismatch` when the pieces make something else.
        """
        ...

    def last(self) -> int:
        """The highest number of a journal segment that is there, 0 for none; there may be gaps beneath."""
        ...


class FilesystemPlaces:
    """`Places` of a store in a folder. Nothing is made in it before `put_back`.

    Args:
        root: the store's folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._scratch = Scratch(root)

    def read(self, place: str) -> bytes | None:
        try:
            return durable.read_regular(self._root / place)
        except (FileNotFoundError, DigestMismatch):
            return None

    def pieces(self, place: str, digest: str) -> Iterator[bytes] | None:
        try:
            hasher = hashlib.sha512()
            for piece in self._read(place):
                hasher.update(piece)
        except OSError:
            return None
        return self._read(place) if hasher.hexdigest() == digest else None

    def _read(self, place: str) -> Iterator[bytes]:
        fd = os.open(self._root / place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb", buffering=0) as file:
            while piece := file.read(_READ):
                yield piece

    def put_back(self, place: str, pieces: Iterable[bytes], digest: str) -> bool:
        path = self._root / place
        with durable.writing(), durable.Group(self._root, 1) as group:
            temporary = self._scratch.fresh()
            try:
                hasher = hashlib.sha512()
                fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
                try:
                    for piece in pieces:
                        hasher.update(piece)
                        durable.write_all(fd, piece)
                    durable.flush(fd)
                finally:
                    os.close(fd)
                if hasher.hexdigest() != digest:
                    raise changed()
                group.mkdir(path.parent)
                group.sync()
                durable.replace(temporary, path)
            except OSError as error:
                if error.errno not in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY):
                    raise
                return False  # a folder lies where a file was sealed, or a file where a folder was
            finally:
                temporary.unlink(missing_ok=True)
        return True

    def last(self) -> int:
        numbers = (segment_at(path.relative_to(self._root).as_posix()) for path in self._root.glob("journal/*/*.json"))
        return max((number for number in numbers if number), default=0)


class LooseJournal:
    """Reading a journal that may have gaps: the reading half of `Journal`, where a gap is met when it is read."""

    def __init__(self, places: Places) -> None:
        self._places = places

    def last(self) -> int:
        return self._places.last()

    def read(self, number: int) -> bytes:
        if not 1 <= number <= self.last():
            raise missing("segment")
        data = self._places.read(segment_place(number))
        if data is None:
            raise gap(number)
        return data

    def segments(self, first: int = 1) -> Iterator[tuple[int, bytes]]:
        for number in range(max(first, 1), self.last() + 1):
            yield number, self.read(number)


@dataclass(frozen=True)
class Mended:
    """Places that were put back, and places that could not be: no copy had bytes that their digests prove, or something lies there that
    cannot give way.
    """

    repaired: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


Announce = Callable[[tuple[str, ...]], None]
"""Told which places are about to be put back, when it is sure that they can be; it raises to forbid it."""


@dataclass(frozen=True)
class _Wanted:
    """A file as it was sealed: its place, its SHA-512, and its bytes where they follow from what is known."""

    place: str
    digest: str
    data: bytes | None = None


def mend_root(store_id: str, here: Places, announce: Announce) -> Mended:
    """Put the files back that make a folder a store; they follow from the store's id."""
    files = {**ROOT_FILES, STORE_PLACE: description(store_id)}  # store.json last
    return _mend([_Wanted(place, sha512_hex(data), data) for place, data in files.items()], here, None, announce)


def mend_object(object_id: str, pins: Mapping[int, str], here: Places, copy: Places, announce: Announce) -> Mended:
    """Make the versions of an object up to its highest pin what was sealed. What lies there besides stays.

    Args:
        pins: number -> SHA-512 of the version's inventory, of at least one version.
    """
    home, head = object_place(object_id), max(pins)
    place = f"{home}/v{head}/{NAME}"
    data = _proved(here, place, pins[head]) or _proved(copy, place, pins[head])
    if data is None:
        return Mended(lost=(place,))
    return _mend(list(_sealed(home, parsed(data), data, pins, here)), here, copy, announce)


def _sealed(home: str, newest: Inventory, data: bytes, pins: Mapping[int, str], here: Places) -> Iterator[_Wanted]:
    """Every file of the object, those first without which the others would name what is not there."""

    def known(path: str, content: bytes) -> _Wanted:
        return _Wanted(f"{home}/{path}", sha512_hex(content), content)

    for digest, paths in newest.manifest.items():
        for path in paths:
            yield _Wanted(f"{home}/{path}", digest)
    yield known(*OBJECT_DECLARATION)
    for number in range(1, newest.number + 1):
        told = data if number == newest.number else earlier(newest, number)
        if pins.get(number, sha512_hex(told)) == sha512_hex(told):
            yield known(f"v{number}/{SIDECAR}", sidecar(told))
            yield known(f"v{number}/{NAME}", told)
        else:
            yield _Wanted(f"{home}/v{number}/{NAME}", pins[number])
    if (
        here.read(f"{home}/v{newest.number + 1}/{NAME}") is None
    ):  # else the root is a version's that nobody acknowledged yet
        yield known(NAME, data)
        yield known(SIDECAR, sidecar(data))


def mend_journal(
    here: Places, copy: Places, digest_of: Callable[[int], str], previous_of: Callable[[bytes], str], announce: Announce
) -> Mended:
    """Put damaged or lost segments back, from the last to the first: each is proved by the catalogue, or by the segment behind it.

    Args:
        digest_of: the SHA-256 of a segment as the catalogue folded it, "" for one that it does not know.
        previous_of: the SHA-256 of the segment before, as a segment's bytes tell it.
    """
    wanted: list[_Wanted] = []
    lost: list[str] = []
    number, told = here.last(), ""
    while digest_of(number + 1):
        number += 1
    while number > 0:
        place = segment_place(number)
        proof = digest_of(number) or told
        data = here.read(place)
        if proof and (data is None or sha256_hex(data) != proof):
            data = copy.read(place)
            if data is None or sha256_hex(data) != proof:
                lost.append(place)
                told, number = "", number - 1
                continue
            wanted.append(_Wanted(place, sha512_hex(data), data))
        told = previous_of(data) if data is not None else ""
        number -= 1
    mended = _mend(wanted[::-1], here, None, announce)
    return Mended(mended.repaired, (*mended.lost, *lost))


def _mend(wanted: list[_Wanted], here: Places, copy: Places | None, announce: Announce) -> Mended:
    plan: list[_Wanted] = []
    lost: list[str] = []
    for each in wanted:
        if here.pieces(each.place, each.digest) is not None:
            continue
        if each.data is not None or (copy is not None and copy.pieces(each.place, each.digest) is not None):
            plan.append(each)
        else:
            lost.append(each.place)
    if not plan:
        return Mended(lost=tuple(lost))
    announce(tuple(each.place for each in plan))
    repaired = []
    for each in plan:
        pieces = [each.data] if each.data is not None else copy.pieces(each.place, each.digest) if copy else None
        if pieces is not None and here.put_back(each.place, pieces, each.digest):
            repaired.append(each.place)
        else:
            lost.append(each.place)
    return Mended(tuple(repaired), tuple(lost))


def _proved(places: Places, place: str, digest: str) -> bytes | None:
    pieces = places.pieces(place, digest)
    return b"".join(pieces) if pieces is not None else None


def changed() -> DigestMismatch:
    """A file of the copy is not what it was a moment ago."""
    return DigestMismatch(
        "控えのファイルが、写している間に変わりました。控えを確かめて、もう一度実行してください。",
        "A file of the copy changed while it was copied. Check the copy and run the command again.",
        code="repair.changed",
    )
