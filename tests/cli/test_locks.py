"""Locks by command on a real object storage: lengthened in turns, asked for, and the alarm in every place where people look."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from core.settings import FILE, engines_toml, load
from tests.installed import Installation, copied, done, run
from tests.servers.running import S3Server
from tests.web.browsing import serving


@pytest.fixture(scope="module")
def place(small: Installation, minio: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """An installation whose store has moved into a bucket."""
    folder = tmp_path_factory.mktemp("locks")
    here = copied(small, folder)
    engines = folder / "engines.toml"
    engines.write_text(engines_toml(replace(load(here.data, environment={}), store_engine=minio.new())), "utf-8")
    done("migrate", "--to", engines, data=here.data)
    return here


def set_days(place: Installation, lock_days: int, alarm_days: int) -> None:
    file = place.data / FILE
    told = [line for line in file.read_text("utf-8").splitlines() if not line.startswith(("lock_days", "alarm_days"))]
    at = told.index("[store]") + 1
    told[at:at] = [f"lock_days = {lock_days}", f"alarm_days = {alarm_days}"]
    file.write_text("\n".join(told) + "\n", "utf-8")


def test_a_day_with_locks(place: Installation) -> None:
    (place.data / "locks.json").unlink()
    first = done("locks", "extend", data=place.data)[-1]
    # What was sealed a moment ago ends some hours before the end of that day.
    assert first["due"] == first["objects"] > 3 and first["failed"] == 0
    again = done("locks", "extend", data=place.data)[-1]
    assert (again["due"], again["lengthened"]) == (0, 0)
    asked = done("locks", "check", data=place.data)[-1]
    assert asked["asked"] == first["objects"] and asked["short"] == 0 and asked["extended"]
    assert asked["soonest"][:10] <= first["until"][:10]
    told = done("info", data=place.data)[-1]
    assert told["probed"] and "yes" in told["worm"]
    assert told["locks"]["alarm"] == "" and told["locks"]["soonest"] >= asked["soonest"]


def test_the_alarm_is_told_everywhere(place: Installation, tmp_path: Path) -> None:
    """What is locked for sixty days would have to be locked for ninety."""
    set_days(place, 120, 90)
    result = run("locks", "check", data=place.data)
    assert (result.code, result.error) == (74, "locks.ending")
    assert result.rows[0]["finding"] == "lock.short" and "within 90 days" in result.rows[0]["detail"]
    assert done("info", data=place.data)[-1]["locks"]["alarm"] == "locks.ending"
    assert "! locks.ending" in run("info", data=place.data, plain=True).out
    log = tmp_path / "daicho.log"
    with serving(place, DAICHO_LOG_FILE=str(log)):
        until = time.monotonic() + 30
        while "locks.ending" not in (log.read_text("utf-8") if log.exists() else ""):
            assert time.monotonic() < until
            time.sleep(0.1)
    told = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    assert [line["counts"] for line in told if line["event"] == "probe"] == [{"worm": 1}]
    assert [line["code"] for line in told if line["event"] == "error"] == ["locks.ending"]
    [asked] = [line["counts"] for line in told if line["event"] == "locks"]
    assert asked["short"] > 0
    assert done("locks", "extend", data=place.data)[-1]["lengthened"] > 0
    assert done("locks", "check", data=place.data)[-1]["short"] == 0
    assert done("info", data=place.data)[-1]["locks"]["alarm"] == ""


def test_a_folder_has_no_locks(small: Installation) -> None:
    for command in ("extend", "check"):
        assert run("locks", command, data=small.data).error == "store.no_locks"
    told = done("info", data=small.data)[-1]
    assert told["locks"] == {} and told["probed"] == "" and told["worm"].startswith("no: ")
