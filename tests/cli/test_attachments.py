"""`daicho record attach`, `detach`, `export`: the installed command, with files that are far larger than what it needs of memory."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.installed import MEASURED, Installation, copied, done, run
from tests.machine import need

pytestmark = pytest.mark.slow

LARGE = 192 << 20
ALLOWED = 48 << 10
"""KiB more for a large file than for a small one; held in memory it would be four times as much."""


@pytest.fixture(scope="module")
def house(small: Installation, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return copied(small, tmp_path_factory.mktemp("attachments"))


@pytest.fixture
def record(house: Installation) -> str:
    return str(done("search", "--ledger", "dv-support", data=house.data)[0]["record"])


def test_any_size_any_format(house: Installation, record: str, tmp_path: Path) -> None:
    small, large = tmp_path / "小さい.txt", tmp_path / "大きい.bin"
    small.write_text("小さい")
    with large.open("wb") as file:
        file.truncate(LARGE)
    most = {}
    for file_ in (small, large):
        result = run(
            "record",
            "attach",
            record,
            file_,
            "--why",
            "本人から受領",
            data=house.data,
            program=MEASURED,
            MOST=str(tmp_path / "most"),
        )
        assert result.code == 0, result.err
        most[file_] = int((tmp_path / "most").read_text())
    assert most[large] < most[small] + ALLOWED
    target = tmp_path / "out"
    result = run("record", "export", record, target, data=house.data, program=MEASURED, MOST=str(tmp_path / "most"))
    assert (result.code, result.rows[-1]["generation"]) == (0, 3)
    assert int((tmp_path / "most").read_text()) < most[small] + ALLOWED
    assert (target / "attachments/大きい.bin").stat().st_size == LARGE
    subprocess.run(["sha256sum", "--quiet", "-c", "manifest-sha256.txt"], cwd=target, check=True)
    shown = done("record", "show", record, data=house.data)[0]
    assert [(each["name"], each["size"]) for each in shown["attachments"]] == [("小さい.txt", 9), ("大きい.bin", LARGE)]
    assert done("verify", data=house.data)[-1]["ok"]
    left = done("record", "detach", record, shown["attachments"][1]["id"], "--why", "不要", data=house.data)[0]
    assert (left["generation"], len(left["attachments"])) == (4, 1)
    assert "大きい.bin" in run("record", "show", record, "--version", "3", data=house.data, plain=True).out


def test_a_sealed_export_opens_with_age(house: Installation, record: str, tmp_path: Path) -> None:
    need("age")
    (tmp_path / "mine").write_bytes(subprocess.run(["age-keygen"], capture_output=True, check=True).stdout)
    recipient = (
        subprocess.run(["age-keygen", "-y", tmp_path / "mine"], capture_output=True, check=True).stdout.decode().strip()
    )
    target = tmp_path / "out"
    done("record", "export", record, target, "--sealed", "--recipient", recipient, data=house.data)
    key = subprocess.run(
        ["age", "-d", "-i", tmp_path / "mine", target / "key.age"], capture_output=True, check=True
    ).stdout
    (tmp_path / "key").write_bytes(key)
    told = subprocess.run(
        ["age", "-d", "-i", tmp_path / "key", target / "record.json.age"], capture_output=True, check=True
    ).stdout
    assert json.loads(told)["record"] == record


@pytest.mark.parametrize(
    ("arguments", "code", "exit_code"),
    [
        (("attach", "{}", "/nowhere", "--why", "x"), "file.missing", 65),
        (("attach", "{}", "/etc", "--why", "x"), "file.missing", 65),
        (("attach", "{}", "/etc/hostname", "--why", " "), "edit.why", 64),
        (("attach", "{}", "/etc/hostname", "--why", "x", "--generation", "99"), "record.moved_on", 75),
        (("detach", "{}", "attachment-x", "--why", "x"), "attachment.not_found", 66),
        (("export", "{}", "/"), "export.exists", 75),
        (("export", "{}", "/nowhere/at/all"), "export.folder", 64),
        (("export", "{}", "/nowhere-at-all", "--sealed"), "export.recipient", 64),
        (("export", "{}", "/nowhere-at-all", "--recipient", "age1x"), "export.recipient", 64),
        (("export", "{}", "/nowhere-at-all", "--generation", "99"), "record.not_found", 66),
    ],
)
def test_bad_input(house: Installation, record: str, arguments: tuple[str, ...], code: str, exit_code: int) -> None:
    result = run("record", *(record if each == "{}" else each for each in arguments), data=house.data)
    assert (result.error, result.code) == (code, exit_code)
