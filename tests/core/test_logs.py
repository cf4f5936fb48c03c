"""The machine's log: lines of JSON with nothing in them that came from outside, opened anew after a rotation, and no reason to stop."""

from __future__ import annotations

import json
import logging
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core import logs
from core.errors import BadInput, NotReady, StorageFull
from core.settings import LogSettings, load

NAME = "山田 花子"


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    """A log that is written while the test runs."""
    place = tmp_path / "daicho.log"
    logs.begin(LogSettings(place))
    yield place
    logs.begin(LogSettings())


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def broken(name: str) -> None:
    secret = name  # a local that a traceback with locals would show
    try:
        raise KeyError(secret)
    except KeyError as error:
        raise ValueError(f"{name} is not a name") from error


def test_a_line_of_ours(file: Path) -> None:
    with logs.request() as number:
        logs.write("request", name="record", status=200, ms=12.3456, counts={"asked": 3})
        assert logs.request_id() == number
    logs.write("probe", code="store.no_locks")
    first, second = lines(file)
    assert first.pop("time").endswith("Z")
    assert first == {
        "level": "info",
        "request": number,
        "event": "request",
        "name": "record",
        "status": 200,
        "ms": 12.3,
        "counts": {"asked": 3},
    }
    assert "request" not in second and second["code"] == "store.no_locks"
    assert logs.request_id() == "" and len(number) == 15


def test_requests_have_ids_of_their_own(file: Path) -> None:
    with logs.request() as outer:
        with logs.request() as inner:
            assert logs.request_id() == inner != outer
        assert logs.request_id() == outer


def test_an_error_is_told_by_its_code_alone(file: Path) -> None:
    logs.coded(BadInput(f"{NAME}は日付ではありません", f"{NAME} is no date", code="date.bad"))
    logs.coded(StorageFull(NAME, NAME))
    assert [(line["level"], line["event"], line["code"], line["error"]) for line in lines(file)] == [
        ("warning", "error", "date.bad", "BadInput"),
        ("error", "error", "storage.full", "StorageFull"),
    ]
    assert NAME not in file.read_text("utf-8")


def test_a_failure_is_told_by_classes_and_places(file: Path) -> None:
    try:
        broken(NAME)
    except ValueError as error:
        logs.failed(error)
    [line] = lines(file)
    assert (line["level"], line["event"], line["error"], line["behind"]) == (
        "error",
        "failed",
        "ValueError",
        ["KeyError"],
    )
    assert line["stack"][-1].startswith("core/test_logs.py:") and line["stack"][-1].endswith(" broken")
    assert NAME not in file.read_text("utf-8") and "花子" not in file.read_text("utf-8")


def library(name: str) -> None:
    """What libraries do: Django with an address, a decoder with the name of a file, one with an error's own words."""
    logging.getLogger("django.server").warning("Not Found: %s", f"/?q={name}")
    logging.getLogger("PIL").error(f"cannot read {name}.tif")
    try:
        broken(name)
    except ValueError:
        logging.getLogger("waitress").exception("Exception while serving %s", f"/{name}")
    logging.getLogger("elastic_transport").info("GET /%s", name)


def test_libraries_are_told_by_place(file: Path) -> None:
    library(NAME)
    told = lines(file)
    assert [(line["event"], line["logger"]) for line in told] == [
        ("library", "django.server"),
        ("library", "PIL"),
        ("library", "waitress"),
    ]
    assert all(line["at"].startswith("core/test_logs.py:") for line in told) and told[2]["error"] == "ValueError"
    assert NAME not in file.read_text("utf-8")


def test_control_a_common_formatter_would_tell_names(file: Path) -> None:
    [handler] = logs._handlers
    handler.setFormatter(logging.Formatter("%(message)s"))
    library(NAME)
    assert file.read_text("utf-8").count(NAME) >= 4


@pytest.mark.parametrize(("level", "events"), [("info", 3), ("warning", 2), ("error", 1)])
def test_levels(tmp_path: Path, level: str, events: int) -> None:
    place = tmp_path / "daicho.log"
    logs.begin(LogSettings(place, level))
    logs.write("probe")
    logs.coded(BadInput("x", "x"))
    logs.failed(ValueError())
    logs.begin(LogSettings())
    assert len(lines(place)) == events


def test_a_rotated_file_is_opened_anew(file: Path) -> None:
    logs.write("probe", code="before")
    file.rename(file.with_suffix(".1"))
    logs.write("probe", code="after")
    assert [line["code"] for line in lines(file.with_suffix(".1"))] == ["before"]
    assert [line["code"] for line in lines(file)] == ["after"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_log_that_cannot_be_written_stops_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    logs.begin(LogSettings(Path("/dev/full")))
    library(NAME)
    logs.begin(LogSettings())
    assert "".join(capfd.readouterr()) == ""


def test_without_a_file_nothing_is_printed_but_by_who_serves(capfd: pytest.CaptureFixture[str]) -> None:
    logs.begin(LogSettings())
    library(NAME)
    assert capfd.readouterr().err == ""
    logs.begin(LogSettings(), stderr=True)
    library(NAME)
    logs.begin(LogSettings())
    told = capfd.readouterr().err
    assert told.count('"event": "library"') == 3 and NAME not in told


def test_a_file_that_cannot_be_there_is_said_at_the_start(tmp_path: Path) -> None:
    for place in (tmp_path / "nowhere" / "x.log", tmp_path):
        with pytest.raises(NotReady) as caught:
            logs.begin(LogSettings(place))
        assert caught.value.code == "log.unwritable"


def test_settings(tmp_path: Path) -> None:
    assert load(tmp_path, environment={}).log == LogSettings()
    (tmp_path / "daicho.toml").write_text('[log]\nfile = "x.log"\nlevel = "error"\n', "utf-8")
    assert load(tmp_path, environment={}).log == LogSettings(tmp_path / "x.log", "error")
    told = {"DAICHO_LOG_FILE": "/var/log/daicho.log", "DAICHO_LOG_LEVEL": "info"}
    assert load(tmp_path, environment=told).log == LogSettings(Path("/var/log/daicho.log"))
    for wrong in ('level = "loud"', "file = 5", 'place = "x"'):
        (tmp_path / "daicho.toml").write_text(f"[log]\n{wrong}\n", "utf-8")
        with pytest.raises(BadInput) as caught:
            load(tmp_path, environment={})
        assert caught.value.code == "settings.value"
