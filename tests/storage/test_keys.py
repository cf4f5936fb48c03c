"""The key folder: opened by a standard program, bound to its store, destroyed for good."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count, product
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from core.errors import BadInput, Conflict, DaichoError, DigestMismatch, KeysMissing, StorageFailed, StorageFull
from storage import durable
from storage.cipher import decrypt, encrypt, new_identity, recipient_of
from storage.keycopies import copy_keys, restore_keys
from storage.keys import FilesystemKeys, create_keys, wrapped_place
from storage.port import Key, Rotated
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


def refused(folder: Path, store_id: str = "s-1") -> DaichoError:
    """The error with which opening the folder ends."""
    with pytest.raises(DaichoError) as caught:
        FilesystemKeys(folder, store_id)
    return caught.value


def test_the_wrong_folder_is_refused(key_folder: Path, tmp_path: Path) -> None:
    create_keys(tmp_path / "other", "s-1")
    assert refused(tmp_path / "nowhere").code == "keys.missing"
    assert refused(key_folder, "s-2").code == "keys.foreign"
    shutil.copy(tmp_path / "other" / "master.key", key_folder / "master.key")
    assert refused(key_folder).code == "keys.wrong"
    for text in (b"", b"nonsense\n", b"\xff\xfe", b"# only a comment\n"):
        (key_folder / "master.key").write_bytes(text)
        assert refused(key_folder).code == "keys.damaged"


@pytest.mark.parametrize("name", ["master.key", "probe.age", "store.json", "wrapped"])
def test_what_is_lost_is_told(key_folder: Path, name: str) -> None:
    (key_folder / name).rename(key_folder / "elsewhere")
    assert refused(key_folder).code == "keys.missing"


FILES = ("master.key", "probe.age", "store.json")


@pytest.mark.parametrize("name", FILES)
def test_damage_to_a_file_of_the_folder_is_told_and_located(key_folder: Path, keys: FilesystemKeys, name: str) -> None:
    """Any flipped bit (a sample of them), any length; by who opens the folder, and by who has it open."""
    keys.create(["k-1"])
    whole = (key_folder / name).read_bytes()
    flipped = [(place, 1 << place % 8) for place in range(0, len(whole), 3)]
    damaged = [whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :] for place, bit in flipped]
    for data in (*damaged, b"", whole[:-1], whole[: len(whole) // 2], whole + b"\n"):
        (key_folder / name).write_bytes(data)
        error = refused(key_folder)
        assert (error.code, name in error.ja, name in error.en) == ("keys.damaged", True, True), data
        assert [(found.path, found.code) for found in keys.check()] == [(name, "keys.damaged")]
    (key_folder / name).write_bytes(whole)
    assert FilesystemKeys(key_folder, "s-1").check() == []


@pytest.mark.parametrize("store_id", ["s-1", "s-2"])
@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_folder_is_told(key_folder: Path, tmp_path: Path, name: str, store_id: str) -> None:
    create_keys(tmp_path / "other", store_id)
    shutil.copy(tmp_path / "other" / name, key_folder / name)
    assert refused(key_folder).code == ("keys.wrong" if name == "master.key" else "keys.damaged")


def test_a_master_key_typed_from_paper_opens(key_folder: Path, keys: FilesystemKeys) -> None:
    [key] = keys.create(["k-1"])
    secret = (key_folder / "master.key").read_text().splitlines()[1]
    for text in (secret, f"{secret}\n", f"{secret}\r\n"):
        (key_folder / "master.key").write_bytes(text.encode())
        assert FilesystemKeys(key_folder, "s-1").get("k-1") == key


def test_a_folder_of_a_later_daicho_is_told(key_folder: Path) -> None:
    master = (key_folder / "master.key").read_text().splitlines()[1]
    later = b'{"format":3,"store":"s-1"}\n'
    (key_folder / "store.json").write_bytes(later)
    assert refused(key_folder).code == "keys.damaged"
    (key_folder / "probe.age").write_bytes(encrypt(later, recipient_of(master)))
    assert refused(key_folder).code == "keys.newer"


def test_damage_to_a_wrapped_key_is_found_wherever_it_is(key_folder: Path, keys: FilesystemKeys) -> None:
    keys.create(["k-1", "k-2"])
    path = key_folder / wrapped_place("k-1")
    whole = path.read_bytes()
    damaged = [whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :] for place in range(0, len(whole), 5)]
    for data in (*damaged, b"", whole[:-1], whole[:100], whole + b"\0"):
        path.write_bytes(data)
        again = FilesystemKeys(key_folder, "s-1")
        for use in (lambda keys=again: keys.get("k-1"), lambda keys=again: keys.create(["k-1"])):
            with pytest.raises(DigestMismatch) as caught:
                use()
            assert (caught.value.code, wrapped_place("k-1") in caught.value.en) == ("keys.damaged", True)
        assert [(found.object_id, found.path, found.code) for found in again.check()] == [
            ("k-1", wrapped_place("k-1"), "damaged")
        ]


def test_a_wrapped_key_in_the_place_of_another_is_found(
    key_folder: Path, keys: FilesystemKeys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys.create(["k-1", "k-2"])
    one, two = (key_folder / wrapped_place(name) for name in ("k-1", "k-2"))
    shutil.copy(one, two)
    again = FilesystemKeys(key_folder, "s-1")
    with pytest.raises(DigestMismatch) as caught:
        again.get("k-2")
    assert caught.value.code == "keys.misplaced"
    assert [(found.path, found.code) for found in again.check()] == [(wrapped_place("k-2"), "misplaced")]
    # One of another store, and one where no key can lie.
    create_keys(tmp_path / "other", "s-2")
    FilesystemKeys(tmp_path / "other", "s-2").create(["k-2"])
    shutil.copy(tmp_path / "other" / wrapped_place("k-2"), two)
    shutil.copy(one, key_folder / "wrapped" / one.parent.name / "k-3.age")
    assert {(Path(found.path).name, found.code) for found in again.check()} == {
        ("k-2.age", "damaged"),
        ("k-3.age", "stray"),
    }
    # Without what binds a key to its id nobody would see it.
    monkeypatch.setattr("storage.keys._binding", lambda store_id, key_id: "# daicho")
    create_keys(tmp_path / "loose", "s-1")
    loose = FilesystemKeys(tmp_path / "loose", "s-1")
    loose.create(["k-1", "k-2"])
    shutil.copy(tmp_path / "loose" / wrapped_place("k-1"), tmp_path / "loose" / wrapped_place("k-2"))
    assert FilesystemKeys(tmp_path / "loose", "s-1").check() == []


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


def in_format_1(folder: Path, ids: Sequence[str]) -> None:
    """Make of a new folder what daicho 0.1 made: keys that are not bound, a probe that says nothing."""
    recipient = recipient_of((folder / "master.key").read_text().splitlines()[1])
    (folder / "store.json").write_bytes(b'{"format":1,"store":"s-1"}\n')
    (folder / "probe.age").write_bytes(encrypt(b"daicho\n", recipient))
    for key_id in ids:
        path = folder / wrapped_place(key_id)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encrypt(f"{new_identity()[0]}\n".encode(), recipient))


def test_a_folder_of_format_1_opens_and_a_rotation_binds_its_keys(key_folder: Path) -> None:
    in_format_1(key_folder, ["k-1", "k-2"])
    old = FilesystemKeys(key_folder, "s-1")
    before = [old.get("k-1"), old.get("k-2"), *old.create(["k-3"])]
    assert old.check() == []
    rotated(old)
    again = FilesystemKeys(key_folder, "s-1")
    assert [again.get(f"k-{n}") for n in (1, 2, 3)] == before
    shutil.copy(key_folder / wrapped_place("k-1"), key_folder / wrapped_place("k-2"))
    assert [found.code for found in again.check()] == ["misplaced"]
    master = recipient_of((key_folder / "master.key").read_text().splitlines()[1])
    (key_folder / wrapped_place("k-2")).write_bytes(encrypt(f"{before[1].secret}\n".encode(), master))
    assert [found.code for found in again.check()] == ["misplaced"]  # nobody is believed any more who names nothing


def rotated(keys: FilesystemKeys) -> Rotated:
    """A rotation with nobody to tell."""
    return keys.rotate(lambda recipient, count: None)


IDS = [f"k-{n}" for n in range(6)]


def opens(folder: Path, known: dict[str, Key]) -> None:
    """The folder is whole and says of every key what it said before, and whether a rotation has not ended."""
    keys = FilesystemKeys(folder, "s-1")
    left = [name for name in ("master.next", "master.old") if (folder / name).exists()]
    assert [(found.path, found.code) for found in keys.check()] == [(name, "rotation_unfinished") for name in left]
    assert {key_id: keys.get(key_id) for key_id in keys.ids()} == known


def test_a_rotation_changes_the_master_key_and_no_other(key_folder: Path, keys: FilesystemKeys, tmp_path: Path) -> None:
    known = {key.id: key for key in keys.create(IDS)}
    stale = FilesystemKeys(key_folder, "s-1")
    old_master = (key_folder / "master.key").read_bytes()
    shutil.copytree(key_folder, tmp_path / "before")
    held = [path.open("rb") for path in (key_folder / "master.key", key_folder / wrapped_place("k-1"))]
    told: list[tuple[str, int]] = []
    seen: list[tuple[int, int]] = []
    done = keys.rotate(lambda *each: told.append(each), lambda *each: seen.append(each))
    assert (done.keys, done.wrapped, done.findings, seen) == (6, 6, (), [(6, 6)])
    new_master = (key_folder / "master.key").read_text().splitlines()[1]
    assert told == [(recipient_of(new_master), 6)]
    opens(key_folder, known)
    # Nothing of the old one is left, not even in files whose names are gone.
    assert sorted(path.name for path in key_folder.iterdir()) == sorted([*FILES, "lock", "scratch", "wrapped"])
    assert [set(file.read()) for file in held] == [{0}, {0}]
    shutil.copy(tmp_path / "before" / "master.key", key_folder / "master.key")
    assert refused(key_folder).code == "keys.wrong"
    (key_folder / "master.key").write_bytes(b"# public key: %s\n%s\n" % (told[0][0].encode(), new_master.encode()))
    with pytest.raises(KeysMissing):
        decrypt((key_folder / wrapped_place("k-1")).read_bytes(), old_master.decode().splitlines()[1])
    # Who has had the folder open all the time sees, makes and destroys the same keys.
    assert stale.get("k-5") == known["k-5"]
    known |= {key.id: key for key in stale.create(["k-9"])}
    stale.destroy("k-0")
    del known["k-0"]
    opens(key_folder, known)


def test_who_does_not_look_again_loses_keys(
    key_folder: Path, keys: FilesystemKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above: a writer that goes on with the master key that it knows."""
    stale = FilesystemKeys(key_folder, "s-1")
    rotated(keys)
    with monkeypatch.context() as patch:
        patch.setattr(stale, "_renew", lambda **_: False)
        stale.create(["k-9"])
    with pytest.raises(DigestMismatch):
        FilesystemKeys(key_folder, "s-1").get("k-9")


def killed_at(number: int, work: Callable[[], object]) -> bool:
    """Do `work` in a process that is killed instead of its nth call that changes a disk; whether it came so far."""
    child = os.fork()
    if child == 0:
        calls = count(1)

        def counted(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **more: Any) -> Any:
                if next(calls) == number:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **more)

            return call

        try:
            for name in ("write", "fsync", "rename", "replace", "link", "unlink", "mkdir"):
                setattr(os, name, counted(getattr(os, name)))
            durable._syncfs = counted(durable._syncfs)
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert ended in (0, -signal.SIGKILL)
    return ended != 0


@pytest.mark.parametrize("first", [2, 1], ids=["format 2", "format 1"])
def test_a_rotation_killed_at_any_call_goes_on(tmp_path: Path, first: int) -> None:
    """After each kill the folder opens, also as a copy; keys can be made and destroyed; the same call ends the rotation."""
    create_keys(tmp_path / "keys", "s-1")
    if first == 1:
        in_format_1(tmp_path / "keys", IDS[1:4])
    whole = FilesystemKeys(tmp_path / "keys", "s-1")
    known = {key.id: key for key in whole.create(IDS[1:4])}
    master = (tmp_path / "keys" / "master.key").read_bytes()
    for number in count(1, 1 if first == 2 else 3):
        folder = tmp_path / f"keys-{number}"
        shutil.copytree(tmp_path / "keys", folder)
        if not killed_at(number, lambda folder=folder: rotated(FilesystemKeys(folder, "s-1"))):
            break
        opens(folder, known)
        if number % 4 == 0:
            copy_keys(folder, tmp_path / f"copy-{number}", datetime.now(UTC), 30)
            restore_keys(tmp_path / f"copy-{number}", tmp_path / f"back-{number}")
            opens(tmp_path / f"back-{number}", known)
        here = FilesystemKeys(folder, "s-1")
        [more] = here.create(["k-more"])
        here.destroy("k-3")
        assert all(b"k-3" not in path.name.encode() for path in folder.rglob("*"))
        after = {**known, "k-more": more}
        del after["k-3"]
        opens(folder, after)
        assert rotated(FilesystemKeys(folder, "s-1")).findings == ()
        opens(folder, after)
        assert (folder / "master.key").read_bytes() != master
        assert {path.name for path in folder.iterdir()} == {*FILES, "lock", "scratch", "wrapped"}
        shutil.rmtree(folder)
    assert number > 30, "the calls were counted"


def test_a_key_destroyed_in_a_broken_off_rotation_is_nowhere(
    key_folder: Path, keys: FilesystemKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys.create(["k-1"])

    def left() -> list[str]:
        here = FilesystemKeys(key_folder, "s-1")
        opened = []
        for path, master in product(key_folder.rglob("*"), here._state.masters):
            with suppress(KeysMissing, DigestMismatch, IsADirectoryError):
                opened += [path.name for _ in [decrypt(path.read_bytes(), master)]]
        return [name for name in opened if name != "probe.age"]

    for number in count(1):
        copy = key_folder.with_name(f"copy-{number}")
        shutil.copytree(key_folder, copy)
        assert killed_at(number, lambda copy=copy: rotated(FilesystemKeys(copy, "s-1")))
        if any(path.stat().st_size for path in copy.glob("scratch/k-1.age")):
            key_folder = copy
            break
    assert len(left()) == 2
    with monkeypatch.context() as patch:
        patch.setattr(FilesystemKeys, "_anew", lambda self, key_id: self._scratch / "elsewhere")
        FilesystemKeys(key_folder, "s-1").destroy("k-1")
    assert len(left()) == 1, "the control: the copy that the rotation left would open what was destroyed"
    FilesystemKeys(key_folder, "s-1").destroy("k-1")
    assert left() == []


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_rotation_that_meets_an_error_at_any_call_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """The disk is full, or a sync fails: a coded error, the folder opens, nothing is left beside, the same call ends it."""
    create_keys(tmp_path / "keys", "s-1")
    known = {key.id: key for key in FilesystemKeys(tmp_path / "keys", "s-1").create(IDS[:3])}
    real = getattr(os, call)
    for number in count(1):
        folder = tmp_path / f"keys-{number}"
        shutil.copytree(tmp_path / "keys", folder)
        calls = count(1)

        def failing(*args: Any, calls: Iterator[int] = calls, number: int = number) -> Any:
            if next(calls) == number:
                raise OSError(errno.ENOSPC if call == "write" else errno.EIO, "no")
            return real(*args)

        with monkeypatch.context() as patch:
            patch.setattr(durable, "_syncfs_believed", lambda fd: False)
            patch.setattr(durable, "_failed", False)
            patch.setattr(os, call, failing)
            try:
                rotated(FilesystemKeys(folder, "s-1"))
            except (StorageFull, StorageFailed):
                failed = True
            else:
                failed = False
        opens(folder, known)
        if not failed:
            break
        assert list((folder / "scratch").iterdir()) == []
        assert rotated(FilesystemKeys(folder, "s-1")).findings == ()
        opens(folder, known)
    assert number > 8


def test_others_work_while_the_master_key_changes(
    key_folder: Path, keys: FilesystemKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.keys._GROUP", 3)
    known = {key.id: key for key in keys.create([f"k-{n}" for n in range(15)])}
    made: dict[str, Key] = {}
    ended = Event()

    def write() -> None:
        mine = FilesystemKeys(key_folder, "s-1")
        for number in count():
            made.update((key.id, key) for key in mine.create([f"w-{number}"]))
            if number % 3 == 0:
                mine.destroy(f"w-{number}")
                del made[f"w-{number}"]
            if ended.is_set():
                return

    def read() -> None:
        mine = FilesystemKeys(key_folder, "s-1")
        while not ended.is_set():
            mine._unwrapped.cache_clear()
            assert {key_id: mine.get(key_id) for key_id in known} == known

    with ThreadPoolExecutor() as pool:
        others = [pool.submit(write), pool.submit(read), pool.submit(read)]
        try:
            for _ in range(2):
                assert rotated(keys).findings == ()
        finally:
            ended.set()
        for other in others:
            other.result()
    assert len(made) > 3
    opens(key_folder, known | made)


def test_a_key_that_cannot_be_opened_keeps_the_old_master_key(key_folder: Path, keys: FilesystemKeys) -> None:
    known = {key.id: key for key in keys.create(IDS)}
    path = key_folder / wrapped_place("k-2")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    master = (key_folder / "master.key").read_bytes()
    for _ in range(2):
        done = rotated(FilesystemKeys(key_folder, "s-1"))
        assert [(found.object_id, found.code) for found in done.findings] == [("k-2", "damaged")]
        assert (key_folder / "master.key").read_bytes() == master
    path.write_bytes(whole)  # from the backup of the keys, wrapped under the old master key
    assert rotated(FilesystemKeys(key_folder, "s-1")).findings == ()
    opens(key_folder, known)


def test_the_old_master_key_stays_until_the_rotation_is_told(key_folder: Path, keys: FilesystemKeys) -> None:
    known = {key.id: key for key in keys.create(IDS)}
    master = (key_folder / "master.key").read_bytes()
    told = []

    def refuse(recipient: str, number: int) -> None:
        told.append(recipient)
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            keys.rotate(refuse)
        assert (key_folder / "master.key").read_bytes() == master
        opens(key_folder, known)
    keys.rotate(lambda recipient, number: told.append(recipient))
    assert len(set(told)) == 1  # the same rotation all the time
    opens(key_folder, known)


@pytest.mark.parametrize("name", ["master.next", "master.key"])
def test_a_master_key_lost_or_damaged_in_a_rotation_is_told(key_folder: Path, keys: FilesystemKeys, name: str) -> None:
    keys.create(IDS)
    with pytest.raises(KeyboardInterrupt):
        keys.rotate(lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    whole = (key_folder / name).read_bytes()
    for place in range(0, len(whole), 7):
        (key_folder / name).write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        error = refused(key_folder)
        assert (error.code, name in error.en) == ("keys.damaged", True)
    (key_folder / name).unlink()
    if name == "master.key":
        assert refused(key_folder).code == "keys.missing"
    else:
        assert {found.code for found in FilesystemKeys(key_folder, "s-1").check()} == {"damaged"}
