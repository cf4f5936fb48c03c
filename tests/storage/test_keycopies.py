"""Generations of keys: what they cost, what they bring back, and that a destroyed key is gone from them in time."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from core.errors import Conflict, DaichoError, DigestMismatch, NotReady
from storage import keycopies
from storage.filesystem import create_store
from storage.keycopies import copy_keys, generations, restore_keys
from storage.keys import FilesystemKeys, create_keys, wrapped_place

NOW = datetime(2026, 4, 1, 1, 30, tzinfo=UTC)
DAYS = 30


@pytest.fixture
def keys(key_folder: Path) -> FilesystemKeys:
    keys = FilesystemKeys(key_folder, "s-1")
    keys.create(["k-1", "k-2", "k-3"])
    return keys


@pytest.fixture
def usb(tmp_path: Path) -> Path:
    return tmp_path / "usb"


def copy(key_folder: Path, usb: Path, days: int, **options: Any) -> keycopies.KeyCopy:
    """A copy made so many days after the first."""
    return copy_keys(key_folder, usb, NOW + timedelta(days=days), DAYS, **options)


def test_what_is_brought_back_opens_everything(
    keys: FilesystemKeys, key_folder: Path, usb: Path, tmp_path: Path
) -> None:
    told = copy(key_folder, usb, 0)
    assert (told.keys, told.gone, told.expired, told.until) == (3, (), 0, NOW + timedelta(days=DAYS))
    subprocess.run(["sha256sum", "--quiet", "--strict", "-c", f"{told.name}.sums"], cwd=usb, check=True)
    assert restore_keys(usb, tmp_path / "back") == told.name
    back = FilesystemKeys(tmp_path / "back", "s-1")
    assert [back.get(name) for name in back.ids()] == [keys.get(name) for name in keys.ids()]
    assert (tmp_path / "back").stat().st_mode & 0o777 == 0o700


def test_what_has_not_changed_is_not_copied_again(keys: FilesystemKeys, key_folder: Path, usb: Path) -> None:
    first = copy(key_folder, usb, 0)
    keys.create(["k-4"])
    second = copy(key_folder, usb, 1)
    assert (second.keys, second.copied) == (4, first.copied - 3 + 1)
    one, two = (usb / each.name / wrapped_place("k-1") for each in (first, second))
    assert one.samefile(two)
    one.write_bytes(b"rot")  # of the same file under both names: found by who looks
    os.utime(one, ns=_times(key_folder / wrapped_place("k-1")))
    full = copy(key_folder, usb, 2, full=True)
    assert (usb / full.name / wrapped_place("k-1")).read_bytes() == (key_folder / wrapped_place("k-1")).read_bytes()


def _times(path: Path) -> tuple[int, int]:
    return path.stat().st_atime_ns, path.stat().st_mtime_ns


def test_a_destroyed_key_is_told_and_gone_after_the_days(keys: FilesystemKeys, key_folder: Path, usb: Path) -> None:
    secret = (key_folder / wrapped_place("k-1")).read_bytes()
    first = copy(key_folder, usb, 0)
    copy(key_folder, usb, 10)
    keys.destroy("k-1")
    assert copy(key_folder, usb, 11).gone == ("k-1",)
    assert copy(key_folder, usb, 12).gone == ()
    assert copy(key_folder, usb, 30).expired == 1 and not (usb / first.name).exists()
    assert _found(usb, secret), "the generation of day 10 still has it"
    last = copy(key_folder, usb, 40)
    assert last.expired == 1 and not _found(usb, secret)
    assert last.until == NOW + timedelta(days=40 + DAYS)


def _found(folder: Path, data: bytes) -> bool:
    return any(path.read_bytes() == data for path in folder.rglob("*") if path.is_file())


def test_the_last_name_of_a_key_is_overwritten(
    keys: FilesystemKeys, key_folder: Path, usb: Path, tmp_path: Path
) -> None:
    """Another name of ours for the same file shows what lies on the disk when the generation's own names are gone."""
    first = copy(key_folder, usb, 0)
    keys.destroy("k-1")
    copy(key_folder, usb, 1)
    kept = os.open(usb / first.name / wrapped_place("k-1"), os.O_RDONLY)
    living = os.open(usb / first.name / wrapped_place("k-2"), os.O_RDONLY)
    copy(key_folder, usb, 31)
    assert not any(os.read(kept, 10_000)), "overwritten before its name went"
    assert any(os.read(living, 10_000)), "still a key of later generations"
    for fd in (kept, living):
        os.close(fd)


def test_the_newest_generation_stays(keys: FilesystemKeys, key_folder: Path, usb: Path) -> None:
    copy(key_folder, usb, 0)
    told = copy(key_folder, usb, 400)
    assert told.expired == 1 and [each.folder.name for each in generations(usb)] == [told.name]


@pytest.mark.parametrize("broken", range(1, 9))
def test_broken_off_it_counts_for_nothing(
    keys: FilesystemKeys, key_folder: Path, usb: Path, tmp_path: Path, broken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = copy(key_folder, usb, 0)
    keys.create(["k-4", "k-5"])
    writes = 0
    real = os.open

    def fails(path: Any, flags: int, *args: Any, **more: Any) -> int:
        nonlocal writes
        if flags & os.O_CREAT and str(path).startswith(str(usb)):
            writes += 1
            if writes == broken:
                raise OSError(5, "no more")
        return real(path, flags, *args, **more)

    monkeypatch.setattr(os, "open", fails)
    try:
        copy(key_folder, usb, 1)
        ended = True
    except DaichoError:
        ended = False
    monkeypatch.undo()
    assert ended == (writes < broken)
    name = restore_keys(usb, tmp_path / "back")
    assert (name == first.name) != ended
    assert copy(key_folder, usb, 2).keys == 5
    assert copy(key_folder, usb, 60).expired >= 2, "what was cut short goes too"


def test_any_damaged_or_missing_file_is_named(
    keys: FilesystemKeys, key_folder: Path, usb: Path, tmp_path: Path
) -> None:
    told = copy(key_folder, usb, 0)
    files = [path for path in sorted(usb.rglob("*")) if path.is_file()]
    assert len(files) == 7
    for number, path in enumerate(files):
        data = path.read_bytes()
        for bad in (None, data[:-1] + bytes([data[-1] ^ 1]), data[:-5]):
            path.unlink()
            if bad is not None:
                path.write_bytes(bad)
            back = tmp_path / f"back-{number}-{bad is None}-{len(bad or b'')}"
            with pytest.raises((DigestMismatch, NotReady)) as caught:
                restore_keys(usb, back)
            assert caught.value.code == (
                "backup.no_keys" if bad is None and path.suffix == ".sums" else "backup.damaged"
            )
            assert path.name in caught.value.en or caught.value.code == "backup.no_keys"
            assert not (back / "store.json").exists()
            path.unlink(missing_ok=True)
            path.write_bytes(data)
    restore_keys(usb, tmp_path / "back")
    assert told.keys == 3


def test_a_name_in_the_list_cannot_leave_the_folder(
    keys: FilesystemKeys, key_folder: Path, usb: Path, tmp_path: Path
) -> None:
    told = copy(key_folder, usb, 0)
    (usb / f"{told.name}.sums").write_text(f"{'0' * 64}  {told.name}/../../secret\n# 1 files\n")
    with pytest.raises(DigestMismatch) as caught:
        restore_keys(usb, tmp_path / "back")
    assert caught.value.code == "backup.damaged"


def test_keys_of_another_store_are_left_alone(
    keys: FilesystemKeys, key_folder: Path, usb: Path, tmp_path: Path
) -> None:
    create_store(tmp_path / "other", "s-2")
    create_keys(tmp_path / "other-keys", "s-2")
    copy(tmp_path / "other-keys", usb, 0)
    before = sorted(usb.rglob("*"))
    with pytest.raises(Conflict) as caught:
        copy(key_folder, usb, 1)
    assert caught.value.code == "backup.foreign"
    assert sorted(usb.rglob("*")) == before


def test_where_there_are_no_links_it_is_copied(
    keys: FilesystemKeys, key_folder: Path, usb: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy(key_folder, usb, 0)

    def refused(*_: Any, **__: Any) -> None:
        raise PermissionError(1, "no links on this medium")

    monkeypatch.setattr(os, "link", refused)
    assert copy(key_folder, usb, 1).copied == 6
