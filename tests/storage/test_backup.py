"""A copy that restores to the same bytes, or says which file is wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from core.clock import FixedClock
from core.errors import BadInput, Conflict, DigestMismatch, KeysMissing, NotReady
from storage.backup import backup, restore
from storage.filesystem import (
    FilesystemDerivatives,
    FilesystemJournal,
    FilesystemObjects,
    create_store,
    derivative_place,
    object_place,
    segment_place,
)
from storage.keys import FilesystemKeys, create_keys, wrapped_place
from storage.port import Pin
from tests.contracts.storage_contracts import version


@pytest.fixture
def filled(root: Path, key_folder: Path) -> tuple[Path, Path]:
    """Three objects, one of them with two versions, three keys, three segments, a derivative."""
    objects = FilesystemObjects(root)
    objects.seal([version(f"r-{n}", a=b"%d" % n * 300, b=b"page") for n in (1, 2, 3)])
    objects.seal([version("r-2", 2, a=b"edited", carried=("b",))])
    FilesystemKeys(key_folder, "s-1").create(["k-1", "k-2", "k-3"])
    for number in (1, 2, 3):
        FilesystemJournal(root).append(number, b"segment %d" % number)
    FilesystemDerivatives(root).put("r-1.1", b"thumbnail")
    return root, key_folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file that matters, with its bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).parts[0] != "scratch"
    }


def test_restored_is_what_was_there(filled: tuple[Path, Path], tmp_path: Path) -> None:
    root, keys = filled
    target, key_target = tmp_path / "disk", tmp_path / "usb"
    moment = FixedClock(datetime(2026, 4, 1, tzinfo=UTC))
    report = backup(root, keys, target, keys_target=key_target, clock=moment)
    assert (report.segments, report.objects, report.keys, report.damaged, report.unexplained) == (3, 3, 3, (), ())
    assert json.loads((target / "backup.json").read_bytes())["created"] == "2026-04-01T00:00:00.000000Z"
    assert not (target / "keys").exists()
    for place, sums in ((target, "SHA256SUMS"), (key_target, "SHA256SUMS.keys")):
        subprocess.run(["sha256sum", "--quiet", "--strict", "-c", sums], cwd=place, check=True)
    restored = restore(target, tmp_path / "store2", tmp_path / "keys2", keys_target=key_target)
    assert (restored.store_id, restored.segments, restored.objects, restored.keys) == ("s-1", 3, 3, 3)
    assert contents(tmp_path / "store2") == contents(root)
    assert contents(tmp_path / "keys2") == contents(keys)
    assert (tmp_path / "keys2").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "store2" / object_place("r-1") / "v1/content/a").stat().st_mode & 0o222 == 0
    assert FilesystemObjects(tmp_path / "store2").strays() == []


def test_the_copy_is_a_store_itself(filled: tuple[Path, Path], tmp_path: Path) -> None:
    backup(*filled, tmp_path / "disk")
    copy = FilesystemObjects(tmp_path / "disk" / "store")
    assert sorted(copy.objects()) == ["r-1", "r-2", "r-3"]
    assert [copy.check(object_id).findings for object_id in copy.objects()] == [[], [], []]
    assert copy.strays() == []


def test_the_second_time_only_what_is_new_is_copied(filled: tuple[Path, Path], tmp_path: Path) -> None:
    root, keys = filled
    first = backup(root, keys, tmp_path / "disk")
    assert first.copied > 20
    assert backup(root, keys, tmp_path / "disk").copied == 0
    FilesystemObjects(root).seal([version("r-1", 2, a=b"new", carried=("b",))])
    FilesystemJournal(root).append(4, b"segment 4")
    FilesystemDerivatives(root).put("r-1.1", b"thumbnaim")
    FilesystemDerivatives(root).delete("r-9.9")
    second = backup(root, keys, tmp_path / "disk")
    # content, its inventory and sidecar, the root's two, segment, derivative
    assert (second.copied, second.segments) == (7, 4)
    restore(tmp_path / "disk", tmp_path / "store2", tmp_path / "keys2")
    assert contents(tmp_path / "store2") == contents(root)


def test_a_destroyed_key_goes_from_the_copy_and_a_lost_one_stays(filled: tuple[Path, Path], tmp_path: Path) -> None:
    root, keys = filled
    backup(root, keys, tmp_path / "disk")
    FilesystemKeys(keys, "s-1").destroy("k-1")
    (keys / wrapped_place("k-2")).unlink()  # lost, not destroyed
    report = backup(root, keys, tmp_path / "disk", destroyed={"k-1"})
    assert report.unexplained == ("k-2",)
    assert not (tmp_path / "disk" / "keys" / wrapped_place("k-1")).exists()
    restore(tmp_path / "disk", tmp_path / "store2", tmp_path / "keys2")
    assert list(FilesystemKeys(tmp_path / "keys2", "s-1").ids()) == ["k-2", "k-3"]


def test_only_into_empty_folders(filled: tuple[Path, Path], tmp_path: Path) -> None:
    backup(*filled, tmp_path / "disk")
    before = contents(filled[0])
    for store, keys in ((filled[0], tmp_path / "keys2"), (tmp_path / "store2", filled[1])):
        with pytest.raises(Conflict) as caught:
            restore(tmp_path / "disk", store, keys)
        assert caught.value.code == "restore.not_empty"
    assert contents(filled[0]) == before
    assert not (tmp_path / "store2").exists()


def test_any_damaged_or_missing_file_is_named(filled: tuple[Path, Path], tmp_path: Path) -> None:
    backup(*filled, tmp_path / "disk")
    disk = tmp_path / "disk"
    named = 0
    for path in sorted(path for path in disk.rglob("*") if path.is_file()):
        data = path.read_bytes()
        place = path.relative_to(disk).as_posix()
        if "derived/" in place or path.name == "lock":
            continue  # made again when lost
        for bad in (None, data[:-1] + bytes([data[-1] ^ 1])):
            path.unlink()
            if bad is not None:
                path.write_bytes(bad)
            out = tmp_path / "out"
            with pytest.raises((DigestMismatch, NotReady, KeysMissing)) as caught:
                restore(disk, out / "store", out / "keys")
            assert caught.value.code in {"backup.damaged", "backup.missing"}, place
            assert path.name in caught.value.en or path.name == "backup.json", place
            assert not (out / "store" / "store.json").exists() or path.name == "backup.json"
            shutil.rmtree(out, ignore_errors=True)
            path.unlink(missing_ok=True)
            path.write_bytes(data)
            named += 1
    assert named > 60
    restore(disk, tmp_path / "store2", tmp_path / "keys2")


def test_a_lost_derivative_does_not_stop_a_restore(filled: tuple[Path, Path], tmp_path: Path) -> None:
    backup(*filled, tmp_path / "disk")
    path = tmp_path / "disk" / "store" / derivative_place("r-1.1")
    path.unlink()
    path.write_bytes(b"torn")
    restore(tmp_path / "disk", tmp_path / "store2", tmp_path / "keys2")
    assert FilesystemDerivatives(tmp_path / "store2").get("r-1.1") is None


def test_a_damaged_file_of_the_store_is_reported_and_the_good_copy_kept(
    filled: tuple[Path, Path], tmp_path: Path
) -> None:
    root, keys = filled
    backup(root, keys, tmp_path / "disk")
    FilesystemObjects(root).seal([version("r-4", a=b"1234"), version("r-5", a=b"5678")])
    path = root / object_place("r-4") / "v1/content/a"
    path.unlink()
    path.write_bytes(b"1235")
    old = root / object_place("r-1") / "v1/content/b"
    old.unlink()
    report = backup(root, keys, tmp_path / "disk")
    assert set(report.damaged) == {f"{object_place('r-4')}/v1/content/a", f"{object_place('r-1')}/v1/content/b"}
    copy = FilesystemObjects(tmp_path / "disk" / "store")
    assert copy.check("r-1").findings == copy.check("r-5").findings == []
    assert [finding.code for finding in copy.check("r-4").findings] == ["missing"]


def test_targets_that_cannot_be(filled: tuple[Path, Path], tmp_path: Path) -> None:
    root, keys = filled
    with pytest.raises(BadInput):
        backup(root, keys, root / "journal")
    with pytest.raises(BadInput):
        backup(root, keys, tmp_path / "disk", keys_target=keys)
    create_store(tmp_path / "other", "s-2")
    create_keys(tmp_path / "other-keys", "s-2")
    backup(root, keys, tmp_path / "disk")
    before = contents(tmp_path / "disk")
    with pytest.raises(Conflict) as caught:
        backup(tmp_path / "other", tmp_path / "other-keys", tmp_path / "disk")
    assert caught.value.code == "backup.foreign"
    assert contents(tmp_path / "disk") == before
    with pytest.raises(NotReady):
        restore(tmp_path / "nowhere", tmp_path / "store2", tmp_path / "keys2")


def test_a_list_cut_short_is_damage(filled: tuple[Path, Path], tmp_path: Path) -> None:
    backup(*filled, tmp_path / "disk")
    sums = tmp_path / "disk" / "SHA256SUMS.keys"
    sums.write_text("".join(sums.read_text().splitlines(keepends=True)[:-2]))
    with pytest.raises(DigestMismatch):
        restore(tmp_path / "disk", tmp_path / "store2", tmp_path / "keys2")


def test_a_name_in_the_list_cannot_leave_the_folder(filled: tuple[Path, Path], tmp_path: Path) -> None:
    backup(*filled, tmp_path / "disk")
    sums = tmp_path / "disk" / "SHA256SUMS.keys"
    sums.write_text(f"{'0' * 64}  keys/../../secret\n# 1 files\n")
    with pytest.raises(DigestMismatch) as caught:
        restore(tmp_path / "disk", tmp_path / "store2", tmp_path / "keys2")
    assert caught.value.code == "backup.damaged"


def test_while_others_write_every_copied_segment_has_its_object_and_key(
    filled: tuple[Path, Path], tmp_path: Path
) -> None:
    root, key_folder = filled
    stop = threading.Event()

    def work() -> None:
        objects, journal, keys = FilesystemObjects(root), FilesystemJournal(root), FilesystemKeys(key_folder, "s-1")
        number = 0
        while not stop.is_set():
            number += 1
            name = f"r-run-{number}"
            keys.create([name])
            pins = objects.seal([version(name, a=os.urandom(2000)), version(name, 2, b=b"x", carried=("a",))])
            journal.append(
                journal.last() + 1, json.dumps([[pin.object_id, pin.number, pin.digest] for pin in pins]).encode()
            )

    writer = threading.Thread(target=work)
    writer.start()
    try:
        for _ in range(3):
            report = backup(root, key_folder, tmp_path / "disk")
    finally:
        stop.set()
        writer.join()
    assert report.segments > 3
    restore(tmp_path / "disk", tmp_path / "store2", tmp_path / "keys2")
    objects, keys = FilesystemObjects(tmp_path / "store2"), FilesystemKeys(tmp_path / "keys2", "s-1")
    for number in range(4, report.segments + 1):
        for name, version_number, digest in json.loads((tmp_path / "store2" / segment_place(number)).read_bytes()):
            assert objects.read(Pin(name, version_number, digest), "a")
            assert keys.get(name)
    assert all(objects.check(object_id).findings == [] for object_id in objects.objects())
