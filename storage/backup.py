"""A second store that follows the first one's journal: what a backup of objects and journal is, in a folder or in a bucket.

The copy's own journal says how far it has come: a copy whose journal ends with segment n holds every object version that the segments up
to n name. So a copy is whole at every moment, one that was broken off is an older one, and the next run begins where the copy ends,
without asking what is there already. Keys are no part of it (`storage/keycopies.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from core.errors import Conflict, DigestMismatch, NotFound
from storage import durable
from storage.canonical import sha256_hex
from storage.copying import Side
from storage.places import object_place
from storage.port import Finding, NewVersion, Pin

GROUP = 64
GROUP_BYTES = 64 << 20
"""Versions sealed together: so many, or so many bytes held."""

SEGMENTS = 200
"""Segments brought together at most."""


@dataclass(frozen=True)
class Named:
    """What a segment names: versions of objects, and the derivatives that were made or changed with it."""

    pins: tuple[Pin, ...]
    derivatives: tuple[str, ...]


Naming = Callable[[int, bytes, str], Named]
"""(number, segment, SHA-256 of the segment before) -> what it names; raises where the segment does not follow."""


@dataclass(frozen=True)
class Followed:
    """How far the copy has come: `segments` of its journal, of which `new_segments` were brought now, with `versions` of objects.

    `files`, `bytes`: read back from the copy and compared. `damaged`: what is wrong in the source, by object: it was not copied, and what the
    copy has of it was left alone; `owed` are the versions that it lacks therefore, for the next run.
    """

    segments: int
    new_segments: int
    versions: int
    files: int
    bytes: int
    damaged: tuple[Finding, ...]
    owed: tuple[Pin, ...]


def follow(
    source: Side,
    target: Side,
    naming: Naming,
    owed: Iterable[Pin] = (),
    upto: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    uncache: Callable[[str], None] = lambda object_id: None,
    owe: Callable[[Pin], None] = lambda pin: None,
) -> Followed:
    """Bring the copy `target` up to segment `upto` of `source` (the last one now); durable, read back and compared on return.

    Args:
        naming: what the segments mean.
        owed: versions that earlier runs could not copy because they were damaged.
        progress: called with the number of segments done, and of all.
        uncache: called before an object of the copy is read back, so that the disk answers and not the memory (`asking_disk`).
        owe: told of a version that cannot be copied, before any segment that names it is.

    Raises:
        Conflict: (`backup.ahead`) the copy goes further than the source; (`backup.diverged`) they have told different things since.
        DigestMismatch: (`backup.unverified`) what was written reads back as something else: the copy's disk is bad.
    """
    last = source.journal.last() if upto is None else upto
    there = target.journal.last()
    if there > last:
        raise Conflict(
            "控えのほうが保管庫より先へ進んでいます。古い控えから戻したあとなら、別の保存先に新しい控えを取ってください。",
            "The copy goes further than the store. After a restore from an older backup, take a new backup to another target.",
            code="backup.ahead",
        )
    previous = sha256_hex(target.journal.read(there)) if there else ""
    if there and sha256_hex(source.journal.read(there)) != previous:
        raise Conflict(
            "控えと保管庫の記録簿が食い違っています。どちらが正しいかを確かめ、別の保存先に新しい控えを取ってください。",
            "The journals of copy and store differ. Find out which one is right, and take a new backup to another target.",
            code="backup.diverged",
        )
    copy = _Copy(source, target, uncache, owe)
    copy.objects(owed)
    done = there
    for group in _groups(source, there + 1, last, naming, previous):
        copy.objects(pin for _, _, named in group for pin in named.pins)
        for name in dict.fromkeys(name for _, _, named in group for name in named.derivatives):
            data = source.derivatives.get(name)
            if data is not None and target.derivatives.get(name) != data:
                target.derivatives.put({name: data})
        for number, segment, _ in group:  # last: what a segment names is there when it is
            target.journal.append(number, segment)
            if target.journal.read(number) != segment:
                raise _unverified()
            done = number
        progress(done, last)
    return Followed(last, last - there, copy.versions, copy.files, copy.bytes, tuple(copy.damaged), tuple(copy.owed))


def asking_disk(root: Path) -> Callable[[str], None]:
    """For `follow` into a store in the folder `root`: lets what was written of an object be read from the disk."""

    def uncache(object_id: str) -> None:
        for path in (root / object_place(object_id)).rglob("*"):
            if path.is_file():
                with durable.open_regular(path) as file:
                    durable.uncached(file.fileno())

    return uncache


def _groups(
    source: Side, first: int, last: int, naming: Naming, previous: str
) -> Iterator[list[tuple[int, bytes, Named]]]:
    group: list[tuple[int, bytes, Named]] = []
    pins = 0
    for number, segment in source.journal.segments(first):
        if number > last:
            break
        group.append((number, segment, naming(number, segment, previous)))
        previous = sha256_hex(segment)
        pins += len(group[-1][2].pins)
        if pins >= GROUP or len(group) >= SEGMENTS:
            yield group
            group, pins = [], 0
    if group:
        yield group


class _Copy:
    """Versions brought from one store into the other."""

    def __init__(self, source: Side, target: Side, uncache: Callable[[str], None], owe: Callable[[Pin], None]) -> None:
        self._source = source
        self._target = target
        self._uncache = uncache
        self._owe = owe
        self.versions = self.files = self.bytes = 0
        self.damaged: list[Finding] = []
        self.owed: list[Pin] = []

    def objects(self, pins: Iterable[Pin]) -> None:
        """Bring these versions, and those before them, as far as the target lacks them."""
        heads: dict[str, Pin] = {}
        for pin in pins:
            if pin.object_id not in heads or heads[pin.object_id].number < pin.number:
                heads[pin.object_id] = pin
        group: list[tuple[Pin, NewVersion]] = []
        held = 0
        for pin in heads.values():
            lacking = self._lacking(pin)
            group += lacking
            held += sum(len(data) for _, each in lacking for data in each.files.values() if isinstance(data, bytes))
            if len(group) >= GROUP or held >= GROUP_BYTES:
                self._seal(group)
                group, held = [], 0
        self._seal(group)

    def _lacking(self, pin: Pin) -> list[tuple[Pin, NewVersion]]:
        versions = []
        try:
            for number in range(self._target.objects.head(pin.object_id) + 1, pin.number + 1):
                each = pin if number == pin.number else self._source.objects.pin(pin.object_id, number)
                versions.append((each, self._source.objects.exported(each)))
        except (DigestMismatch, NotFound):
            self._tell(pin)
        return versions

    def _tell(self, pin: Pin) -> None:
        """Name what is wrong with an object of the source."""
        self._owe(pin)
        self.owed.append(pin)
        found = self._source.objects.check(pin.object_id, [pin]).findings
        self.damaged += found or [Finding(pin.object_id, "", "damaged", "the object cannot be read")]

    def _seal(self, group: list[tuple[Pin, NewVersion]]) -> None:
        if not group:
            return
        try:
            self._target.objects.seal([version for _, version in group])
        except DigestMismatch:  # a large file of the source, of which one learns when it has been read
            group = [each for each in group if self._sealed(*each)]
        heads = {pin.object_id: pin for pin, _ in group}  # the later one of an object counts
        for pin in heads.values():
            self._uncache(pin.object_id)
            checked = self._target.objects.check(pin.object_id, [pin])
            if any(finding.code != "unacknowledged" for finding in checked.findings):
                raise _unverified()
            self.files += checked.files
            self.bytes += checked.bytes
        self.versions += len(group)

    def _sealed(self, pin: Pin, version: NewVersion) -> bool:
        if any(pin.object_id == each.object_id for each in self.owed):
            return False
        try:
            self._target.objects.seal([version])
        except DigestMismatch:
            self._tell(pin)
            return False
        return True


def _unverified() -> DigestMismatch:
    return DigestMismatch(
        "控えを読み返すと内容が違います。保存先のディスクを取り替えてください。",
        "A copy read back differs from what was written. Replace the disk of the target.",
        code="backup.unverified",
    )
