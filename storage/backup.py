"""A copy of a store and its keys on another disk, taken while daicho runs, and the way back.

    TARGET/store/               a store: every check of a store works on it as it is
    TARGET/SHA256SUMS           of the journal, of every inventory, of store.json (`sha256sum -c` reads it)
    TARGET/backup.json          written last: what the copy holds; without it the copy was cut short
    KEYS_TARGET/keys/           the key folder, the master key included
    KEYS_TARGET/SHA256SUMS.keys

Give the keys a target of their own, on media that rotate fast: as long as a copy of a destroyed key exists, nothing
is destroyed. Whoever holds both targets reads everything.

Order, so that a running installation gives a consistent copy: the journal's last number is noted, then keys, then
objects, then the journal up to that number. An object and its keys are durable before the segment that names them, so
everything the copied segments name is in the copy; what is in it beyond them was never acknowledged in it.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from core.clock import Clock, SystemClock, stamp
from core.errors import BadInput, Conflict, DigestMismatch, NotReady
from storage import durable
from storage.canonical import canonical, sha256_hex, sha512_hex
from storage.filesystem import FilesystemDerivatives, FilesystemJournal, FilesystemObjects, open_store
from storage.inventory import NAME, OBJECT_DECLARATION, SIDECAR, parsed, sidecar
from storage.keys import FilesystemKeys, forget, wrapped_place
from storage.places import ROOT_PLACES, derivative_place, object_place, segment_place

BACKUP_FORMAT = 1

_SUMS = "SHA256SUMS"
_KEY_SUMS = "SHA256SUMS.keys"
_MANIFEST = "backup.json"
_KEY_FILES = ("master.key", "probe.age", "store.json")
_BATCH = 64 << 20  # bytes between two syncs
_LINE = re.compile(r"([0-9a-f]{64})  ((?:[a-z0-9%=_-][A-Za-z0-9%=._-]*/)*[A-Za-z0-9%=_-][A-Za-z0-9%=._-]*)")
_INVENTORY = re.compile(r"(objects/[0-9a-f]{2}/[0-9a-f]{2}/[^/]+)/v([1-9][0-9]*)/inventory\.json")


@dataclass(frozen=True)
class BackupReport:
    """What a backup holds (`segments`, `objects`, `keys`) and did (`copied` files of `bytes` in all).

    `damaged` are files of the store (paths within it) that are not what was sealed: they were not copied, and an
    earlier good copy was kept. `unexplained` are ids of keys that the copy holds and the installation has not, though
    nobody says they were destroyed: they were kept. Either is a reason to call somebody.
    """

    store_id: str
    segments: int
    objects: int
    keys: int
    copied: int
    bytes: int
    damaged: tuple[str, ...]
    unexplained: tuple[str, ...]


@dataclass(frozen=True)
class RestoreReport:
    """What a restore brought back."""

    store_id: str
    segments: int
    objects: int
    keys: int
    files: int
    bytes: int


def backup(
    store_root: Path,
    keys_folder: Path,
    target: Path,
    *,
    keys_target: Path | None = None,
    destroyed: Collection[str] = (),
    clock: Clock | None = None,
) -> BackupReport:
    """Bring the copy in `target` (its keys in `keys_target`, else there too) up to date; durable on return.

    What lies there already is not copied again. Copied files are read back from the disk and compared. Keys whose ids
    are in `destroyed` are destroyed in the copy too.

    Raises `Conflict` (code `backup.foreign`, the target holds another store), `BadInput` (`backup.inside`, the target
    lies in the store), `DigestMismatch` (`backup.unverified`, a copy read back differs: the target's disk is bad),
    `NotReady`, `KeysMissing`, `StorageFull`, `StorageFailed` as everywhere.
    """
    keys_target = keys_target or target
    store_id = open_store(store_root)
    for place in (target.resolve(), keys_target.resolve()):
        if any(place.is_relative_to(folder.resolve()) for folder in (store_root, keys_folder)):
            raise BadInput(
                "控えの保存先が保管庫の中にあります。別のディスクを指定してください。",
                "The target of the backup lies inside the store. Give another disk.",
                code="backup.inside",
            )
    keys = FilesystemKeys(keys_folder, store_id)
    journal = FilesystemJournal(store_root)
    last = journal.last()
    for described in (target / "store" / "store.json", keys_target / "keys" / "store.json"):
        if described.exists() and canonical(store_id) not in described.read_bytes():
            raise Conflict(
                "この保存先には別の保管庫の控えがあります。別の保存先を指定してください。",
                "This target holds the backup of another store. Give another target.",
                code="backup.foreign",
            )
    with durable.writing():
        for folder in ("objects", "journal", "derived", "scratch"):
            (target / "store" / folder).mkdir(parents=True, exist_ok=True)
        for folder in ("wrapped", "scratch"):
            (keys_target / "keys" / folder).mkdir(parents=True, exist_ok=True)
        (keys_target / "keys").chmod(0o700)
        # Until it is written again, this copy is not finished.
        (target / _MANIFEST).unlink(missing_ok=True)
        durable.flush_folder(target)

        with _Copy(keys_folder, keys_target / "keys", 0o600) as held:
            for name in _KEY_FILES:
                held.file(name)
            living = set()
            for key_id in keys.ids():
                try:
                    held.file(wrapped_place(key_id))
                    living.add(key_id)
                except FileNotFoundError:
                    continue  # destroyed since it was listed
            unexplained = _forget(held, living, set(destroyed))
            held.finish(keys_target / _KEY_SUMS, "keys/")

        with _Copy(store_root, target / "store", 0o444) as sealed:
            count = 0
            for object_id in FilesystemObjects(store_root).objects():
                _copy_object(sealed, object_place(object_id))
                count += 1
            _copy_derivatives(sealed)
            for number in range(1, last + 1):
                sealed.file(segment_place(number))
            for name in (*ROOT_PLACES, "store.json"):
                sealed.file(name)
            sums = sealed.finish(target / _SUMS, "store/")
        manifest = {
            "created": stamp((clock or SystemClock()).now()),
            "format": BACKUP_FORMAT,
            "objects": count,
            "segments": last,
            "store": store_id,
            "sums": sums,
        }
        _put(target / _MANIFEST, canonical(manifest) + b"\n")
    return BackupReport(
        store_id,
        last,
        count,
        len(living),
        sealed.files + held.files,
        sealed.bytes + held.bytes,
        tuple(sealed.damaged),
        unexplained,
    )


def restore(target: Path, store_root: Path, keys_folder: Path, *, keys_target: Path | None = None) -> RestoreReport:
    """Bring a store and its keys back from a backup into two empty (or absent) folders; durable on return.

    Every file is compared with its digest. `store.json` comes last, so that a restore cut short is not taken for a
    store. The catalogue and the index are rebuilt from it afterwards.

    Raises `Conflict` (code `restore.not_empty`), `NotReady` (`backup.missing`, no finished backup; `backup.newer`,
    made by a later daicho), `DigestMismatch` (`backup.damaged`, naming the file that is damaged or missing),
    `KeysMissing` as `FilesystemKeys`.
    """
    keys_target = keys_target or target
    for folder in (store_root, keys_folder):
        if folder.exists() and any(folder.iterdir()):
            raise Conflict(
                "復元先のフォルダーが空ではありません。空のフォルダーを指定してください。",
                "A folder to restore into is not empty. Give an empty folder.",
                code="restore.not_empty",
            )
    manifest = _manifest(target)
    with durable.writing():
        for place in (
            *(store_root / name for name in ("objects", "journal", "derived", "scratch")),
            *(keys_folder / name for name in ("wrapped", "scratch")),
        ):
            place.mkdir(parents=True, exist_ok=True)
        keys_folder.chmod(0o700)
        with _Copy(keys_target / "keys", keys_folder, 0o600) as held:
            for digest, name in _sums(keys_target / _KEY_SUMS, "keys/"):
                if name == "store.json":
                    held.sync()
                held.file(name, digest)
            held.sync()
        with _Copy(target / "store", store_root, 0o444) as sealed:
            if sha256_hex(_read(target, _SUMS)) != manifest["sums"]:
                raise _damaged(_SUMS)
            _copy_derivatives(sealed)
            objects: set[str] = set()
            for digest, name in _sums(target / _SUMS, "store/"):
                if name == "store.json":
                    if len(objects) != manifest["objects"]:
                        raise _damaged("objects")
                    sealed.sync()
                sealed.file(name, digest)
                if match := _INVENTORY.fullmatch(name):
                    objects.add(match[1])
                    _restore_version(sealed, match[1], int(match[2]))
            sealed.sync()
        for folder in (store_root, keys_folder):
            durable.flush_folder(folder.parent)
    store_id = open_store(store_root)
    keys = FilesystemKeys(keys_folder, store_id)
    segments = FilesystemJournal(store_root).last()
    if segments != manifest["segments"] or store_id != manifest["store"]:
        raise _damaged(_MANIFEST)
    return RestoreReport(
        store_id,
        segments,
        len(objects),
        sum(1 for _ in keys.ids()),
        sealed.files + held.files,
        sealed.bytes + held.bytes,
    )


class _Copy:
    """Files brought from one folder into the same places of another: written beside, synced in batches, read back,
    then named.
    """

    def __init__(self, source: Path, target: Path, mode: int) -> None:
        self.source = source
        self.target = target
        self.files = 0
        self.bytes = 0
        self.damaged: list[str] = []
        self._mode = mode
        self._group = durable.Group(target, 2)
        self._waiting: list[tuple[Path, Path, str]] = []
        self._waiting_bytes = 0
        self._lines: list[str] = []

    def __enter__(self) -> _Copy:
        return self

    def __exit__(self, *details: object) -> None:
        self._group.__exit__()

    def file(self, name: str, digest: str = "") -> None:
        """Bring `name`, a small file, unless the target has the same bytes; list it. With `digest` (SHA-256) it must
        have it.
        """
        data = durable.read_regular(self.source / name) if not digest else _read(self.source, name)
        if digest and sha256_hex(data) != digest:
            raise _damaged(name)
        self.data(name, data)

    def data(self, name: str, data: bytes) -> None:
        """Bring `data` under `name` and list it."""
        self._lines.append(f"{sha256_hex(data)}  {name}")
        try:
            if durable.read_regular(self.target / name) == data:
                return
        except (FileNotFoundError, DigestMismatch):
            pass
        self.unlisted(name, data)

    def unlisted(self, name: str, data: bytes) -> None:
        """Bring `data` under `name`, replacing what is there."""
        path = self.target / name
        part = path.with_name(f"{path.name}.part")
        part.unlink(missing_ok=True)
        self._group.mkdir(path.parent)
        self._group.write(part, data, self._mode)
        self._waiting.append((part, path, sha512_hex(data)))
        self._waiting_bytes += len(data)
        self.files += 1
        self.bytes += len(data)
        if self._waiting_bytes > _BATCH or len(self._waiting) > 1000:
            self.sync()

    def sync(self) -> None:
        """Make what was brought so far durable, read it back, and name it."""
        self._group.sync()
        for part, path, digest in self._waiting:
            if sha512_hex(_from_disk(part)) != digest:
                raise DigestMismatch(
                    "控えを読み返すと内容が違います。保存先のディスクを取り替えてください。",
                    "A copy read back differs from what was written. Replace the disk of the target.",
                    code="backup.unverified",
                )
            part.replace(path)
            self._group.touched(path.parent)
        self._waiting.clear()
        self._waiting_bytes = 0
        self._group.sync()

    def finish(self, path: Path, prefix: str) -> str:
        """Make all durable and write the list to `path`, with `prefix` before each name; the list's SHA-256."""
        self.sync()
        lines = [f"{line[:66]}{prefix}{line[66:]}" for line in self._lines]
        data = "\n".join([*lines, f"# {len(lines)} files", ""]).encode()
        _put(path, data)
        return sha256_hex(data)


def _copy_object(copy: _Copy, home: str) -> None:
    """Bring every version of the object; the root inventory is made from the last one, because the real one may be in
    motion.
    """
    numbers = sorted(int(path.name[1:]) for path in (copy.source / home).glob("v[0-9]*"))
    data = b""
    for number in numbers:
        place = f"{home}/v{number}/{NAME}"
        try:
            data = durable.read_regular(copy.source / place)
            inventory = parsed(data)
        except (FileNotFoundError, DigestMismatch, ValueError):
            copy.damaged.append(place)
            return
        for digest, contents in inventory.manifest.items():
            for content in contents:
                if content.startswith(f"v{number}/"):
                    _copy_content(copy, f"{home}/{content}", digest)
        copy.data(place, data)
        copy.data(f"{home}/v{number}/{SIDECAR}", sidecar(data))
    copy.data(f"{home}/{OBJECT_DECLARATION[0]}", OBJECT_DECLARATION[1])
    copy.data(f"{home}/{NAME}", data)
    copy.data(f"{home}/{SIDECAR}", sidecar(data))


def _copy_content(copy: _Copy, name: str, digest: str) -> None:
    try:
        # Content never changes under its name: a copy of the same length is left alone, and `check` on the copy finds
        # its damage.
        if (copy.target / name).stat().st_size == (copy.source / name).stat().st_size:
            return
    except FileNotFoundError:
        pass
    try:
        data = durable.read_regular(copy.source / name)
    except (FileNotFoundError, DigestMismatch):
        data = b""
    if sha512_hex(data) == digest:
        copy.unlisted(name, data)
    else:
        copy.damaged.append(name)


def _restore_version(copy: _Copy, home: str, number: int) -> None:
    try:
        inventory = parsed(durable.read_regular(copy.source / home / f"v{number}" / NAME))
    except ValueError as error:
        raise _damaged(f"{home}/v{number}/{NAME}") from error
    for digest, contents in inventory.manifest.items():
        for content in contents:
            if content.startswith(f"v{number}/"):
                data = _read(copy.source, f"{home}/{content}")
                if sha512_hex(data) != digest:
                    raise _damaged(f"{home}/{content}")
                copy.unlisted(f"{home}/{content}", data)


def _copy_derivatives(copy: _Copy) -> None:
    """Bring the derivatives that are whole; those that went from the source go from the target."""
    ours, theirs = FilesystemDerivatives(copy.source), FilesystemDerivatives(copy.target)
    names = set(ours.names())
    for name in set(theirs.names()) - names:
        theirs.delete(name)
    for name in names:
        place = derivative_place(name)
        if _tail(copy.source / place) != _tail(copy.target / place) and ours.get(name) is not None:
            copy.unlisted(place, durable.read_regular(copy.source / place))


def _tail(path: Path) -> tuple[int, bytes]:
    """Length and last 32 bytes, which are the digest of the rest."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - 32, 0))
            return size, file.read()
    except FileNotFoundError:
        return -1, b""


def _forget(copy: _Copy, living: set[str], destroyed: set[str]) -> tuple[str, ...]:
    """Destroy the copies of destroyed keys; ids of those that are gone without a word, which the copy keeps and
    lists.
    """
    unexplained = []
    for path in sorted((copy.target / "wrapped").glob("*/*.age")):
        key_id = path.name.removesuffix(".age")
        if key_id in destroyed:
            forget(path)
        elif key_id not in living:
            copy.data(wrapped_place(key_id), durable.read_regular(path))
            unexplained.append(key_id)
    return tuple(unexplained)


def _manifest(target: Path) -> dict[str, object]:
    try:
        value = json.loads(durable.read_regular(target / _MANIFEST))
        newer = value["format"] > BACKUP_FORMAT
    except FileNotFoundError as error:
        raise NotReady(
            "ここには完了した控えがありません。保存先を確かめるか、別の控えを使ってください。",
            "There is no finished backup here. Check the target, or use another backup.",
            code="backup.missing",
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(_MANIFEST) from error
    if newer:
        raise NotReady(
            "この控えは、より新しい daicho で作られています。daicho を更新してください。",
            "This backup was made by a later daicho. Update daicho.",
            code="backup.newer",
        )
    return dict(value)


def _sums(path: Path, prefix: str) -> Iterator[tuple[str, str]]:
    """(SHA-256, name) of every line, `store.json` last; a name that could leave the folder is damage."""
    *lines, count, end = ["", *_read(path.parent, path.name).decode("utf-8", "replace").split("\n")]
    if end or count != f"# {len(lines) - 1} files":  # a list cut short would restore less in silence
        raise _damaged(path.name)
    matches = [_LINE.fullmatch(line) for line in lines[1:]]
    if not all(match and match[2].startswith(prefix) for match in matches):
        raise _damaged(path.name)
    listed = [(match[1], match[2].removeprefix(prefix)) for match in matches if match]
    yield from sorted(listed, key=lambda line: line[1] == "store.json")


def _read(folder: Path, name: str) -> bytes:
    try:
        return durable.read_regular(folder / name)
    except (FileNotFoundError, DigestMismatch) as error:
        raise _damaged(name) from error


def _from_disk(path: Path) -> bytes:
    """The bytes of a synced file, from the disk where the system lets us drop what it remembers."""
    if hasattr(os, "posix_fadvise"):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOSYS):
                raise
        finally:
            os.close(fd)
    return durable.read_regular(path)


def _put(path: Path, data: bytes) -> None:
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    durable.write_new(part, data, 0o600)
    durable.replace(part, path)


def _damaged(name: str) -> DigestMismatch:
    return DigestMismatch(
        f"控えのファイル {name} が壊れているか、ありません。別の控えを使ってください。",
        f"The file {name} of the backup is damaged or missing. Use another backup.",
        code="backup.damaged",
    )
