"""Bad input, against the installed command: each ends with a coded message in both languages, and every other sheet goes on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pikepdf
import pytest
from PIL import Image

from ingest.qr import qr_pixels
from ingest.sheetcode import SheetCode, encode
from tests.installed import (
    BATCH,
    DAICHO,
    Installation,
    Result,
    balances,
    content,
    copied,
    done,
    environment,
    made,
    run,
)

PAGE = BATCH / "real-pages" / "digidepo_2531162_0024.jpg"


def page(path: Path, seed: int, code: str = "") -> Path:
    """A small page with something on it, and a code if one is told."""
    rng = np.random.default_rng(seed)
    pixels = np.full((800, 560), 255, np.uint8)
    for top in range(300, 700, 40):
        pixels[top : top + 12, 60 : 60 + int(rng.integers(100, 440))] = 0
    if code:
        square = qr_pixels(code, 4)
        pixels[20 : 20 + square.shape[0], 20 : 20 + square.shape[1]] = square
    Image.fromarray(pixels).save(path, dpi=(100, 100))
    return path


def told(result: Result, *codes: str) -> None:
    """The error came coded, in both languages, on standard error and as JSON, and says what to do."""
    assert result.code != 0
    code = result.error
    assert code in codes, (result.out, result.err)
    lines = [line for line in result.err.splitlines() if line.startswith(f"[{code}] ")]
    assert len(lines) == 2, result.err
    assert re.search(r"[ぁ-ん]", lines[0]) and not re.search(r"[ぁ-ん]", lines[1])
    assert "Traceback" not in result.err
    [row] = [row for row in result.rows if "error" in row]
    assert (row["error"], f"[{code}] {row['ja']}", f"[{code}] {row['en']}") == (code, lines[0], lines[1])


@pytest.fixture(scope="module")
def ledgers(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """Two ledgers and no sheet."""
    return made(tmp_path_factory.mktemp("ledgers") / "data", ["dv-support", "whole-pages"], [("outsider", "")])


@pytest.fixture
def here(ledgers: Installation, tmp_path: Path) -> Path:
    return copied(ledgers, tmp_path).data


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    folder.mkdir()
    return folder


def outcomes(row: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Sheet -> (state, reason)."""
    return {f"{one['file']} {one['page']}": (one["state"], one["reason"]) for one in row["by_name"]}


def test_files_that_cannot_be_read_are_refused_and_the_others_go_on(here: Path, scans: Path) -> None:
    """Not what its name says, encrypted, broken, cut short, empty, a folder of the camera: each by name, with its reason."""
    page(scans / "1-good.png", 1)
    (scans / "2-zip.pdf").write_bytes(b"PK\x03\x04" + bytes(100))
    (scans / "3-text.jpg").write_text("これは画像ではありません", "utf-8")
    with pikepdf.new() as pdf:
        pdf.add_blank_page()
        pdf.save(scans / "4-locked.pdf", encryption=pikepdf.Encryption(owner="a", user="b"))
    (scans / "5-broken.pdf").write_bytes((BATCH / "01-care-clients.pdf").read_bytes()[:3000])
    (scans / "6-empty.tif").write_bytes(b"")
    (scans / "6-half.jpg").write_bytes((BATCH / "07-dv-support.jpg").read_bytes()[:60_000])
    (scans / "6-half.png").write_bytes((scans / "1-good.png").read_bytes()[:-400])
    (scans / "7-program.png").write_bytes(b"\x7fELF" + bytes(200))
    shutil.copy(scans / "1-good.png", scans / "8-a-png.jpg")  # its name is wrong, its content is a page all the same
    page(scans / "9-good.png", 9)
    (scans / "notes.txt").write_text("beside")
    (scans / ".hidden.png").write_bytes(b"beside")
    result = run("ingest", scans, "--ledger", "whole-pages", "--no-text", data=here)
    assert result.code == 0, result.err
    [batch] = balances(here)
    states = outcomes(batch)
    assert states["1-good.png 1"] == states["9-good.png 1"] == ("sealed", "")
    refused = {name.split()[0]: reason for name, (state, reason) in states.items() if state == "refused"}
    assert set(refused) - {"8-a-png.jpg"} == {
        "2-zip.pdf",
        "3-text.jpg",
        "4-locked.pdf",
        "5-broken.pdf",
        "6-empty.tif",
        "6-half.jpg",
        "6-half.png",
        "7-program.png",
    }
    assert refused["4-locked.pdf"] == "file.encrypted"
    assert refused["6-empty.tif"] == "file.empty"
    assert refused["2-zip.pdf"] == refused["3-text.jpg"] == refused["7-program.png"] == "file.type"
    # A copy that broke off must not pass for blank pages: a reader that mends files would make it so.
    assert refused["5-broken.pdf"] == refused["6-half.jpg"] == refused["6-half.png"] == "file.broken"
    # The page whose name is wrong has an outcome of its own: the same page again, so a person decides.
    assert states["8-a-png.jpg 1"] == ("waiting", "duplicate")
    assert batch["balanced"] and batch["sheets"] == 11
    assert "notes.txt" in result.err and ".hidden.png" in result.err
    for name, reason in refused.items():
        lines = [line for line in result.err.splitlines() if re.match(rf"\[{reason}\] {name}( p\.1)?: ", line)]
        assert len(lines) == 2 and re.search(r"[ぁ-ん]", lines[0]) and not re.search(r"[ぁ-ん]", lines[1])
        [row] = [row for row in result.rows if row.get("file") == name]
        assert row["error"] == reason and row["ja"] in lines[0] and row["en"] in lines[1]


@pytest.mark.parametrize("name", ["2-zip.pdf", "4-locked.pdf", "5-broken.pdf"])
def test_what_is_wrong_with_a_file_is_said(scans: Path, name: str) -> None:
    """`codes` and `read` say it with the file's name, for each file, and go on."""
    good = page(scans / "1-good.png", 1, encode(SheetCode("sheet", "a", "b", "c", 1, 1)))
    if name == "4-locked.pdf":
        with pikepdf.new() as pdf:
            pdf.add_blank_page()
            pdf.save(scans / name, encryption=pikepdf.Encryption(owner="a", user="b"))
    elif name == "5-broken.pdf":
        (scans / name).write_bytes(b"%PDF-1.4\n1 0 obj")
    else:
        (scans / name).write_bytes(b"PK\x03\x04" + bytes(100))
    result = run("codes", scans / name, good)
    code = {"2": "file.type", "4": "file.encrypted", "5": "file.broken"}[name[0]]
    assert result.code == 65
    [bad] = [row for row in result.rows if row.get("file") == str(scans / name)]
    assert bad["error"] == code and bad["ja"] and bad["en"]
    [fine] = [row for row in result.rows if row.get("file") == str(good)]
    assert [each["text"] for each in fine["codes"]] == [encode(SheetCode("sheet", "a", "b", "c", 1, 1))]
    assert f"[{code}]" in result.err


def test_an_empty_folder(here: Path, scans: Path) -> None:
    told(run("ingest", scans, "--ledger", "whole-pages", data=here), "ingest.empty")
    (scans / "Thumbs.db").write_bytes(b"beside")
    told(run("ingest", scans, "--ledger", "whole-pages", data=here), "ingest.empty")
    told(run("ingest", scans / "nowhere", "--ledger", "whole-pages", data=here), "ingest.missing")
    assert balances(here) == []


def test_an_empty_file_alone(here: Path, scans: Path) -> None:
    """Counted and refused, not an error of the command: the batch says what became of it."""
    (scans / "a.pdf").write_bytes(b"")
    assert run("ingest", scans, "--ledger", "whole-pages", "--no-text", data=here).code == 0
    [batch] = balances(here)
    assert outcomes(batch) == {"a.pdf 0": ("refused", "file.empty")} and batch["balanced"]


def test_a_code_that_names_an_unknown_ledger_waits(here: Path, scans: Path) -> None:
    page(scans / "1.png", 1, encode(SheetCode("sheet", "outdoor-boards", "board", "b-7", 1, 1)))
    page(scans / "2.png", 2, encode(SheetCode("sheet", "dv-support", "no-such-form", "b-8", 1, 1)))
    damaged = encode(SheetCode("sheet", "dv-support", "dv-support", "b-9", 1, 1))
    page(scans / "3.png", 3, damaged[:-1] + ("A" if damaged[-1] != "A" else "B"))
    shutil.copy(BATCH / "07-dv-support.jpg", scans / "4.jpg")
    assert run("ingest", scans, "--ledger", "dv-support", "--no-text", data=here).code == 0
    [batch] = balances(here)
    assert outcomes(batch) == {
        "1.png 1": ("waiting", "unknown_ledger"),
        "2.png 1": ("waiting", "unknown_form"),
        "3.png 1": ("waiting", "code_damaged"),
        "4.jpg 1": ("sealed", ""),
    }
    waiting = done("queue", data=here)
    assert {row["reason"] for row in waiting} == {"unknown_ledger", "unknown_form", "code_damaged"}
    assert all(row["ledger"] == "dv-support" for row in waiting)
    told(run("ingest", scans, "--ledger", "outdoor-boards", data=here), "ledger.not_found")


def test_a_code_that_names_another_ledger_goes_there(here: Path, scans: Path) -> None:
    shutil.copy(BATCH / "07-dv-support.jpg", scans / "1.jpg")  # its label names dv-support
    page(scans / "2.png", 2)
    done("ledger", "apply", BATCH.parent / "templates" / "vacant-houses", data=here)
    assert run("ingest", scans, "--ledger", "vacant-houses", "--no-text", data=here).code == 0
    assert {(row["ledger"], row["sheets"], row["balanced"]) for row in balances(here)} == {
        ("dv-support", 1, True),
        ("vacant-houses", 1, True),
    }


def test_the_same_batch_twice(here: Path, scans: Path) -> None:
    for number in range(3):
        page(scans / f"{number}.png", number)
    (scans / "bad.pdf").write_bytes(b"%PDF-1.4 no")
    command = ("ingest", scans, "--ledger", "whole-pages", "--no-text")
    assert run(*command, data=here).code == 0
    before = content(here)
    again = run(*command, data=here)
    assert again.code == 0
    assert again.rows[-1]["notice"] == "batch.again"
    assert len([line for line in again.err.splitlines() if "[batch.again]" in line]) >= 1
    assert content(here) == before
    # One sheet more is another batch; the sheets that were there before wait for a person instead of being sealed again.
    page(scans / "3.png", 3)
    assert run(*command, data=here).code == 0
    newest = balances(here)[-1]
    assert outcomes(newest) == {f"{n}.png 1": ("waiting", "duplicate") for n in range(3)} | {
        "3.png 1": ("sealed", ""),
        "bad.pdf 0": ("refused", "file.broken"),
    }
    assert newest["balanced"]


def test_the_same_sheets_in_files_of_other_names_wait(here: Path, scans: Path) -> None:
    page(scans / "a.png", 1)
    assert run("ingest", scans, "--ledger", "whole-pages", "--no-text", data=here).code == 0
    (scans / "a.png").rename(scans / "b.png")
    assert run("ingest", scans, "--ledger", "whole-pages", "--no-text", data=here).code == 0
    assert [outcomes(row) for row in balances(here)] == [
        {"a.png 1": ("sealed", "")},
        {"b.png 1": ("waiting", "duplicate")},
    ]


READERS = (
    ("info",),
    ("search", "x"),
    ("record", "show", "r-aaaaaaaaaaaaaaaaaaaaaaaaaa"),
    ("batch", "list"),
    ("verify",),
    ("rebuild",),
)


@pytest.mark.parametrize("command", READERS, ids=lambda command: command[0])
def test_the_key_folder_is_missing(here: Path, command: tuple[str, ...]) -> None:
    keys = here.with_name(here.name + "-keys")
    keys.rename(keys.with_name("elsewhere"))
    before = sorted(here.rglob("*"))
    told(run(*command, data=here), "keys.missing")
    assert sorted(here.rglob("*")) == before, "nothing was made or lost"
    assert not keys.exists()
    keys.with_name("elsewhere").rename(keys)
    assert run("info", data=here).code == 0


def test_the_key_folder_is_of_another_store(here: Path, scans: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "data"
    done("init", data=other)
    foreign = other.with_name("data-keys")
    page(scans / "1.png", 1)
    before = content(here)
    told(run("ingest", scans, "--ledger", "whole-pages", "--keys", foreign, data=here), "keys.foreign")
    told(run("rebuild", "--keys", foreign, data=here), "keys.foreign")
    assert content(here) == before
    # The right folder with the wrong master key in it.
    keys = here.with_name(here.name + "-keys")
    shutil.copy(foreign / "master.key", keys / "master.key")
    told(run("info", data=here), "keys.wrong")


def test_nothing_is_installed_here(tmp_path: Path) -> None:
    for command in READERS:
        result = run(*command, data=tmp_path / "nothing")
        told(result, result.error)
        assert result.code == 78
        assert not (tmp_path / "nothing").exists() or not any((tmp_path / "nothing").iterdir())


def test_the_folder_is_in_use(ledgers: Installation) -> None:
    told(run("init", data=ledgers.data), "store.exists")
    told(run("demo", "--no-serve", data=ledgers.data), "demo.exists")


def test_settings_that_cannot_be_read(here: Path) -> None:
    (here / "daicho.toml").write_text("port = ", "utf-8")
    told(run("info", data=here), "settings.broken")
    (here / "daicho.toml").write_text("port = 99999999", "utf-8")
    told(run("info", data=here), "settings.value")


@pytest.mark.parametrize("name", ["store", "catalogue.sqlite3", "index"])
def test_a_part_that_is_missing_is_said(ledgers: Installation, tmp_path: Path, name: str) -> None:
    here = copied(ledgers, tmp_path).data
    part = here / name
    shutil.rmtree(part) if part.is_dir() else part.unlink()
    result = run("search", "x", data=here)
    if name == "index":
        assert result.code == 0  # it is made again from the journal
    else:
        told(result, "catalogue.missing" if name.startswith("catalogue") else result.error)
        assert result.code == 78


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "daicho-test", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("this machine lets nobody mount a disk")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


FULL = ("storage.full", "index.full")
"""Whichever writes first when there is no room: the store or the search index. Both are `StorageFull` and say the same."""


def free(disk: Path) -> int:
    told = os.statvfs(disk)
    return told.f_bavail * told.f_frsize


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scans that cannot be made small."""
    folder = tmp_path_factory.mktemp("noise")
    rng = np.random.default_rng(7)
    for number in range(20):
        Image.fromarray(rng.integers(0, 256, (280, 200), np.uint8)).save(folder / f"{number:02}.png", dpi=(50, 50))
    return folder


@pytest.fixture(scope="module")
def with_room(ledgers: Installation, noise: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the scans make where there is room."""
    alone = copied(ledgers, tmp_path_factory.mktemp("alone")).data
    assert run("ingest", noise, "--ledger", "whole-pages", "--no-text", data=alone).code == 0
    return content(alone)


@pytest.mark.parametrize("room", [200_000, 900_000, 2_000_000])
def test_a_full_disk(
    ledgers: Installation, narrow: Path, tmp_path: Path, noise: Path, with_room: Any, room: int
) -> None:
    """It ends coded; with room made, the same command goes on, and nothing is lost or there twice."""
    here = copied(ledgers, narrow).data
    command = ("ingest", noise, "--ledger", "whole-pages", "--no-text", "--jobs", "2")
    with (narrow / "filler").open("wb") as file:
        file.write(bytes(free(narrow) - room))
    result = run(*command, data=here, TMPDIR=str(tmp_path))
    told(result, *FULL)
    assert result.code == 74
    if room > 200_000:
        again = run(*command, data=here, TMPDIR=str(tmp_path))  # still no room: what was sealed stays, nothing more is
        told(again, *FULL)
    subprocess.run(["mount", "-o", "remount,size=200m", str(narrow)], check=True)
    after = run(*command, data=here, TMPDIR=str(tmp_path))
    assert after.code == 0, after.err
    assert content(here) == with_room
    assert done("verify", data=here)[-1]["ok"]


def test_begun_twice_at_once(tmp_path: Path) -> None:
    """One of them makes the installation; the other is refused and removes nothing of it."""
    command = [str(DAICHO), "init", "--data", str(tmp_path / "data")]
    both = [
        subprocess.Popen(command, env=environment(), cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=60)[1].decode() for process in both]
    assert sorted(process.returncode == 0 for process in both) == [False, True], said
    assert "[store.exists]" in "".join(said)
    assert done("info", data=tmp_path / "data")[-1]["digest"]
    assert done("verify", data=tmp_path / "data")[-1]["ok"]
