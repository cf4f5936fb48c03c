"""Content keys as files, each wrapped under one master key, apart from the objects they open.

    store.json          format number and the id of the store these keys belong to
    master.key          the master key, an age identity file; whoever has it and the folder reads everything
    probe.age           a few bytes under the master key: tells at once whether it is the right one
    wrapped/ab/ID.age   a content key, encrypted to the master key

A standard `age` opens content without daicho: `age -d -i master.key wrapped/ab/ID.age > k`, then `age -d -i k FILE`.
Never in the catalogue, never on storage that cannot forget; backups of this folder have their own short rotation.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

from core.errors import BadInput, Conflict, DigestMismatch, KeysMissing
from storage import durable
from storage.canonical import canonical
from storage.cipher import decrypt, encrypt, new_identity, recipient_of
from storage.port import Finding, Key

KEYS_FORMAT = 1

_KEY_ID = re.compile(r"[a-z0-9][a-z0-9.-]{0,127}")
_WRAPPED = re.compile(r"([a-z0-9][a-z0-9.-]{0,127})\.age")
_PREFIX = re.compile(r"[0-9a-f]{2}")
_PROBE = b"daicho\n"


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
        for name, data in (
            ("master.key", f"# public key: {recipient}\n{secret}\n".encode()),
            ("probe.age", encrypt(_PROBE, recipient)),
            ("store.json", canonical({"format": KEYS_FORMAT, "store": store_id}) + b"\n"),
        ):
            (folder / name).unlink(missing_ok=True)
            durable.write_new(folder / name, data, 0o600)
        durable.flush_folder(folder.parent)


class FilesystemKeys:
    """`KeyStore` as files.

    Destroying a key overwrites its file, removes the name and syncs both. On an SSD, a journaling or copying
    filesystem, or where snapshots are kept, the old blocks may survive until they are used again: there the
    certificate of destruction rests on the master key staying secret, or on the folder lying on an encrypted volume.

    Args:
        folder: made by `create_keys`.
        store_id: the id of the store to be opened.

    Raises `KeysMissing`: code `keys.missing` (no folder, no master key), `keys.foreign` (of another store),
    `keys.wrong` (the master key does not open this folder's keys).
    """

    def __init__(self, folder: Path, store_id: str) -> None:
        self._wrapped = folder / "wrapped"
        self._scratch = folder / "scratch"
        if store_of_keys(folder) != store_id:
            raise KeysMissing(
                "この鍵フォルダーは別の保管庫のものです。正しいフォルダーを指定してください。",
                "This key folder belongs to another store. Give the right folder.",
                code="keys.foreign",
            )
        self._master = _master(folder)
        self._recipient = recipient_of(self._master)
        try:
            right = decrypt(durable.read_regular(folder / "probe.age"), self._master) == _PROBE
        except FileNotFoundError as error:
            raise _no_keys() from error
        if not right:
            raise _wrong()
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
        with durable.writing(), durable.Group(self._wrapped, len(wanted)) as group:
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
                    group.write(place, encrypt(f"{secret}\n".encode(), self._recipient), 0o600)
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
        try:
            # Every time: another process may have destroyed the key that this one remembers.
            status = self._path(key_id).stat()
        except FileNotFoundError as error:
            raise _gone() from error
        return self._unwrapped(key_id, status.st_ino, status.st_ctime_ns)

    def destroy(self, key_id: str) -> None:
        self._unwrapped.cache_clear()
        path = self._path(key_id)
        if not _KEY_ID.fullmatch(key_id) or not path.parent.exists():
            return
        with durable.writing():
            forget(path)

    def heal(self) -> int:
        """Remove what killed writers left in scratch; how many files. For start-up, while nobody else writes.

        Never overwritten: such a file may be the second name of a living key, and a key that got no name has closed
        nothing.
        """
        left = list(self._scratch.iterdir())
        with durable.writing():
            for path in left:
                path.unlink()
        return len(left)

    def ids(self) -> Iterator[str]:
        found: list[str] = []
        for folder in sorted(self._wrapped.iterdir()):
            if _PREFIX.fullmatch(folder.name):
                found += [match[1] for path in folder.iterdir() if (match := _WRAPPED.fullmatch(path.name))]
        yield from sorted(found)

    def check(self) -> list[Finding]:
        findings = []
        for key_id in self.ids():
            try:
                self.get(key_id)
            except DigestMismatch:
                findings.append(Finding(key_id, wrapped_place(key_id), "damaged", "the wrapped key cannot be opened"))
            except KeysMissing:
                detail = "the key was being destroyed when the power went: destroy it again"
                findings.append(Finding(key_id, wrapped_place(key_id), "half_destroyed", detail))
        return findings

    def _path(self, key_id: str) -> Path:
        return self._wrapped.parent / wrapped_place(key_id)

    def _living(self, path: Path) -> bool:
        """Whether a key lies at `path`; the empty shell of a destroyed one is removed."""
        try:
            shell = not any(durable.read_regular(path))
        except FileNotFoundError:
            return False
        if shell:
            path.unlink()
        return not shell

    def _unwrap(self, key_id: str, inode: int, changed: int) -> Key:
        """`inode` and `changed` (of the file) only make a key made anew under an old id another entry of the cache."""
        try:
            data = durable.read_regular(self._path(key_id))
            if not any(data):
                raise _gone()
            secret = decrypt(data, self._master).decode("ascii").strip()
            return Key(key_id, secret, recipient_of(secret))
        except FileNotFoundError as error:
            raise _gone() from error
        except (DigestMismatch, UnicodeDecodeError) as error:
            raise _damaged() from error
        except KeysMissing as error:
            if error.code == "keys.gone":
                raise
            # The probe has shown that the master key is right: the header of this file is damaged.
            raise _damaged() from error


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
        raise _no_keys() from error


def _master(folder: Path) -> str:
    try:
        text = durable.read_regular(folder / "master.key").decode("ascii")
    except (FileNotFoundError, UnicodeDecodeError, DigestMismatch) as error:
        raise _no_keys() from error
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if len(lines) != 1:
        raise _no_keys()
    return lines[0]


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


def _damaged() -> DigestMismatch:
    return DigestMismatch(
        "鍵のファイルが壊れています。鍵の控えから復元してください。",
        "The file of a key is damaged. Restore it from the backup of the keys.",
        code="keys.damaged",
    )
