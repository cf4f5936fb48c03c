"""docs/formats.md against what is really written: read from the files alone, with keys, without the catalogue."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sqlite3
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from doc_sources import DOCS, events
from doc_town import Town, snippets

from storage.canonical import canonical
from storage.cipher import decrypt
from storage.filesystem import derivative_place, object_place
from storage.keys import FilesystemKeys
from tests.machine import need

pytestmark = pytest.mark.slow


def schema(name: str) -> jsonschema.Draft202012Validator:
    value = json.loads((DOCS / f"{name}.schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(value)
    return jsonschema.Draft202012Validator(value)


def opened(town: Town) -> FilesystemKeys:
    return FilesystemKeys(town.keys, json.loads((town.data / "store" / "store.json").read_bytes())["id"])


def objects(town: Town, prefix: str) -> Iterator[Path]:
    yield from (path for path in (town.data / "store" / "objects").glob("*/*/*") if path.name.startswith(prefix))


def entries(town: Town) -> Iterator[dict[str, Any]]:
    for file in sorted((town.data / "store" / "journal").rglob("*.json")):
        yield from json.loads(file.read_bytes())["entries"]


def test_every_version_of_every_record_fits_the_schema(town: Town) -> None:
    valid, keys, seen = schema("record"), opened(town), []
    for home in objects(town, "r-"):
        for file in sorted(home.glob("v*/content/record.json.age")):
            plain = decrypt(file.read_bytes(), keys.get(home.name).secret)
            value = json.loads(plain)
            valid.validate(value)
            assert canonical(value) == plain
            assert value["record"] == home.name
            seen.append((value["state"], value["generation"]))
    assert {("waiting", 0), ("sealed", 1), ("sealed", 2)} <= set(seen)


def test_the_schema_refuses_what_no_record_says(town: Town) -> None:
    valid, keys = schema("record"), opened(town)
    home = town.data / "store" / object_place(town.record)
    value = json.loads(decrypt((home / "v1/content/record.json.age").read_bytes(), keys.get(home.name).secret))
    valid.validate(value)
    for wrong in (
        {**value, "state": "refused"},
        {**value, "pages": []},
        {**value, "name": "x"},
        {**value, "generation": -1},
    ):
        with pytest.raises(jsonschema.ValidationError):
            valid.validate(wrong)


def test_every_segment_fits_the_schema_and_the_chain_holds(town: Town) -> None:
    valid, previous, number = schema("journal"), "", 0
    files = sorted((town.data / "store" / "journal").rglob("*.json"))
    for count, file in enumerate(files, 1):
        data = file.read_bytes()
        value = json.loads(data)
        valid.validate(value)
        assert canonical(value) == data
        assert (file.parent.name, file.name) == (f"{count // 1000:04d}", f"{count:06d}.json")
        assert (value["segment"], value["previous"]) == (count, previous)
        for entry in value["entries"]:
            number += 1
            assert entry["number"] == number
        previous = hashlib.sha256(data).hexdigest()


def test_the_personal_part_is_what_the_entry_commits_to(town: Town) -> None:
    keys, seen = opened(town), set()
    for entry in entries(town):
        if part := entry.get("personal"):
            plain = decrypt(base64.b64decode(part["box"]), keys.get(part["key"]).secret)
            assert hashlib.sha256(plain).hexdigest() == part["commitment"]
            value = json.loads(plain)
            assert re.fullmatch(r"[0-9a-f]{32}", value["salt"])
            seen.add(entry["event"])
    assert {"person_saved", "batch_opened"} <= seen


def test_the_table_of_events_says_what_entries_hold(town: Town) -> None:
    text = (DOCS / "formats.md").read_text("utf-8")
    rows = [line.split("|") for line in text.split("| event |")[1].split("\n\n")[0].splitlines()[2:]]
    told = {name: (row[2], row[3]) for row in rows for name in re.findall(r"`([a-z_]+)`", row[1])}
    assert events() == set(told)
    listed = json.loads((DOCS / "journal.schema.json").read_text("utf-8"))["$defs"]["entry"]["properties"]["event"][
        "enum"
    ]
    assert set(listed) == events()
    seen = set()
    for entry in entries(town):
        seen.add(entry["event"])
        data, personal = told["sealed" if entry["event"] == "edited" else entry["event"]]
        for name in entry["data"]:
            assert f"`{name}`" in data or f"`{name}[]`" in data, f"{entry['event']} does not tell of {name}"
        assert bool(entry.get("personal")) == bool(personal.strip()), entry["event"]
    assert {"ledger_defined", "batch_opened", "waiting", "sealed", "edited", "refused", "snippet_viewed"} <= seen


def test_the_definition_fits_the_schema_in_store_and_journal(town: Town) -> None:
    valid, keys = schema("ledger"), opened(town)
    (home,) = objects(town, "l-")
    sealed = json.loads(decrypt((home / "v1/content/definition.json.age").read_bytes(), keys.get(home.name).secret))
    valid.validate(sealed)
    noted = [entry["data"]["definition"] for entry in entries(town) if entry["event"] == "ledger_defined"]
    assert noted == [sealed]


def test_pins_prove_the_objects(town: Town) -> None:
    pins = [
        (entry["data"].get("object") or entry["record"], entry["data"]["pin"])
        for entry in entries(town)
        if "pin" in entry["data"]
    ]
    assert len(pins) >= 4
    for object_id, pin in pins:
        home = town.data / "store" / object_place(object_id)
        data = (home / f"v{pin['version']}" / "inventory.json").read_bytes()
        assert hashlib.sha512(data).hexdigest() == pin["digest"]
        digest = hashlib.sha256(object_id.encode()).hexdigest()
        assert home.relative_to(town.data / "store" / "objects").as_posix() == f"{digest[:2]}/{digest[2:4]}/{object_id}"


def test_a_standard_age_opens_everything_as_told(town: Town, tmp_path: Path) -> None:
    need("age")
    (script,) = snippets("formats.md")
    store = town.data / "store"
    told = {
        "KEYS": str(town.keys),
        "RECORD": town.record,
        "AB": hashlib.sha256(town.record.encode()).hexdigest()[:2],
        "OBJECT": str(store / object_place(town.record)),
        "DERIVED": str(store / derivative_place(town.record)),
    }
    town.run(script, told, tmp_path)
    value = json.loads((tmp_path / "record.json").read_bytes())
    page = (tmp_path / "page").read_bytes()
    assert hashlib.sha256(page).hexdigest() == value["pages"][0]["digest"]
    with zipfile.ZipFile(tmp_path / "derivatives.zip") as archive:
        names = archive.namelist()
    assert {"view-0001.jpg", "thumb-0001.jpg"} <= set(names)
    assert all(
        re.fullmatch(r"(view|thumb)-\d{4,}\.jpg|snippet-[a-z0-9_-]+\.png|text-\d{4,}\.xml", name) for name in names
    )


def test_what_was_scanned_lies_there_as_it_was_scanned(town: Town) -> None:
    keys = opened(town)
    scanned = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (town.folder / "scans").iterdir()}
    scanned.discard(hashlib.sha256((town.folder / "scans" / "99-broken.pdf").read_bytes()).hexdigest())
    sealed = set()
    for home in objects(town, "r-"):
        for file in home.glob("v*/content/page-*.age"):
            sealed.add(hashlib.sha256(decrypt(file.read_bytes(), keys.get(home.name).secret)).hexdigest())
    assert sealed == scanned


def test_the_backup_is_as_told(town: Town) -> None:
    target, keys = Path(town.words["控えの場所"]), Path(town.words["鍵の控えの場所"])
    town.run(f"daicho backup {target} --keys-target {keys}")
    assert {path.name for path in target.iterdir()} == {"store"}
    newest = max(path.name for path in keys.iterdir() if path.is_dir())
    town.run(f"sha256sum --quiet --strict -c {newest}.sums", folder=keys)
    (count,) = re.findall(r"^# (\d+) files$", (keys / f"{newest}.sums").read_text(), re.MULTILINE)
    assert int(count) == sum(path.is_file() for path in (keys / newest).rglob("*"))
    known = json.loads((town.data / "backups.json").read_bytes())
    assert {field for each in known["stores"].values() for field in each} == {"at", "segments", "owed"}
    assert {field for each in known["keys"].values() for field in each} == {"at", "until"}


def test_the_digest_over_the_catalogue_is_defined_as_told(town: Town) -> None:
    town.run("daicho rebuild")  # also empties the log of the database into its file
    (info,) = town.rows("info")
    digest = hashlib.sha256()
    with sqlite3.connect(town.data / "catalogue.sqlite3") as database:
        tables = dict(database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table' ORDER BY name"))
        for table, made in tables.items():
            if table.startswith(("daicho_access_", "daicho_records_")) and table != "daicho_access_credential":
                for row in _rows(database, table, made):
                    digest.update(canonical([table, row]) + b"\n")
    assert digest.hexdigest() == info["digest"]


def _rows(database: sqlite3.Connection, table: str, made: str) -> Iterator[dict[str, Any]]:
    columns = {row[1]: (row[2], row[5]) for row in database.execute(f'PRAGMA table_info("{table}")')}
    unique = re.search(r'CONSTRAINT "\w+" UNIQUE \(([^)]*)\)', made)
    order = unique[1] if unique else ", ".join(f'"{name}"' for name, (_, key) in columns.items() if key)
    counted = "AUTOINCREMENT" in made
    for row in database.execute(f'SELECT * FROM "{table}" ORDER BY {order}'):
        value = {}
        for (name, (kind, key)), cell in zip(columns.items(), row, strict=True):
            if key and counted:
                continue
            if kind == "bool":
                cell = bool(cell)
            elif f'JSON_VALID("{name}")' in made:
                cell = json.loads(cell)
            value[name] = cell
        yield value
