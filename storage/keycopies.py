"""Copies of a key folder on other media, dated, each gone after so many days: as long as one of them has a key, the key is not destroyed.

    TARGET/keys-20260401T000000000000Z/         the key folder as it was then, a generation
    TARGET/keys-20260401T000000000000Z.sums     `sha256sum -c` reads it; written last: without it the copy was cut short

A file that has not changed is a second name (hard link) of the one in the generation before, where the filesystem has these. So a file that
leaves with its generation is overwritten when that was its last name.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from core.errors import Conflict, DigestMismatch, NotReady
from storage import durable
from storage.canonical import sha256_hex
from storage.keys import forget, still, store_of_keys

_NAME = re.compile(r"keys-(\d{8}T\d{12}Z)")
_FORM = "%Y%m%dT%H%M%S%fZ"
_LINE = re.compile(r"([0-9a-f]{64})  ([a-z0-9A-Z.-]+/[A-Za-z0-9%=_-][A-Za-z0-9/%=._-]*)")
_KEY = re.compile(r"wrapped/[0-9a-f]{2}/(.+)\.age")
_FIRST_FORM = "keys"
_BATCH = 1000  # files between two syncs


@dataclass(frozen=True)
class KeyCopy:
    """A generation that was made: its `name`, how many `keys`, of which `copied` files were written anew.

    `gone`: ids of keys that the generation before has and this one has not: destroyed, or lost. `expired`: generations destroyed now.
    `until`: when this generation may go; a key destroyed now is gone from this target after the first run behind that moment.
    """

    name: str
    keys: int
    copied: int
    gone: tuple[str, ...]
    expired: int
    until: datetime


@dataclass(frozen=True)
class Generation:
    """A generation of copies: `made` when; `sums` None where it was cut short."""

    folder: Path
    made: datetime
    sums: Path | None


def generations(target: Path) -> list[Generation]:
    """Those in `target`, oldest first; also the one copy that daicho 0.1 made there."""
    found = []
    for folder in sorted(target.glob("keys*")) if target.is_dir() else []:
        match = _NAME.fullmatch(folder.name)
        if not folder.is_dir() or not (match or folder.name == _FIRST_FORM):
            continue
        sums = target / (f"{folder.name}.sums" if match else "SHA256SUMS.keys")
        stat = (sums if sums.is_file() else folder).stat()
        made = datetime.strptime(match[1], _FORM).replace(tzinfo=UTC) if match else _moment(stat.st_mtime)
        found.append(Generation(folder, made, sums if sums.is_file() else None))
    return sorted(found, key=lambda each: each.made)


def copy_keys(keys: Path, target: Path, now: datetime, days: int, *, full: bool = False) -> KeyCopy:
    """Make a generation of the key folder `keys` in `target`, then destroy those older than `days`; durable on return.

    The newest whole generation always stays. What lies in the generation before with the same length and time is not read again, unless
    `full`: then it is compared.

    Raises:
        Conflict: (`backup.foreign`) the target holds keys of another store.
        DigestMismatch: (`backup.unverified`) what was written reads back as something else.
    """
    store = store_of_keys(keys)
    whole = [each for each in generations(target) if each.sums]
    if any(store_of_keys(each.folder) != store for each in whole):
        raise foreign()
    before = whole[-1] if whole else None
    with durable.writing(), still(keys):
        target.mkdir(parents=True, exist_ok=True)
        durable.flush_folder(target.parent)
        made = _Making(keys, target / f"keys-{now.astimezone(UTC).strftime(_FORM)}", before, full)
        with still(keys):
            made.run()
        expired = _expire(target, now, days, keep=made.folder)
    gone = tuple(sorted(made.before - made.ids))
    until = max(each.made for each in generations(target)) + timedelta(days=days)
    return KeyCopy(made.folder.name, len(made.ids), made.written, gone, expired, until)


def restore_keys(target: Path, keys: Path) -> str:
    """Bring the newest whole generation back into the empty folder `keys`; durable on return. Its name.

    Raises:
        NotReady: (`backup.no_keys`) there is none here.
        DigestMismatch: (`backup.damaged`) a file of it is damaged or missing.
    """
    whole = [each for each in generations(target) if each.sums]
    if not whole:
        raise NotReady(
            "ここには鍵の控えがありません。鍵を別に控えたときは、その場所を --keys-source で指定してください。",
            "There is no copy of the keys here. Where they were copied apart, name the place with --keys-source.",
            code="backup.no_keys",
        )
    newest = whole[-1]
    with durable.writing():
        for folder in (keys, keys / "wrapped", keys / "scratch"):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        keys.chmod(0o700)
        listed = sorted(
            _listed(newest).items(), key=lambda each: each[0] == "store.json"
        )  # last: until then it is no key folder
        with durable.Group(keys, len(listed)) as group:
            for name, digest in listed:
                if name == "store.json":
                    group.sync()
                (keys / name).unlink(missing_ok=True)  # of an attempt that was broken off
                data = _read(newest.folder / name)
                if data is None or sha256_hex(data) != digest:
                    raise _damaged(name)
                group.mkdir((keys / name).parent)
                group.write(keys / name, data, 0o600)
            group.sync()
        durable.flush_folder(keys.parent)
    return newest.folder.name


class _Making:
    """One generation being made."""

    def __init__(self, keys: Path, folder: Path, before: Generation | None, full: bool) -> None:
        self.keys = keys
        self.folder = folder
        self.ids: set[str] = set()
        self.written = 0
        self._before = before
        self._known = _listed(before) if before else {}
        self.before = {match[1] for name in self._known if (match := _KEY.fullmatch(name))}
        self._full = full
        self._lines: dict[str, str] = {}
        self._new: list[tuple[Path, str]] = []

    def run(self) -> None:
        """Copy, prove, and then list what was copied, which makes the generation whole."""
        self.folder.mkdir(mode=0o700)
        with durable.Group(self.folder, 2) as group:
            for path in sorted(self.keys.iterdir()):
                if path.is_file() and path.name != "lock":
                    self._copied(group, path.name, path)
            for path in sorted(self.keys.glob("wrapped/*/*.age")):
                name = path.relative_to(self.keys).as_posix()
                if self._linked(group, name, path) or self._copied(group, name, path):
                    self.ids.add(path.name.removesuffix(".age"))
            self._prove(group)
            group.touched(self.folder.parent)
            group.sync()
        lines = [f"{digest}  {self.folder.name}/{name}" for name, digest in sorted(self._lines.items())]
        data = "\n".join([*lines, f"# {len(lines)} files", ""]).encode()
        part = self.folder.with_name(f"{self.folder.name}.part")
        durable.write_new(part, data, 0o600)
        durable.replace(part, self.folder.with_name(f"{self.folder.name}.sums"))

    def _linked(self, group: durable.Group, name: str, path: Path) -> bool:
        """Give the file of the generation before a second name, where it is the same."""
        digest = self._known.get(name)
        if self._before is None or digest is None:
            return False
        old, place = self._before.folder / name, self.folder / name
        try:
            ours, theirs = path.stat(), old.stat()
            if (ours.st_size, ours.st_mtime_ns) != (theirs.st_size, theirs.st_mtime_ns):
                return False
            if self._full and not sha256_hex(durable.read_regular(path)) == digest == sha256_hex(
                durable.read_regular(old)
            ):
                return False
            group.mkdir(place.parent)
            os.link(old, place)
        except (OSError, DigestMismatch):  # lost, or there are no links here: copied anew
            return False
        group.touched(place.parent)
        self._lines[name] = digest
        return True

    def _copied(self, group: durable.Group, name: str, path: Path) -> bool:
        try:
            moment, data = path.stat().st_mtime_ns, durable.read_regular(path)
        except FileNotFoundError:
            return False  # destroyed since it was listed
        self._write(group, name, data)
        os.utime(self.folder / name, ns=(moment, moment))
        return True

    def _write(self, group: durable.Group, name: str, data: bytes) -> None:
        place = self.folder / name
        group.mkdir(place.parent)
        group.write(place, data, 0o600)
        self._lines[name] = sha256_hex(data)
        self._new.append((place, self._lines[name]))
        self.written += 1
        if len(self._new) >= _BATCH:
            self._prove(group)

    def _prove(self, group: durable.Group) -> None:
        """Make what was written durable and read it back from the disk."""
        group.sync()
        for place, digest in self._new:
            with durable.reading(), durable.open_regular(place) as file:
                durable.uncached(file.fileno())
                there = file.readall()
            if sha256_hex(there) != digest:
                raise DigestMismatch(
                    "鍵の控えを読み返すと内容が違います。保存先のディスクを取り替えてください。",
                    "A copy of the keys read back differs from what was written. Replace the disk of the target.",
                    code="backup.unverified",
                )
        self._new.clear()


def _expire(target: Path, now: datetime, days: int, keep: Path) -> int:
    """Destroy the generations made `days` ago or earlier, whole or not."""
    expired = 0
    for each in generations(target):
        if each.folder != keep and each.made + timedelta(days=days) <= now:
            if each.sums:
                each.sums.unlink()
            destroy(each.folder)
            expired += 1
    return expired


def destroy(folder: Path) -> None:
    """Remove a folder of keys; a file whose last name goes is overwritten first."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        elif path.lstat().st_nlink > 1 or path.is_symlink():
            path.unlink()  # another generation still has the file
        else:
            forget(path)
    folder.rmdir()
    durable.flush_folder(folder.parent)


def _listed(generation: Generation) -> dict[str, str]:
    """Name within the folder -> SHA-256 of every file of a whole generation; a name that could leave it is damage."""
    if generation.sums is None:
        return {}
    lines = durable.read_regular(generation.sums).decode("utf-8", "replace").split("\n")
    count, end = lines[-2:] if len(lines) > 1 else ("", "-")
    matches = [_LINE.fullmatch(line) for line in lines[:-2]]
    # A list cut short would restore less in silence; a name that leaves the folder would restore elsewhere.
    if (
        end
        or count != f"# {len(matches)} files"
        or not all(
            match and match[2].startswith(f"{generation.folder.name}/") and ".." not in match[2] for match in matches
        )
    ):
        raise _damaged(generation.sums.name)
    return {match[2].partition("/")[2]: match[1] for match in matches if match}


def _read(path: Path) -> bytes | None:
    with contextlib.suppress(FileNotFoundError, DigestMismatch):
        return durable.read_regular(path)
    return None


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def foreign() -> Conflict:
    """A copy of another store lies where one of this is to be made."""
    return Conflict(
        "この保存先には別の保管庫の控えがあります。別の保存先を指定してください。",
        "This target holds the backup of another store. Give another target.",
        code="backup.foreign",
    )


def _damaged(name: str) -> DigestMismatch:
    return DigestMismatch(
        f"控えのファイル {name} が壊れているか、ありません。別の控えを使ってください。",
        f"The file {name} of the backup is damaged or missing. Use another backup.",
        code="backup.damaged",
    )
