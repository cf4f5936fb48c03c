"""TIFF as a container: counting pages, cutting one page out without re-encoding it, wrapping a fax stream.

Reads classic TIFF and BigTIFF of either byte order from a random-access reader; always writes classic TIFF. Knows no
pixels. Every offset comes from a stranger: nothing is read beyond the file, no chain is followed twice.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from core.errors import BadFile

Reader = Callable[[int, int], bytes]
"""(offset, length) -> bytes, shorter at the end of the file."""

_WIDTH = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_LETTER = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}

_NEW_SUBFILE_TYPE, _IMAGE_WIDTH, _COMPRESSION = 254, 256, 259
_STRIP_OFFSETS, _STRIP_COUNTS = 273, 279
_TILE_OFFSETS, _TILE_COUNTS = 324, 325
_POINTERS = {288, 289, 330, 34665, 34853, 40965}
"""Free lists, sub-images and Exif: offsets to structures that are not copied. None of them changes the picture."""
_OLD_JPEG = 6
_MAX_ENTRIES = 512
_MAX_VALUE = 16 << 20


def _broken(what: str) -> BadFile:
    return BadFile("TIFF が壊れています。", f"the TIFF is broken: {what}", code="file.broken")


@dataclass(frozen=True)
class Entry:
    """One tag: its type, how many values, and their bytes in the file's byte order."""

    tag: int
    type: int
    count: int
    value: bytes


@dataclass(frozen=True)
class Directory:
    """One image file directory (IFD)."""

    order: str
    entries: tuple[Entry, ...]

    def numbers(self, tag: int) -> tuple[int, ...] | None:
        """The values of an integer tag, or None if it is absent."""
        for entry in self.entries:
            if entry.tag == tag:
                letter = _LETTER.get(entry.type)
                if letter is None:
                    raise _broken(f"tag {tag} has type {entry.type}")
                return struct.unpack(f"{self.order}{entry.count}{letter}", entry.value)
        return None

    def number(self, tag: int, default: int) -> int:
        """The first value of an integer tag."""
        values = self.numbers(tag)
        return values[0] if values else default


def directories(read: Reader, size: int, *, most: int) -> list[Directory]:
    """The pages of a TIFF of `size` bytes in file order, without thumbnails; `file.too_large` beyond `most`."""
    head = read(0, 16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 8:
        raise _broken("no header")
    (magic,) = struct.unpack_from(f"{order}H", head, 2)
    if magic == 42:
        big = False
        (where,) = struct.unpack_from(f"{order}I", head, 4)
    elif magic == 43 and len(head) == 16 and struct.unpack_from(f"{order}HH", head, 4) == (8, 0):
        big = True
        (where,) = struct.unpack_from(f"{order}Q", head, 8)
    else:
        raise _broken("no header")
    found: list[Directory] = []
    seen: set[int] = set()
    while where:
        if where in seen:
            raise _broken("the chain of pages is a loop")
        seen.add(where)
        if len(seen) > most:
            raise BadFile(
                "ページが多すぎます。ファイルを分けてください。",
                "too many pages: split the file",
                code="file.too_large",
            )
        directory, where = _directory(read, size, where, order, big)
        found.append(directory)
    if len(found) > 1:
        widest = max(one.number(_IMAGE_WIDTH, 0) for one in found)
        return [
            one
            for one in found
            if not (one.number(_NEW_SUBFILE_TYPE, 0) & 1 and one.number(_IMAGE_WIDTH, 0) * 2 < widest)
        ]
    return found


def _directory(read: Reader, size: int, where: int, order: str, big: bool) -> tuple[Directory, int]:
    head, each, link = (8, 20, 8) if big else (2, 12, 4)
    raw = read(where, head)
    if len(raw) < head:
        raise _broken("a page lies beyond the end")
    (count,) = struct.unpack(f"{order}{'Q' if big else 'H'}", raw)
    if not 0 < count <= _MAX_ENTRIES:
        raise _broken(f"{count} tags")
    raw = read(where + head, count * each + link)
    if len(raw) < count * each:
        raise _broken("cut off inside a page's tags")
    entries = []
    for n in range(count):
        tag, kind, many = struct.unpack_from(f"{order}HH{'Q' if big else 'I'}", raw, n * each)
        inline = raw[n * each + (12 if big else 8) : (n + 1) * each]
        length = _WIDTH.get(kind, 0) * many
        if length == 0:
            continue  # of a type nobody defined, or empty: readers skip such tags
        if length > min(_MAX_VALUE, size):
            raise _broken(f"tag {tag} is longer than the file")
        if length <= len(inline):
            value = inline[:length]
        else:
            (place,) = struct.unpack(f"{order}{'Q' if big else 'I'}", inline)
            value = read(place, length)
            if len(value) < length:
                raise _broken(f"tag {tag} lies beyond the end")
        entries.append(Entry(tag, kind, many, value))
    # A file cut off right behind the last tag has no link: its pages so far are there.
    following = raw[count * each :]
    return Directory(order, tuple(entries)), struct.unpack(f"{order}{'Q' if big else 'I'}", following)[0] if len(
        following
    ) == link else 0


def cut(read: Reader, size: int, directory: Directory, *, most: int) -> bytes:
    """A classic TIFF of this one page with the very bytes of its strips or tiles; at most `most` bytes long."""
    if directory.number(_COMPRESSION, 1) == _OLD_JPEG:
        raise BadFile(
            "旧式のJPEG圧縮TIFFです。別の形式で保存し直してください。",
            "a TIFF with old-style JPEG compression: save it again in another form",
            code="file.type",
        )
    tags = (_TILE_OFFSETS, _TILE_COUNTS) if directory.numbers(_TILE_OFFSETS) else (_STRIP_OFFSETS, _STRIP_COUNTS)
    offsets, counts = directory.numbers(tags[0]), directory.numbers(tags[1])
    if not offsets or not counts or len(offsets) != len(counts):
        raise _broken("no strips")
    if sum(counts) > min(most, size + 4 * len(counts)):
        raise _broken("strips overlap or are longer than the file")
    parts = []
    for offset, length in zip(offsets, counts, strict=True):
        part = read(offset, length)
        if len(part) < length:
            raise _broken("a strip lies beyond the end")
        parts.append(part)
    entries = [
        _narrow(directory.order, entry)
        for entry in directory.entries
        if entry.tag not in _POINTERS and entry.tag not in (*tags, _NEW_SUBFILE_TYPE)
    ]
    order = directory.order
    entries.append(Entry(tags[0], 4, len(parts), b"\0" * (4 * len(parts))))
    entries.append(Entry(tags[1], 4, len(parts), struct.pack(f"{order}{len(parts)}I", *counts)))
    return _written(order, entries, tags[0], parts)


def _narrow(order: str, entry: Entry) -> Entry:
    """BigTIFF's 8-byte integers as 4-byte ones."""
    if entry.type not in (16, 17, 18):
        return entry
    values = struct.unpack(f"{order}{entry.count}{'q' if entry.type == 17 else 'Q'}", entry.value)
    if not all(0 <= value < 1 << 32 for value in values):
        raise _broken(f"tag {entry.tag} is too large")
    return Entry(entry.tag, 4, entry.count, struct.pack(f"{order}{entry.count}I", *values))


def _written(order: str, entries: list[Entry], offsets_tag: int, parts: list[bytes]) -> bytes:
    """Header, tags in ascending order, long values, then the parts, each on an even offset."""
    entries = sorted(entries, key=lambda entry: entry.tag)
    long_at = 8 + 2 + 12 * len(entries) + 4
    places: dict[int, int] = {}
    end = long_at
    for entry in entries:
        if len(entry.value) > 4:
            places[entry.tag] = end
            end += len(entry.value) + len(entry.value) % 2
    starts = []
    for part in parts:
        starts.append(end)
        end += len(part) + len(part) % 2
    out = bytearray((b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(entries)))
    tail = bytearray()
    for entry in entries:
        value = struct.pack(f"{order}{len(starts)}I", *starts) if entry.tag == offsets_tag else entry.value
        out += struct.pack(f"{order}HHI", entry.tag, entry.type, entry.count)
        if len(value) > 4:
            out += struct.pack(f"{order}I", places[entry.tag])
            tail += value + b"\0" * (len(value) % 2)
        else:
            out += value.ljust(4, b"\0")
    out += b"\0\0\0\0" + tail
    for part in parts:
        out += part + b"\0" * (len(part) % 2)
    return bytes(out)


def wrapped(
    data: bytes,
    width: int,
    height: int,
    *,
    compression: int,
    photometric: int,
    bits: int,
    samples: int,
    predictor: int,
    dpi: float,
) -> bytes:
    """A one-strip TIFF around a stream that PDF embeds in the same coding: CCITT Group 4 (compression 4) or deflate
    (8)."""

    def short(tag: int, *values: int) -> Entry:
        return Entry(tag, 3, len(values), struct.pack(f"<{len(values)}H", *values))

    def long(tag: int, value: int) -> Entry:
        return Entry(tag, 4, 1, struct.pack("<I", value))

    resolution = struct.pack("<II", round(dpi * 100), 100)
    entries = [
        long(_IMAGE_WIDTH, width),
        long(257, height),
        short(258, *[bits] * samples),
        short(_COMPRESSION, compression),
        short(262, photometric),
        long(_STRIP_OFFSETS, 0),
        short(277, samples),
        long(278, height),
        long(_STRIP_COUNTS, len(data)),
        Entry(282, 5, 1, resolution),
        Entry(283, 5, 1, resolution),
        short(296, 2),
    ]
    if predictor != 1:
        entries.append(short(317, predictor))
    return _written("<", entries, _STRIP_OFFSETS, [data])
