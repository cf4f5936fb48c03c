"""One bit of one file is another one: `daicho verify` finds it and names the file; where nothing opens any more, the command says which part it is."""

from __future__ import annotations

import random
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.operations import PARTS, SEED, laid_out
from tests.installed import run

BITS = 1 if PARTS == 1 else 40
"""Bits of each kind of file that are turned, one at a time."""

KINDS = {
    "content": r"data/store/objects/(?P<object>.*)/(?P<path>v\d+/content/.*)",
    "inventory": r"data/store/objects/(?P<object>.*)/(?P<path>v\d+/inventory\.json)",
    "sidecar": r"data/store/objects/(?P<object>.*)/(?P<path>v\d+/inventory\.json\.sha512)",
    "root inventory": r"data/store/objects/../../(?P<object>[^/]*)/(?P<path>inventory\.json)",
    "root sidecar": r"data/store/objects/../../(?P<object>[^/]*)/(?P<path>inventory\.json\.sha512)",
    "declaration": r"data/store/objects/../../(?P<object>[^/]*)/(?P<path>0=ocfl_object_1\.1)",
    "storage root": r"data/store/(?P<path>objects/0=ocfl_1\.1)",
    "layout": r"data/store/(?P<path>objects/ocfl_layout\.json)",
    "layout's settings": r"data/store/(?P<path>objects/extensions/.*)",
    "journal": r"data/store/(?P<path>journal/\d+/\d+\.json)",
    "store": r"data/store/(?P<path>store\.json)",
    "wrapped key": r"data-keys/(?P<path>wrapped/.*)",
    "master key": r"data-keys/(?P<path>master\.key)",
    "probe": r"data-keys/(?P<path>probe\.age)",
    "keys' store": r"data-keys/(?P<path>store\.json)",
}
"""Kind of file -> where it lies in the folder of a base; `object`: its folder's name, `path`: within that, the store or the keys."""

TOLD = {
    "store": {"store.missing", "store.damaged", "store.newer", "keys.foreign"},
    "master key": {"keys.wrong", "keys.missing", "keys.damaged"},
    "probe": {"keys.wrong", "keys.missing", "keys.damaged"},
    "keys' store": {"keys.foreign", "keys.missing", "keys.damaged"},
}
"""Kinds without which nothing opens -> the codes that say so."""


@pytest.fixture(scope="module")
def here(town: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return laid_out(town, tmp_path_factory.mktemp("flipped") / "here")


@contextmanager
def flipped(file: Path, bit: int) -> Iterator[None]:
    """One bit turned over, and back."""
    whole, mode = file.read_bytes(), stat.S_IMODE(file.stat().st_mode)
    data = bytearray(whole)
    data[bit // 8] ^= 1 << bit % 8
    file.chmod(0o600)
    file.write_bytes(data)
    try:
        yield
    finally:
        file.write_bytes(whole)
        file.chmod(mode)


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_found_and_located(kind: str, here: Path) -> None:
    rng = random.Random(f"{SEED} {kind}")
    places = {
        file: match
        for file in sorted(here.rglob("*"))
        if file.is_file() and (match := re.fullmatch(KINDS[kind], file.relative_to(here).as_posix()))
    }
    assert places
    for _ in range(BITS):
        file = rng.choice(list(places))
        bit = rng.randrange(file.stat().st_size * 8)
        where = f"seed {SEED}, {file.relative_to(here)}, bit {bit}"
        with flipped(file, bit):
            result = run("verify", data=here / "data")
        assert result.code, f"{where}: not found"
        assert "Traceback" not in result.err, where
        named = [row for row in result.rows if "finding" in row]
        if kind in TOLD:
            codes = {row.get("error") or row["finding"] for row in result.rows if "error" in row or "finding" in row}
            assert codes & TOLD[kind], f"{where}: {result.rows}"
        else:
            told = places[file]
            wanted = (told.groupdict().get("object", "").rpartition("/")[2], told["path"])
            assert wanted in [_place(row["object"], row["path"]) for row in named], f"{where}: {result.rows}"


def test_nothing_turned_nothing_found(here: Path) -> None:
    """The control: what is found above is found because of the bit."""
    result = run("verify", data=here / "data")
    assert (result.code, [row for row in result.rows if "finding" in row]) == (0, [])


def test_an_entry_that_cannot_be_one_of_ours_ends_a_rebuild_coded(town: Path, tmp_path: Path) -> None:
    """A bit of the name of a field: the segment is still JSON and follows the one before."""
    here = laid_out(town, tmp_path / "here")
    segment = here / "data/store/journal/0000/000001.json"
    whole = segment.read_bytes()
    at = whole.index(b'"posts"') + 2
    with flipped(segment, at * 8):
        assert segment.read_bytes() == whole.replace(b'"posts"', b'"pnsts"', 1)
        result = run("rebuild", data=here / "data")
        assert (result.code, result.error) == (74, "journal.broken"), result.err
    assert run("rebuild", data=here / "data").code == 0


def _place(object_id: str, path: str) -> tuple[str, str]:
    """Where a finding is: (folder of the object, path within it), or ("", path within the store or the keys)."""
    if object_id == "journal":
        return "", f"journal/{int(path) // 1000:04}/{int(path):06}.json"
    return ("", path) if path.startswith("wrapped/") else (object_id.replace(".", "%2e"), path)
