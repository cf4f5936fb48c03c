"""Feeding the index: what is acknowledged arrives, in groups that are not lost, past records that cannot be read."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from core.errors import Busy, NotReady, StorageFull, Unreachable
from records import indexing, queries
from records.capture import edit
from records.find import find
from records.found import define
from records.indexing import feed, write_through
from records.show import show
from search.memory import MemoryIndex
from storage.memory import MemoryObjects
from tests.house import House, template


@pytest.fixture
def records(house: House) -> list[str]:
    define(house.stores, house.officer, template())
    batch = house.batch(5)
    return [house.sealed(batch, number, name=f"山田 {number}") for number in range(1, 6)]


class Flaky(MemoryIndex):
    """Fails as told at the nth write and at all after it, until it is told nothing."""

    def __init__(self, error: Exception, at: int) -> None:
        self.error: Exception | None = error
        self.left = at
        super().__init__(self.step)

    def step(self, moment: str) -> None:
        if moment == "write.before":
            self.left -= 1
            if self.left < 0 and self.error is not None:
                raise self.error


@pytest.mark.parametrize(
    "error",
    [
        Unreachable("応答なし", "no answer"),
        StorageFull("満杯", "full", code="index.full"),
        NotReady("拒否", "refused", code="index.credentials"),
    ],
)
def test_what_the_index_refuses_waits_and_arrives(house: House, records: list[str], error: Exception) -> None:
    index = Flaky(error, 0)
    stores = replace(house.stores, index=index)
    assert feed(stores) == 0
    with pytest.raises(type(error)):
        write_through(stores)
    index.error = None
    assert feed(stores) == len(records) == index.count()
    assert index.upto() == queries.last_entry()[0]


def test_groups_that_arrived_are_not_written_again(
    house: House, records: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "GROUP", 2)
    index = Flaky(Unreachable("応答なし", "no answer"), 2)
    stores = replace(house.stores, index=index)
    assert feed(stores) == 0
    assert index.count() == 4 and 0 < index.upto() < queries.last_entry()[0]
    index.error = None
    assert feed(stores) == 1
    assert index.count() == 5 and index.upto() == queries.last_entry()[0]


def test_an_index_that_stays_busy_is_no_whole_one(
    house: House, records: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A renewal must not put a half-filled index in place: `write_through` says so, `feed` leaves it for later."""
    monkeypatch.setattr(indexing, "PATIENCE", 0.2)
    stores = replace(house.stores, index=Flaky(Busy("待つ", "wait"), 0))
    with pytest.raises(Busy):
        write_through(stores)
    assert feed(stores) == 0


def test_a_damaged_record_does_not_keep_the_others_from_being_found(house: House, records: list[str]) -> None:
    objects = house.stores.objects
    assert isinstance(objects, MemoryObjects)
    for (object_id, path), data in list(objects.files.items()):
        if object_id == records[2]:
            objects.files[object_id, path] = data[:-1] + b"?"
    index = MemoryIndex()
    write_through(replace(house.stores, index=index))
    assert index.count() == len(records) - 1
    assert index.upto() == queries.last_entry()[0]


def test_a_long_journal_is_looked_at_in_windows(
    house: House, records: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each record once, by its newest entry, however many windows lie between its first and its last."""
    edit(house.stores, house.officer, records[0], 1, {"name": "山本"}, "誤り")
    edit(house.stores, house.officer, records[2], 1, {"name": "山本"}, "誤り")
    newest, _ = queries.last_entry()
    whole, upto = queries.outbox(0)
    assert (sorted(record for record, _ in whole), upto) == (sorted(records), newest)
    monkeypatch.setattr(queries, "WINDOW", 3)
    monkeypatch.setattr(indexing, "QUIET", 3)
    walked, after = [], 0
    while after < newest:
        some, after = queries.outbox(after)
        walked += some
    assert walked == whole
    stores = replace(house.stores, index=MemoryIndex())
    assert write_through(stores) == len(records)
    assert stores.index.upto() == newest and stores.index.count() == len(records) + 2


def test_an_edit_does_not_wait_for_the_index(house: House, records: list[str]) -> None:
    feed(house.stores)
    fed = house.stores.index.upto()
    house.switch.seen.clear()
    edit(house.stores, house.officer, records[0], 1, {"name": "山本"}, "誤り")
    assert "write" not in house.switch.seen and house.stores.index.upto() == fed
    assert house.stores.outbox.waits.is_set()
    assert feed(house.stores) == 1 and not house.stores.outbox.waits.is_set()


def test_what_nobody_searches_for_wakes_nobody(house: House, records: list[str]) -> None:
    feed(house.stores)
    show(house.stores, house.officer, records[0])
    find(house.stores, house.officer, "山田")
    assert not house.stores.outbox.waits.is_set()


def test_who_changed_something_finds_it_at_once(house: House, records: list[str]) -> None:
    """Others, when whoever feeds has come by."""
    other = house.person("other", "records-office")
    feed(house.stores)
    edit(house.stores, house.officer, records[0], 1, {"name": "山本"}, "誤り")
    assert find(house.stores, other, "山本").total == 0
    assert [hit.record for hit in find(house.stores, house.officer, "山本").hits] == [records[0]]
    assert find(house.stores, other, "山本").total == 1
    assert not house.stores.outbox.waits.is_set()


def test_a_search_waits_for_the_thread_that_feeds_but_not_for_long(
    house: House, records: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    feed(house.stores)
    edit(house.stores, house.officer, records[0], 1, {"name": "山本"}, "誤り")
    feeding = house.stores.outbox.feeding
    feeding.acquire()
    monkeypatch.setattr(indexing, "SOON", 0.2)
    begun = time.monotonic()
    assert find(house.stores, house.officer, "山本").total == 0
    assert 0.2 <= time.monotonic() - begun < 5
    monkeypatch.setattr(indexing, "SOON", 20.0)
    threading.Timer(0.2, feeding.release).start()
    assert find(house.stores, house.officer, "山本").total == 1


def test_a_search_takes_no_long_way_upon_itself(
    house: House, records: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is far behind is left to whoever feeds: no group is begun when the moment is over."""
    monkeypatch.setattr(indexing, "FEW", 2)
    ticks = itertools.count()
    monkeypatch.setattr(indexing, "time", SimpleNamespace(monotonic=lambda: next(ticks) * 0.2, sleep=time.sleep))
    assert 0 < find(house.stores, house.officer, "").total < len(records)
    monkeypatch.undo()
    assert find(house.stores, house.officer, "").total == len(records)


@pytest.mark.parametrize("error", [Busy("待つ", "wait"), Unreachable("応答なし", "no answer")])
def test_an_index_that_cannot_be_written_is_searched_all_the_same(
    house: House, records: list[str], error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "SOON", 0.2)
    index = Flaky(error, 1)
    stores = replace(house.stores, index=index)
    feed(stores)
    edit(stores, house.officer, records[0], 1, {"name": "山本"}, "誤り")
    assert find(stores, house.officer, "山本").total == 0
    assert find(stores, house.officer, "山田").total == len(records)
    index.error = None
    assert find(stores, house.officer, "山本").total == 1
