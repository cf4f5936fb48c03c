"""Content keys as files, each wrapped under one master key, apart from the objects they open.

    store.json          format number, the id of the store these keys belong to, the public half of the master key
    master.key          the master key, an age identity file; whoever has it and the folder reads everything
    probe.age           the bytes of store.json under the master key: tells at once whether the three belong together
    wrapped/ab/ID.age   a content key with the store and the id it belongs to, encrypted to the master key
    lock                locked shared by who makes or destroys a key, exclusively by a step of a rotation

A standard `age` opens content without daicho: `age -d -i master.key wrapped/ab/ID.age > k`, then `age -d -i k FILE`.
Never in the catalogue, never on storage that cannot forget; backups of this folder have their own short rotation.

A rotation gives the folder a new master key while others use it. Whatever files a kill leaves, the folder opens:

    1. master.next      the new one, whole and synced before it has this name; from now on new keys are wrapped under it
    2. every key        wrapped anew, by replacing its file; the old file is overwritten
    3. store.json, probe.age, then master.key becomes master.old and master.next becomes master.key
    4. master.old       overwritten and removed
"""

from __future__ import annotations

import errno
import fcntl
import functools
import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from core.errors import BadInput, Conflict, DaichoError, DigestMismatch, KeysMissing, NotReady
from storage import durable
from storage.canonical import canonical
from storage.cipher import decrypt, encrypt, new_identity, recipient_of
from storage.port import Finding, Key, Rotated

KEYS_FORMAT = 2

MASTERS = ("master.next", "master.key", "master.old")
"""Files of master keys, newest first; outside of a rotation there is `master.key` alone."""

FOLDER_FILES = (*MASTERS, "probe.age", "store.json")
"""What a copy of a key folder needs beside the wrapped keys, as far as it is there."""

_KEY_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")
_WRAPPED = re.compile(r"([a-z0-9][a-z0-9._-]{0,127})\.age")
_FIRST_PROBE = b"daicho\n"
_GROUP = 500
"""Keys wrapped anew while others wait to make or destroy one: a second or so."""
_PAUSE = 0.002
"""Seconds between two groups of a rotation, in which whoever waits for the lock gets it."""


def create_keys(folder: Path, store_id: str) -> None:
    """Make an empty key folder with a fresh master key for the store `store_id`; durable on return.

    `Conflict` (code `keys.exist`) when there is one. `store.json` comes last: a folder cut short is not taken for a
    key folder, and its master key, which has wrapped nothing, is replaced.
    """
    if (folder / "store.json").exists():
        raise Conflict(
            "ここにはすでに鍵フォルダーがあります。別のフォルダーを指定してください。",
            "There is a key folder here already. Give another folder.",
            code="keys.exist",
        )
    with durable.writing():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        secret, recipient = new_identity()
        for name in ("wrapped", "scratch"):
            (folder / name).mkdir(exist_ok=True, mode=0o700)
        described = _description(store_id, recipient)
        for name, data in (
            ("master.key", _identity_file(secret)),
            ("probe.age", encrypt(described, recipient)),
            ("store.json", described),
        ):
            (folder / name).unlink(missing_ok=True)
            durable.write_new(folder / name, data, 0o600)
        durable.flush_folder(folder.parent)


@dataclass(frozen=True)
class _State:
    """What the files of a key folder said at one moment.

    `stamp`: which files these were. `masters`: what opens its keys, first the one under which keys are wrapped; more than
    one while a rotation is unfinished. `recipient`: the first one's public half. `bound`: no wrapped key is believed that does not name what it belongs to.
    """

    stamp: tuple[object, ...]
    store: str
    bound: bool
    recipient: str
    masters: tuple[str, ...] = field(repr=False)


class FilesystemKeys:
    """`KeyStore` as files.

    Destroying a key overwrites its file, removes the name and syncs both. On an SSD, a journaling or copying
    filesystem, or where snapshots are kept, the old blocks may survive until they are used again: there the
    certificate of destruction rests on the master key staying secret, or on the folder lying on an encrypted volume.

    Args:
        folder: made by `create_keys`.
        store_id: the id of the store to be opened.

    Raises:
        KeysMissing: code `keys.missing` (no folder, no master key), `keys.foreign` (of another store), `keys.wrong` (the
            master key is whole, and not the one of this folder).
        DigestMismatch: (`keys.damaged`) the file that it names is not what was written.
        NotReady: (`keys.newer`) made by a later daicho.
    """

    def __init__(self, folder: Path, store_id: str) -> None:
        self._folder = folder
        self._wrapped = folder / "wrapped"
        self._scratch = folder / "scratch"
        self._state = _load(folder)
        if self._state.store != store_id:
            raise KeysMissing(
                "この鍵フォルダーは別の保管庫のものです。正しいフォルダーを指定してください。",
                "This key folder belongs to another store. Give the right folder.",
                code="keys.foreign",
            )
        if not self._wrapped.is_dir():
            raise _no_keys()
        self._unwrapped = functools.lru_cache(maxsize=4096)(self._unwrap)

    def create(self, key_ids: Sequence[str]) -> list[Key]:
        wanted = list(dict.fromkeys(key_ids))
        for key_id in wanted:
            if not _KEY_ID.fullmatch(key_id):
                raise BadInput(
                    "鍵の番号に使えない文字があります。呼び出し側の値を直してください。",
                    "The id of a key has characters it may not have. Correct what the caller gives.",
                    code="keys.bad_id",
                )
        temporary: list[tuple[Path, Path]] = []
        with durable.writing(), still(self._folder), durable.Group(self._wrapped, len(wanted)) as group:
            self._renew(durably=True)
            try:
                for key_id in wanted:
                    path = self._path(key_id)
                    if self._living(path):
                        group.touched(path.parent)  # whoever named it may not have synced it yet
                        continue
                    secret, _ = new_identity()
                    place = self._scratch / secrets.token_hex(8)
                    group.mkdir(path.parent)
                    temporary.append((place, path))
                    group.write(place, self._box(key_id, secret), 0o600)
                group.sync()
                for place, path in temporary:
                    durable.move_file(place, path)  # False: another writer was first, and its key is the one
                    group.touched(path.parent)
                group.sync()
            finally:
                for place, _ in temporary:
                    place.unlink(missing_ok=True)
        made = {key_id: self.get(key_id) for key_id in wanted}
        return [made[key_id] for key_id in key_ids]

    def get(self, key_id: str) -> Key:
        if not _KEY_ID.fullmatch(key_id):
            raise _gone()
        while True:
            # Every time: another process may have destroyed the key that this one remembers.
            seen = self._seen(key_id)
            try:
                return self._unwrapped(key_id, *seen)
            except (DigestMismatch, KeysMissing):
                # Wrapped under a master key that came since we looked, or wrapped anew while we read; else it is true.
                if not self._renew() and self._seen(key_id) == seen:
                    raise

    def destroy(self, key_id: str) -> None:
        self._unwrapped.cache_clear()
        path = self._path(key_id)
        if not _KEY_ID.fullmatch(key_id) or not path.parent.exists():
            return
        with durable.writing(), still(self._folder):
            if self._anew(key_id).exists():  # what a rotation that was killed has left
                forget(self._anew(key_id))
            forget(path)

    def rotate(
        self,
        before_end: Callable[[str, int], None],
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Rotated:
        """Give the folder a new master key and destroy the old one; go on with a rotation that was broken off.

        Others may read, make and destroy keys meanwhile. Keys that were not bound to their ids yet are bound.

        Args:
            before_end: called when all keys lie under the new master key and the old one is about to be destroyed, with
                the public half of the new one and the number of keys. What it raises leaves both in place.
            progress: called with the keys looked at so far, and their number.

        Raises:
            StorageFull and others of `durable.writing`: the folder opens as before; the same call goes on.
        """
        with durable.writing(), _locked(self._folder, fcntl.LOCK_EX):
            self._renew(durably=True)
            if not any((self._folder / name).exists() for name in ("master.next", "master.old")):
                self._put("master.next", _identity_file(new_identity()[0]))
                self._renew(durably=True)
            recipient = self._state.recipient
        ids, wrapped, findings = list(self.ids()), 0, []
        for start in range(0, len(ids), _GROUP):
            with durable.writing(), _locked(self._folder, fcntl.LOCK_EX):
                count, wrong = self._wrap_anew(ids[start : start + _GROUP])
            wrapped += count
            findings += wrong
            progress(min(start + _GROUP, len(ids)), len(ids))
            time.sleep(_PAUSE)
        if not findings:
            before_end(recipient, len(ids))
            with durable.writing(), _locked(self._folder, fcntl.LOCK_EX):
                self._renew(durably=True)
                if self._state.recipient == recipient:  # else somebody else has ended it, and begun the next
                    self._end_rotation()
                    self._renew()
        return Rotated(len(ids), wrapped, tuple(findings))

    def heal(self) -> int:
        """Remove what killed writers left in scratch; how many files. For start-up, while nobody else writes.

        A file with a second name is not overwritten, since that name may be a living key's.
        """
        left = list(self._scratch.iterdir())
        with durable.writing():
            for path in left:
                if path.stat().st_nlink == 1:
                    forget(path)
                else:
                    path.unlink()
        return len(left)

    def ids(self) -> Iterator[str]:
        yield from sorted(match[1] for path in self._files() if (match := _WRAPPED.fullmatch(path.name)))

    def check(self) -> list[Finding]:
        """As `KeyStore.check`; also the folder's own files, what lies where no key can, and a rotation that has not ended."""
        findings = []
        for name in ("master.next", "master.old"):
            if (self._folder / name).exists():
                detail = (
                    "the old master key is still there: a rotation is at work, or was broken off and is to be run again"
                )
                findings.append(Finding("", name, "rotation_unfinished", detail))
        try:
            _load(self._folder)
        except DaichoError as error:
            place = getattr(error, "__notes__", [""])[0]
            findings.append(Finding("", place, error.code, error.en))
        for path in sorted(self._files()):
            place = f"wrapped/{path.parent.name}/{path.name}"
            match = _WRAPPED.fullmatch(path.name)
            if match is None or wrapped_place(match[1]) != place:
                findings.append(Finding("", place, "stray", "no key can lie here"))
                continue
            try:
                self.get(match[1])
            except DigestMismatch as error:
                findings.append(_unopened(match[1], error))
            except KeysMissing:
                if path.exists():
                    detail = "the key was being destroyed when the power went: destroy it again"
                    findings.append(Finding(match[1], place, "half_destroyed", detail))
        return findings

    def _path(self, key_id: str) -> Path:
        return self._folder / wrapped_place(key_id)

    def _anew(self, key_id: str) -> Path:
        """Where a rotation writes a key; named by its id, so that `destroy` finds what a kill left there."""
        return self._scratch / f"{key_id}.age"

    def _files(self) -> Iterator[Path]:
        for folder in self._wrapped.iterdir():
            if folder.is_dir():
                yield from folder.iterdir()

    def _living(self, path: Path) -> bool:
        """Whether a key lies at `path`; the overwritten shell of a destroyed one is removed."""
        try:
            data = durable.read_regular(path)
        except FileNotFoundError:
            return False
        if _shell(data):
            path.unlink()
        return not _shell(data)

    def _box(self, key_id: str, secret: str) -> bytes:
        bound = f"{_binding(self._state.store, key_id)}\n{secret}\n"
        return encrypt(bound.encode(), self._state.recipient)

    def _seen(self, key_id: str) -> tuple[int, int]:
        """Which file has the name of the key now."""
        try:
            status = os.stat(f"{self._folder}/{wrapped_place(key_id)}")  # noqa: PTH116  # a path takes longer to make
        except FileNotFoundError as error:
            raise _gone() from error
        return status.st_ino, status.st_ctime_ns

    def _unwrap(self, key_id: str, inode: int, changed: int) -> Key:
        """`inode` and `changed` (of the file) only make a key made anew under an old id another entry of the cache."""
        try:
            data = durable.read_regular(f"{self._folder}/{wrapped_place(key_id)}")
        except FileNotFoundError as error:
            raise _gone() from error
        return self._opened(key_id, data, self._state.masters)

    def _opened(self, key_id: str, data: bytes, masters: Sequence[str]) -> Key:
        """The key in the bytes of a wrapped one, opened by one of `masters`."""
        if _shell(data):
            raise _gone()
        for master in masters:
            try:
                *binding, secret = decrypt(data, master).decode("ascii").splitlines()
                key = Key(key_id, secret, recipient_of(secret))
            except KeysMissing:
                continue  # not this one; or damaged where the file names its master key
            except (DigestMismatch, ValueError) as error:
                raise _damaged(wrapped_place(key_id)) from error
            if binding != [_binding(self._state.store, key_id)] and (binding or self._state.bound):
                raise DigestMismatch(
                    f"鍵のファイル {wrapped_place(key_id)} には、別のものの鍵が入っています。鍵の控えから復元してください。",
                    f"The file {wrapped_place(key_id)} holds the key of something else. Restore it from the backup of the keys.",
                    code="keys.misplaced",
                )
            return key
        raise _damaged(wrapped_place(key_id))

    def _renew(self, *, durably: bool = False) -> bool:
        """Read the folder's own files again where they have changed; whether they had.

        `durably`: what is about to be written rests on them, so they must not be lost before it.
        """
        if _stamp(self._folder) == self._state.stamp:
            return False
        self._state = _load(self._folder)
        if durably:
            durable.flush_folder(self._folder)
        return True

    def _put(self, name: str, data: bytes) -> None:
        """Write `name` in the folder, or replace it; durable on return."""
        place = self._scratch / secrets.token_hex(8)
        try:
            durable.write_new(place, data, 0o600)
            durable.replace(place, self._folder / name)
        finally:
            place.unlink(missing_ok=True)

    def _wrap_anew(self, key_ids: Sequence[str]) -> tuple[int, list[Finding]]:
        """Wrap those of these keys that are not yet under the new master key; how many, and what cannot be opened.

        The old files are overwritten when the new ones have their names for good: who has the old master key finds
        nothing to open with it on this disk.
        """
        self._renew(durably=True)
        temporary: list[tuple[Path, Path]] = []
        findings = []
        old: list[int] = []
        with durable.Group(self._wrapped, len(key_ids)) as group:
            try:
                for key_id in key_ids:
                    path, place = self._path(key_id), self._anew(key_id)
                    try:
                        data = durable.read_regular(path)
                        key = self._opened(key_id, data, self._state.masters)
                    except (FileNotFoundError, KeysMissing):
                        continue  # destroyed since it was listed
                    except DigestMismatch as error:
                        findings.append(_unopened(key_id, error))
                        continue
                    if place.exists():
                        forget(place)
                    if _opens(data, self._state.masters[0]):
                        continue
                    temporary.append((place, path))
                    group.write(place, self._box(key_id, key.secret), 0o600)
                if not temporary:
                    return 0, findings
                group.sync()
                for place, path in temporary:
                    old.append(os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC))
                    place.replace(path)
                    group.touched(path.parent)
                group.sync()
                for handle in old:
                    durable.write_all(handle, bytes(os.fstat(handle).st_size))
                    group.written(handle)
                group.sync()
            finally:
                for handle in old:
                    os.close(handle)
                for place, _ in temporary:
                    place.unlink(missing_ok=True)
        return len(temporary), findings

    def _end_rotation(self) -> None:
        """Let the new master key be the only one. Nothing but the names of files has to be told apart after a kill."""
        key, coming, old = (self._folder / name for name in ("master.key", "master.next", "master.old"))
        if coming.exists():
            described = _description(self._state.store, self._state.recipient)
            self._put("store.json", described)
            self._put("probe.age", encrypt(described, self._state.recipient))
            if key.exists():
                durable.replace(key, old)
            durable.replace(coming, key)
        forget(old)


@contextmanager
def still(folder: Path) -> Iterator[None]:
    """No step of a rotation happens meanwhile: for making and destroying keys, and for copying the key folder."""
    with _locked(folder, fcntl.LOCK_SH):
        yield


@contextmanager
def _locked(folder: Path, how: int) -> Iterator[None]:
    try:
        handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        yield  # what nobody can write, nobody rotates
        return
    try:
        fcntl.flock(handle, how)
        yield
    finally:
        os.close(handle)


def wrapped_place(key_id: str) -> str:
    """Path of a wrapped key within its key folder."""
    return f"wrapped/{hashlib.sha256(key_id.encode()).hexdigest()[:2]}/{key_id}.age"


def forget(path: Path) -> None:
    """Overwrite the file `path` and remove it, durable on return; absent is fine. See `FilesystemKeys` for what no
    program can promise.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        pass
    else:
        try:
            durable.write_all(fd, bytes(os.fstat(fd).st_size))
            durable.flush(fd)
        finally:
            os.close(fd)
        path.unlink(missing_ok=True)
    durable.flush_folder(path.parent)


def store_of_keys(folder: Path) -> str:
    """The id of the store that a key folder belongs to; `KeysMissing` (`keys.missing`) where there is none."""
    try:
        return str(json.loads(durable.read_regular(folder / "store.json"))["store"])
    except FileNotFoundError as error:
        raise _no_keys() from error
    except (ValueError, KeyError, TypeError, DigestMismatch) as error:
        raise _damaged("store.json") from error


def _load(folder: Path) -> _State:
    """What the folder's own files say. A rotation that ends meanwhile is waited for: only files of one moment count."""
    while True:
        stamp = _stamp(folder)
        try:
            return _read(folder, stamp)
        except DaichoError:
            if _stamp(folder) == stamp:
                raise


def _stamp(folder: Path) -> tuple[object, ...]:
    found: list[object] = []
    for name in FOLDER_FILES:
        try:
            status = (folder / name).stat()
            found.append((status.st_ino, status.st_size, status.st_ctime_ns))
        except OSError:
            found.append(None)
    return tuple(found)


def _read(folder: Path, stamp: tuple[object, ...]) -> _State:
    """The state, when the files belong together; else the error of the one that does not fit the others.

    One fault is told for what it is: `store.json` and the master key name each other, and the probe holds the first and is
    opened by the second.
    """
    masters: dict[str, str] = {}
    for name in MASTERS:
        try:
            masters[name] = _identity(folder, name)
        except FileNotFoundError:
            continue
        except DigestMismatch:
            if name != "master.old":  # that one is needed for nothing any more
                raise
    if "master.key" not in masters and len(masters) < 2:
        raise _no_keys()
    told, probe = _bytes(folder, "store.json"), _bytes(folder, "probe.age")
    described = _parsed(told)
    recipients = [recipient_of(master) for master in masters.values()]
    opened = _probed(probe, masters.values())
    if opened is None:
        if described is None:
            raise _damaged("store.json")
        if described[2] in recipients:
            raise _damaged("probe.age")
        raise _wrong()
    if described is None:
        raise _damaged("store.json")
    if described[0] > KEYS_FORMAT and opened == told:
        raise NotReady(
            "この鍵フォルダーは、より新しい daicho で作られています。daicho を更新してください。",
            "This key folder was made by a later daicho. Update daicho.",
            code="keys.newer",
        )
    # Nobody can change the probe without its master key, so it is believed rather than store.json.
    store = (_parsed(opened) or described)[1]
    right = {_description(store, recipient): _description(store, recipient) for recipient in recipients}
    right[_first_description(store)] = _FIRST_PROBE
    if opened not in right.values():
        raise _damaged("probe.age")
    if told not in right or (len(masters) == 1 and opened != right[told]):
        raise _damaged("store.json")
    return _State(stamp, store, told != _first_description(store), recipients[0], tuple(masters.values()))


def _bytes(folder: Path, name: str) -> bytes:
    try:
        return durable.read_regular(folder / name)
    except FileNotFoundError as error:
        raise _no_keys() from error
    except DigestMismatch as error:
        raise _damaged(name) from error


def _identity(folder: Path, name: str) -> str:
    """The secret in a file of a master key: as we write it, or typed from paper, the line of the secret alone.

    `FileNotFoundError` where there is none. Its own checksum tells a damaged one from another one.
    """
    try:
        data = durable.read_regular(folder / name)
        secret = data.decode("ascii").strip().splitlines()[-1]
        if data in (_identity_file(secret), *(f"{secret}{end}".encode() for end in ("", "\n", "\r\n"))):
            return secret
    except (UnicodeDecodeError, IndexError, KeysMissing, DigestMismatch) as error:
        raise _damaged(name) from error
    raise _damaged(name)


def _probed(probe: bytes, masters: Iterable[str]) -> bytes | None:
    """What the probe holds, None when no master key opens it."""
    for master in masters:
        try:
            return decrypt(probe, master)
        except KeysMissing:
            continue
        except DigestMismatch as error:
            raise _damaged("probe.age") from error
    return None


def _opens(data: bytes, master: str) -> bool:
    try:
        decrypt(data, master)
    except KeysMissing:
        return False
    return True


def _unopened(key_id: str, error: DigestMismatch) -> Finding:
    code = "misplaced" if error.code == "keys.misplaced" else "damaged"
    return Finding(key_id, wrapped_place(key_id), code, error.en)


def _shell(data: bytes) -> bool:
    """Whether this is what `forget` leaves when the power goes before the name does. An empty file is damage."""
    return bool(data) and not any(data)


def _identity_file(secret: str) -> bytes:
    return f"# public key: {recipient_of(secret)}\n{secret}\n".encode()


def _binding(store_id: str, key_id: str) -> str:
    """The line of a wrapped key that says whose it is; a comment to a standard `age`."""
    return f"# daicho {store_id} {key_id}"


def _description(store_id: str, recipient: str) -> bytes:
    return canonical({"format": KEYS_FORMAT, "master": recipient, "store": store_id}) + b"\n"


def _first_description(store_id: str) -> bytes:
    """What `store.json` held in format 1, whose keys are not bound; a rotation makes format 2 of it."""
    return canonical({"format": 1, "store": store_id}) + b"\n"


def _parsed(described: bytes) -> tuple[int, str, str] | None:
    """(format, store, public half of the master key or "") of a `store.json`; None when it says no such thing."""
    try:
        value = json.loads(described)
        number, store, master = value["format"], value["store"], value.get("master", "")
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if not isinstance(number, int) or not isinstance(store, str) or not isinstance(master, str):
        return None
    return number, store, master


def _no_keys() -> KeysMissing:
    return KeysMissing(
        "鍵フォルダーかマスター鍵がありません。鍵フォルダーを指定するか、鍵の控えから復元してください。",
        "The key folder or its master key is missing. Give the key folder, or restore it from the backup of the keys.",
        code="keys.missing",
    )


def _wrong() -> KeysMissing:
    return KeysMissing(
        "マスター鍵がこの鍵フォルダーのものではありません。鍵の控えから復元してください。",
        "The master key is not the one of this key folder. Restore it from the backup of the keys.",
        code="keys.wrong",
    )


def _gone() -> KeysMissing:
    return KeysMissing(
        "この内容の鍵は廃棄されたか、作られていません。内容は読めません。",
        "The key of this content was destroyed or never made. The content cannot be read.",
        code="keys.gone",
    )


def _damaged(place: str) -> DigestMismatch:
    error = DigestMismatch(
        f"鍵フォルダーの {place} が壊れているか、この鍵フォルダーのものではありません。鍵の控えから復元してください。",
        f"The file {place} of the key folder is damaged, or not of this key folder. Restore it from the backup of the keys.",
        code="keys.damaged",
    )
    error.add_note(place)
    return error
