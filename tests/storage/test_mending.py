"""What was sealed is put back from a copy, file by file, and only where a digest proves it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from core.errors import DigestMismatch
from core.settings import S3Settings
from storage.canonical import sha256_hex, sha512_hex
from storage.filesystem import FilesystemJournal, FilesystemObjects, create_store
from storage.inventory import NAME, earlier, parsed
from storage.mending import FilesystemPlaces, LooseJournal, mend_journal, mend_object, mend_root
from storage.mending_s3 import S3Places
from storage.places import ROOT_PLACES, STORE_PLACE, object_place, segment_place
from storage.port import Pin
from storage.s3 import S3Journal, S3Objects, create_s3_store
from tests.contracts.storage_contracts import version
from tests.servers.running import S3Server
from tests.storage.buckets import opened, remove

VERSIONS = [
    version("r-1", a=b"one" * 100, b=b"page"),
    version("r-1", 2, a=b"two" * 100, carried=("b",)),
    version("r-1", 3, c=b"three", carried=("a", "b")),
]
SEGMENTS = 5


def segments() -> list[bytes]:
    made: list[bytes] = []
    for number in range(1, SEGMENTS + 1):
        previous = sha256_hex(made[-1]) if made else ""
        made.append(json.dumps({"segment": number, "previous": previous}).encode())
    return made


def previous_of(segment: bytes) -> str:
    return str(json.loads(segment)["previous"])


def fill(objects: Any, journal: Any) -> list[Pin]:
    pins: list[Pin] = objects.seal(VERSIONS)
    for number, segment in enumerate(segments(), 1):
        journal.append(number, segment)
    return pins


@pytest.fixture
def pins(root: Path) -> list[Pin]:
    return fill(FilesystemObjects(root), FilesystemJournal(root))


@pytest.fixture
def copy(pins: list[Pin], root: Path, tmp_path: Path) -> Path:
    shutil.copytree(root, tmp_path / "copy")
    return tmp_path / "copy"


def damaged(path: Path, how: str) -> None:
    data = path.read_bytes()
    path.unlink()
    if how == "flipped":
        path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "link":
        path.symlink_to("/etc/hostname")


def digests(pins: list[Pin], *numbers: int) -> dict[int, str]:
    return {pin.number: pin.digest for pin in pins if not numbers or pin.number in numbers}


def sealed(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and "scratch" not in path.parts
    }


@pytest.mark.parametrize("how", ["flipped", "empty", "lost", "link"])
def test_every_file_of_an_object(pins: list[Pin], root: Path, copy: Path, how: str) -> None:
    here, there = FilesystemPlaces(root), FilesystemPlaces(copy)
    before = sealed(root)
    places = [place for place in before if place.startswith(object_place("r-1"))]
    assert len(places) == 1 + 2 + 3 * 2 + 4
    for place in places:
        damaged(root / place, how)
        told: list[tuple[str, ...]] = []
        mended = mend_object("r-1", digests(pins), here, there, told.append)
        assert mended.repaired == (place,) and mended.lost == () and told == [(place,)]
        assert sealed(root) == before
        assert (root / place).stat().st_mode & 0o222 == 0
    assert FilesystemObjects(root).check("r-1", pins).findings == []


def test_a_whole_object(pins: list[Pin], root: Path, copy: Path) -> None:
    before = sealed(root)
    shutil.rmtree(root / object_place("r-1"))
    mend_object("r-1", digests(pins, 3), FilesystemPlaces(root), FilesystemPlaces(copy), lambda places: None)
    assert sealed(root) == before


def test_earlier_inventories_follow_from_a_later_one(pins: list[Pin], root: Path) -> None:
    home = root / object_place("r-1")
    newest = parsed((home / "v3" / NAME).read_bytes())
    for number in (1, 2, 3):
        assert sha512_hex(earlier(newest, number)) == pins[number - 1].digest


def test_what_no_digest_proves_is_not_written(pins: list[Pin], root: Path, copy: Path) -> None:
    """The copy has other bytes, as a forger would like it; with the proof taken away they would come in (below)."""
    place = f"{object_place('r-1')}/v1/content/a"
    damaged(root / place, "flipped")
    damaged(copy / place, "empty")
    before = sealed(root)
    mended = mend_object("r-1", digests(pins), FilesystemPlaces(root), FilesystemPlaces(copy), lambda places: None)
    assert (mended.repaired, mended.lost) == ((), (place,))
    assert sealed(root) == before
    inventory = f"{object_place('r-1')}/v3/{NAME}"
    for folder in (root, copy):
        damaged(folder / inventory, "flipped")
    mended = mend_object("r-1", digests(pins), FilesystemPlaces(root), FilesystemPlaces(copy), lambda places: None)
    assert (mended.repaired, mended.lost) == ((), (inventory,))


def test_without_the_proof_the_forgery_would_come_in(
    pins: list[Pin], root: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control of the test above."""
    place = f"{object_place('r-1')}/v1/content/a"
    damaged(root / place, "lost")
    damaged(copy / place, "empty")
    real = FilesystemPlaces.pieces

    def believing(self: FilesystemPlaces, name: str, digest: str) -> Any:
        return self._read(name) if name == place and self._root == copy else real(self, name, digest)

    monkeypatch.setattr(FilesystemPlaces, "pieces", believing)
    with pytest.raises(DigestMismatch) as caught:  # a second proof, while it is written
        mend_object("r-1", digests(pins), FilesystemPlaces(root), FilesystemPlaces(copy), lambda places: None)
    assert caught.value.code == "repair.changed"
    put_back = FilesystemPlaces.put_back

    def unasked(self: FilesystemPlaces, name: str, pieces: Iterable[bytes], digest: str) -> bool:
        data = b"".join(pieces)
        return put_back(self, name, [data], sha512_hex(data))

    monkeypatch.setattr(FilesystemPlaces, "put_back", unasked)
    mend_object("r-1", digests(pins), FilesystemPlaces(root), FilesystemPlaces(copy), lambda places: None)
    assert (root / place).read_bytes() == b""


def test_nothing_is_written_when_it_may_not_be_announced(pins: list[Pin], root: Path, copy: Path) -> None:
    place = f"{object_place('r-1')}/v1/content/a"
    damaged(root / place, "flipped")
    before = sealed(root)

    def refuse(places: tuple[str, ...]) -> None:
        raise PermissionError

    with pytest.raises(PermissionError):
        mend_object("r-1", digests(pins), FilesystemPlaces(root), FilesystemPlaces(copy), refuse)
    assert sealed(root) == before


def test_what_lies_besides_stays(pins: list[Pin], root: Path, copy: Path) -> None:
    home = root / object_place("r-1")
    (home / "notes.txt").write_text("foreign")
    content = home / "v1/content/a"
    content.unlink()
    content.mkdir()  # cannot give way to a file
    (home / "v2" / NAME).unlink()
    mended = mend_object("r-1", digests(pins), FilesystemPlaces(root), FilesystemPlaces(copy), lambda places: None)
    assert [Path(place).name for place in mended.repaired] == [NAME]
    assert mended.lost == (f"{object_place('r-1')}/v1/content/a",)
    assert (home / "notes.txt").read_text() == "foreign" and content.is_dir()


def test_a_version_that_nobody_acknowledged_keeps_the_root(pins: list[Pin], root: Path, copy: Path) -> None:
    FilesystemObjects(root).seal([version("r-1", 4, d=b"begun", carried=("a",))])
    before = sealed(root)
    damaged(root / object_place("r-1") / "v1/content/a", "flipped")
    mend_object("r-1", digests(pins), FilesystemPlaces(root), FilesystemPlaces(copy), lambda places: None)
    assert sealed(root) == before


@pytest.mark.parametrize("number", range(1, SEGMENTS + 1))
@pytest.mark.parametrize("known", [True, False], ids=["with the catalogue", "by the chain"])
@pytest.mark.parametrize("how", ["flipped", "lost"])
def test_every_segment(pins: list[Pin], root: Path, copy: Path, number: int, known: bool, how: str) -> None:
    before = sealed(root)
    kept = [sha256_hex(segment) for segment in segments()]
    damaged(root / segment_place(number), how)
    mended = mend_journal(
        FilesystemPlaces(root),
        FilesystemPlaces(copy),
        lambda each: kept[each - 1] if known and each <= SEGMENTS else "",
        previous_of if how == "lost" else lambda data: previous_of(data) if data[:1] == b"{" else "",
        lambda places: None,
    )
    if known or number < SEGMENTS:
        assert mended.repaired == (segment_place(number),) and sealed(root) == before
    else:
        assert mended.repaired == () and sealed(root) != before, "nothing behind the last one proves it"


def test_a_forged_segment_of_the_copy_is_not_taken(pins: list[Pin], root: Path, copy: Path) -> None:
    kept = [sha256_hex(segment) for segment in segments()]
    for folder in (root, copy):
        damaged(folder / segment_place(2), "flipped")
    mended = mend_journal(
        FilesystemPlaces(root),
        FilesystemPlaces(copy),
        lambda each: kept[each - 1] if each <= SEGMENTS else "",
        previous_of,
        lambda places: None,
    )
    assert (mended.repaired, mended.lost) == ((), (segment_place(2),))


def test_a_journal_with_gaps_is_read_around_them(pins: list[Pin], root: Path) -> None:
    (root / segment_place(2)).unlink()
    journal = LooseJournal(FilesystemPlaces(root))
    assert journal.last() == SEGMENTS and journal.read(3) == segments()[2]
    with pytest.raises(Exception) as caught:
        journal.read(2)
    assert getattr(caught.value, "code", "") == "journal.gap"


def test_the_files_that_make_a_folder_a_store(pins: list[Pin], root: Path) -> None:
    before = sealed(root)
    for place in (*ROOT_PLACES, STORE_PLACE):
        damaged(root / place, "lost")
    mended = mend_root("s-1", FilesystemPlaces(root), lambda places: None)
    assert sealed(root) == before and mended.repaired[-1] == STORE_PLACE


@pytest.mark.parametrize("place", ROOT_PLACES)
def test_a_flipped_bit_in_them_is_found(pins: list[Pin], root: Path, place: str) -> None:
    damaged(root / place, "flipped")
    assert [(each.path, each.code) for each in FilesystemObjects(root).strays()] == [(place, "damaged")]
    mend_root("s-1", FilesystemPlaces(root), lambda places: None)
    assert FilesystemObjects(root).strays() == []


def test_in_a_bucket(minio: S3Server, pins: list[Pin], root: Path) -> None:
    """Both ways: a bucket is put right from a folder, and a folder from a bucket."""
    where: S3Settings = minio.new(lock_mode="GOVERNANCE", timeout=10)
    create_s3_store(where, "s-1")
    objects = S3Objects(where)
    assert fill(objects, S3Journal(where)) == pins
    bucket, there, here = opened(where), FilesystemPlaces(root), S3Places(where)
    home = object_place("r-1")
    change: Callable[[str], object] = lambda place: bucket.put(place, b"\x00")  # noqa: E731
    for place, harm in (
        (f"{home}/v1/content/a", remove_),
        (f"{home}/v2/{NAME}", remove_),
        (f"{home}/{NAME}", lambda _, name: change(name)),
        (f"{home}/0=ocfl_object_1.1", remove_),
    ):
        harm(bucket, place)
        mended = mend_object("r-1", digests(pins), here, there, lambda places: None)
        assert mended.repaired == (place,), place
        assert [each for each in objects.check("r-1", pins).findings if each.code != "unlocked"] == []
    remove(bucket, ROOT_PLACES[0])
    assert [(each.path, each.code) for each in objects.strays()] == [(ROOT_PLACES[0], "damaged")]
    assert mend_root("s-1", here, lambda places: None).repaired == (ROOT_PLACES[0],) and objects.strays() == []
    # Put over, not lost: reads find the sealed bytes, and nothing is mended.
    change(f"{home}/v1/content/a")
    assert mend_object("r-1", digests(pins), here, there, lambda places: None).repaired == ()
    # What somebody put first cannot give way.
    remove(bucket, f"{home}/v2/{NAME}")
    change(f"{home}/v2/{NAME}")
    assert mend_object("r-1", digests(pins), here, there, lambda places: None).lost == (f"{home}/v2/{NAME}",)
    damaged(root / home / "v3/content/c", "flipped")
    damaged(root / segment_place(2), "lost")
    before = FilesystemObjects(root).check("r-1", pins).findings
    assert [each.code for each in before] == ["damaged"]
    mend_object("r-1", digests(pins), there, here, lambda places: None)
    mend_journal(there, here, lambda number: "", previous_of, lambda places: None)
    assert FilesystemObjects(root).check("r-1", pins).findings == []
    assert [segment for _, segment in FilesystemJournal(root).segments()] == segments()


def remove_(bucket: Any, place: str) -> None:
    remove(bucket, place)


def test_a_copy_is_only_read(pins: list[Pin], copy: Path, tmp_path: Path) -> None:
    create_store(tmp_path / "new", "s-1")
    before = {path: path.lstat().st_mtime_ns for path in copy.rglob("*")}
    mend_object("r-1", digests(pins), FilesystemPlaces(tmp_path / "new"), FilesystemPlaces(copy), lambda places: None)
    assert {path: path.lstat().st_mtime_ns for path in copy.rglob("*")} == before
    assert FilesystemObjects(tmp_path / "new").check("r-1", pins).findings == []
