"""`daicho rebuild` as people run it: broken off and gone on with, from a copy that is only read, from a backup, over what is lost."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.installed import BATCH, DAICHO, Installation, copied, digest, done, environment, run

pytestmark = pytest.mark.slow


def dies(after: int, *words: str | Path) -> None:
    """Run the command and let it die after it has folded so many segments."""
    program = (
        "import os, sys\n"
        "from wiring import setup\n"
        "real = setup.set_up\n"
        "def set_up(settings):\n"
        "    real(settings)\n"
        "    from records import rebuild\n"
        "    rebuild.GROUP = 1\n"
        "    fold_some, left = rebuild.fold_some, [int(os.environ['LEFT'])]\n"
        "    def cut(*told):\n"
        "        if not left[0]:\n"
        "            os._exit(9)\n"
        "        left[0] -= 1\n"
        "        return fold_some(*told)\n"
        "    rebuild.fold_some = cut\n"
        "setup.set_up = set_up\n"
        "from cli.main import main\n"
        "main()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, *map(str, words)], env=environment(LEFT=str(after)), cwd="/", timeout=120
    )
    assert ended.returncode == 9


def segments(data: Path) -> int:
    with closing(sqlite3.connect(data / "catalogue.sqlite3")) as database:
        return int(database.execute("SELECT count(*) FROM daicho_records_segment").fetchone()[0])


@pytest.fixture(scope="module")
def before(small: Installation) -> str:
    """The digest of the catalogue that everybody else here makes again."""
    return digest(small.data)


@pytest.mark.parametrize("lost", [False, True], ids=["over the old one", "where it is lost"])
def test_broken_off_it_goes_on(small: Installation, before: str, tmp_path: Path, lost: bool) -> None:
    here = copied(small, tmp_path)
    if lost:
        (here.data / "catalogue.sqlite3").unlink()
    dies(4, "rebuild", "--data", here.data)
    assert segments(here.data) == 4
    assert run("info", data=here.data).error == "catalogue.unfinished"
    marked(here.data)
    dies(3, "rebuild", "--data", here.data)
    assert segments(here.data) == 7
    done("rebuild", data=here.data)
    assert digest(here.data) == before
    assert not (here.data / "catalogue.before").exists()
    assert MARK in tables(here.data)


MARK = "left_by_the_first"


def marked(data: Path, *statements: str) -> None:
    """Leave a sign in a half-made catalogue, which a new one does not have."""
    with closing(sqlite3.connect(data / "catalogue.sqlite3")) as database:
        for statement in (f"CREATE TABLE {MARK} (x)", *statements):
            database.execute(statement)
        database.commit()


def tables(data: Path) -> set[str]:
    with closing(sqlite3.connect(data / "catalogue.sqlite3")) as database:
        return {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def test_what_does_not_fit_is_not_gone_on_with(small: Installation, before: str, tmp_path: Path) -> None:
    """A half-made catalogue of another journal, or of another version of the tables; and a journal that is damaged meanwhile."""
    here = copied(small, tmp_path)
    for statements in (
        (
            "DROP TRIGGER daicho_past_segment_update",
            "UPDATE daicho_records_segment SET digest = 'x' WHERE number = 4",
        ),
        ("DELETE FROM django_migrations WHERE name = '0002_past'",),
    ):
        dies(4, "rebuild", "--data", here.data)
        marked(here.data, *statements)
        done("rebuild", data=here.data)
        assert MARK not in tables(here.data)
    dies(4, "rebuild", "--data", here.data)
    marked(here.data)
    place = here.data / "store" / "journal" / "0000" / "000004.json"
    whole = place.read_bytes()
    place.chmod(0o600)
    place.write_bytes(whole.replace(b'"via":"cli"', b'"via":"web"'))
    assert run("rebuild", data=here.data).error == "journal.broken"
    place.write_bytes(whole)
    done("rebuild", data=here.data)
    assert MARK not in tables(here.data)
    assert digest(here.data) == before


def stat(*folders: Path) -> dict[str, tuple[int, ...]]:
    """Everything there is, as nobody can write without changing it."""
    found = {}
    for folder in folders:
        for path in (folder, *sorted(folder.rglob("*"))):
            told = path.lstat()
            found[str(path)] = (
                told.st_ino,
                told.st_mode,
                told.st_size,
                told.st_mtime_ns,
                told.st_ctime_ns,
                told.st_nlink,
            )
    return found


READS = ("info", "verify", "reindex")
WRITES: tuple[tuple[str, ...], ...] = (
    ("search", "山"),
    ("person", "add", "somebody", "--name", "x"),
    ("audit", "checkpoint"),
    ("backup", "{target}"),
    ("ingest", "{batch}/03-dv-support.jpg", "--ledger", "dv-support", "--no-text"),
)


def test_from_a_copy_that_is_only_read(small: Installation, before: str, tmp_path: Path) -> None:
    """Nothing is written there, not even a lock; what must be journalled is refused with one code."""
    copy = copied(small, tmp_path / "copy")
    store, keys, data = copy.data / "store", copy.keys, tmp_path / "new" / "data"
    shutil.rmtree(store / "scratch")
    untouched = stat(store, keys)
    (rebuilt,) = done("rebuild", "--from", store, "--keys", keys, data=data)
    assert rebuilt["findings"] == 0 and rebuilt["records"] == 4
    told = done("info", "--keys", keys, data=data)[-1]
    assert told["digest"] == before and str(store) in told["engine"] and "read" in told["engine"]
    for command in READS:
        done(command, "--keys", keys, data=data)
    for words in WRITES:
        filled = [word.format(batch=BATCH, target=tmp_path / "target") for word in words]
        result = run(*filled, "--keys", keys, data=data)
        assert result.error == "store.read_only", (words, result.out, result.err)
    # Again, over what is there; and another store in the same place is refused.
    done("rebuild", "--from", store, "--keys", keys, data=data)
    assert run("rebuild", "--from", small.data / "store", "--keys", small.keys, data=data).error == "store.exists"
    assert stat(store, keys) == untouched
    # The control: an installation of one's own writes at every start.
    shutil.copytree(small.data / "store" / "scratch", store / "scratch")
    untouched = stat(store, keys)
    done("info", data=copy.data)
    assert stat(store, keys) != untouched


def test_from_a_mount_that_cannot_be_written(small: Installation, tmp_path: Path) -> None:
    """What the kernel refuses is not even tried: a mount in a namespace of its own, where this machine lets us."""
    data, there = tmp_path / "new" / "data", tmp_path / "there"
    there.mkdir()
    script = (
        f"mount --bind {small.data / 'store'} {there} && mount -o remount,bind,ro {there} && ! touch {there}/x 2>/dev/null"
        f" && exec {DAICHO} rebuild --json --from {there} --keys {small.keys} --data {data}"
    )
    ended = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", script], env=environment(), capture_output=True, text=True
    )
    if "unshare:" in ended.stderr:
        pytest.skip("no namespaces of mounts (unshare)")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout.splitlines()[-1])["findings"] == 0


def test_from_a_backup(small: Installation, before: str, tmp_path: Path) -> None:
    """A backup's store is a store: a rebuild over it tells without a restore whether it is whole."""
    target, keys = tmp_path / "backup", tmp_path / "keys"
    done("backup", target, "--keys-target", keys, data=small.data)
    (folder,) = (place.parent for place in keys.rglob("master.key"))
    untouched = stat(target, keys)
    data = tmp_path / "new"
    done("rebuild", "--from", target / "store", "--keys", folder, data=data)
    assert done("info", "--keys", folder, data=data)[-1]["digest"] == before
    assert stat(target, keys) == untouched


def test_broken_off_from_a_copy(small: Installation, before: str, tmp_path: Path) -> None:
    data = tmp_path / "new"
    words: list[Any] = ["rebuild", "--from", small.data / "store", "--keys", small.keys]
    dies(3, *words, "--data", data)
    done(*words, data=data)
    assert done("info", "--keys", small.keys, data=data)[-1]["digest"] == before


def test_where_there_is_no_store(small: Installation, tmp_path: Path) -> None:
    data = tmp_path / "new"
    assert run("rebuild", "--from", tmp_path, "--keys", small.keys, data=data).error == "store.missing"
    assert run("rebuild", "--from", small.data / "store", data=data).error == "keys.missing"
    assert not data.exists()
    (data / "something").mkdir(parents=True)
    words = ("rebuild", "--from", small.data / "store", "--keys", small.keys)
    assert run(*words, data=data).error == "store.exists"
    assert [each.name for each in data.iterdir()] == ["something"]


def test_a_copy_becomes_a_store_of_ones_own(small: Installation, before: str, tmp_path: Path) -> None:
    copy = copied(small, tmp_path / "copy")
    data = tmp_path / "new"
    done("rebuild", "--from", copy.data / "store", "--keys", copy.keys, data=data)
    done("migrate", "--embedded", "--keys", copy.keys, data=data)
    assert done("info", "--keys", copy.keys, data=data)[-1]["digest"] == before
    done("search", "--ledger", "dv-support", "--keys", copy.keys, data=data)
    assert digest(copy.data) == before


def test_what_is_lost_is_told_and_the_catalogue_is_made(small: Installation, tmp_path: Path) -> None:
    here = copied(small, tmp_path)
    record = done("search", "--ledger", "dv-support", data=here.data)[0]["record"]
    (folder,) = (here.data / "store" / "objects").glob(f"*/*/{record}")
    shutil.rmtree(folder)
    after = digest(here.data)
    result = run("rebuild", data=here.data)
    assert result.code == 74
    assert [(row["finding"], row["object"]) for row in result.rows if "finding" in row] == [("object.missing", record)]
    assert digest(here.data) == after
    others = done("search", "--ledger", "dv-support", data=here.data)
    assert record not in [row.get("record") for row in others] and len(others) > 1


def test_a_catalogue_ahead_of_the_store_is_refused(small: Installation, before: str, tmp_path: Path) -> None:
    """The store was put back from an older backup: nothing goes on in silence, and nothing of the catalogue is thrown away."""
    here = copied(small, tmp_path)
    done("search", "山", data=here.data)
    shutil.rmtree(here.data / "store")
    shutil.copytree(small.data / "store", here.data / "store")
    for words in (("info",), ("search", "x"), ("rebuild",)):
        assert run(*words, data=here.data).error == "catalogue.ahead", words
    result = run("verify", data=here.data)
    assert result.code == 74 and "journal.short" in {row.get("finding") for row in result.rows}
    (here.data / "catalogue.sqlite3").rename(tmp_path / "evidence.sqlite3")
    done("rebuild", data=here.data)
    assert digest(here.data) == before


def test_yesterdays_catalogue_catches_up(small: Installation, tmp_path: Path) -> None:
    here = copied(small, tmp_path)
    shutil.copyfile(here.data / "catalogue.sqlite3", tmp_path / "yesterday")
    done("search", "山", data=here.data)
    today = digest(here.data)
    for file in here.data.glob("catalogue.sqlite3*"):
        file.unlink()
    shutil.copyfile(tmp_path / "yesterday", here.data / "catalogue.sqlite3")
    assert digest(here.data) == today
