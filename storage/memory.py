"""The ports of the store in memory, for tests and trials: the same answers as on a disk, nothing kept.

Each adapter takes a `fail` hook, called as `fail(operation, "before")` and `fail(operation, "after")` around every
single write. It raises to break the write before it lands, or after it has landed but before anybody is told.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import BinaryIO

from core.errors import Conflict, DigestMismatch, KeysMissing
from storage.canonical import sha512_hex
from storage.cipher import new_identity
from storage.inventory import built, content_path, missing, parsed, unbuilt, validated
from storage.port import Checked, Content, Finding, Key, NewVersion, Pacer, Pin, unhurried
from storage.streams import LARGE, PIECE, Digesting, Proved, Stored, buffered, digest_of

Fail = Callable[[str, str], None]


def _never(operation: str, moment: str) -> None:
    """The hook that breaks nothing."""


class MemoryObjects:
    """`ObjectStore` in memory. `files` maps (object id, content path) to bytes, `inventories` (object id, number) to
    bytes: for tests to damage.
    """

    def __init__(self, fail: Fail | None = None) -> None:
        self._fail = fail or _never
        self.inventories: dict[tuple[str, int], bytes] = {}
        self.files: dict[tuple[str, str], bytes] = {}

    def seal(self, versions: Sequence[NewVersion]) -> list[Pin]:
        for version in versions:
            validated(version)
        return [self._seal_one(version) for version in versions]

    def _seal_one(self, version: NewVersion) -> Pin:
        head = self.head(version.object_id)
        if version.number > head + 1:
            raise _conflict("number")
        previous = parsed(self.inventories[version.object_id, version.number - 1]) if version.number > 1 else None
        data = built(version, previous, {path: digest_of(content) for path, content in version.files.items()})
        pin = Pin(version.object_id, version.number, sha512_hex(data))
        if version.number <= head:
            if self.inventories[version.object_id, version.number] != data:
                raise _conflict("bytes")
            return pin
        self._fail("seal", "before")
        for path, content in version.files.items():
            self.files[version.object_id, content_path(version.number, path)] = b"".join(Digesting(content))
        self.inventories[version.object_id, version.number] = data
        self._fail("seal", "after")
        return pin

    def head(self, object_id: str) -> int:
        return max((number for name, number in self.inventories if name == object_id), default=0)

    def read(self, pin: Pin, path: str) -> bytes:
        content, digest = parsed(self._inventory(pin)).content(path)
        data = self.files.get((pin.object_id, content))
        if data is None or sha512_hex(data) != digest:
            raise _damaged()
        return data

    def open(self, pin: Pin, path: str) -> BinaryIO:
        content, digest = parsed(self._inventory(pin)).content(path)
        data = self.files.get((pin.object_id, content))
        if data is None:
            raise _damaged()
        return buffered(Proved(io.BytesIO(data), digest))

    def paths(self, pin: Pin) -> dict[str, str]:
        return dict(parsed(self._inventory(pin)).state)

    def pin(self, object_id: str, number: int) -> Pin:
        data = self.inventories.get((object_id, number))
        if data is None:
            raise missing("version")
        return Pin(object_id, number, sha512_hex(data))

    def exported(self, pin: Pin) -> NewVersion:
        def read(path: str) -> Content:
            data = self.read(pin, path)
            return Stored(self, pin, path, len(data)) if len(data) > LARGE else data

        return unbuilt(parsed(self._inventory(pin)), read)

    def objects(self) -> Iterator[str]:
        yield from {object_id for object_id, _ in self.inventories}

    def check(self, object_id: str, pins: Sequence[Pin] = (), pace: Pacer = unhurried) -> Checked:
        checked = Checked(object_id)
        pinned = {pin.number: pin.digest for pin in pins}
        head = self.head(object_id)
        findings = checked.findings
        if head == 0:
            findings.append(Finding(object_id, "", "missing", "no complete version of this object"))
            return checked
        contents: dict[str, str] = {}
        for number in range(1, max([head, *pinned]) + 1):
            data = self.inventories.get((object_id, number))
            if data is None:
                findings.append(Finding(object_id, f"v{number}", "missing", "the version is not there"))
                continue
            if pinned and number > max(pinned):
                findings.append(Finding(object_id, f"v{number}", "unacknowledged", "sealed but never acknowledged"))
            if pinned.get(number, sha512_hex(data)) != sha512_hex(data):
                findings.append(
                    Finding(object_id, f"v{number}/inventory.json", "inventory", "not the pinned inventory")
                )
                continue
            for digest, paths in parsed(data).manifest.items():
                contents.update(dict.fromkeys(paths, digest))
        for path, digest in sorted(contents.items()):
            content = self.files.get((object_id, path))
            if content is None:
                findings.append(Finding(object_id, path, "missing", "the file is not there"))
                continue
            checked.files += 1
            checked.bytes += len(content)
            for start in range(0, len(content), PIECE):
                pace(min(PIECE, len(content) - start))
            if sha512_hex(content) != digest:
                findings.append(Finding(object_id, path, "damaged", "the bytes are not those that were sealed"))
        return checked

    def strays(self) -> list[Finding]:
        return []

    def worm(self) -> bool:
        return False

    def describe(self) -> dict[str, str]:
        return {"engine": "memory", "layout": "OCFL 1.1 inventories in memory", "worm": "no: gone with the process"}

    def _inventory(self, pin: Pin) -> bytes:
        data = self.inventories.get((pin.object_id, pin.number))
        if data is None:
            raise missing("version")
        if sha512_hex(data) != pin.digest:
            raise _damaged()
        return data


class MemoryKeys:
    """`KeyStore` in memory."""

    def __init__(self, fail: Fail | None = None) -> None:
        self._fail = fail or _never
        self._keys: dict[str, Key] = {}

    def create(self, key_ids: Sequence[str]) -> list[Key]:
        for key_id in key_ids:
            if key_id not in self._keys:
                self._fail("create", "before")
                self._keys[key_id] = Key(key_id, *new_identity())
                self._fail("create", "after")
        return [self._keys[key_id] for key_id in key_ids]

    def get(self, key_id: str) -> Key:
        if key_id not in self._keys:
            raise KeysMissing(
                "この内容の鍵は廃棄されたか、作られていません。内容は読めません。",
                "The key of this content was destroyed or never made. The content cannot be read.",
                code="keys.gone",
            )
        return self._keys[key_id]

    def destroy(self, key_id: str) -> None:
        self._fail("destroy", "before")
        self._keys.pop(key_id, None)
        self._fail("destroy", "after")

    def ids(self) -> Iterator[str]:
        yield from sorted(self._keys)

    def check(self) -> list[Finding]:
        return []


class MemoryJournal:
    """`Journal` in memory."""

    def __init__(self, fail: Fail | None = None) -> None:
        self._fail = fail or _never
        self._segments: list[bytes] = []

    def append(self, number: int, segment: bytes) -> None:
        if number < 1 or number > len(self._segments) + 1:
            raise _conflict("number")
        if number <= len(self._segments):
            if self._segments[number - 1] != segment:
                raise _conflict("bytes")
            return
        self._fail("append", "before")
        self._segments.append(bytes(segment))
        self._fail("append", "after")

    def last(self) -> int:
        return len(self._segments)

    def read(self, number: int) -> bytes:
        if not 1 <= number <= len(self._segments):
            raise missing("segment")
        return self._segments[number - 1]

    def segments(self, first: int = 1) -> Iterator[tuple[int, bytes]]:
        for number in range(max(first, 1), len(self._segments) + 1):
            yield number, self._segments[number - 1]


class MemoryDerivatives:
    """`DerivativeStore` in memory."""

    def __init__(self, fail: Fail | None = None) -> None:
        self._fail = fail or _never
        self._archives: dict[str, bytes] = {}

    def put(self, archives: Mapping[str, bytes]) -> None:
        for name, data in archives.items():
            self._fail("put", "before")
            self._archives[name] = bytes(data)
            self._fail("put", "after")

    def get(self, name: str) -> bytes | None:
        return self._archives.get(name)

    def delete(self, name: str) -> None:
        self._fail("delete", "before")
        self._archives.pop(name, None)
        self._fail("delete", "after")

    def names(self) -> Iterable[str]:
        return list(self._archives)


def _conflict(what: str) -> Conflict:
    return Conflict(
        "先に別の内容が書き込まれています。最新の状態を読み直してからやり直してください。",
        f"Something else was written first (other {what}). Read the present state and try again.",
        code=f"storage.other_{what}",
    )


def _damaged() -> DigestMismatch:
    return DigestMismatch(
        "保管庫の内容が、封印したときのものではありません。控えから復元してください。",
        "The store's bytes are not what was sealed. Restore them from the backup.",
    )
