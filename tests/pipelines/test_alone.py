"""A ledger with a number that must be destroyable alone, from scan to destruction, by the installed command: nothing beside its key shows it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import jsonschema
import numpy as np
import pytest

from core.errors import KeysMissing
from ingest.readers import PaddleReader
from ingest.sheet import read_image
from storage.cipher import decrypt
from storage.filesystem import open_store
from storage.keys import FilesystemKeys
from storage.places import object_place
from tests.installed import BATCH, HOUSE, TEMPLATES, Installation, copied, done, environment, run
from tests.machine import need

ITEM = "resident_number"
SHEETS = ("03-dv-support.jpg", "04-dv-support.jpg", "08-care-clients.jpg")
ZONE = (53, 52, 136, 10)
"""Of the number on the form, in mm: x, y, width, height."""

PICTURES = f"""
import json, sys
from pathlib import Path
from core.errors import DaichoError
from core.settings import load
from wiring.setup import set_up
settings = load(Path(sys.argv[1]))
set_up(settings)
from access.decide import Actor
from records.batches import waiting_cases
from records.capture import settle
from records.found import person_by_login
from records.models import Record
from records.show import page_image, snippet
from wiring.open import open_installation
stores, out = open_installation(settings), Path(sys.argv[2])
actor = Actor(person_by_login("officer"), "cli")
if len(sys.argv) > 3:
    settle(stores, actor, sys.argv[3], json.loads(sys.argv[4]), sys.argv[5] or None)
told = {{}}
for record in Record.objects.order_by("id"):
    parts = [("view", lambda: page_image(stores, actor, record.id, 1, "view")), ("thumb", lambda: page_image(stores, actor, record.id, 1, "thumb"))]
    if record.state == "waiting":
        parts.append(("snippet", lambda: snippet(stores, actor, record.id, {ITEM!r})))
    for name, make in parts:
        try:
            (out / f"{{record.id}}.{{name}}").write_bytes(make())
            told[f"{{record.id}}.{{name}}"] = ""
        except DaichoError as error:
            told[f"{{record.id}}.{{name}}"] = error.code
print(json.dumps(told))
"""


def pictures(data: Path, out: Path, *settled: str) -> dict[str, str]:
    """The pictures that the officer sees, as files in `out`: name -> error code or ""."""
    out.mkdir(exist_ok=True)
    command = [sys.executable, "-c", PICTURES, str(data), str(out), *settled]
    told = subprocess.run(command, capture_output=True, text=True, env=environment(), cwd=HOUSE, timeout=120)
    assert told.returncode == 0, told.stderr[-3000:]
    return dict(json.loads(told.stdout))


def image(file: Path) -> np.ndarray[Any, Any]:
    return np.asarray(cv2.imdecode(np.frombuffer(file.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE))


@pytest.fixture(scope="module")
def numbers() -> dict[str, str]:
    """Sheet -> the number written on it."""
    truths = json.loads((BATCH / "truth.json").read_text("utf-8"))
    return {each["file"]: each["values"].get(ITEM, "") for each in truths if each["file"] in SHEETS}


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """An installation whose ledger has the number apart, with three sheets; one is of a form that the ledger does not know."""
    folder = tmp_path_factory.mktemp("alone")
    shutil.copytree(TEMPLATES / "dv-support", folder / "dv-support")
    items = folder / "dv-support" / "items.yaml"
    items.write_text(items.read_text("utf-8").replace(f"- id: {ITEM}\n", f"- id: {ITEM}\n  alone: true\n"), "utf-8")
    form = folder / "dv-support" / "forms" / "dv-support.yaml"
    form.write_text(
        form.read_text("utf-8").replace("accept: 0.98\n", "accept: 1.0\n"), "utf-8"
    )  # a person looks at all
    data = folder / "data"
    done("init", data=data)
    done("ledger", "apply", folder / "dv-support", data=data)
    rows = done("ingest", *(BATCH / name for name in SHEETS), "--ledger", "dv-support", data=data)
    return Installation(data, tuple(rows))


def schema(name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads((HOUSE / "docs" / f"{name}.schema.json").read_text("utf-8")))


def sheets(data: Path) -> dict[str, tuple[str, str]]:
    """Sheet -> (record, state)."""
    batch = done("batch", "list", data=data)[0]["batch"]
    return {
        each["file"]: (each["record"], each["state"]) for each in done("batch", "show", batch, data=data)[0]["by_name"]
    }


def said(place: Installation, *, apart: bool) -> Iterator[tuple[str, bytes]]:
    """(where, bytes) of all there is, opened with all keys; without those of the number unless `apart`."""
    store = place.data / "store"
    keys = FilesystemKeys(place.keys, open_store(store))
    for path in place.data.rglob("*"):
        if path.is_file():
            yield path.name, path.read_bytes()
    for key_id in keys.ids():
        if key_id.endswith(f".{ITEM}") and not apart:
            continue
        record, secret = key_id.partition(".")[0], keys.get(key_id).secret
        files = [path for path in (store / object_place(record)).rglob("*.age") if path.is_file()]
        files += [path for path in (store / "derived").rglob(record) if path.is_file()]
        for path in files:
            data = path.read_bytes()
            try:
                plain = decrypt(data[:-32] if "derived" in path.parts else data, secret)
            except KeysMissing:
                continue
            yield path.name, plain
            if "derived" in path.parts:
                with zipfile.ZipFile(BytesIO(plain)) as archive:
                    yield from ((name, archive.read(name)) for name in archive.namelist())


def test_without_its_key_nothing_says_the_number(captured: Installation, numbers: dict[str, str]) -> None:
    written = [number.encode() for number in numbers.values() if number]
    assert len(written) == 2
    apart = [where for where, data in said(captured, apart=True) if any(number in data for number in written)]
    assert set(apart) == {f"item-{ITEM}.age"}, "the control: with its key each is found"
    names = set()
    fits = {"record.json.age": schema("record"), "definition.json.age": schema("ledger")}
    for where, data in said(captured, apart=False):
        names.add(where)
        assert not any(number in data for number in written), where
        if data.startswith(b"{") and where in ("record.json.age", "definition.json.age"):
            fits[where].validate(json.loads(data))
        if where == "page-0001-masked.age" and not data.startswith(b"age"):
            black = (cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE) == 0).sum()
            assert black > ZONE[2] * ZONE[3] * (200 / 25.4) ** 2
    assert fits.keys() <= names and "page-0001-masked.age" in names and "view-0001.jpg" in names
    assert f"snippet-{ITEM}.png" not in names


def test_people_see_the_zone_black_and_the_snippet_whole(
    captured: Installation, numbers: dict[str, str], tmp_path: Path
) -> None:
    place = copied(captured, tmp_path)
    told = pictures(place.data, tmp_path / "seen")
    by_sheet, reader = sheets(place.data), PaddleReader()
    for name in SHEETS[:2]:
        record, _ = by_sheet[name]
        view = image(tmp_path / "seen" / f"{record}.view")
        scale = view.shape[1] / 210
        x, y, width, height = (round(mm * scale) for mm in ZONE)
        assert view[y : y + height, x : x + width].max() < 40
        assert view[y + 3 * height : y + 5 * height, x : x + width].min() < 200, "what stands below is still there"
        assert told[f"{record}.snippet"] == ""
        cut = image(tmp_path / "seen" / f"{record}.snippet")
        assert numbers[name] in read_image(cut[36:-36, 36:-36], "number", reader)[0]
    # Nobody knows where on a strange sheet the number is: who settles sees it whole, and it is kept by nobody.
    strange, state = by_sheet[SHEETS[2]]
    assert (state, told[f"{strange}.view"], told[f"{strange}.thumb"]) == ("waiting", "", "")
    assert image(tmp_path / "seen" / f"{strange}.view").mean() > 150
    store = place.data / "store"
    keys = FilesystemKeys(place.keys, open_store(store))
    [archive] = (store / "derived").rglob(strange)
    with zipfile.ZipFile(BytesIO(decrypt(archive.read_bytes()[:-32], keys.get(strange).secret))) as kept:
        assert kept.namelist() == []


def test_after_its_key_is_destroyed(captured: Installation, numbers: dict[str, str], tmp_path: Path) -> None:
    place = copied(captured, tmp_path)
    by_sheet, name = sheets(place.data), SHEETS[0]
    record, strange = by_sheet[name][0], by_sheet[SHEETS[2]][0]
    pictures(place.data, tmp_path / "settled", record, "{}", "dv-support")
    [before] = done("record", "show", record, data=place.data)
    assert before["values"][ITEM] == numbers[name]
    keys = FilesystemKeys(place.keys, open_store(place.data / "store"))
    for each in (record, strange):
        keys.destroy(f"{each}.{ITEM}")
    [after] = done("record", "show", record, data=place.data)
    assert {**after["values"], ITEM: ""} == {**before["values"], ITEM: ""} and after["values"][ITEM] == ""
    assert [row.get("destroyed") for row in after["items"] if row["item"] == ITEM] == [True]
    assert numbers[name] not in run("record", "show", record, data=place.data, plain=True).out
    assert done("verify", data=place.data)[-1]["ok"]
    done("rebuild", data=place.data)
    hits = done("search", before["values"]["name"], data=place.data)
    assert record in {hit.get("record") for hit in hits}
    shutil.rmtree(place.data / "store" / "derived")
    (place.data / "store" / "derived").mkdir()
    told = pictures(place.data, tmp_path / "seen")
    assert (told[f"{record}.view"], told[f"{strange}.view"]) == ("", "page.destroyed")
    assert not any(numbers[name].encode() in data for _, data in said(place, apart=True))


def test_a_standard_age_opens_the_whole_page(captured: Installation, tmp_path: Path) -> None:
    need("age")
    record, _ = sheets(captured.data)[SHEETS[0]]
    keys = FilesystemKeys(captured.keys, open_store(captured.data / "store"))
    (tmp_path / "k").write_text(keys.get(f"{record}.{ITEM}").secret)
    page = captured.data / "store" / object_place(record) / "v1" / "content" / "page-0001.age"
    opened = subprocess.run(["age", "-d", "-i", tmp_path / "k", page], capture_output=True, check=True)
    assert opened.stdout == (BATCH / SHEETS[0]).read_bytes()
