"""The validator against the community's fixtures, against what we write, against what was broken on purpose, and against nonsense."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.filesystem import FilesystemObjects
from storage.ocfl import UNREADABLE, check_object, check_root, is_error, kind
from storage.places import object_place
from storage.port import Checked
from tests.contracts.storage_contracts import version

FIXTURES = Path(__file__).resolve().parents[3] / "shared" / "data" / "ocfl-fixtures"
OBJECTS = sorted(each for each in FIXTURES.glob("1.[01]/*-objects/*") if each.is_dir())


def codes(checked: Checked) -> set[str]:
    return {finding.code for finding in checked.findings}


def errors(checked: Checked) -> set[str]:
    return {code for code in codes(checked) if is_error(code)}


def test_all_fixtures_are_there() -> None:
    assert len(OBJECTS) == 156


@pytest.mark.parametrize("folder", OBJECTS, ids=lambda folder: f"{folder.parts[-3]}-{folder.name}")
def test_the_verdict_is_that_of_the_fixture(folder: Path) -> None:
    """Good ones have no finding, bad ones an error and the codes of their names, those to be warned of the warnings of their names."""
    found = check_object(folder)
    named = {part for part in folder.name.split("_") if len(part) == 4 and part[1:].isdigit()}
    if folder.parent.name == "good-objects":
        assert found.findings == []
        assert (found.files > 0) == (folder.name != "minimal_no_content")
    elif folder.parent.name == "warn-objects":
        assert named and named <= codes(found) and not errors(found)
    else:
        assert named and named <= errors(found)


@pytest.fixture
def store(root: Path) -> Path:
    """A storage root of ours with two objects, one of two versions."""
    store = FilesystemObjects(root)
    store.seal([version(a=b"one", **{"deep/b": b"two"}), version(number=2, c=b"three", carried=("a",))])
    store.seal([version("r-2", a=b"one")])
    return root / "objects"


def place(store: Path, object_id: str = "r-1") -> Path:
    return store.parent / object_place(object_id)


def test_what_we_write_has_no_error(store: Path) -> None:
    *objects, root = check_root(store)
    assert kind(store) == "root" and kind(place(store)) == "object" and kind(store.parent) == ""
    assert sorted(each.object_id for each in objects) == ["r-1", "r-2"]
    # On purpose: ids and people are opaque words and no addresses.
    assert set().union(*map(codes, objects)) == {"W005", "W008"}
    assert sum(each.files for each in objects) == 4 and sum(each.bytes for each in objects) == 14
    assert root.object_id == "" and root.findings == []


def writable(path: Path) -> Path:
    for each in (path.parent, path):
        if each.exists():
            each.chmod(0o700)
    return path


def rewritten(folder: Path, change: Callable[[dict[str, Any]], None], *, sidecar: bool = True) -> None:
    """Change an object's newest inventory, at its root and in its version, with sidecars that fit."""
    value = json.loads((folder / "inventory.json").read_bytes())
    head = value["head"]
    change(value)
    data = json.dumps(value).encode()
    for home in (folder, folder / head):
        writable(home / "inventory.json").write_bytes(data)
        if sidecar:
            told = f"{hashlib.sha512(data).hexdigest()} inventory.json\n"
            writable(home / "inventory.json.sha512").write_text(told)


BROKEN_ROOTS: dict[str, Callable[[Path], object]] = {
    "E069": lambda store: writable(store / "0=ocfl_1.1").unlink(),
    "E076": lambda store: (store / "0=ocfl_1.0").write_text("ocfl_1.0\n"),
    "E079": lambda store: declared(store, "9.1"),
    "E080": lambda store: writable(store / "0=ocfl_1.1").write_text("ocfl_1.1"),
    "E070": lambda store: writable(store / "ocfl_layout.json").write_text('{"extension": "0003-x"}'),
    "E071": lambda store: writable(store / "ocfl_layout.json").write_text('{"extension": "ours", "description": "x"}'),
    "E072": lambda store: (place(store).parent / "note.txt").write_text("x"),
    "E073": lambda store: (store / "ab" / "empty").mkdir(parents=True),
    "E090": lambda store: (store / "link").symlink_to(place(store)),
    "E089": lambda store: os.mkfifo(store / "pipe"),
    "E112": lambda store: (store / "extensions" / "file").write_text("x"),
    "W016": lambda store: (store / "extensions" / "ours").mkdir(),
    "E081": lambda store: declared(store, "1.0"),
}


def declared(store: Path, specification: str) -> None:
    """Let the root declare another version of the specification."""
    writable(store / "0=ocfl_1.1").unlink()
    (store / f"0=ocfl_{specification}").write_text(f"ocfl_{specification}\n")


@pytest.mark.parametrize("code", BROKEN_ROOTS)
def test_a_broken_root_is_found(store: Path, code: str) -> None:
    for folder in (store, store / "extensions", place(store).parent):
        folder.chmod(0o700)
    BROKEN_ROOTS[code](store)
    *objects, root = check_root(store)
    assert codes(root) == {code}
    assert not any(errors(each) for each in objects)


def block(value: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = value["versions"][value["head"]]
    return found


CHANGED_INVENTORIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "E102": lambda value: value.update(note="x"),
    "E037": lambda value: value.update(id=7),
    "E038": lambda value: value.update(type="https://ocfl.io/1.0/spec/#inventory"),
    "E018": lambda value: value.update(contentDirectory=".."),
    "E043": lambda value: value.pop("versions"),
    "E044": lambda value: value.update(versions=[]),
    "E047": lambda value: value["versions"].update(v1="x"),
    "E048": lambda value: block(value).pop("created"),
    "E049": lambda value: block(value).update(created="2026-02-30T00:00:00Z"),
    "E094": lambda value: block(value).update(message=5),
    "E054": lambda value: block(value).update(user={"address": "mailto:a@example.jp"}),
    "E106": lambda value: value.update(manifest=[]),
    "E056": lambda value: value.update(fixity={"crc": {}}),
    "E057": lambda value: value.update(fixity={"md5": []}),
    "E111": lambda value: value.update(fixity=[]),
    "E042": lambda value: value["manifest"].update({"0" * 128: ["v1/elsewhere/x"]}),
    "E014": lambda value: value["manifest"].update({"0" * 128: ["v01/content/x"]}),
    "E051": lambda value: block(value)["state"].update({next(iter(value["manifest"])): "a"}),
    "E092": lambda value: value["manifest"].update({"0" * 128: ["v1/content/gone"]}),
    "E093": lambda value: value.update(fixity={"size": {"4": ["v2/content/c"]}}),
}


@pytest.mark.parametrize("code", CHANGED_INVENTORIES)
def test_what_an_inventory_must_not_say_is_found(store: Path, code: str) -> None:
    folder = place(store)
    rewritten(folder, CHANGED_INVENTORIES[code])
    assert code in errors(check_object(folder))


def test_control_a_rewritten_inventory_is_no_error_by_itself(store: Path) -> None:
    folder = place(store)
    rewritten(folder, lambda value: value.update(fixity={"size": {"5": ["v2/content/c"]}}))
    assert errors(check_object(folder)) == set()
    rewritten(folder, lambda value: value.update(fixity={}), sidecar=False)
    assert errors(check_object(folder)) == {"E060"}


def test_files_and_folders_that_have_no_place_are_found(store: Path) -> None:
    folder = place(store)
    for each in (folder, folder / "v1", folder / "v1" / "content", folder / "v2" / "content"):
        each.chmod(0o700)
    (folder / "v1" / "content" / "new").write_text("x")
    (folder / "v2" / "content" / "empty").mkdir()
    (folder / "v1" / "content" / "link").symlink_to("a")
    (folder / "v1" / "note").write_text("x")
    (folder / "0=ocfl_object_9.9").write_text("ocfl_object_9.9\n")
    found = {(finding.path, finding.code) for finding in check_object(folder).findings if is_error(finding.code)}
    assert found == {
        ("v1/content/new", "E023"),
        ("v2/content/empty", "E024"),
        ("v1/content/link", "E090"),
        ("v1/note", "E015"),
        ("", "E003"),
        ("0=ocfl_object_9.9", "E004"),
    }


def test_every_byte_is_read(store: Path) -> None:
    folder = place(store)
    for file in sorted(each for each in folder.rglob("*") if each.is_file()):
        data = file.read_bytes()
        writable(file).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        assert errors(check_object(folder)), file
        file.write_bytes(data)
    assert not errors(check_object(folder))


def test_names_that_a_terminal_would_obey_are_written_as_escapes(store: Path) -> None:
    folder = place(store)
    folder.chmod(0o700)
    (folder / "\x1b[2J\n\udcff").write_text("x")
    [found] = [finding for finding in check_object(folder).findings if finding.code == "E001"]
    assert found.path == "\\x1b[2J\\n\\udcff"


def test_what_cannot_be_read_is_said(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def bad_disk(path: Any, *rest: Any, **told: Any) -> int:
        if str(path).endswith("v2/content/c"):
            raise OSError(5, "I/O error")
        return real(path, *rest, **told)

    monkeypatch.setattr(os, "open", bad_disk)
    assert errors(check_object(place(store))) == {UNREADABLE}
    assert errors(check_object(store / "nowhere")) == {UNREADABLE, "E003", "E008", "E063"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
PLACES = [
    (),
    ("id",),
    ("type",),
    ("digestAlgorithm",),
    ("head",),
    ("contentDirectory",),
    ("manifest",),
    ("manifest", "*"),
    ("versions",),
    ("versions", "v1"),
    ("versions", "v1", "state"),
    ("versions", "v1", "state", "*"),
    ("versions", "v1", "user"),
    ("versions", "v1", "created"),
    ("fixity",),
    ("fixity", "md5"),
]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.sampled_from(PLACES), value=JSON)
def test_nonsense_in_an_inventory_is_never_an_exception(
    tmp_path_factory: pytest.TempPathFactory, at: tuple[str, ...], value: Any
) -> None:
    folder = tmp_path_factory.mktemp("object") / "object"
    shutil.copytree(FIXTURES / "1.1" / "good-objects" / "ocfl_object_all_fixity_digests", folder)
    whole = json.loads((folder / "inventory.json").read_bytes())
    if at:
        inner = whole
        for key in at[:-1]:
            inner = inner[key]
        inner[next(iter(inner)) if at[-1] == "*" else at[-1]] = value
    else:
        whole = value
    (folder / "inventory.json").write_text(json.dumps(whole), "utf-8")
    assert errors(check_object(folder))  # the sidecar does not fit, at the least


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xfe", b"[" * 100_000, b'{"id": "a", "id": "b"}', b'{"id": NaN}', "{}".encode("utf-16")]
)
def test_what_is_no_json_is_said(store: Path, data: bytes) -> None:
    writable(place(store) / "inventory.json").write_bytes(data)
    assert "E033" in errors(check_object(place(store)))
