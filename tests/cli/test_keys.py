"""`daicho keys`: the master key changes under a whole installation, and what is wrong with the key folder is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from storage.filesystem import open_store
from storage.keys import FilesystemKeys, wrapped_place
from tests.installed import Installation, content, copied, done, run


@pytest.fixture
def here(small: Installation, tmp_path: Path) -> Installation:
    """A handful of sheets, to be harmed."""
    return copied(small, tmp_path)


def entries(data: Path, event: str) -> list[dict[str, object]]:
    segments = sorted((data / "store" / "journal").rglob("*.json"))
    found = [entry for file in segments for entry in json.loads(file.read_bytes())["entries"]]
    return [entry for entry in found if entry["event"] == event]


def test_a_rotation_of_an_installation(here: Installation) -> None:
    before, master = content(here.data), (here.keys / "master.key").read_bytes()
    objects = {path: path.stat().st_mtime_ns for path in (here.data / "store" / "objects").rglob("*")}
    [told] = done("keys", "rotate", data=here.data)
    count = len(list((here.keys / "wrapped").rglob("*.age")))
    assert told == {"ok": True, "keys": count, "wrapped": count, "findings": 0}
    assert master.splitlines()[1] not in b"".join(path.read_bytes() for path in here.keys.rglob("*") if path.is_file())
    assert {path: path.stat().st_mtime_ns for path in (here.data / "store" / "objects").rglob("*")} == objects
    [entry] = entries(here.data, "master_rotated")
    assert entry["person"] and entry["data"]["keys"] == count  # type: ignore[index]
    after = content(here.data)
    assert after["events"].pop("master_rotated") == 1
    assert after == before
    assert done("verify", data=here.data)[-1]["ok"] and done("keys", "check", data=here.data)[-1]["ok"]
    done("keys", "rotate", data=here.data)
    assert len({entry["data"]["master"] for entry in entries(here.data, "master_rotated")}) == 2  # type: ignore[index]
    refused = run("keys", "rotate", "--as", "desk", data=here.data)
    assert (refused.error, refused.code) == ("not_permitted", 77)
    assert not (here.keys / "master.next").exists()


def test_what_is_wrong_is_named(here: Installation, tmp_path: Path) -> None:
    records = sorted(path.stem for path in (here.keys / "wrapped").rglob("r-*.age"))
    damaged, other, lost = records[:3]
    place = here.keys / wrapped_place(damaged)
    whole = place.read_bytes()
    place.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    saved = (here.keys / wrapped_place(other)).read_bytes()
    shutil.copy(here.keys / wrapped_place(records[3]), here.keys / wrapped_place(other))
    (here.keys / wrapped_place(lost)).rename(tmp_path / "lost")
    for command in (("keys", "check"), ("verify",)):
        told = run(*command, data=here.data)
        assert told.code == 74
        assert {
            ("damaged", damaged, wrapped_place(damaged)),
            ("misplaced", other, wrapped_place(other)),
            ("keys.gone", lost, ""),
        } <= {(row["finding"], row["object"], row["path"]) for row in told.rows if "finding" in row}
    told = run("keys", "rotate", data=here.data)
    assert told.code == 74
    assert {row["finding"] for row in told.rows if "finding" in row} == {"damaged", "misplaced"}
    assert entries(here.data, "master_rotated") == []
    # Their files from the backup, wrapped under the old master key, are taken; the same command ends it.
    place.write_bytes(whole)
    (here.keys / wrapped_place(other)).write_bytes(saved)
    (tmp_path / "lost").rename(here.keys / wrapped_place(lost))
    assert done("keys", "rotate", data=here.data)[-1]["ok"]
    assert done("keys", "check", data=here.data)[-1] == {
        "ok": True,
        "keys": len(list((here.keys / "wrapped").rglob("*.age"))),
        "findings": 0,
        "idle": 0,
    }


def test_a_key_folder_without_its_keys_is_told_at_the_start(here: Installation) -> None:
    before = done("info", data=here.data)[-1]
    (here.keys / "wrapped").rename(here.keys / "elsewhere")
    (here.keys / "wrapped").mkdir()
    told = run("search", "x", data=here.data)
    assert (told.error, told.code) == ("keys.lost", 78)
    (here.keys / "wrapped").rmdir()
    (here.keys / "elsewhere").rename(here.keys / "wrapped")
    after = done("info", data=here.data)[-1]
    assert (after["digest"], after["index_documents"]) == (before["digest"], before["index_documents"])


@pytest.mark.parametrize(
    ("name", "command"), [("master.key", "info"), ("probe.age", "rebuild"), ("store.json", "verify")]
)
def test_a_damaged_file_of_the_key_folder_is_told_at_the_start(here: Installation, name: str, command: str) -> None:
    data = bytearray((here.keys / name).read_bytes())
    data[len(data) // 2] ^= 1
    (here.keys / name).write_bytes(data)
    told = run(command, data=here.data)
    assert (told.error, told.code, name in told.err) == ("keys.damaged", 74, True)


def test_a_key_that_waits_for_its_object_is_no_finding(here: Installation) -> None:
    FilesystemKeys(here.keys, open_store(here.data / "store")).create(["r-aaaaaaaaaaaaaaaaaaaaaaaaaa"])
    *idle, last = done("keys", "check", data=here.data)
    assert idle == [{"idle": "r-aaaaaaaaaaaaaaaaaaaaaaaaaa"}] and last["ok"] and last["idle"] == 1
