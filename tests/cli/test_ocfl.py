"""What we write, before three judges: our own `daicho ocfl check`, ocfl-py and rocfl; on disk, and as it comes back from two object storages."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.bucket import Bucket
from storage.copying import Side, copy_store
from storage.filesystem import FilesystemDerivatives, FilesystemJournal, FilesystemObjects, open_store
from storage.port import ObjectStore
from storage.s3 import S3Derivatives, S3Journal, S3Objects, create_s3_store
from storage.streams import LARGE
from tests.contracts.storage_contracts import Generated, version
from tests.installed import Installation, copied, done, run
from tests.machine import need_built
from tests.servers import build
from tests.servers.running import S3Server


@pytest.fixture(scope="module")
def rocfl() -> Path:
    return need_built(build.rocfl)


@pytest.fixture(scope="module", params=["disk", "minio", "versitygw"])
def store(
    request: pytest.FixtureRequest, demo: Installation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """The demo's storage root and some more: on disk, or moved into a bucket and then downloaded name by name, as a mirror does."""
    here = demo.data / "store"
    mirror = tmp_path_factory.mktemp(request.param)
    if request.param == "disk":
        shutil.copytree(here, mirror / "store")
        seal_more(FilesystemObjects(mirror / "store"))
        yield mirror / "store" / "objects"
        return
    server: S3Server = request.getfixturevalue(request.param)
    where = server.new(lock_mode="GOVERNANCE")
    create_s3_store(where, open_store(here))
    source = Side(FilesystemObjects(here), FilesystemJournal(here), FilesystemDerivatives(here))
    copy_store(source, Side(S3Objects(where), S3Journal(where), S3Derivatives(where)))
    seal_more(S3Objects(where))
    bucket = Bucket(where, where.bucket)
    for key in dict.fromkeys(kept.key for kept in bucket.versions("objects/")):
        there = bucket.get(key)
        assert there is not None
        (mirror / key).parent.mkdir(parents=True, exist_ok=True)
        (mirror / key).write_bytes(there.data)
    yield mirror / "objects"


def seal_more(objects: ObjectStore) -> None:
    """What the demo does not write: later versions, files carried over, equal bytes, folders, a dot in an id, a file that is not held whole."""
    first = version("r-more.1", a=b"1", b=b"1", **{"deep/c": b"2"})
    later = [version("r-more.1", 2, carried=("a", "deep/c"), d=b"1"), version("r-more.1", 3, carried=("a",))]
    objects.seal([first, *later, version("r-large", large=Generated(LARGE + 1))])


@pytest.fixture(scope="module")
def objects(store: Path) -> list[Path]:
    return sorted(declaration.parent for declaration in store.rglob("0=ocfl_object_1.1"))


def test_our_own(demo: Installation, store: Path, objects: list[Path]) -> None:
    [told] = done("ocfl", "check", store)
    assert told["ok"] and told["objects"] == len(objects) == done("verify", data=demo.data)[-1]["objects"] + 2
    # On purpose: ids (W005) and people (W008) are opaque words and no addresses, since they outlive the keys.
    assert set(told["warnings"]) == {"W005", "W008"} and told["files"] > len(objects)


def test_ocfl_py(store: Path, objects: list[Path]) -> None:
    validate = Path(sys.executable).with_name("ocfl-validate.py")
    told = subprocess.run([sys.executable, str(validate), *map(str, objects)], capture_output=True, text=True)
    assert told.returncode == 0, told.stdout[-2000:] + told.stderr[-2000:]
    assert told.stdout.count(" is VALID") == len(objects)
    assert set(re.findall(r"\b[EW]\d{3}", told.stdout + told.stderr)) <= {"W005", "W008"}
    command = [sys.executable, str(validate.with_name("ocfl-root.py")), "validate", "--root", str(store)]
    whole = subprocess.run(command, capture_output=True, text=True)
    assert whole.returncode == 0, whole.stdout[-2000:] + whole.stderr[-2000:]
    assert f"Storage root {store} is VALID" in whole.stdout + whole.stderr


def judged(rocfl: Path, store: Path) -> tuple[int, str]:
    told = subprocess.run([rocfl, "-r", store, "validate"], capture_output=True, text=True, timeout=120)
    return told.returncode, told.stdout + told.stderr


def test_rocfl(rocfl: Path, store: Path, objects: list[Path]) -> None:
    code, said = judged(rocfl, store)
    assert code == 0, said[-2000:]
    assert re.search(rf"Total objects:\s+{len(objects)}\b", said) and re.search(r"Invalid objects:\s+0\b", said), said[
        -500:
    ]
    assert set(re.findall(r"\b[EW]\d{3}", said)) <= {"W005", "W008"}


@pytest.mark.parametrize("warnings", [False, True])
def test_control_all_of_them_see_one_flipped_bit(
    demo: Installation, rocfl: Path, tmp_path: Path, warnings: bool
) -> None:
    store = copied(demo, tmp_path).data / "store" / "objects"
    victim = sorted(store.rglob("page-0001.age"))[0]
    victim.chmod(0o600)
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    result = run("ocfl", "check", store, *(["--warnings"] if warnings else []))
    assert result.code == 74 and not result.rows[-1]["ok"] and result.rows[-1]["errors"] == 1
    found = [row for row in result.rows if row.get("finding", "W").startswith("E")]
    assert [(row["finding"], row["path"]) for row in found] == [("E092", "v1/content/page-0001.age")]
    assert found[0]["object"] in str(victim)
    assert bool([row for row in result.rows if row.get("finding") == "W005"]) == warnings
    validate = Path(sys.executable).with_name("ocfl-validate.py")
    home = victim.parents[2]
    assert subprocess.run([sys.executable, str(validate), str(home)], capture_output=True).returncode != 0
    assert judged(rocfl, store)[0] != 0


def test_one_object_and_what_is_none(demo: Installation, tmp_path: Path) -> None:
    store = demo.data / "store"
    home = sorted((store / "objects").rglob("0=ocfl_object_1.1"))[0].parent
    [told] = done("ocfl", "check", home)
    assert (told["ok"], told["kind"], told["objects"]) == (True, "object", 1)
    for nothing in (store, tmp_path, tmp_path / "nowhere", home / "inventory.json"):
        assert (result := run("ocfl", "check", nothing)).code == 64 and result.error == "ocfl.none"
    lines = run("ocfl", "check", store / "objects", "--language", "en", plain=True).out.splitlines()
    assert len(lines) == 1 and "no errors" in lines[0] and "W005" in lines[0]
    assert json.loads((home / "inventory.json").read_bytes())["id"] in home.name
