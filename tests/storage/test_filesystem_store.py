"""The filesystem store: contracts, OCFL as a third party sees it, damage found and located, crashes at every step."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import (
    BadInput,
    Conflict,
    DaichoError,
    DigestMismatch,
    NotReady,
    StorageFailed,
    StorageFull,
    StoreDamaged,
)
from storage import durable
from storage.filesystem import (
    FilesystemDerivatives,
    FilesystemJournal,
    FilesystemObjects,
    create_store,
    derivative_place,
    object_place,
    open_store,
    segment_place,
)
from storage.port import NewVersion, Pin
from tests.contracts.storage_contracts import (
    BLOCK,
    Damage,
    DerivativeStoreContract,
    Generated,
    JournalContract,
    ObjectStoreContract,
    version,
)


@pytest.fixture
def objects(root: Path) -> FilesystemObjects:
    return FilesystemObjects(root)


@pytest.fixture
def damage(root: Path) -> Damage:
    def change(pin: Pin, path: str) -> None:
        flip(root / object_place(pin.object_id) / f"v{pin.number}/content/{path}", 0)

    return change


@pytest.fixture
def journal(root: Path) -> FilesystemJournal:
    return FilesystemJournal(root)


@pytest.fixture
def derivatives(root: Path) -> FilesystemDerivatives:
    return FilesystemDerivatives(root)


class TestFilesystemObjects(ObjectStoreContract):
    pass


class TestFilesystemJournal(JournalContract):
    pass


class TestFilesystemDerivatives(DerivativeStoreContract):
    pass


def flip(path: Path, bit: int) -> None:
    """Change one bit of a file, however it is protected."""
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << (bit % 8)
    path.chmod(0o600)
    path.write_bytes(data)


def tool(name: str) -> str:
    """A program of the environment the tests run in."""
    return str(Path(sys.executable).parent / name)


# OCFL


def test_a_third_party_accepts_what_we_write(root: Path, objects: FilesystemObjects) -> None:
    objects.seal([version(a=b"1", b=b"2"), version(number=2, a=b"3", carried=("b",)), version(number=3, c=b"")])
    objects.seal(
        [NewVersion("r-2", 1, {f"p/{n}": b"%d" % (n % 7) for n in range(200)}, "2026-04-01T00:00:00Z", "u", "m")]
    )
    objects.seal([NewVersion("r-3.x", 1, {}, "2026-04-01T00:00:00Z", "u", "m")])
    places = [str(root / object_place(object_id)) for object_id in ("r-1", "r-2", "r-3.x")]
    answer = subprocess.run([tool("ocfl-validate.py"), "-q", *places], capture_output=True, text=True)
    assert (answer.returncode, answer.stdout.count(" is VALID")) == (0, 3), answer.stdout + answer.stderr
    answer = subprocess.run(
        [tool("ocfl-root.py"), "validate", "--root", str(root / "objects")], capture_output=True, text=True
    )
    assert "is VALID" in answer.stdout, answer.stdout + answer.stderr
    flip(Path(places[0]) / "v1/content/b", 3)  # the judge must be able to say no
    answer = subprocess.run([tool("ocfl-validate.py"), "-q", places[0]], capture_output=True, text=True)
    assert "INVALID" in answer.stdout


def test_sealed_files_are_read_only(root: Path, objects: FilesystemObjects) -> None:
    objects.seal([version(a=b"1"), version(number=2, a=b"2")])
    home = root / object_place("r-1")
    assert all(path.stat().st_mode & 0o222 == 0 for path in home.rglob("*") if path.is_file())
    assert not any(path.is_dir() and list(path.glob("*.swap")) for path in (root / "scratch").iterdir())


# Damage


def test_any_flipped_bit_is_found_and_located(root: Path, objects: FilesystemObjects) -> None:
    pins = objects.seal([version(a=b"12", b=b"34"), version(number=2, c=b"56", carried=("a",))])
    home = root / object_place("r-1")
    sealed = {path: path.read_bytes() for path in sorted(home.rglob("*")) if path.is_file()}
    chance = random.Random(1)
    for path, data in sealed.items():
        bits = range(len(data) * 8)
        for bit in bits if len(bits) < 20 else chance.sample(bits, 20):
            flip(path, bit)
            found = objects.check("r-1", pins).findings
            place = path.relative_to(home).as_posix()
            # A damaged inventory is also no longer what its sidecar says.
            assert place in {finding.path for finding in found}, (place, bit, found)
            assert {finding.path.removesuffix(".sha512") for finding in found} <= {
                place.removesuffix(".sha512"),
                "inventory.json",
            }
            path.write_bytes(data)
    assert objects.check("r-1", pins).findings == []


def test_missing_extra_and_odd_files_are_found(root: Path, objects: FilesystemObjects) -> None:
    pins = objects.seal([version(a=b"1", b=b"2", c=b"3")])
    content = root / object_place("r-1") / "v1/content"
    (content / "a").unlink()
    (content / "b").unlink()
    (content / "b").symlink_to("c")
    (content / "c").unlink()
    os.mkfifo(content / "c")
    (content / "d").write_bytes(b"")
    found = {(finding.path, finding.code) for finding in objects.check("r-1", pins).findings}
    assert found == {
        ("v1/content/a", "missing"),
        ("v1/content/b", "damaged"),
        ("v1/content/c", "damaged"),
        ("v1/content/d", "extra"),
    }
    for path in ("a", "b", "c"):
        with pytest.raises(DigestMismatch):
            objects.read(pins[0], path)


def test_an_inventory_rewritten_whole_is_found_by_the_pin(
    root: Path, objects: FilesystemObjects, tmp_path: Path
) -> None:
    [pin] = objects.seal([version(a=b"true")])
    create_store(tmp_path / "forged", "s-2")
    FilesystemObjects(tmp_path / "forged").seal([version(a=b"false")])
    home = root / object_place("r-1")
    subprocess.run(["rm", "-r", str(home)], check=True)
    (tmp_path / "forged" / object_place("r-1")).rename(home)
    again = FilesystemObjects(root)
    assert again.check("r-1").findings == []  # consistent in itself
    assert [finding.code for finding in again.check("r-1", [pin]).findings] == ["inventory"]
    with pytest.raises(DigestMismatch):
        again.read(pin, "a")


def test_an_inventory_cannot_point_out_of_the_object(root: Path, objects: FilesystemObjects) -> None:
    objects.seal([version(a=b"1")])
    path = root / object_place("r-1") / "v1/inventory.json"
    value = json.loads(path.read_bytes())
    value["manifest"] = {digest: ["v1/content/../../../../secret"] for digest in value["manifest"]}
    path.chmod(0o600)
    path.write_text(json.dumps(value))
    assert ("v1/inventory.json", "inventory") in {(f.path, f.code) for f in objects.check("r-1").findings}


def test_strays_are_reported(root: Path, objects: FilesystemObjects, journal: FilesystemJournal) -> None:
    objects.seal([version(a=b"1")])
    journal.append(1, b"one")
    assert objects.strays() == []
    home = root / object_place("r-1")
    places = ["x", "objects/x", "objects/zz/", "journal/x", "journal/0000/x", f"{object_place('r-1')}-moved/"]
    for place in places:
        (root / place).mkdir() if place.endswith("/") else (root / place).write_bytes(b"")
    (home.parent / "link").symlink_to(home)
    found = {finding.path for finding in objects.strays()}
    assert found == {place.rstrip("/") for place in places} | {f"{home.parent.relative_to(root)}/link"}
    assert list(objects.objects()) == ["r-1"]


# The store's description


def test_a_store_is_made_once_and_known_by_its_id(root: Path) -> None:
    assert open_store(root) == "s-1"
    with pytest.raises(Conflict):
        create_store(root, "s-2")
    assert open_store(root) == "s-1"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (None, "store.missing"),
        ("{", "store.damaged"),
        ("[]", "store.damaged"),
        ('{"format":2,"id":"s"}', "store.newer"),
    ],
)
def test_what_is_no_store_is_refused(tmp_path: Path, text: str | None, code: str) -> None:
    if text is not None:
        (tmp_path / "store.json").write_text(text)
    with pytest.raises(NotReady) as caught:
        open_store(tmp_path)
    assert caught.value.code == code


# Journal and derivatives


def test_a_thousand_segments_a_folder_and_a_gap_is_damage(root: Path) -> None:
    for number in range(1, 999):  # as `append` leaves them, without the wait
        (root / segment_place(number)).parent.mkdir(exist_ok=True)
        (root / segment_place(number)).write_bytes(b"%d" % number)
    journal = FilesystemJournal(root)
    for number in range(999, 1003):
        journal.append(number, b"%d" % number)
    assert FilesystemJournal(root).last() == 1002
    assert (root / "journal/0001/001001.json").read_bytes() == b"1001"
    for stray in ("x001003.json", "001003.json.", "1003.json", "001003.json\n", "x\n001003.json", "001003.jsonx"):
        (root / "journal/0001" / stray).touch()
    assert FilesystemJournal(root).last() == 1002
    (root / segment_place(500)).unlink()
    with pytest.raises(StoreDamaged):
        FilesystemJournal(root)
    with pytest.raises(StoreDamaged):
        journal.read(500)


def test_a_file_is_read_to_its_end(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its size was when it was opened, and however little one read gives."""
    real = os.read

    def read(fd: int, size: int) -> bytes:
        return real(fd, min(size, 3))

    for data in (b"", b"abc", b"abcdefgh"):
        (root / "scratch/x").write_bytes(data)
        assert durable.read_regular(root / "scratch/x") == data
        with monkeypatch.context() as patch:
            patch.setattr(os, "read", read)
            assert durable.read_regular(root / "scratch/x") == data
    assert durable.read_regular("/proc/self/stat").startswith(b"%d " % os.getpid())  # says that it is empty


def test_another_process_is_seen(root: Path) -> None:
    ours, theirs = FilesystemJournal(root), FilesystemJournal(root)
    theirs.append(1, b"theirs")
    with pytest.raises(Conflict):
        ours.append(1, b"ours")
    ours.append(2, b"ours")
    assert theirs.last() == 2


def test_of_two_processes_exactly_one_gets_a_number(root: Path) -> None:
    begin, go = os.pipe()
    children = []
    for name in ("a", "b"):
        answer, tell = os.pipe()
        child = os.fork()
        if child == 0:
            journal, won = FilesystemJournal(root), []
            os.close(go)
            os.read(begin, 1)  # both wait here until the parent closes its end
            for number in range(1, 201):
                try:
                    journal.append(number, f"{name}{number}".encode())
                    won.append(number)
                except Conflict:
                    pass
            os.write(tell, json.dumps(won).encode())
            os._exit(0)
        os.close(tell)
        children.append((child, answer))
    os.close(go)
    won = []
    for child, answer in children:
        with os.fdopen(answer, "rb") as file:
            won.append(json.loads(file.read()))
        assert os.waitpid(child, 0)[1] == 0
    os.close(begin)
    assert sorted(won[0] + won[1]) == list(range(1, 201))
    for name, numbers in zip("ab", won, strict=True):
        assert all((root / segment_place(number)).read_bytes() == f"{name}{number}".encode() for number in numbers)


def test_a_torn_derivative_counts_as_absent(root: Path, derivatives: FilesystemDerivatives) -> None:
    derivatives.put({"r-1.1": b"thumbnail"})
    path = root / derivative_place("r-1.1")
    whole = path.read_bytes()
    for torn in (b"", whole[:-1], whole[:20], bytes(len(whole)), b"\x00" + whole[1:]):
        path.write_bytes(torn)
        assert derivatives.get("r-1.1") is None
    derivatives.put({"r-1.1": b"again"})
    assert derivatives.get("r-1.1") == b"again"


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", "A", "a\n"])
def test_derivative_names_stay_in_their_folder(derivatives: FilesystemDerivatives, name: str) -> None:
    with pytest.raises(BadInput):
        derivatives.put({name: b""})


# Crashes


MUTATING = ("os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "os.truncate")


def killed_at(point: int, work: Callable[[], object]) -> bool:
    """Run `work` in a child that is killed at its `point`-th change of the disk; whether it came that far."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == signal.SIGKILL
    left = point

    def step() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(call: Callable[..., object]) -> Callable[..., object]:
        def stepped(*arguments: object) -> object:
            step()
            return call(*arguments)

        return stepped

    try:
        os.write, os.fsync = counted(os.write), counted(os.fsync)  # type: ignore[assignment]
        durable._syncfs = counted(durable._syncfs)  # type: ignore[assignment]
        sys.addaudithook(lambda event, _: step() if event in MUTATING else None)
        work()
    finally:
        os._exit(0)


@pytest.mark.parametrize("one_by_one", [False, True])
def test_killed_at_every_step_of_a_seal(tmp_path: Path, one_by_one: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Complete or absent, nothing else, and the rerun succeeds: first version, later version, two in a group."""
    if one_by_one:
        monkeypatch.setattr(durable, "_syncfs_believed", lambda fd: False)
    large = Generated(3 * BLOCK)  # written in pieces
    group = [version(number=2, b=b"2", carried=("a",)), version("r-2", a=b"x", b=large), version(number=3, c=b"3")]
    point = 0
    seen = set()
    while True:
        point += 1
        root = tmp_path / str(point)
        create_store(root, "s-1")
        [first] = FilesystemObjects(root).seal([version(a=b"1")])
        came = killed_at(point, lambda root=root: FilesystemObjects(root).seal(group))  # type: ignore[misc]
        objects = FilesystemObjects(root)
        objects.heal()
        seen.add((objects.head("r-1"), objects.head("r-2")))
        for object_id in ("r-1", "r-2"):
            if objects.head(object_id):
                assert objects.check(object_id).findings == [], point
        assert set(objects.objects()) == {"r-1"} | ({"r-2"} if objects.head("r-2") else set())
        assert objects.strays() == []
        assert [path for path in (root / "scratch").rglob("*") if path.name != "lock" and path.is_file()] == []
        pins = objects.seal(group)
        assert objects.check("r-1", [first, pins[0], pins[2]]).findings == []
        assert objects.check("r-2", [pins[1]]).findings == []
        if not came:
            break
    assert point > 40
    assert {(1, 0), (2, 0), (2, 1), (3, 1)} <= seen


def test_killed_at_every_step_of_laying_out(tmp_path: Path) -> None:
    """A store is there whole or not at all: a description that is cut short would keep the next attempt out."""
    point = 0
    while True:
        point += 1
        root = tmp_path / str(point)
        came = killed_at(point, lambda root=root: create_store(root, "s-1"))  # type: ignore[misc]
        if not (root / "store.json").exists():
            create_store(root, "s-1")
        assert open_store(root) == "s-1"
        if not came:
            break
    assert point > 10


def test_killed_at_every_step_of_an_append(tmp_path: Path) -> None:
    point = 0
    while True:
        point += 1
        root = tmp_path / str(point)
        create_store(root, "s-1")
        FilesystemJournal(root).append(1, b"one")
        came = killed_at(point, lambda root=root: FilesystemJournal(root).append(2, b"two"))  # type: ignore[misc]
        journal = FilesystemJournal(root)
        assert list(journal.segments()) in ([(1, b"one")], [(1, b"one"), (2, b"two")])
        assert FilesystemObjects(root).strays() == []
        FilesystemObjects(root).heal()
        journal.append(2, b"two")
        if not came:
            break
    assert point > 6


def test_killed_at_any_moment(root: Path) -> None:
    """As a power button does it: a process that seals and journals is killed five times, whenever it happens."""
    chance = random.Random(7)
    for turn in range(5):
        child = os.fork()
        if child == 0:
            try:
                objects, journal = FilesystemObjects(root), FilesystemJournal(root)
                for number in range(100_000):
                    pins = objects.seal([version(f"r-{turn}-{number}-{n}", a=os.urandom(5000)) for n in range(3)])
                    journal.append(journal.last() + 1, json.dumps([[p.object_id, p.digest] for p in pins]).encode())
            finally:
                os._exit(1)
        signal.signal(signal.SIGALRM, lambda *_, child=child: os.kill(child, signal.SIGKILL))
        signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.05, 0.3))
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        objects, journal = FilesystemObjects(root), FilesystemJournal(root)
        objects.heal()
        named = {name: digest for _, segment in journal.segments() for name, digest in json.loads(segment)}
        there = set(objects.objects())
        assert set(named) <= there
        for name in there:
            pins = [Pin(name, 1, named[name])] if name in named else []
            assert objects.check(name, pins).findings == []
    assert journal.last() > 5


def test_a_root_inventory_left_behind_is_healed(root: Path, objects: FilesystemObjects) -> None:
    """The window between a version's name and the root inventory: found by `check`, closed by the next seal too."""
    objects.seal([version(a=b"1")])
    home = root / object_place("r-1")
    old = (home / "inventory.json").read_bytes()
    objects.seal([version(number=2, a=b"2")])
    (home / "inventory.json").unlink()
    (home / "inventory.json").write_bytes(old)
    assert [(f.path, f.code) for f in objects.check("r-1").findings] == [("inventory.json", "stale")]
    objects.seal([version(number=3, a=b"3")])
    assert objects.check("r-1").findings == []


def test_scratch_of_a_living_process_is_left_alone(root: Path, objects: FilesystemObjects) -> None:
    objects.seal([version(a=b"1")])
    [mine] = [path for path in (root / "scratch").iterdir() if path.is_dir()]
    (root / "scratch" / "abandoned").mkdir()
    (root / "scratch" / "abandoned" / "x").write_bytes(b"")
    FilesystemObjects(root).heal()
    assert mine.exists()
    assert not (root / "scratch" / "abandoned").exists()
    objects.seal([version("r-2", a=b"1")])


# Full and failing disks


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real one where mounting is allowed, else refused writes: nothing half-made, what was sealed stays, then it
    goes on.
    """
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(tmp_path)], capture_output=True)
    try:
        root = tmp_path / "store"
        create_store(root, "s-1")
        objects, journal = FilesystemObjects(root), FilesystemJournal(root)
        pins = objects.seal([version(a=b"1" * 1000)])
        if mounted.returncode == 0:
            ballast = tmp_path / "ballast"
            with pytest.raises(OSError, match="No space"), ballast.open("wb") as file:
                while True:
                    file.write(bytes(65536))
            ballast.write_bytes(bytes(1_900_000 // 4096 * 4096 - 200_000))
        else:
            refuse_writes(monkeypatch, errno.ENOSPC)
        big = [version("r-2", a=b"2" * 1000), version("r-3", a=bytes(3_000_000))]
        with pytest.raises(StorageFull):
            objects.seal(big)
        with pytest.raises(StorageFull):
            journal.append(1, bytes(3_000_000))
        with pytest.raises(StorageFull):
            FilesystemDerivatives(root).put({"r-1.1": bytes(3_000_000)})
        assert [path for path in (root / "scratch").rglob("*") if path.name != "lock" and path.is_file()] == []
        monkeypatch.undo()
        assert [objects.head(f"r-{n}") for n in (1, 2, 3)] == [1, 0, 0]
        assert objects.check("r-1", pins).findings == []
        assert (journal.last(), FilesystemJournal(root).last()) == (0, 0)
        if mounted.returncode == 0:
            ballast.unlink()
        objects.seal(big[:1])
        journal.append(1, b"one")
    finally:
        if mounted.returncode == 0:
            del objects, journal
            subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def refuse_writes(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refused(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", refused)


@pytest.mark.parametrize(
    ("number", "kind", "code"),
    [
        (errno.ENOSPC, StorageFull, "storage.full"),
        (errno.EDQUOT, StorageFull, "storage.full"),
        (errno.EROFS, NotReady, "storage.read_only"),
        (errno.EACCES, NotReady, "storage.denied"),
        (errno.EIO, StorageFailed, "storage.failed"),
    ],
)
def test_what_the_system_says_is_translated(
    objects: FilesystemObjects, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[DaichoError], code: str
) -> None:
    refuse_writes(monkeypatch, number)
    with pytest.raises(kind) as caught:
        objects.seal([version(a=b"1")])
    assert caught.value.code == code
    assert isinstance(caught.value.__cause__, OSError)
    assert objects.head("r-1") == 0


@pytest.mark.parametrize("at", range(2))
def test_a_failed_sync_is_final(
    root: Path, objects: FilesystemObjects, journal: FilesystemJournal, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """The sync of the content, or that of the names: the error is reported, and nothing is written afterwards,
    although syncs work again.
    """
    real, calls = durable._syncfs, []

    def failing(fd: int) -> None:
        calls.append(fd)
        if len(calls) == at + 1:
            raise OSError(errno.EIO, "lost")
        real(fd)

    monkeypatch.setattr(durable, "_syncfs", failing)
    monkeypatch.setattr(durable, "_syncfs_believed", lambda fd: True)
    with pytest.raises(StorageFailed):
        objects.seal([version(a=b"1", b=b"2")])
    for write in (
        lambda: objects.seal([version(a=b"1", b=b"2")]),
        lambda: journal.append(1, b"one"),
        lambda: FilesystemDerivatives(root).put({"x": b""}),
    ):
        with pytest.raises(StorageFailed):
            write()
    assert len(calls) == at + 1
    assert (objects.head("r-1"), journal.last()) == (at, 0)  # not named before its content was synced


def test_a_failed_fsync_of_a_segment_is_final(journal: FilesystemJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(fd: int) -> None:
        raise OSError(errno.EIO, "lost")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        with pytest.raises(StorageFailed):
            journal.append(1, b"one")
    with pytest.raises(StorageFailed):
        journal.append(1, b"one")
    assert journal.last() == 0


def test_without_hard_links(journal: FilesystemJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on filesystems that lack them: the rename that does not replace takes over."""

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refused)
    JournalContract().test_the_same_again_succeeds_and_other_bytes_do_not(journal)


def test_one_by_one_syncs_every_file_before_it_is_named(
    root: Path, objects: FilesystemObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where syncfs cannot be believed, each file and folder of a version is synced before the rename, and its parents
    after it.
    """
    events: list[str] = []
    real_fsync, real_rename = os.fsync, Path.rename

    def fsync(fd: int) -> None:
        events.append(str(Path(f"/proc/self/fd/{fd}").readlink()))
        real_fsync(fd)

    def rename(path: Path, target: Path) -> Path:
        events.append("rename")
        return real_rename(path, target)

    monkeypatch.setattr(durable, "_syncfs_believed", lambda fd: False)
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", rename)
    objects.seal([version(a=b"1", b=b"2")])
    at = events.index("rename")
    before, after = set(events[:at]), set(events[at:])
    names = {Path(place).name for place in before}
    assert {"a", "b", "inventory.json", "inventory.json.sha512", "0=ocfl_object_1.1", "content", "v1"} <= names
    home = root / object_place("r-1")
    assert {str(home.parent), str(home.parent.parent), str(root / "objects")} <= after
