"""Rebuilding: the same catalogue however the journal is cut into groups, on from where it was broken off, and past what the store has lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import Conflict, StoreDamaged
from records import fold, queries, rebuild
from records.batches import NewSheet, close_batch, open_batch
from records.capture import edit, note_pages_read, refuse, refuse_sheets, seal_spans, settle
from records.check import catalogue_digest
from records.found import save_person
from records.models import Record, Segment
from records.operation import note_alone
from storage.port import Journal
from tests.house import House, sha, use_catalogue

STEPS: dict[str, Callable[[House, str], object]] = {
    "seal": lambda house, tag: house.sealed(house.batch(2, name=tag), 1),
    "seal a group": lambda house, tag: _group(house, tag),
    "let wait": lambda house, tag: house.waiting(house.batch(1, name=tag), 1),
    "settle": lambda house, tag: settle(house.stores, house.officer, house.waiting(house.batch(1, name=tag), 1), {}),
    "refuse": lambda house, tag: refuse(
        house.stores, house.officer, house.waiting(house.batch(1, name=tag), 1), "blank"
    ),
    "edit": lambda house, tag: edit(
        house.stores, house.officer, house.sealed(house.batch(1, name=tag), 1), 1, {"name": f"山本 {tag}"}, "誤り"
    ),
    "edit again": lambda house, tag: [
        edit(house.stores, house.officer, row.id, row.generation, {"name": f"甲 {tag}"}, "誤り")
        for row in Record.objects.filter(state="sealed").order_by("id")[:1]
    ],
    "refuse sheets": lambda house, tag: refuse_sheets(
        house.stores, house.officer, house.batch(2, name=tag), [1], "file.bad"
    ),
    "refuse a sealed sheet": lambda house, tag: _sealed_then_refused(house, tag),
    "close": lambda house, tag: _closed(house, tag),
    "read pages": lambda house, tag: note_pages_read(
        house.stores, house.officer, [(house.sealed(house.batch(1, name=tag), 1), 3)]
    ),
    "read pages again": lambda house, tag: note_pages_read(
        house.stores, house.officer, [(row.id, 4) for row in Record.objects.order_by("id")[:2]]
    ),
    "save a person": lambda house, tag: save_person(house.stores, house.officer, "clerk", tag, ["records-office"]),
    "take the post away": lambda house, tag: save_person(house.stores, house.officer, "clerk", tag, []),
    "define anew": lambda house, tag: house.ledger("clients", title=("name", "sex")),
    "define as before": lambda house, tag: house.ledger("clients"),
    "another ledger": lambda house, tag: house.ledger(f"ledger-{tag}"),
    "look": lambda house, tag: note_alone(house.stores, house.officer, "batch_listed"),
}
"""Everything that changes a row of the catalogue."""


def _group(house: House, tag: str) -> None:
    batch = house.batch(3, name=tag)
    spans = [house.captured(batch, number, reason) for number, reason in ((1, ""), (2, "torn"), (3, ""))]
    seal_spans(house.stores, house.officer, batch, spans)


def _sealed_then_refused(house: House, tag: str) -> None:
    batch = house.batch(1, name=tag)
    house.sealed(batch, 1)
    refuse_sheets(house.stores, house.officer, batch, [1], "file.bad")


def _closed(house: House, tag: str) -> None:
    one = NewSheet(f"{tag}.pdf", 0, "", "file", "file.bad")
    batch, _ = open_batch(house.stores, house.officer, "clients", tag, [one])
    close_batch(house.stores, house.officer, batch)


def test_any_grouping_gives_the_same(
    engine: str, emptied: Callable[[], None], tmp_path: Path, blank_catalogue: Path
) -> None:
    """Live, a segment is folded when it is written; a rebuild folds it with others, whatever lies between."""

    @settings(max_examples=25 if engine == "sqlite" else 5, deadline=None, database=None)
    @given(
        steps=st.lists(st.sampled_from(sorted(STEPS)), max_size=12),
        enough=st.sampled_from([0, 1, 3, 10, 4000]),
        group=st.sampled_from([1, 2, 5, 4000]),
    )
    def same(steps: list[str], enough: int, group: int) -> None:
        emptied()
        house = House.founded()
        house.ledger()
        for tag, step in enumerate(steps):
            STEPS[step](house, f"t{tag}")
        live = catalogue_digest()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fold, "ENOUGH", enough)
            patch.setattr(rebuild, "GROUP", group)
            assert house.rebuilt_digest(blank_catalogue, tmp_path / "again.sqlite3") == live

    same()


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_the_order_of_changes_counts(
    house: House, tmp_path: Path, blank_catalogue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: where the last change of a row did not win, two groupings would differ."""
    house.ledger()
    _sealed_then_refused(house, "t")
    live = catalogue_digest()
    monkeypatch.setattr(queries, "give_outcomes", lambda outcomes, catalogue: None)
    assert house.rebuilt_digest(blank_catalogue, tmp_path / "again.sqlite3") != live


class PowerCut(Exception):
    pass


@dataclass
class Read(Journal):
    """A journal that remembers which segments were asked for."""

    journal: Journal
    numbers: list[int]

    def append(self, number: int, segment: bytes) -> None:
        self.journal.append(number, segment)

    def last(self) -> int:
        return self.journal.last()

    def read(self, number: int) -> bytes:
        return self.journal.read(number)

    def segments(self, first: int = 1) -> Iterator[tuple[int, bytes]]:
        for number, segment in self.journal.segments(first):
            self.numbers.append(number)
            yield number, segment


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_a_rebuild_goes_on_where_it_was(
    house: House, tmp_path: Path, blank_catalogue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.ledger()
    for number, step in enumerate(STEPS.values()):
        step(house, f"t{number}")
    live, last = catalogue_digest(), house.stores.journal.last()
    monkeypatch.setattr(rebuild, "GROUP", 3)
    reached = [0]

    def cut(done: int, total: int) -> None:
        assert done > reached[0] and total == last
        reached[0] = done
        if done > last // 2:
            raise PowerCut

    again = tmp_path / "again.sqlite3"
    shutil.copyfile(blank_catalogue, again)
    with use_catalogue(again):
        with pytest.raises(PowerCut):
            rebuild.rebuild(house.stores, cut)
        assert last // 2 < Segment.objects.count() == reached[0] < last
        read = Read(house.stores.journal, [])
        assert rebuild.rebuild(replace(house.stores, journal=read)) == last
        # A group that is full lets the rest of the iteration go.
        assert sorted(set(read.numbers)) == list(range(reached[0] + 1, last + 1))
        assert catalogue_digest() == live
        assert rebuild.rebuild(house.stores) == last


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_it_does_not_go_on_behind_another_history(
    house: House, tmp_path: Path, blank_catalogue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.ledger()
    monkeypatch.setattr(rebuild, "GROUP", 1)
    again = tmp_path / "again.sqlite3"
    shutil.copyfile(blank_catalogue, again)
    with use_catalogue(again):
        stranger = House.founded()
        with pytest.raises(StoreDamaged) as caught:
            rebuild.rebuild(house.stores)
        assert caught.value.code == "journal.broken"
        assert Segment.objects.count() == stranger.stores.journal.last()


def test_what_the_store_has_lost_is_told_and_the_rest_goes_on(
    house: House, tmp_path: Path, blank_catalogue: Path
) -> None:
    house.ledger()
    batch = house.batch(9)
    records = [house.sealed(batch, number) for number in range(1, 10)]
    edit(house.stores, house.officer, records[3], 1, {"name": "山本"}, "誤り")
    assert rebuild.check_pins(house.stores) == []
    objects: Any = house.stores.objects
    del objects.inventories[records[0], 1]
    objects.inventories[records[3], 2] += b" "
    house.stores.keys.destroy(records[5])
    live = catalogue_digest()
    assert house.rebuilt_digest(blank_catalogue, tmp_path / "again.sqlite3") == live
    seen: list[tuple[int, int]] = []
    findings = rebuild.check_pins(house.stores, lambda done, total: seen.append((done, total)))
    assert [(each.object_id, each.path, each.code) for each in findings] == sorted(
        [
            (records[0], "v1", "object.missing"),
            (records[3], "v2", "digest.mismatch"),
            (records[5], "v1", "keys.gone"),
        ]
    )
    # Nine records, one of two generations, and the ledger's definition.
    assert seen[-1] == (11, 11) == (queries.pin_count(), len(list(queries.pins())))


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_many_pins_are_looked_at_in_their_order(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuild, "CHUNK", 2)
    house.ledger()
    batch = house.batch(30)
    records = sorted(house.sealed(batch, number) for number in range(1, 31))
    objects: Any = house.stores.objects
    for record in records[::7]:
        del objects.inventories[record, 1]
    assert [each.object_id for each in rebuild.check_pins(house.stores)] == records[::7]


def test_a_catalogue_that_is_not_of_this_journal_is_refused(house: House) -> None:
    house.ledger()
    house.sealed(house.batch(1), 1)
    journal: Any = house.stores.journal
    rebuild.require_same_history(journal)
    whole = list(journal._segments)
    del journal._segments[-1]
    with pytest.raises(Conflict) as caught:
        rebuild.require_same_history(journal)
    assert caught.value.code == "catalogue.ahead"
    assert str(len(whole)) in caught.value.ja and str(len(whole) - 1) in caught.value.en
    journal._segments[:] = [*whole[:-1], whole[-1].replace(b'"sealed"', b'"edited"')]
    with pytest.raises(Conflict) as caught:
        rebuild.require_same_history(journal)
    assert caught.value.code == "catalogue.other_history"
    # One that is merely behind catches up.
    journal._segments[:] = [*whole, b"{}"]
    rebuild.require_same_history(journal)


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_yesterdays_catalogue_catches_up(house: House, tmp_path: Path) -> None:
    house.ledger()
    house.sealed(house.batch(1), 1)
    yesterday = tmp_path / "yesterday.sqlite3"
    with use_catalogue(tmp_path / "catalogue.sqlite3"):
        shutil.copyfile(tmp_path / "catalogue.sqlite3", yesterday)
    if (tmp_path / "catalogue.sqlite3-wal").exists():
        shutil.copyfile(tmp_path / "catalogue.sqlite3-wal", tmp_path / "yesterday.sqlite3-wal")
    before = catalogue_digest()
    house.sealed(house.batch(1, name=sha(b"today")), 1)
    today = catalogue_digest()
    assert before != today
    with use_catalogue(yesterday):
        assert catalogue_digest() == before
        rebuild.require_same_history(house.stores.journal)
        house.restarted()
        assert catalogue_digest() == today
