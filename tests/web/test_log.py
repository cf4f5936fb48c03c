"""The pages' log: a line for every request, an id to quote, and no word of what was asked."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from core import logs
from core.settings import LogSettings
from tests.web.conftest import Site
from web import finding

SECRET = "高橋花子"
WORDS = (SECRET, quote(SECRET), "高橋", quote("高橋"), SECRET.encode("unicode_escape").decode(), "himitsu")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "daicho.log"
    logs.begin(LogSettings(place))
    yield place
    logs.begin(LogSettings())


def lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text("utf-8").splitlines()]


def wander(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way in which what somebody types could come into a log: searches, addresses, forms, wrong sign-ins, failures with texts."""
    desk = site.client("desk", raise_request_exception=False)
    assert desk.get("/", {"q": SECRET, "ledger": "clients"}).status_code == 200
    assert desk.get("/", {"q": f'"{SECRET}', "sort": SECRET, "cursor": SECRET}).status_code == 400
    assert desk.get(f"/records/{SECRET}/himitsu/").status_code == 404
    assert desk.get(f"/{SECRET}?name={SECRET}").status_code == 404
    assert desk.get(f"/records/{site.hidden_record}/").status_code == 404
    assert desk.get(f"/records/{site.record}/").status_code == 200
    assert desk.post(f"/records/{site.record}/edit/", {"v-name": SECRET, "why": ""}).status_code == 400
    assert desk.post("/sign-in/", {"login": SECRET, "password": "himitsu"}).status_code == 403
    assert desk.get("/", {"q": SECRET}, HTTP_HOST=f"{quote(SECRET)}.example").status_code == 400
    assert desk.post("/", {"q": SECRET}).status_code in (200, 405)

    def fails(*_: object, **__: object) -> None:
        raise ValueError(f"{SECRET} at {site.record}")

    with monkeypatch.context() as patched:
        patched.setattr(finding, "find", fails)
        assert desk.get("/", {"q": SECRET}).status_code == 500


def test_nothing_of_what_was_asked_stands_in_the_log(site: Site, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wander(site, monkeypatch)
    text = log.read_text("utf-8")
    assert not [word for word in WORDS if word in text]
    for known in (*site.people.values(), site.record, site.hidden_record, site.batch):
        assert known not in text
    told = lines(log)
    assert {line["event"] for line in told} <= {"request", "error", "failed", "library"}
    assert {line["status"] for line in told if line["event"] == "request"} >= {200, 302, 400, 403, 404, 500}
    assert {line["code"] for line in told if line["event"] == "error"} >= {"sign_in", "edit.why", "record.not_found"}
    [failed] = [line for line in told if line["event"] == "failed"]
    assert failed["error"] == "ValueError" and failed["stack"][-1].endswith(" fails")


def test_control_djangos_own_words_would_tell(site: Site, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [handler] = logs._handlers
    handler.setFormatter(logging.Formatter("%(message)s"))
    django = logging.getLogger("django.request")
    before = django.level
    try:
        desk = site.client("desk", raise_request_exception=False)
        desk.get("/")  # our middleware is made with the first request
        django.setLevel(logging.WARNING)
        wander(site, monkeypatch)
    finally:
        django.setLevel(before)
    text = log.read_text("utf-8")
    assert [word for word in WORDS if word in text]


def test_every_request_has_a_line_and_an_id(site: Site, log: Path) -> None:
    desk = site.client("desk")
    log.write_text("")
    answers = [desk.get("/"), desk.get(f"/records/{site.record}/"), desk.get("/nowhere/"), desk.get("/batches/")]
    told = [line for line in lines(log) if line["event"] == "request"]
    assert [line["request"] for line in told] == [answer["X-Request-Id"] for answer in answers]
    assert len({line["request"] for line in told}) == 4
    assert [(line.get("name", ""), line["status"]) for line in told] == [
        ("home", 200),
        ("record", 200),
        ("", 404),
        ("batches", 200),
    ]
    assert all(line["ms"] > 0 for line in told)


def test_an_id_from_outside_is_not_believed(site: Site, log: Path) -> None:
    answer = site.visitor().get("/sign-in/", headers={"X-Request-Id": "himitsu"})
    assert answer["X-Request-Id"].startswith("q-") and "himitsu" not in log.read_text("utf-8")


def test_an_error_page_bears_the_id_of_its_lines(site: Site, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = site.client("desk", raise_request_exception=False)

    def fails(*_: object, **__: object) -> None:
        raise ValueError(SECRET)

    monkeypatch.setattr(finding, "find", fails)
    answer = desk.get("/", {"q": "x"})
    shown = re.search(r"<code>(q-[a-z2-7]{13})</code>", answer.content.decode())
    assert answer.status_code == 500 and shown and shown[1] == answer["X-Request-Id"]
    of_it = [line["event"] for line in lines(log) if line.get("request") == shown[1]]
    assert of_it == ["failed", "request"]
    lost = desk.get("/nowhere/")
    assert lost.status_code == 404 and lost["X-Request-Id"] not in lost.content.decode()
