"""The commands' log: how each ended, with codes; no name of a file, no term, no value. At the terminal nothing of it is seen."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.installed import Installation, copied, run

SECRET = "高橋花子"

CHATTY = (
    sys.executable,
    "-c",
    "import logging; from core import logs; logs.Line = lambda: logging.Formatter('%(message)s %(exc_text)s');"
    "logs.coded = lambda error: logging.getLogger('x').error('%s %s', error.ja, error.en); from cli.main import main; main()",
)
"""The same command with a log as others write it: the words of errors."""


def wander(place: Installation, tmp_path: Path, log: Path, *program: str) -> None:
    """Commands with names in their arguments, in files, in what fails."""
    told: dict[str, Any] = {"data": place.data, "DAICHO_LOG_FILE": str(log)} | ({"program": program} if program else {})
    broken = tmp_path / f"{SECRET}.pdf"
    broken.write_bytes(b"%PDF-1.7 nothing")
    assert run("search", SECRET, **told).code == 0
    assert run("search", "--where", SECRET, **told).code == 64
    assert run("record", "show", SECRET, **told).code == 66
    assert run("ingest", broken, "--ledger", "dv-support", "--no-text", "--name", SECRET, **told).code == 0
    assert run("ingest", tmp_path / SECRET, "--ledger", "dv-support", **told).code != 0
    assert run("read", broken, **told).code != 0


def test_nothing_of_anybody_stands_in_the_log(small: Installation, tmp_path: Path) -> None:
    place, log = copied(small, tmp_path), tmp_path / "daicho.log"
    wander(place, tmp_path, log)
    text = log.read_text("utf-8")
    assert SECRET not in text and "高橋" not in text and SECRET.encode("unicode_escape").decode() not in text
    assert str(tmp_path) not in text
    told = [json.loads(line) for line in text.splitlines()]
    ended = [(line["name"], line["status"]) for line in told if line["event"] == "command"]
    assert [name for name, _ in ended] == ["search", "search", "record show", "ingest", "ingest", "read"]
    assert ended[2][1] == 66 and len({line["request"] for line in told if line["event"] == "command"}) == 6
    [missing] = [line for line in told if line["event"] == "error" and line["request"] == told_of(told, "record show")]
    assert missing["code"] == "record.not_found" and missing["level"] == "warning"


def told_of(told: list[dict[str, Any]], name: str) -> str:
    return next(str(line["request"]) for line in told if line.get("name") == name)


def test_control_the_words_of_errors_would_tell(small: Installation, tmp_path: Path) -> None:
    log = tmp_path / "daicho.log"
    wander(copied(small, tmp_path), tmp_path, log, *CHATTY)
    assert SECRET in log.read_text("utf-8")


def test_at_a_terminal_nothing_of_it_is_seen(small: Installation) -> None:
    result = run("record", "show", "r-none", data=small.data)
    assert result.err.splitlines() == [
        line for line in result.err.splitlines() if line.startswith("[record.not_found]")
    ]
    assert '"event"' not in result.out + result.err


def test_a_log_that_cannot_be_written_is_said(small: Installation, tmp_path: Path) -> None:
    result = run("info", data=small.data, DAICHO_LOG_FILE=str(tmp_path / "nowhere" / "x.log"))
    assert (result.code, result.error) == (78, "log.unwritable")
