"""What each version wrote is read by this one: every sample of this folder is opened with the present code and compared with what its writer said of
it. And no format is written of which there is no sample.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from core.errors import KeysMissing
from storage.cipher import decrypt
from storage.keys import FilesystemKeys
from storage.port import Key
from tests.formats.make import HERE, digests, said
from tests.installed import HOUSE, content, run

SAMPLES = sorted(file.name.removesuffix(".json") for file in HERE.glob("*.json"))

CODE = ("core", "storage", "search", "ingest", "access", "records", "pipelines", "wiring", "web", "cli")

CONSTANT = re.compile(r"^(?:[A-Z]+_)*FORMAT = (.+)$", re.MULTILINE)
"""How a format that lies on disk is numbered in the code."""


@pytest.fixture(scope="module", params=SAMPLES)
def sample(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A sample unpacked, with catalogue and index made again; and what is expected of it."""
    folder = tmp_path_factory.mktemp("sample") / "here"
    with tarfile.open(HERE / f"{request.param}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    result = run("rebuild", "--data", str(folder / "data"))
    assert result.code == 0, result.err
    return folder, json.loads((HERE / f"{request.param}.json").read_text("utf-8"))


def holds(told: Any, expected: Any, where: str = "") -> Iterator[str]:
    """Where something differs from what is expected. A later version may tell more of a thing, and nothing else of what was told before."""
    if isinstance(expected, dict) and isinstance(told, dict):
        for name, value in expected.items():
            yield from holds(told.get(name, "(nothing)"), value, f"{where}/{name}")
    elif isinstance(expected, list) and isinstance(told, list) and len(told) == len(expected):
        for number, (one, other) in enumerate(zip(told, expected, strict=True)):
            yield from holds(one, other, f"{where}/{number}")
    elif told != expected:
        yield f"{where}: {told!r} instead of {expected!r}"


@pytest.mark.slow
def test_it_holds_what_it_held(sample: tuple[Path, dict[str, Any]]) -> None:
    folder, expected = sample
    told = json.loads(json.dumps(content(folder / "data")))
    assert list(holds(told, expected["content"])) == []
    assert told["findings"] == []


@pytest.mark.slow
def test_the_commands_say_what_they_said(sample: tuple[Path, dict[str, Any]]) -> None:
    """Searches, records, the journal's proof with the witness's checkpoint, entries of which a part has been destroyed."""
    folder, expected = sample

    def done(*words: str) -> list[dict[str, Any]]:
        result = run(*words, "--data", str(folder / "data"))
        assert result.code == 0, result.err
        return result.rows

    for asked in expected["asked"]:
        assert list(holds(said(done, asked["words"], folder), asked["rows"], " ".join(asked["words"]))) == []
    done("record", "export", expected["record"], str(folder / "exported"))
    told = digests(folder / "exported")
    assert told
    assert list(holds(told, expected["exported"])) == []


@pytest.mark.slow
def test_its_backup_is_proved_and_restored(sample: tuple[Path, dict[str, Any]]) -> None:
    folder, expected = sample
    result = run("verify", "--store", str(folder / "backup"))
    assert (result.code, result.rows[-1]["ok"]) == (0, True), result.err
    back = folder / "back"
    words = ("restore", str(folder / "backup"), "--keys-source", str(folder / "backup-keys"), "--data", str(back))
    assert run(*words).code == 0
    assert list(holds(json.loads(json.dumps(content(back))), expected["content"])) == []


def written(folder: Path) -> set[str]:
    """The formats in which a sample lies there, from the bytes themselves."""
    store = folder / "data/store"
    described = json.loads((store / "store.json").read_bytes())
    keys = FilesystemKeys(folder / "data-keys", described["id"])
    living = {key_id: keys.get(key_id) for key_id in keys.ids()}
    found: set[str] = {f"store {described['format']}"}
    found.add(f"keys {json.loads((folder / 'data-keys/store.json').read_bytes())['format']}")
    found |= {json.loads(file.read_bytes())["format"] for file in (store / "journal").rglob("*.json")}
    for file in (store / "objects").rglob("*.age"):
        if re.fullmatch(r"(record|definition)\.json\.age|item-.*\.age", file.name):
            name = file.relative_to(store / "objects").parts[2]
            found |= set(_formats(file, [living[each] for each in living if each.partition(".")[0] == name]))
    return found


def _formats(file: Path, keys: list[Key]) -> Iterator[str]:
    for key in keys:
        try:
            yield json.loads(decrypt(file.read_bytes(), key.secret))["format"]
        except KeysMissing:
            continue


def numbered() -> dict[str, str]:
    """Constant in the code -> the format in which it says things are written now, as `written` tells it."""
    told = {}
    for package in CODE:
        for file in sorted((HOUSE / package).rglob("*.py")):
            for value in CONSTANT.findall(file.read_text("utf-8")):
                place = file.relative_to(HOUSE).as_posix()
                prefix = {"storage/places.py": "store ", "storage/keys.py": "keys "}.get(place, "")
                told[place] = f"{prefix}{json.loads(value)}"
    return told


def lacking(formats: Mapping[str, str], samples: set[str]) -> list[str]:
    """What to do about each format of which there is no sample."""
    return [
        f"{place} writes {value}, of which tests/formats/ has no sample: make one with `.venv/bin/python -m tests.formats.make NAME` "
        "and commit it beside the others, which stay as they are"
        for place, value in formats.items()
        if value not in samples
    ]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The formats of all samples."""
    found: set[str] = set()
    for name in SAMPLES:
        folder = tmp_path_factory.mktemp("written")
        with tarfile.open(HERE / f"{name}.tar.xz") as archive:
            archive.extractall(folder, filter="data")
        found |= written(folder)
    return found


def test_every_format_of_the_code_has_a_sample(samples: set[str]) -> None:
    assert lacking(numbered(), samples) == []


@pytest.mark.parametrize("place", sorted(numbered()))
def test_a_format_that_is_raised_without_a_sample_is_told(place: str, samples: set[str]) -> None:
    """The control: one number more, and the test above fails with the command that makes the sample."""
    formats = numbered()
    raised = re.sub(r"\d+$", lambda number: str(int(number[0]) + 1), formats[place])
    assert raised != formats[place]
    [told] = lacking(formats | {place: raised}, samples)
    assert told.startswith(f"{place} writes {raised}, ") and "tests.formats.make" in told


def test_a_difference_is_told() -> None:
    """The control of the comparison: more may be told, nothing else and nothing less."""
    expected = {"a": [{"b": 1}], "c": "x"}
    assert list(holds({"a": [{"b": 1, "new": 2}], "c": "x", "new": 3}, expected)) == []
    for told in (
        {"a": [{"b": 2}], "c": "x"},
        {"a": [], "c": "x"},
        {"a": [{"b": 1}]},
        {"a": [{}], "c": "x"},
        {"a": {}, "c": "x"},
    ):
        assert len(list(holds(told, expected))) == 1


@pytest.mark.slow
def test_a_version_that_has_forgotten_a_format_is_seen(sample: tuple[Path, dict[str, Any]]) -> None:
    """The control of the samples: without what reads the format of its keys, a sample does not open."""
    folder, _ = sample
    number = json.loads((folder / "data-keys/store.json").read_bytes())["format"]
    reader = {1: "_first_description", 2: "_description"}[number]
    forgetful = f"from storage import keys; keys.{reader} = lambda *told: b''\nfrom cli.main import main; main()"
    ended = run("keys", "check", data=folder / "data", program=(sys.executable, "-c", forgetful))
    assert (ended.code, ended.error) == (74, "keys.damaged"), ended.err


def test_no_sample_was_written_again() -> None:
    """A sample that fits the present code because it was made anew proves nothing."""
    sums = dict(line.split()[::-1] for line in (HERE / "SHA256SUMS").read_text("ascii").splitlines())
    files = [file for name in SAMPLES for file in (HERE / f"{name}.tar.xz", HERE / f"{name}.json")]
    assert {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files} == sums
