"""The store on a filesystem: objects as an OCFL 1.1 storage root, the journal and the derivatives as files beside it.

    store.json        format number and store id
    objects/          the OCFL storage root, nothing else in it
    journal/0000/     segments 000001.json …, a thousand a folder
    derived/ab/cd/    archives that can be made again
    scratch/          what is being written; emptied at start (`heal`)

Everything is built in scratch, synced, and then named in one step, so that a crash leaves a thing complete or absent.
Keys lie elsewhere (`storage/keys.py`); what the bytes mean is not known here.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import os
import re
import secrets
import shutil
import stat
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from core.errors import DigestMismatch
from storage import durable, fixity
from storage.canonical import sha512_hex
from storage.inventory import (
    NAME,
    OBJECT_DECLARATION,
    ROOT_DECLARATION,
    SIDECAR,
    Inventory,
    built,
    groups,
    missing,
    parsed,
    sidecar,
    unbuilt,
)
from storage.places import (
    DERIVATIVE,
    LAYOUT_WORDS,
    ROOT_FILES,
    SEGMENTS_A_FOLDER,
    STORE_PLACE,
    derivative_name,
    derivative_place,
    described,
    description,
    object_place,
    segment_place,
)
from storage.port import Checked, Content, Finding, NewVersion, Pacer, Pin, unhurried
from storage.refusals import conflict, damaged, gap, store_exists
from storage.streams import LARGE, PIECE, Digesting, Proved, Stored, buffered, digest_of

_VERSION = re.compile(r"v([1-9][0-9]{0,8})")
_TUPLE = re.compile(r"[0-9a-f]{2}")
_OBJECT_FOLDER = re.compile(r"[a-z0-9%-]{1,300}")
_SEGMENT = re.compile(r"([0-9]{6,})\.json")
_SEGMENTS = re.compile(r"(?:\A|(?<=\0))([0-9]{6,})\.json(?=\0|\Z)")
_SEGMENT_FOLDER = re.compile(r"[0-9]{4,}")


def create_store(root: Path, store_id: str) -> None:
    """Lay out an empty store in `root` (made when absent); durable on return. `Conflict` (code `store.exists`) when
    one is there.

    `store.json` comes last, and whole, so that a store cut short while it was laid out can simply be created again.
    """
    if (root / STORE_PLACE).exists():
        raise store_exists()
    with durable.writing():
        root.mkdir(parents=True, exist_ok=True)
        with durable.Group(root, 2) as group:
            for folder in ("objects", "journal", "derived", "scratch"):
                group.mkdir(root / folder)
            for place, data in ROOT_FILES.items():
                group.mkdir((root / place).parent)
                (root / place).unlink(missing_ok=True)
                group.write(root / place, data)
            group.sync()
        durable.flush_folder(root.parent)
        whole = root / "scratch" / secrets.token_hex(8)
        durable.write_synced(whole, description(store_id))
        if not durable.move_file(whole, root / STORE_PLACE, copy=True):  # also where a copy may lie: nobody uses it yet
            raise store_exists()
        durable.flush_folder(root)


def open_store(root: Path) -> str:
    """The id of the store in `root`; errors as `places.described`."""
    try:
        data = durable.read_regular(root / STORE_PLACE)
    except FileNotFoundError:
        return described(None)
    except DigestMismatch:  # a link, a folder: not what was written
        return described(b"")
    return described(data)


class Scratch:
    """A folder of one process in `<root>/scratch`, locked as long as the process lives, so that nobody clears it
    away.
    """

    def __init__(self, root: Path) -> None:
        self._root = root / "scratch"
        self._owner = 0
        self._folder = self._root

    def fresh(self) -> Path:
        """A path that is not taken, on the filesystem of the store."""
        if self._owner != os.getpid():  # first use, or we were forked: the parent's folder is not ours
            self._claim()
        return self._folder / secrets.token_hex(8)

    def _claim(self) -> None:
        with self._exclusive():
            folder = self._root / secrets.token_hex(8)
            folder.mkdir()
            lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        weakref.finalize(self, os.close, lock)
        self._folder = folder
        self._owner = os.getpid()  # last: another thread looks here

    def abandoned(self) -> Iterator[Path]:
        """Folders whose process is gone; each is removed after it was yielded."""
        with self._exclusive():
            for folder in sorted(self._root.iterdir()):
                if not folder.is_dir() or folder.is_symlink():
                    if folder.name != "lock":
                        folder.unlink()
                    continue
                lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    yield folder
                except BlockingIOError:
                    continue
                finally:
                    os.close(lock)
                # Closed by now: NFS and FUSE keep an open file that is removed under another name, and the folder with it.
                # Nobody claims the folder meanwhile, since that takes the lock that we hold.
                shutil.rmtree(folder)

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        lock = os.open(self._root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


@dataclass(frozen=True)
class _Built:
    """A version that lies in scratch, ready to be named. `swap`: the folder with the next root inventory, for later
    versions.
    """

    pin: Pin
    scratch: Path
    target: Path
    swap: Path | None


class FilesystemObjects:
    """`ObjectStore` on a filesystem: one OCFL object an id, versions renamed into place whole.

    Args:
        root: the store's folder, laid out by `create_store`.
    """

    def __init__(self, root: Path) -> None:
        self._root = root / "objects"
        self._top = root
        self._scratch = Scratch(root)
        self._pinned = functools.lru_cache(maxsize=512)(self._read_pinned)

    # Writing

    def seal(self, versions: Sequence[NewVersion]) -> list[Pin]:
        return [pin for group in groups(versions) for pin in self._seal_group(group)]

    def _seal_group(self, versions: Sequence[NewVersion]) -> list[Pin]:
        files = sum(len(version.files) + 2 for version in versions)
        made: list[_Built] = []
        named: set[Pin] = set()
        with durable.writing(), durable.Group(self._root, files) as group:
            try:
                pins = [self._build(version, group, made) for version in versions]
                group.sync()  # content first: a name never stands for bytes that a power cut can take
                for each in made:
                    self._name(each, group)
                    named.add(each.pin)
                group.sync()
            finally:
                for each in made:
                    self._settle(each, each.pin in named)
        return pins

    def _build(self, version: NewVersion, group: durable.Group, made: list[_Built]) -> Pin:
        """Write `version` into scratch and note it in `made`, unless it is sealed already."""
        home = self._home(version.object_id)
        head = self.head(version.object_id)
        if version.number > head + 1:
            raise conflict("number")
        previous = self._version(home, version.number - 1) if version.number > 1 else None
        if version.number <= head:
            data = built(version, previous, {path: digest_of(content) for path, content in version.files.items()})
            if self._inventory_bytes(home, version.number) != data:
                raise conflict("bytes")
            group.touched(home)
            self._touch_parents(home, group)
            return Pin(version.object_id, version.number, sha512_hex(data))
        scratch = self._scratch.fresh()
        swap = None if version.number == 1 else scratch.with_suffix(".swap")
        try:
            pin = self._write(version, previous, group, scratch, swap)
        except BaseException:
            for folder in (scratch, swap):
                if folder:
                    shutil.rmtree(folder, ignore_errors=True)
            raise
        made.append(_Built(pin, scratch, home / f"v{version.number}" if swap else home, swap))
        return pin

    def _write(
        self, version: NewVersion, previous: Inventory | None, group: durable.Group, scratch: Path, swap: Path | None
    ) -> Pin:
        """Write `version` into scratch: the content first, digested as it goes by."""
        group.mkdir(scratch)
        body = scratch if swap else scratch / "v1"
        folders, digests = set(), dict[str, str]()
        for path, content in version.files.items():
            place = body / "content" / path
            if place.parent not in folders:
                group.mkdir(place.parent)
                folders.add(place.parent)
            read = Digesting(content)
            group.write_pieces(place, read)
            digests[path] = read.digest
        data = built(version, previous, digests)
        group.mkdir(body)
        if swap:
            group.mkdir(swap)
            group.write(swap / "object", version.object_id.encode())
            _write_inventory(group, swap, data)
        else:
            group.write(scratch / OBJECT_DECLARATION[0], OBJECT_DECLARATION[1])
            _write_inventory(group, scratch, data)
        _write_inventory(group, body, data)
        return Pin(version.object_id, version.number, sha512_hex(data))

    def _name(self, each: _Built, group: durable.Group) -> None:
        group.mkdir(each.target.parent)
        group.touched(each.target.parent)
        self._touch_parents(self._home(each.pin.object_id), group)
        if not durable.move_folder(each.scratch, each.target):
            home = self._home(each.pin.object_id)
            if sha512_hex(self._inventory_bytes(home, each.pin.number)) != each.pin.digest:
                raise conflict("bytes")  # another writer was first

    def _touch_parents(self, home: Path, group: durable.Group) -> None:
        """Sync every folder down to the object: whoever made or named it may not have come as far as that."""
        for folder in (home.parent, home.parent.parent, self._root):
            group.touched(folder)

    def _settle(self, each: _Built, named: bool) -> None:
        """Leave nothing in scratch: replace the root inventory when the version has its name, else remove what was
        built.

        Not awaited: a replacement that a power cut undoes lies in scratch again, where `heal` finds it.
        """
        shutil.rmtree(each.scratch, ignore_errors=True)
        if each.swap is None:
            return
        home = each.target.parent
        if named:
            for name in (NAME, SIDECAR):
                (each.swap / name).replace(home / name)
            if max(self._numbers(home)) != each.pin.number:  # another writer has gone on, and was faster here
                self._refresh(home, max(self._numbers(home)))
        shutil.rmtree(each.swap, ignore_errors=True)

    def heal(self) -> int:
        """Clear scratch of dead processes and finish the root inventories they had not replaced; how many were
        finished.

        For start-up. Costs as much as there is left over, not as there are objects.
        """
        healed = 0
        with durable.writing():
            self._scratch.fresh()  # ours is claimed before the others are locked out
            for folder in self._scratch.abandoned():
                for swap in sorted(folder.glob("*.swap")):
                    healed += self._finish(swap)
        return healed

    def _finish(self, swap: Path) -> int:
        try:
            object_id = durable.read_regular(swap / "object").decode()
        except (FileNotFoundError, DigestMismatch, UnicodeDecodeError):
            return 0
        home = self._home(object_id)
        return self._refresh(home, self.head(object_id))

    def _refresh(self, home: Path, head: int) -> int:
        """Make the root inventory and its sidecar those of version `head`; 1 when they were not."""
        if head == 0:
            return 0
        data = self._inventory_bytes(home, head)
        wanted = {NAME: data, SIDECAR: sidecar(data)}
        if all(_bytes_or_none(home / name) == bytes_ for name, bytes_ in wanted.items()):
            return 0
        for name, bytes_ in wanted.items():
            temporary = self._scratch.fresh()
            durable.write_new(temporary, bytes_)
            durable.replace(temporary, home / name)
        return 1

    # Reading

    def head(self, object_id: str) -> int:
        return max(self._numbers(self._home(object_id)), default=0)

    def read(self, pin: Pin, path: str) -> bytes:
        place, digest = self._content(pin, path)
        try:
            data = durable.read_regular(place)
        except FileNotFoundError as error:
            raise damaged("file.missing") from error
        if sha512_hex(data) != digest:
            raise damaged("digest.mismatch")
        return data

    def open(self, pin: Pin, path: str) -> BinaryIO:
        place, digest = self._content(pin, path)
        try:
            with durable.reading():
                return buffered(_OnDisk(durable.open_regular(place), digest))
        except FileNotFoundError as error:
            raise damaged("file.missing") from error

    def _content(self, pin: Pin, path: str) -> tuple[Path, str]:
        """Where a file of the pinned version lies, and its SHA-512."""
        content, digest = self._pinned(pin.object_id, pin.number, pin.digest).content(path)
        return self._home(pin.object_id) / content, digest

    def paths(self, pin: Pin) -> dict[str, str]:
        return dict(self._pinned(pin.object_id, pin.number, pin.digest).state)

    def pin(self, object_id: str, number: int) -> Pin:
        home = self._home(object_id)
        if number not in self._numbers(home):
            raise missing("version")
        return Pin(object_id, number, sha512_hex(self._inventory_bytes(home, number)))

    def exported(self, pin: Pin) -> NewVersion:
        def read(path: str) -> Content:
            place, _ = self._content(pin, path)
            try:
                size = place.lstat().st_size
            except FileNotFoundError as error:
                raise damaged("file.missing") from error
            return Stored(self, pin, path, size) if size > LARGE else self.read(pin, path)

        return unbuilt(self._pinned(pin.object_id, pin.number, pin.digest), read)

    def objects(self) -> Iterator[str]:
        for home in self._homes():
            object_id = home.name.replace("%2e", ".")
            if self._home(object_id) == home and (home / "v1" / NAME).exists():
                yield object_id  # what else lies there, `strays` tells

    def _homes(self) -> Iterator[Path]:
        for first in _folders(self._root, _TUPLE):
            for second in _folders(first, _TUPLE):
                yield from _folders(second, _OBJECT_FOLDER)

    def _home(self, object_id: str) -> Path:
        return self._top / object_place(object_id)

    def _numbers(self, home: Path) -> list[int]:
        try:
            names = [path.name for path in home.iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [int(match[1]) for name in names if (match := _VERSION.fullmatch(name))]

    def _inventory_bytes(self, home: Path, number: int) -> bytes:
        try:
            return durable.read_regular(home / f"v{number}" / NAME)
        except FileNotFoundError as error:
            raise damaged("file.missing") from error

    def _version(self, home: Path, number: int) -> Inventory:
        """The inventory of version `number`, against its own sidecar only; `DigestMismatch`."""
        data = self._inventory_bytes(home, number)
        if _bytes_or_none(home / f"v{number}" / SIDECAR) != sidecar(data):
            raise damaged("digest.mismatch")
        try:
            inventory = parsed(data)
        except ValueError as error:
            raise damaged("digest.mismatch") from error
        if inventory.number != number:
            raise damaged("digest.mismatch")
        return inventory

    def _read_pinned(self, object_id: str, number: int, digest: str) -> Inventory:
        try:
            # A rebuild asks this of every version: no path is made, no folder listed.
            data = durable.read_regular(f"{self._top}/{object_place(object_id)}/v{number}/{NAME}")
        except FileNotFoundError as error:
            if number not in self._numbers(self._home(object_id)):
                raise missing("version") from error
            raise damaged("file.missing") from error
        if sha512_hex(data) != digest:
            raise damaged("digest.mismatch")
        try:
            return parsed(data)
        except ValueError as error:
            raise damaged("digest.mismatch") from error

    # Checking

    def check(self, object_id: str, pins: Sequence[Pin] = (), pace: Pacer = unhurried) -> Checked:
        checked = Checked(object_id)
        home = self._home(object_id)

        def found(path: str, code: str, detail: str) -> None:
            checked.findings.append(Finding(object_id, path, code, detail))

        on_disk = _walk(home)
        numbers = sorted(self._numbers(home))
        pinned = {pin.number: pin.digest for pin in pins}
        if not numbers:
            found("", "missing", "no complete version of this object")
            return checked

        def read(place: str, _: str | None) -> bytes | None:
            return _bytes_or_none(home / place)

        told = fixity.history(object_id, numbers, pinned, read, found)
        for place in sorted(told.contents):
            self._check_file(home, place, told.contents[place], on_disk, checked, pace)
        fixity.root(numbers[-1], read, found)
        for path, mode in sorted(on_disk.items()):
            # What belongs to a version is unknown without its inventory, which is reported already.
            if path not in told.expected | told.contents.keys() and not path.startswith(tuple(told.unknown)):
                found(path, "extra", "not part of the object" if stat.S_ISREG(mode) else "neither a file nor a folder")
        return checked

    def _check_file(
        self, home: Path, place: str, digest: str, on_disk: dict[str, int], checked: Checked, pace: Pacer
    ) -> None:
        def found(code: str, detail: str) -> None:
            checked.findings.append(Finding(checked.object_id, place, code, detail))

        if place not in on_disk:
            found("missing", "the file is not there")
            return
        hasher = hashlib.sha512()
        try:
            fd = os.open(home / place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(fd, "rb", buffering=0) as file:
                status = os.fstat(fd)
                if not stat.S_ISREG(status.st_mode):
                    raise OSError(errno.EINVAL, "not a file")
                buffer = memoryview(bytearray(min(PIECE, status.st_size + 1)))  # most files are small
                while size := file.readinto(buffer):
                    hasher.update(buffer[:size])
                    checked.bytes += size
                    pace(size)
        except OSError as error:
            found("damaged", f"the file cannot be read ({errno.errorcode.get(error.errno or 0, 'unknown')})")
            return
        checked.files += 1
        if hasher.hexdigest() != digest:
            found("damaged", "the bytes are not those that were sealed")

    def strays(self) -> list[Finding]:
        """What lies in the store's folder and belongs to nobody: foreign files and folders; also what of the storage
        root's own files is not as it was laid out. `object_id` is empty, `path` within the store.
        """
        strays = _foreign(self._top, {"store.json"}, {"objects", "journal", "derived", "scratch"}, self._top)
        for place, data in ROOT_FILES.items():
            there = _bytes_or_none(self._top / place)
            if there != data:
                strays.append(
                    Finding("", place, "missing" if there is None else "damaged", "not as the store was laid out")
                )
        fixed = {ROOT_DECLARATION[0], "ocfl_layout.json"}
        strays += _foreign(self._root, fixed, {"extensions"}, self._top, _TUPLE)
        for first in _folders(self._root, _TUPLE):
            strays += _foreign(first, set(), set(), self._top, _TUPLE)
            for second in _folders(first, _TUPLE):
                strays += _foreign(second, set(), set(), self._top, _OBJECT_FOLDER)
                for home in _folders(second, _OBJECT_FOLDER):
                    if self._home(home.name.replace("%2e", ".")) != home or not (home / "v1").exists():
                        strays.append(_stray(home, self._top, "not an object, or its first version is lost"))
        for folder in _folders(self._top / "journal", _SEGMENT_FOLDER):
            strays += _foreign(folder, set(), set(), self._top, files=_SEGMENT)
        strays += _foreign(self._top / "journal", set(), set(), self._top, _SEGMENT_FOLDER)
        return strays

    def worm(self) -> bool:
        return False

    def describe(self) -> dict[str, str]:
        return {
            "engine": "filesystem",
            "layout": LAYOUT_WORDS,
            "worm": "no: files are read-only and every change is found by their digests, but nothing here resists the "
            "account daicho runs as, or root",
        }


class FilesystemJournal:
    """`Journal` as files: a segment is written in scratch, synced, and linked to its number, which only one writer
    can do.

    Args:
        root: the store's folder. Opening lists every folder once and raises `StoreDamaged` where a number is missing.
        copy: it is a copy of another store's, which may lie on a medium with a simpler filesystem.
    """

    def __init__(self, root: Path, *, copy: bool = False) -> None:
        self._copy = copy
        self._root = root / "journal"
        self._top = str(root)
        self._scratch = Scratch(root)
        self._last = self._counted()

    def append(self, number: int, segment: bytes) -> None:
        if number < 1 or (number > self._last + 1 and number > self.last() + 1):
            raise conflict("number")
        path = self._path(number)
        first = number % SEGMENTS_A_FOLDER in (0, 1)  # of a folder
        with durable.writing():
            named = False
            if number == self._last + 1:
                if first:
                    path.parent.mkdir(exist_ok=True)
                temporary = self._scratch.fresh()
                try:
                    durable.write_synced(temporary, segment)
                    named = durable.move_file(temporary, path, copy=self._copy)
                except BaseException:
                    temporary.unlink(missing_ok=True)
                    raise
            if not named and durable.read_regular(path) != segment:
                raise conflict("bytes")
            # Also when it was there already: whoever wrote it may not have come as far as this.
            durable.flush_folder(path.parent)
            if first:
                durable.flush_folder(self._root)
                durable.flush_folder(self._path(max(number - 1, 1)).parent)
        self._last = max(self._last, number)

    def last(self) -> int:
        # Others may have appended; nobody removes.
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            while os.stat(f"{self._top}/{segment_place(self._last + 1)}"):  # noqa: PTH116  # a path takes longer to make
                self._last += 1
        return self._last

    def read(self, number: int) -> bytes:
        if number < 1 or (number > self._last and number > self.last()):
            raise missing("segment")
        try:
            return durable.read_regular(
                f"{self._top}/{segment_place(number)}"
            )  # a path takes as long to make as to read
        except FileNotFoundError as error:
            raise gap(number) from error

    def segments(self, first: int = 1) -> Iterator[tuple[int, bytes]]:
        for number in range(max(first, 1), self.last() + 1):
            yield number, self.read(number)

    def _path(self, number: int) -> Path:
        return self._root.parent / segment_place(number)

    def _counted(self) -> int:
        numbers: list[int] = []
        for folder in _folders(self._root, _SEGMENT_FOLDER):
            # All names at once, apart by what no name holds: there may be millions, and a path takes longer to make than to list.
            numbers += map(int, _SEGMENTS.findall("\0".join(os.listdir(folder))))  # noqa: PTH208
        last = max(numbers, default=0)
        if len(numbers) != last or 0 in numbers:
            raise gap(min(set(range(1, last + 1)) - set(numbers), default=0))
        return last


class FilesystemDerivatives:
    """`DerivativeStore` as files. Each ends in the SHA-256 of what is before it (32 bytes): a file that a power cut
    tore, since nobody waited for it, counts as absent and is remade. `head -c -32 FILE | age -d -i KEY` opens one
    without daicho.

    Args:
        root: the store's folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root / "derived"
        self._scratch = Scratch(root)

    def put(self, archives: Mapping[str, bytes]) -> None:
        placed = {self._path(name): data for name, data in archives.items()}
        with durable.writing():
            for path, data in placed.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary = self._scratch.fresh()
                try:
                    with temporary.open("xb") as file:
                        file.write(data)
                        file.write(hashlib.sha256(data).digest())
                    temporary.replace(path)
                finally:
                    temporary.unlink(missing_ok=True)

    def get(self, name: str) -> bytes | None:
        stored = _bytes_or_none(self._path(name))
        if stored is None or hashlib.sha256(memoryview(stored)[:-32]).digest() != stored[-32:]:
            return None
        return stored[:-32]

    def delete(self, name: str) -> None:
        with durable.writing():
            self._path(name).unlink(missing_ok=True)

    def names(self) -> Iterable[str]:
        for first in _folders(self._root, _TUPLE):
            for second in _folders(first, _TUPLE):
                yield from (path.name for path in second.iterdir() if DERIVATIVE.fullmatch(path.name))

    def _path(self, name: str) -> Path:
        return self._root.parent / derivative_place(derivative_name(name))


class _OnDisk(Proved):
    """A sealed file being read; what the disk does not give back is `DigestMismatch` too."""

    def _next(self, size: int) -> bytes:
        with durable.reading():
            return super()._next(size)


def _write_inventory(group: durable.Group, folder: Path, data: bytes) -> None:
    group.write(folder / NAME, data)
    group.write(folder / SIDECAR, sidecar(data))


def _folders(folder: Path, pattern: re.Pattern[str]) -> Iterator[Path]:
    """Folders in `folder` whose name matches, none when it is not there."""
    try:
        with os.scandir(folder) as entries:
            names = [
                entry.name for entry in entries if pattern.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
            ]
    except FileNotFoundError:
        return
    yield from (folder / name for name in names)


def _walk(folder: Path) -> dict[str, int]:
    """Path within `folder` -> mode, of everything beneath that is not a folder; links are not followed."""
    found: dict[str, int] = {}
    waiting = [""]
    while waiting:
        inner = waiting.pop()
        try:
            with os.scandir(folder / inner) as entries:
                for entry in entries:
                    path = f"{inner}{entry.name}"
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(f"{path}/")
                    else:
                        found[path] = entry.stat(follow_symlinks=False).st_mode
        except (FileNotFoundError, NotADirectoryError):
            continue
    return found


def _foreign(
    folder: Path,
    names: set[str],
    folders: set[str],
    top: Path,
    pattern: re.Pattern[str] | None = None,
    files: re.Pattern[str] | None = None,
) -> list[Finding]:
    """Entries of `folder` that are neither the files and folders named nor match the patterns for folders and files."""
    strays = []
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                known = entry.name in folders or (pattern is not None and pattern.fullmatch(entry.name))
            else:
                regular = entry.is_file(follow_symlinks=False)
                known = regular and (entry.name in names or (files is not None and files.fullmatch(entry.name)))
            if not known:
                strays.append(_stray(Path(entry.path), top, "not part of the store"))
    return strays


def _stray(path: Path, top: Path, detail: str) -> Finding:
    return Finding("", path.relative_to(top).as_posix(), "stray", detail)


def _bytes_or_none(path: Path) -> bytes | None:
    try:
        return durable.read_regular(path)
    except (FileNotFoundError, DigestMismatch):
        return None
