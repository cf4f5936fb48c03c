"""The key folder: opened by a standard program, bound to its store, destroyed for good."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from core.errors import BadInput, Conflict, DigestMismatch, KeysMissing, StorageFailed
from storage import durable
from storage.cipher import encrypt
from storage.keys import FilesystemKeys, create_keys, wrapped_place
from tests.contracts.storage_contracts import KeyStoreContract
from tests.machine import need


@pytest.fixture
def keys(key_folder: Path) -> FilesystemKeys:
    return FilesystemKeys(key_folder, "s-1")


class TestFilesystemKeys(KeyStoreContract):
    pass


def test_the_standard_program_opens_content_with_the_master_key(
    key_folder: Path, keys: FilesystemKeys, tmp_path: Path
) -> None:
    need("age")
    [key] = keys.create(["k-1"])
    (tmp_path / "content").write_bytes(encrypt("台帳".encode(), key.recipient))
    command = f"age -d -i {key_folder}/master.key {key_folder}/{wrapped_place('k-1')} > k && age -d -i k content"
    opened = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True)
    assert (opened.stdout.decode(), opened.returncode) == ("台帳", 0), opened.stderr


def test_keys_are_for_their_owner_only(key_folder: Path, keys: FilesystemKeys) -> None:
    keys.create(["k-1"])
    assert key_folder.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o077 == 0 for path in key_folder.rglob("*") if path.is_file())
    assert b"AGE-SECRET-KEY" not in (key_folder / wrapped_place("k-1")).read_bytes()


def test_it_is_made_once(key_folder: Path) -> None:
    before = (key_folder / "master.key").read_bytes()
    with pytest.raises(Conflict):
        create_keys(key_folder, "s-1")
    assert (key_folder / "master.key").read_bytes() == before


def test_the_wrong_folder_is_refused(key_folder: Path, tmp_path: Path) -> None:
    create_keys(tmp_path / "other", "s-1")

    def code(folder: Path, store_id: str = "s-1") -> str:
        with pytest.raises(KeysMissing) as caught:
            FilesystemKeys(folder, store_id)
        return caught.value.code

    assert code(tmp_path / "nowhere") == "keys.missing"
    assert code(key_folder, "s-2") == "keys.foreign"
    shutil.copy(tmp_path / "other" / "master.key", key_folder / "master.key")
    assert code(key_folder) == "keys.wrong"
    for text in (b"", b"nonsense\n", b"\xff\xfe", b"# only a comment\n"):
        (key_folder / "master.key").write_bytes(text)
        assert code(key_folder) in {"keys.missing", "keys.wrong"}
    (key_folder / "master.key").unlink()
    assert code(key_folder) == "keys.missing"


def test_a_damaged_probe_is_not_taken_for_the_wrong_key(key_folder: Path) -> None:
    probe = bytearray((key_folder / "probe.age").read_bytes())
    probe[-1] ^= 1
    (key_folder / "probe.age").write_bytes(probe)
    with pytest.raises(DigestMismatch):
        FilesystemKeys(key_folder, "s-1")


def test_damage_to_a_wrapped_key_is_found_wherever_it_is(key_folder: Path, keys: FilesystemKeys) -> None:
    keys.create(["k-1", "k-2"])
    path = key_folder / wrapped_place("k-1")
    whole = path.read_bytes()
    for place in range(0, len(whole), 5):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        again = FilesystemKeys(key_folder, "s-1")
        with pytest.raises(DigestMismatch) as caught:
            again.get("k-1")
        assert caught.value.code == "keys.damaged"
        assert [(found.object_id, found.path, found.code) for found in again.check()] == [
            ("k-1", wrapped_place("k-1"), "damaged")
        ]


def test_a_key_destroyed_elsewhere_is_forgotten_here(key_folder: Path, keys: FilesystemKeys) -> None:
    [old] = keys.create(["k-1"])
    reader = FilesystemKeys(key_folder, "s-1")
    assert reader.get("k-1") == old
    keys.destroy("k-1")
    with pytest.raises(KeysMissing):
        reader.get("k-1")
    [new] = keys.create(["k-1"])
    assert reader.get("k-1") == new != old


def test_destroying_overwrites_before_it_removes(
    key_folder: Path, keys: FilesystemKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The power goes between the two: the name is left, nothing is in it, and destroying again finishes the work."""
    keys.create(["k-1"])
    path = key_folder / wrapped_place("k-1")

    def cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", cut)
        with pytest.raises(KeyboardInterrupt):
            keys.destroy("k-1")
    assert path.exists()
    assert not any(path.read_bytes())
    again = FilesystemKeys(key_folder, "s-1")
    with pytest.raises(KeysMissing):
        again.get("k-1")
    assert [found.code for found in again.check()] == ["half_destroyed"]
    again.destroy("k-1")
    assert not path.exists()
    assert (again.check(), list(again.ids())) == ([], [])


def test_making_a_key_again_after_a_half_finished_destruction(key_folder: Path, keys: FilesystemKeys) -> None:
    [old] = keys.create(["k-1"])
    path = key_folder / wrapped_place("k-1")
    path.write_bytes(bytes(path.stat().st_size))
    [new] = keys.create(["k-1"])
    assert new.secret != old.secret
    assert keys.get("k-1") == new


@pytest.mark.parametrize("key_id", ["", "../k", "a/b", "K", "k\n"])
def test_ids_stay_in_their_folder(keys: FilesystemKeys, key_id: str) -> None:
    with pytest.raises(BadInput):
        keys.create(["k-1", key_id])
    assert list(keys.ids()) == []
    keys.destroy(key_id)


def test_a_group_shares_its_syncs(keys: FilesystemKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(durable, "_syncfs_believed", lambda fd: True)
    monkeypatch.setattr(durable, "_syncfs", calls.append)
    keys.create([f"k-{n}" for n in range(50)])
    assert len(calls) == 2


def test_a_key_whose_sync_failed_is_not_given_out(keys: FilesystemKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(fd: int) -> None:
        raise OSError(errno.EIO, "lost")

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(StorageFailed):
        keys.create(["k-1"])
    assert list(keys.ids()) == []


def test_what_a_killed_writer_left_is_destroyed(
    key_folder: Path, keys: FilesystemKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the two halves of naming: the second name goes, the key lives and is not overwritten."""
    [key] = keys.create(["k-1"])
    (key_folder / "scratch" / "torn").write_bytes(b"half a key")
    assert keys.heal() == 1
    assert list((key_folder / "scratch").iterdir()) == []
    os.link(key_folder / wrapped_place("k-1"), key_folder / "scratch" / "linked")
    assert keys.heal() == 1
    assert FilesystemKeys(key_folder, "s-1").get("k-1") == key
