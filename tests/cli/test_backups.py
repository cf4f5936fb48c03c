"""Verifying, mending, backing up, restoring and drilling, by the installed command, on stores that were harmed."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.canonical import sha256_hex
from storage.places import segment_place
from tests.installed import DAICHO, Installation, copied, digest, done, environment, run
from tests.machine import need

pytestmark = pytest.mark.slow

Finding = dict[str, Any]


@pytest.fixture(scope="module")
def kept(small: Installation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of the small installation, its keys apart (`keys`)."""
    folder = tmp_path_factory.mktemp("kept")
    told = done("backup", folder / "disk", "--keys-target", folder / "keys", data=small.data)[-1]
    assert told["versions"] > 4 and told["damaged"] == 0 and told["keys"] > 4
    return folder


@pytest.fixture
def here(small: Installation, tmp_path: Path) -> Installation:
    return copied(small, tmp_path)


def files(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): sha256_hex(path.read_bytes()) if path.is_file() else "link"
        for path in folder.rglob("*")
        if not path.is_dir() and "scratch" not in path.parts
    }


def findings(rows: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    return [(row["object"], row["path"], row["finding"]) for row in rows if "finding" in row]


def flip(path: Path) -> None:
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def contents(data: Path) -> list[Path]:
    return sorted((data / "store" / "objects").rglob("*.age"))


def events(data: Path, event: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    for file in sorted((data / "store" / "journal").rglob("*.json")):
        entries += json.loads(file.read_bytes())["entries"]
    return [entry for entry in entries if entry["event"] == event]


# Verifying


def test_in_parts_over_days_and_what_info_tells(here: Installation) -> None:
    assert done("info", data=here.data)[-1]["verified"] is None
    first = done("verify", "--within", "3", data=here.data)[-1]
    assert not first["whole"] and 0 < first["objects"] < 6
    again = done("verify", "--within", "3", data=here.data)[-1]
    assert again["objects"] == first["objects"], "today's part was read"
    state = json.loads((here.data / "verified.json").read_bytes())
    state["round"]["begun"] = "2020-01-01T00:00:00.000000Z"  # long due
    (here.data / "verified.json").write_text(json.dumps(state))
    flip(contents(here.data)[0])
    rest = run("verify", "--within", "3", data=here.data).rows[-1]
    whole = run("verify", data=here.data).rows[-1]
    assert rest["whole"] and rest["objects"] == whole["objects"]
    told = done("info", data=here.data)[-1]["verified"]
    assert (told["findings"], told["codes"]) == (1, {"damaged": 1})


def test_broken_off_it_goes_on(here: Installation) -> None:
    """Slow enough to be stopped in the middle; what was read is not read again."""
    # Whoever runs the tests in the background of a script has them ignore SIGINT, and so would what they start.
    command = [
        "env",
        "--default-signal=INT",
        str(DAICHO),
        "verify",
        "--rate",
        "0.2",
        "--jobs",
        "1",
        "--data",
        str(here.data),
    ]
    process = subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, cwd="/")
    assert process.stderr is not None
    while b"2/" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    state = json.loads((here.data / "verified.json").read_bytes())
    assert state["round"]["objects"] >= 1
    whole = done("verify", data=here.data, DAICHO_JOBS="1")[-1]["objects"]
    (here.data / "verified.json").write_text(json.dumps(state))
    flip(next(path for path in contents(here.data) if state["round"]["reached"] in str(path)))
    assert done("verify", "--resume", data=here.data)[-1]["objects"] == whole, "it was read before"
    assert run("verify", data=here.data).code == 74


def test_options_that_do_not_go_together(here: Installation) -> None:
    assert run("verify", "--store", here.data, "--resume", data=here.data).error == "verify.options"


# A store alone


def test_a_copy_without_an_installation(kept: Path, tmp_path: Path) -> None:
    shutil.copytree(kept / "disk", tmp_path / "disk")
    before = files(tmp_path / "disk")
    for place in (tmp_path / "disk", tmp_path / "disk" / "store"):
        told = done("verify", "--store", place, data=tmp_path / "nowhere")[-1]
        assert told["ok"] and told["whole"] and told["objects"] > 4 and told["keys"] == 0
    assert files(tmp_path / "disk") == before and not (tmp_path / "nowhere").exists()
    harmed = contents(tmp_path / "disk")[0]
    flip(harmed)
    result = run("verify", "--store", tmp_path / "disk", data=tmp_path / "nowhere")
    assert result.code == 74 and [row[2] for row in findings(result.rows)] == ["damaged"]


def lacking_description(disk: Path) -> None:
    (disk / "store" / "store.json").unlink()


def newer(disk: Path) -> None:
    place = disk / "store" / "store.json"
    value = json.loads(place.read_bytes())
    place.unlink()
    place.write_text(json.dumps(value | {"format": 99}))


def unreadable(disk: Path) -> None:
    place = disk / "store" / "store.json"
    place.unlink()
    place.write_text("{")


@pytest.mark.parametrize(
    ("harm", "code"),
    [(lacking_description, "store.missing"), (newer, "store.newer"), (unreadable, "store.damaged")],
    ids=["half copied", "newer", "damaged"],
)
def test_a_store_that_is_none(
    kept: Path, here: Installation, tmp_path: Path, harm: Callable[[Path], None], code: str
) -> None:
    """Whoever is given it says so, and changes nothing."""
    shutil.copytree(kept / "disk", tmp_path / "disk")
    harm(tmp_path / "disk")
    before, ours = files(tmp_path / "disk"), files(here.data / "store")
    keys = ("--keys-source", kept / "keys")
    assert run("verify", "--store", tmp_path / "disk", data=tmp_path / "nowhere").error == code
    assert run("verify", "--repair-from", tmp_path / "disk", data=here.data).error == code
    restored = run("restore", tmp_path / "disk", *keys, data=tmp_path / "new").error
    assert restored == ("backup.missing" if code == "store.missing" else code)
    assert not (tmp_path / "new" / "store").exists() and not (tmp_path / "new-keys").exists()
    if code != "store.missing":  # there, a copy would be begun
        assert run("backup", tmp_path / "disk", "--keys-target", tmp_path / "usb", data=here.data).error == code
        assert not (tmp_path / "usb").exists()
    assert files(tmp_path / "disk") == before and files(here.data / "store") == ours


def test_a_store_half_copied_is_told_by_what_it_lacks(kept: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    shutil.copytree(kept / "disk", disk)
    lost = contents(disk)[0].parents[2]
    shutil.rmtree(lost)
    result = run("verify", "--store", disk, data=tmp_path / "nowhere")
    assert [(row[0], row[2]) for row in findings(result.rows)] == [(lost.name, "missing")]
    told = run("restore", disk, "--keys-source", kept / "keys", data=tmp_path / "new")
    assert told.code == 74 and [(row[0], row[2]) for row in findings(told.rows)] == [(lost.name, "backup.damaged")]
    assert done("verify", "--repair-from", kept / "disk", data=tmp_path / "new")[-1]["ok"], "another copy has it"
    (disk / "store" / segment_place(3)).unlink()
    result = run("verify", "--store", disk, data=tmp_path / "nowhere")
    assert ("journal", "3", "journal.gap") in findings(result.rows)


def test_the_journal_ends_before_the_objects(kept: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    shutil.copytree(kept / "disk", disk)
    segments = sorted((disk / "store" / "journal").rglob("*.json"))
    for file in segments[4:]:
        file.unlink()
    told = done("verify", "--store", disk, data=tmp_path / "nowhere")[-1]
    assert told["ok"] and told["unacknowledged"] > 0
    restored = done("restore", disk, "--keys-source", kept / "keys", data=tmp_path / "new")[-1]
    assert restored["segments"] == 4
    assert done("verify", data=tmp_path / "new")[-1]["ok"]


def test_foreign_files_are_told_and_stay(here: Installation) -> None:
    store = here.data / "store"
    for place in ("Thumbs.db", "objects/00/readme", "journal/0000/notes.txt", "journal/0000/000001.json~"):
        (store / place).parent.mkdir(exist_ok=True)
        (store / place).write_text("foreign")
    result = run("verify", data=here.data)
    assert {row[1] for row in findings(result.rows)} == {
        "Thumbs.db", "objects/00/readme", "journal/0000/notes.txt", "journal/0000/000001.json~"
    } and {row[2] for row in findings(result.rows)} == {"stray"}  # fmt: skip
    assert (store / "Thumbs.db").read_text() == "foreign"
    assert done("search", "", data=here.data)


def test_nothing_in_a_store_depends_on_capitals(kept: Path) -> None:
    """On a filesystem that folds case no two files of a store can meet: no name has a capital."""
    places = [path.relative_to(kept).as_posix() for path in (kept / "disk").rglob("*")]
    assert len(places) > 50 and [place for place in places if place != place.lower()] == []


# Mending


def test_everything_that_was_harmed_is_put_back(here: Installation, kept: Path) -> None:
    store = here.data / "store"
    before = files(store)
    # An object that no harmed segment acknowledges: of such a one nobody knows any more that it is missing.
    harmed_segments = b"".join((store / segment_place(number)).read_bytes() for number in (2, 4))
    home = next(
        age.parents[2] for age in reversed(contents(here.data)) if age.parents[2].name.encode() not in harmed_segments
    )
    ages = [age for age in contents(here.data) if age.parents[2] != home]
    flip(ages[0])
    ages[1].unlink()
    shutil.rmtree(home)
    flip(ages[2].parents[1] / "inventory.json")
    flip(store / segment_place(2))
    (store / segment_place(4)).unlink()
    found = run("verify", data=here.data)
    assert found.code == 74 and {("journal", "4", "journal.gap"), (home.name, "", "missing")} <= set(
        findings(found.rows)
    )
    (store / "objects" / "ocfl_layout.json").unlink()
    (store / "store.json").unlink()
    harmed = files(store)
    for place, code in ((here.data, "repair.same"), (kept / "keys", "store.missing")):
        assert run("verify", "--repair-from", place, data=here.data).error == code
    assert run("verify", "--repair-from", kept / "disk", "--as", "desk", data=here.data).error == "not_permitted"
    assert files(store) == harmed
    told = done("verify", "--repair-from", kept / "disk", data=here.data)
    places = {row["repaired"] for row in told if "repaired" in row}
    assert places == {place for place in before if harmed.get(place) != before[place]}
    after = files(store)
    assert {place: after[place] for place in before} == before
    assert done("verify", data=here.data)[-1]["ok"]
    noted = {place for entry in events(here.data, "repaired") for place in entry["data"]["places"]}
    assert noted == places and all(entry["person"] for entry in events(here.data, "repaired"))
    assert done("info", data=here.data)[-1]["verified"]["findings"] == 0


def test_what_cannot_be_put_back_is_told(here: Installation, kept: Path, tmp_path: Path) -> None:
    shutil.copytree(kept / "disk", tmp_path / "disk")
    harmed = contents(here.data)[0]
    place = harmed.relative_to(here.data / "store")
    flip(harmed)
    flip(tmp_path / "disk" / "store" / place)
    broken = harmed.read_bytes()
    result = run("verify", "--repair-from", tmp_path / "disk", data=here.data)
    assert result.code == 74 and [row[2] for row in findings(result.rows)] == ["damaged"]
    assert harmed.read_bytes() == broken and events(here.data, "repaired") == []


def test_a_copy_of_another_store(here: Installation, tmp_path: Path) -> None:
    other = tmp_path / "other" / "data"
    done("init", data=other)
    done("backup", tmp_path / "foreign", data=other)
    assert run("verify", "--repair-from", tmp_path / "foreign", data=here.data).error == "repair.foreign"
    before = files(tmp_path / "foreign")
    assert run("backup", tmp_path / "foreign", data=here.data).error == "backup.foreign"
    assert (
        run("backup", tmp_path / "disk", "--keys-target", tmp_path / "foreign", data=here.data).error
        == "backup.foreign"
    )
    assert files(tmp_path / "foreign") == before


# Copies


def test_a_backup_inside_the_store(here: Installation) -> None:
    assert run("backup", here.data / "store", data=here.data).error == "backup.inside"
    assert run("backup", here.data / "elsewhere", "--keys-target", here.keys, data=here.data).error == "backup.inside"
    assert not (here.data / "elsewhere").exists()


def test_what_was_damaged_is_owed_and_a_full_run_mends_the_copy(here: Installation, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    harmed = contents(here.data)[0]
    whole = harmed.read_bytes()
    flip(harmed)
    first = run("backup", disk, data=here.data)
    assert first.code == 74 and first.rows[-1]["damaged"] == 1
    assert done("info", data=here.data)[-1]["backup"]["owed"] == 1
    assert run("backup", disk, data=here.data).code == 74
    harmed.unlink()
    harmed.write_bytes(whole)
    assert done("backup", disk, data=here.data)[-1]["versions"] >= 1
    info = done("info", data=here.data)[-1]
    assert info["backup"]["owed"] == 0 and info["keys_until"] > "2026"
    there = contents(disk)
    flip(there[1])
    there[2].unlink()
    (disk / "store" / segment_place(2)).unlink()
    assert run("backup", disk, data=here.data).error == "journal.gap"
    assert done("backup", disk, "--full", data=here.data)[-1]["repaired"] == 3
    assert done("verify", "--store", disk, data=tmp_path / "nowhere")[-1]["ok"]


def test_a_restore_that_was_broken_off_goes_on(small: Installation, kept: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    keys = ("--keys-source", kept / "keys")
    assert run("restore", kept / "disk", "--keys-source", kept / "disk", data=new).error == "backup.no_keys"
    assert (new / "restoring").is_dir() and not (new / "store").exists()
    assert run("info", data=new).error in ("store.missing", "keys.missing")
    done("restore", kept / "disk", *keys, data=new)
    assert digest(new) == digest(small.data)
    assert run("restore", kept / "disk", *keys, data=new).error == "restore.not_empty"


# Drills


def test_a_drill_reports_and_leaves_nothing(here: Installation, kept: Path) -> None:
    done("search", "x", data=here.data)  # an entry since the backup
    left = here.data / "scratch" / "drill-killed" / "keys"
    left.mkdir(parents=True)
    (left / "master.key").write_text("of a drill that was killed")
    before = {path.name for path in here.data.iterdir()}
    told = done("drill", kept / "disk", "--keys-source", kept / "keys", data=here.data)[-1]
    assert told["passed"] and told["same"] and told["lacking"] >= 1 and told["opened"] >= 4
    assert set(told["seconds"]) == {"restore", "verify", "open", "compare"}
    assert {path.name for path in here.data.iterdir()} == before | {"scratch", "drill.lock"}
    assert list((here.data / "scratch").iterdir()) == []
    (entry,) = events(here.data, "drill")
    assert entry["data"]["passed"] and entry["person"]
    assert done("verify", data=here.data)[-1]["ok"]


def test_a_drill_finds_a_backup_that_would_not_do(here: Installation, kept: Path, tmp_path: Path) -> None:
    shutil.copytree(kept, tmp_path / "kept")
    disk, keys = tmp_path / "kept" / "disk", tmp_path / "kept" / "keys"
    flip(contents(disk)[0])
    told = run("drill", disk, "--keys-source", keys, data=here.data)
    assert (told.code, told.rows[-1]["passed"]) == (74, False) and len(findings(told.rows)) > 0
    (generation,) = (path for path in keys.iterdir() if path.is_dir())
    flip(next(generation.rglob("*.age")))
    assert run("drill", kept / "disk", "--keys-source", keys, data=here.data).error == "backup.damaged"
    first, second = (entry["data"] for entry in events(here.data, "drill"))
    assert (first["passed"], second) == (False, {"passed": False, "error": "backup.damaged"})
    assert not any((here.data / "scratch").iterdir())
    assert run("drill", kept / "disk", "--as", "desk", data=here.data).error == "not_permitted"


# Disks


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own, which can be mounted read-only."""
    place = tmp_path / "small-disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200m", "daicho-test", str(place)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this machine lets nobody mount a disk")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_read_only(small: Installation, kept: Path, disk: Path, tmp_path: Path) -> None:
    here = copied(small, disk)
    shutil.copytree(kept, disk / "kept")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    before = files(here.data)
    assert done("verify", "--store", here.data, data=tmp_path / "nowhere")[-1]["ok"]
    assert run("ledger", "list", data=here.data).error == "storage.read_only"
    assert run("backup", disk / "copy", data=here.data).error == "storage.read_only"
    done("restore", disk / "kept" / "disk", "--keys-source", disk / "kept" / "keys", data=tmp_path / "new")
    assert digest(tmp_path / "new") == digest(small.data)
    assert files(here.data) == before


def test_no_hard_links(small: Installation, tmp_path: Path) -> None:
    """As on many network shares and USB sticks: everything works by renaming, or is refused where even that cannot be trusted."""
    need("strace")

    def without(*calls: str) -> tuple[str, ...]:
        injected = [part for call in calls for part in ("-e", f"inject={call}:error=EPERM")]
        return ("strace", "-f", "-qqq", "-o", "/dev/null", *injected, str(DAICHO))

    here = copied(small, tmp_path)
    program = without("link,linkat")
    assert run("search", "x", data=here.data, program=program).code == 0
    for _ in range(2):
        assert run("backup", tmp_path / "copy", data=here.data, program=program).code == 0
    assert run("verify", data=here.data, program=program).code == 0
    assert digest(here.data) == done("info", data=here.data)[-1]["digest"]
    before = files(here.data / "store")
    refused = run("search", "x", data=here.data, program=without("link,linkat", "renameat2"))
    assert (refused.code, refused.error) == (78, "storage.unsuitable")
    assert files(here.data / "store") == before
    assert done("verify", data=here.data)[-1]["ok"]


def test_the_way_into_a_bucket_and_back(
    small: Installation, tmp_path: Path, new_engines: Callable[[Path], Path]
) -> None:
    here = copied(small, tmp_path)
    text = new_engines(tmp_path).read_text("utf-8")
    bucket = tmp_path / "bucket.toml"
    bucket.write_text("[store]" + text.split("[store]")[1].split("\n[")[0], "utf-8")
    usb = tmp_path / "usb"
    assert run("backup", bucket, data=here.data).error == "backup.keys_apart"
    told = done("backup", bucket, "--keys-target", usb, data=here.data)[-1]
    assert told["versions"] > 4
    assert done("backup", bucket, "--keys-target", usb, data=here.data)[-1]["versions"] == 0
    assert done("verify", "--store", bucket, data=here.data)[-1]["ok"]
    flip(contents(here.data)[0])
    repaired = done("verify", "--repair-from", bucket, data=here.data)
    assert repaired[-1]["ok"] and sum("repaired" in row for row in repaired) == 1
    assert done("drill", bucket, "--keys-source", usb, data=here.data)[-1]["passed"]
    done("restore", bucket, "--keys-source", usb, data=tmp_path / "back")
    assert done("verify", data=tmp_path / "back")[-1]["ok"]
    empty = tmp_path / "empty.toml"
    empty.write_text("language = 'ja'\n")
    assert run("backup", empty, "--keys-target", usb, data=here.data).error == "backup.no_store"


def test_a_backup_of_the_first_version_is_brought_back_and_followed(
    small: Installation, kept: Path, tmp_path: Path
) -> None:
    """Its lists are no longer looked at; its one copy of the keys counts as a generation, and goes in time."""
    here, disk = copied(small, tmp_path), tmp_path / "disk"
    shutil.copytree(kept / "disk", disk)
    (generation,) = (path for path in (kept / "keys").iterdir() if path.is_dir())
    shutil.copytree(generation, disk / "keys")
    sums = (kept / "keys" / f"{generation.name}.sums").read_text()
    (disk / "SHA256SUMS.keys").write_text(sums.replace(f"  {generation.name}/", "  keys/"))
    (disk / "SHA256SUMS").write_text("# 0 files\n")
    (disk / "backup.json").write_text(json.dumps({"format": 1}))
    done("restore", disk, data=tmp_path / "new")
    assert digest(tmp_path / "new") == digest(small.data)
    told = done("backup", disk, data=here.data)[-1]
    assert (told["versions"], told["expired"]) == (0, 0) and told["keys_copied"] < told["keys"]
    assert (disk / "keys").is_dir() and (disk / told["generation"]).is_dir()
