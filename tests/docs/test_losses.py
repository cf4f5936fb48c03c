"""docs/losses.md tried out: each store is lost or altered on a copy of an installation, and what the table says follows."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from doc_town import Town

from storage.filesystem import derivative_place, object_place
from storage.keys import wrapped_place

pytestmark = pytest.mark.slow


@pytest.fixture
def copy(town: Town, tmp_path: Path) -> Town:
    """The installation again, to be harmed."""
    made = Town(tmp_path, dict(town.words))
    shutil.copytree(town.data, made.data)
    shutil.copytree(town.keys, made.keys)
    return made


def asked(town: Town, command: str) -> tuple[int, list[dict[str, object]]]:
    """How a command ended and what it told."""
    ended = subprocess.run(
        ["daicho", "--json", *command.split()], env=town.environment(), capture_output=True, text=True, check=False
    )
    return ended.returncode, [json.loads(line) for line in ended.stdout.splitlines()]


def content(town: Town) -> Path:
    return town.data / "store" / object_place(town.record) / "v1" / "content" / "page-0001.age"


def altered(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)


def test_what_is_a_projection_comes_back(copy: Town) -> None:
    shutil.rmtree(copy.data / "index")
    (copy.data / "web.secret").unlink()
    (copy.data / "daicho.toml").unlink()
    assert copy.rows(f"record show {copy.record}")[0]["newest"] == 2
    (before,) = copy.rows("info")
    assert before["index_upto"] and before["index_documents"]
    (copy.data / "catalogue.sqlite3").unlink()
    assert asked(copy, "search x")[1][0]["error"] == "catalogue.missing"
    copy.run("daicho rebuild")
    (after,) = copy.rows("info")
    assert after["digest"] == before["digest"]


def test_lost_derivatives_do_no_harm(copy: Town) -> None:
    (copy.data / "store" / derivative_place(copy.record)).unlink()
    assert asked(copy, "verify")[0] == 0
    assert asked(copy, f"record show {copy.record}")[0] == 0


@pytest.mark.parametrize(
    ("harm", "finding"),
    [
        (lambda town: altered(content(town)), "damaged"),
        (lambda town: content(town).unlink(), "missing"),
        (lambda town: altered(content(town).parents[1] / "inventory.json"), "inventory"),
        (lambda town: altered(town.data / "store/journal/0000/000002.json"), "journal.broken"),
        (lambda town: (town.keys / wrapped_place(town.record)).unlink(), "keys.gone"),
        (lambda town: altered(town.keys / wrapped_place(town.record)), "damaged"),
    ],
    ids=["page altered", "page lost", "inventory altered", "journal altered", "key lost", "key altered"],
)
def test_harm_to_the_truth_is_found(copy: Town, harm: Callable[[Town], None], finding: str) -> None:
    harm(copy)
    code, rows = asked(copy, "verify")
    assert code == 74
    assert finding in {row.get("finding") for row in rows}


def test_a_journal_cut_at_its_end_is_found(copy: Town) -> None:
    max((copy.data / "store" / "journal").rglob("*.json")).unlink()
    code, rows = asked(copy, "verify")
    assert code == 74
    assert "journal.short" in {row.get("finding") for row in rows}


def test_an_altered_catalogue_is_found(copy: Town) -> None:
    with closing(sqlite3.connect(copy.data / "catalogue.sqlite3")) as database:
        assert database.execute("UPDATE daicho_records_record SET state = 'refused'").rowcount
        database.commit()
    code, rows = asked(copy, "verify")
    assert code == 74
    assert {row.get("finding") for row in rows} - {None} == {"catalogue.differs"}
    copy.run("daicho rebuild")
    assert asked(copy, "verify")[0] == 0


def test_without_its_key_a_record_cannot_be_read(copy: Town) -> None:
    (copy.keys / wrapped_place(copy.record)).unlink()
    code, rows = asked(copy, f"record show {copy.record}")
    assert (code, rows[0]["error"]) == (78, "keys.gone")


def test_another_master_key_opens_nothing(copy: Town, town: Town) -> None:
    other = Town(copy.folder / "other")
    other.run("daicho init")
    shutil.copy(other.keys / "master.key", copy.keys / "master.key")
    code, rows = asked(copy, "verify")
    assert (code, rows[0]["error"]) == (78, "keys.wrong")
