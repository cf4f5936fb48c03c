"""A medium as offices have it: exFAT, which has no hard links and no permissions, tells no capitals from small letters, and takes few characters in names.

Backups, exports and checkpoints go there; an installation does not, and is told so before anything is made.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.errors import NotReady
from storage import durable
from tests.faults.operations import pages
from tests.installed import Installation, content, done, made, run
from tests.machine import need


@pytest.fixture(scope="module")
def stick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A medium of 64 MiB, formatted with exFAT."""
    need("mkfs.exfat", "mount.exfat-fuse")
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a medium")
    folder = tmp_path_factory.mktemp("medium")
    image, place = folder / "image", folder / "stick"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.exfat", image], check=True, capture_output=True)
    looped = subprocess.run(["losetup", "--find", "--show", image], capture_output=True, text=True)
    if looped.returncode:
        pytest.skip("this machine lets nobody mount an image")
    device = looped.stdout.strip()
    try:
        mounted = subprocess.run(["mount.exfat-fuse", device, place], capture_output=True)
        if mounted.returncode:
            pytest.skip("this machine lets nobody mount a medium")
        try:
            yield place
        finally:
            subprocess.run(["umount", "-l", place], check=True)
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """An installation with a record, on an ordinary disk."""
    folder = tmp_path_factory.mktemp("house")
    place = made(folder / "data", ["whole-pages"])
    ingested(place, pages(folder / "first", 1, 1))
    return place


def ingested(place: Installation, scans: Path) -> None:
    done("ingest", scans, "--ledger", "whole-pages", "--no-text", "--jobs", "1", data=place.data)


def lying(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_it_is_what_it_is_meant_to_be(stick: Path) -> None:
    """The control: without these lacks the tests below would prove nothing."""
    (stick / "Name").touch()
    assert (stick / "nAME").exists()
    with pytest.raises(OSError):
        os.link(stick / "Name", stick / "other")
    with pytest.raises(OSError):
        (stick / "a:b").touch()
    assert (stick / "Name").stat().st_mode & 0o077
    (stick / "Name").unlink()


def test_no_installation_is_made_there_and_nothing_is_left(stick: Path, tmp_path: Path) -> None:
    for data, keys in ((stick, stick), (tmp_path, stick), (stick, tmp_path)):
        refused = run("init", "--data", str(data / "data"), "--keys", str(keys / "keys"))
        assert (refused.code, refused.error) == (78, "storage.unsuitable"), refused.err
        assert "ext4" in refused.err
        assert (lying(stick), lying(tmp_path)) == ([], [])


def test_a_backup_lies_there(house: Installation, stick: Path, tmp_path: Path) -> None:
    """Made, brought up to date, proved, restored; not restored onto the medium itself."""
    target = str(stick / "copy")
    for scans in (None, pages(tmp_path / "scans", 2, 2)):
        if scans:
            ingested(house, scans)
        told = run("backup", target, "--data", str(house.data))
        assert told.code == 0, told.err
        assert run("verify", "--store", target).rows[-1]["ok"]
    back = tmp_path / "back"
    assert run("restore", target, "--data", str(back)).code == 0
    assert content(back) == content(house.data)
    before = lying(stick)
    refused = run("restore", target, "--data", str(stick / "back"))
    assert (refused.code, refused.error) == (78, "storage.unsuitable"), refused.err
    assert lying(stick) == before
    shutil.rmtree(stick / "copy")


def test_an_installation_that_was_copied_there_is_read_and_not_gone_on_with(house: Installation, stick: Path) -> None:
    data, keys = stick / "data", stick / "data-keys"
    shutil.copytree(house.data, data, copy_function=shutil.copyfile)
    shutil.copytree(house.keys, keys, copy_function=shutil.copyfile)
    assert run("verify", "--data", str(data)).code == 0
    journal = lying(data / "store/journal")
    refused = run("search", "x", "--data", str(data))
    assert (refused.code, refused.error) == (78, "storage.unsuitable"), refused.err
    assert lying(data / "store/journal") == journal
    for folder in (data, keys):
        shutil.rmtree(folder)


def test_exports_and_checkpoints_go_there(house: Installation, stick: Path, tmp_path: Path) -> None:
    """Attachments whose names differ in capitals alone, or have characters that the medium does not take."""
    [row, *_] = done("search", "", data=house.data)
    names = ("Plan.txt", "plan.TXT", "a:b?.txt", "図面　第1号.txt")
    files = []
    for number, name in enumerate(names):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / name).write_text(name, "utf-8")
        files.append(folder / name)
    done("record", "attach", row["record"], *files, "--why", "添える", data=house.data)
    told = run("record", "export", row["record"], str(stick / "export"), "--data", str(house.data))
    assert told.code == 0, told.err
    attached = [file.read_text("utf-8") for file in (stick / "export/attachments").iterdir()]
    assert sorted(attached) == sorted(names)
    (stick / "witness").mkdir()
    for words in (("audit", "witness", str(stick / "witness")), ("audit", "print", str(stick / "page.pdf"))):
        told = run(*words, "--data", str(house.data))
        assert told.code == 0, told.err
    [checkpoint] = (stick / "witness").glob("checkpoint-*.txt")
    told = run("audit", "verify", "--checkpoint", str(checkpoint), "--data", str(house.data))
    assert told.code == 0, told.err


def test_a_filesystem_that_keeps_no_permissions_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As exFAT with a driver that can rename without replacing: keys could be read by everybody on the machine."""
    durable.require_suitable(tmp_path)
    write_new = durable.write_new

    def open_to_all(path: Path, data: bytes, mode: int = 0o444) -> None:
        write_new(path, data, mode)
        path.chmod(0o755)

    monkeypatch.setattr(durable, "write_new", open_to_all)
    with pytest.raises(NotReady) as caught:
        durable.require_suitable(tmp_path)
    assert (caught.value.code, "umask=077" in caught.value.ja) == ("storage.unsuitable", True)
    assert list(tmp_path.iterdir()) == []
