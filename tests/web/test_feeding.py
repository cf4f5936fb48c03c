"""The index follows by itself: in the pages' process when something was changed, after a command when it has told its result."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from search.embedded import TantivyIndex
from search.port import All, Scope
from tests.installed import Installation, copied, done
from tests.web.conftest import Site
from web import serve


@pytest.fixture
def fed(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """When the thread that feeds came by; it looks by itself once an hour here."""
    times: list[float] = []

    def feed(stores: object) -> None:
        site.house.stores.outbox.waits.clear()
        times.append(time.monotonic())

    monkeypatch.setattr(serve, "feed", feed)
    monkeypatch.setattr(serve, "FEED_EVERY", 3600.0)
    ended = threading.Event()
    thread = threading.Thread(target=serve.keep_fed, args=(site.house.stores, ended))
    thread.start()
    yield times
    ended.set()
    site.house.stores.outbox.waits.set()
    thread.join(10)
    assert not thread.is_alive()


def test_a_change_wakes_the_thread_that_feeds(site: Site, fed: list[float]) -> None:
    while not fed:
        time.sleep(0.01)
    desk = site.client("desk")
    assert len(fed) == 1
    sent = {"base": "1", "v-name": "高橋 桜子", "why": "改名"}
    answer = desk.post(f"/records/{site.record}/edit/", sent)
    assert answer.status_code == 302
    until = time.monotonic() + 5
    while len(fed) < 2:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_who_edits_and_searches_at_once_finds_it(site: Site) -> None:
    """Nobody feeds here but the search itself. The record's page does not ask the index at all."""
    desk, officer = site.client("desk"), site.client("officer")
    assert "高橋 花子" in officer.get("/", {"q": "高橋"}).content.decode()
    desk.post(f"/records/{site.record}/edit/", {"base": "1", "v-name": "高橋 桜子", "why": "改名"})
    assert site.house.stores.outbox.waits.is_set()
    assert "高橋 桜子" in officer.get(f"/records/{site.record}/").content.decode()
    assert site.house.stores.outbox.waits.is_set()
    assert "高橋 桜子" in desk.get("/", {"q": "桜子"}).content.decode()
    assert "見つかりませんでした" in desk.get("/", {"q": "花子"}).content.decode()


def found(data: Path, text: str = "") -> int:
    """Newest generations in the index as it lies on the disk, which nobody feeds by looking at it."""
    return TantivyIndex(data / "index").search(All(()), Scope({"dv-support": None}), past=True).total


def test_a_command_feeds_when_it_has_told_its_result(small: Installation, tmp_path: Path) -> None:
    here = copied(small, tmp_path)
    record = done("search", "--ledger", "dv-support", data=here.data)[0]["record"]
    before = found(here.data)
    (tmp_path / "a.txt").write_text("申立書")
    done("record", "attach", record, tmp_path / "a.txt", "--why", "追加", data=here.data)
    assert found(here.data) == before + 1
