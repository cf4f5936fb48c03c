"""The power goes at every write there is; afterwards the same call again ends where it would have ended.

What is acknowledged is never lost, the catalogue is the fold of the journal, and nothing is sealed twice. On PostgreSQL, where each start from
nothing takes long, a run here breaks a sample; `make faults`, which sets DAICHO_KILLS, breaks every write there too.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from core.errors import Conflict, DaichoError, StoreDamaged
from records import queries
from records.batches import balance, close_batch, waiting_cases
from records.capture import edit, refuse, seal_spans, settle
from records.check import catalogue_digest, verify
from records.indexing import feed
from records.models import Batch, Entry, Record, Segment
from records.operation import note_alone
from records.rebuild import check_pins, rebuild
from search.port import All, Scope
from tests.house import House, PowerCut, use_catalogue
from tests.installed import Installation, content, copied, done, environment

ALL = "DAICHO_KILLS" in os.environ

OPERATIONS: dict[str, tuple[Callable[[House], Any], Callable[[House, Any], None]]] = {}
"""Name -> (what is there before, the operation as it is called again and again until it ends)."""


def operation(name: str, before: Callable[[House], Any]) -> Callable[[Callable[[House, Any], None]], None]:
    def kept(work: Callable[[House, Any], None]) -> None:
        OPERATIONS[name] = (before, work)

    return kept


def _batch(house: House) -> str:
    house.ledger()
    return house.batch(3)


@operation("open_batch", lambda house: house.ledger())
def _(house: House, _: Any) -> None:
    house.batch(3)


@operation("define", lambda house: None)
def _(house: House, _: Any) -> None:
    house.ledger()


@operation("seal_spans", _batch)
def _(house: House, batch: str) -> None:
    spans = [house.captured(batch, number, reason) for number, reason in ((1, ""), (2, "torn"), (3, ""))]
    seal_spans(house.stores, house.officer, batch, spans)
    feed(house.stores)


@operation("settle", lambda house: house.waiting(_batch(house), 1))
def _(house: House, record: str) -> None:
    row = queries.record(record)
    if row is not None and row.state == "waiting":  # a person who sees that it is done does not do it again
        settle(house.stores, house.officer, record, {"name": "山本"})
    feed(house.stores)


@operation("refuse", lambda house: house.waiting(_batch(house), 1))
def _(house: House, record: str) -> None:
    row = queries.record(record)
    if row is not None and row.state == "waiting":
        refuse(house.stores, house.officer, record, "blank")


@operation("edit", lambda house: house.sealed(_batch(house), 1))
def _(house: House, record: str) -> None:
    row = queries.record(record)
    if row is not None and row.generation == 1:
        edit(house.stores, house.officer, record, 1, {"name": "山本"}, "誤り")
    feed(house.stores)


def told(house: House) -> Any:
    """What people see, ids and times aside."""
    records = [
        (row.state, row.generation, [g.number for g in queries.generations(row.id)])
        for row in Record.objects.order_by("state", "generation")
    ]
    batches = [
        [(sheet.number, sheet.state, sheet.reason) for sheet in balance(house.officer, row.id).sheets]
        for row in Batch.objects.order_by("opened_at")
    ]
    page = house.stores.index.search(All(()), Scope({"clients": None}), past=True)
    hits = [(hit.generation, hit.partition) for hit in page.hits]
    # Naming a post and setting rights may be said twice; everything else is said once.
    events = sorted(Entry.objects.exclude(event__in=("post_saved", "rights_set")).values_list("event", flat=True))
    items = [(case.reason, [item.item for item in case.items]) for case in waiting_cases(house.officer)]
    return sorted(map(repr, records)), batches, sorted(hits), events, items


@pytest.mark.parametrize("name", OPERATIONS)
def test_broken_at_every_write(
    name: str, engine: str, emptied: Callable[[], None], tmp_path: Path, blank_catalogue: Path
) -> None:
    before, work = OPERATIONS[name]

    def anew() -> House:
        emptied()
        return House.founded()

    house = anew()
    given = before(house)
    house.switch.seen.clear()
    work(house, given)
    expected = told(house)
    writes = list(house.switch.seen)
    assert "append" in writes
    every = range(1, len(writes) + 1)
    # The first of each kind, and the last of all.
    sample = sorted({writes.index(kind) + 1 for kind in writes} | {len(writes)})
    for nth in every if engine == "sqlite" or ALL else sample:
        for moment in ("before", "after"):
            house = anew()
            given = before(house)
            house.switch.seen.clear()
            house.switch.breaks_at, house.switch.moment = nth, moment
            with pytest.raises(PowerCut):
                work(house, given)
            where = f"{name}: {moment} write {nth} ({writes[nth - 1]})"
            acknowledged = Segment.objects.count()
            house.restarted()
            assert house.stores.journal.last() == Segment.objects.count() >= acknowledged, where
            work(house, given)
            assert told(house) == expected, where
            result = verify(house.stores)
            assert result.findings == [], where
            digest = catalogue_digest()
            assert house.rebuilt_digest(blank_catalogue, tmp_path / "again.sqlite3") == digest, where


def test_a_segment_without_its_commit_is_taken_in(house: House) -> None:
    """Also by the next operation of a process that never restarted."""
    house.ledger()
    house.switch.seen.clear()
    house.switch.breaks_at, house.switch.moment = 1, "after"
    with pytest.raises(PowerCut):
        note_alone(house.stores, house.officer, "batch_listed")
    assert house.stores.journal.last() == Segment.objects.count() + 1
    note_alone(house.stores, house.officer, "batch_listed")
    assert house.stores.journal.last() == Segment.objects.count()
    assert list(Entry.objects.filter(event="batch_listed").values_list("number", flat=True)) == [
        Entry.objects.count() - 1,
        Entry.objects.count(),
    ]


def test_a_block_that_raises_leaves_nothing(house: House) -> None:
    house.ledger()
    segments, entries = house.stores.journal.last(), Entry.objects.count()
    from records.operation import operation as one

    with pytest.raises(DaichoError), one(house.stores, house.officer) as work:
        work.note("rights_set", ledger="clients", data={"posts": {}})
        raise Conflict("だめ", "no")
    assert (house.stores.journal.last(), Entry.objects.count()) == (segments, entries)


def test_a_journal_that_was_changed_is_refused(house: House, tmp_path: Path, blank_catalogue: Path) -> None:
    house.ledger()
    batch = house.batch(1)
    house.sealed(batch, 1)
    journal: Any = house.stores.journal
    for change in (
        lambda data: data.replace(b'"event":"sealed"', b'"event":"searched"'),
        lambda data: data[:-1],
        lambda data: data.replace(b'"previous":"', b'"previous":"0'),
    ):
        whole = list(journal._segments)
        journal._segments[-2] = change(journal._segments[-2])
        if journal._segments != whole:
            shutil.copyfile(blank_catalogue, tmp_path / "again.sqlite3")
            with use_catalogue(tmp_path / "again.sqlite3"), pytest.raises(StoreDamaged):
                rebuild(house.stores)
            assert {finding.code for finding in verify(house.stores).findings} >= {"journal.broken"}
        journal._segments[:] = whole
    assert verify(house.stores).findings == []
    del journal._segments[-1]
    assert [finding.code for finding in verify(house.stores).findings] == ["journal.short"]


def test_an_object_that_is_gone_is_named(house: House, tmp_path: Path, blank_catalogue: Path) -> None:
    house.ledger()
    record = house.sealed(house.batch(1), 1)
    objects: Any = house.stores.objects
    content = next(path for name, path in objects.files if name == record)
    damaged = dict(objects.files)
    objects.files[record, content] = objects.files[record, content][:-1] + b"\x00"
    assert [(f.object_id, f.code) for f in verify(house.stores).findings] == [(record, "damaged")]
    objects.files = damaged
    kept = objects.inventories.pop((record, 1))
    assert house.rebuilt_digest(blank_catalogue, tmp_path / "again.sqlite3") == catalogue_digest()
    assert [(f.object_id, f.path, f.code) for f in check_pins(house.stores)] == [(record, "v1", "object.missing")]
    assert (record, "missing") in [(f.object_id, f.code) for f in verify(house.stores).findings]
    objects.inventories[record, 1] = kept
    house.stores.keys.destroy(record)
    assert [(f.object_id, f.code) for f in verify(house.stores).findings] == [(record, "keys.gone")]


class AnyOrder(RuleBasedStateMachine):
    """Operations in any order, the power failing at any write: the catalogue stays the fold of the journal."""

    blank: Path
    folder: Path
    emptied: Callable[[], None]

    @initialize()
    def found(self) -> None:
        self.emptied()
        self.house = House.founded()
        self.house.ledger()
        self.batches: list[str] = []
        self.acknowledged: dict[str, int] = {}

    def _do(self, work: Callable[[], Any], nth: int, moment: str) -> Any:
        switch = self.house.switch
        switch.seen.clear()
        switch.breaks_at, switch.moment = nth, moment
        try:
            return work()
        except PowerCut:
            self.house.restarted()
            return None
        finally:
            switch.breaks_at = 0

    @rule(nth=st.integers(0, 6), moment=st.sampled_from(["before", "after"]))
    def open_batch(self, nth: int, moment: str) -> None:
        name = f"{len(self.batches)}"
        self.batches.append(
            self._do(lambda: self.house.batch(2, name=name), nth, moment) or self.house.batch(2, name=name)
        )

    @precondition(lambda self: self.batches)
    @rule(
        which=st.integers(0, 9),
        sheet=st.integers(1, 2),
        doubt=st.booleans(),
        nth=st.integers(0, 6),
        moment=st.sampled_from(["before", "after"]),
    )
    def seal(self, which: int, sheet: int, doubt: bool, nth: int, moment: str) -> None:
        batch = self.batches[which % len(self.batches)]
        work = self.house.waiting if doubt else self.house.sealed
        record = self._do(lambda: work(batch, sheet), nth, moment)
        if record is not None:
            row = queries.record(record)
            assert row is not None
            self.acknowledged.setdefault(record, row.generation)

    @precondition(lambda self: self.acknowledged)
    @rule(
        which=st.integers(0, 9),
        text=st.sampled_from(["甲", "乙"]),
        nth=st.integers(0, 4),
        moment=st.sampled_from(["before", "after"]),
        no=st.booleans(),
    )
    def decide(self, which: int, text: str, nth: int, moment: str, no: bool) -> None:
        record = sorted(self.acknowledged)[which % len(self.acknowledged)]
        row = queries.record(record)
        assert row is not None
        stores, officer = self.house.stores, self.house.officer
        try:
            if row.state == "sealed":
                made = self._do(
                    lambda: edit(stores, officer, record, row.generation, {"name": text}, "理由"), nth, moment
                )
                self.acknowledged[record] = max(self.acknowledged[record], made.body["generation"] if made else 0)
            elif row.state == "waiting" and no:
                self._do(lambda: refuse(stores, officer, record, "blank"), nth, moment)
            elif row.state == "waiting":
                made = self._do(lambda: settle(stores, officer, record, {"name": text}), nth, moment)
                self.acknowledged[record] = 1 if made else 0
        except DaichoError as error:
            assert error.code in ("edit.nothing",)

    @precondition(lambda self: self.batches)
    @rule(which=st.integers(0, 9))
    def close(self, which: int) -> None:
        try:
            close_batch(self.house.stores, self.house.officer, self.batches[which % len(self.batches)])
        except Conflict as error:
            assert error.code in ("batch.unread", "batch.waiting", "batch.closed")

    @invariant()
    def nothing_acknowledged_is_lost(self) -> None:
        for record, generation in getattr(self, "acknowledged", {}).items():
            row = queries.record(record)
            assert row is not None and row.generation >= generation
            assert [each.number for each in queries.generations(record)] == list(range(1, row.generation + 1))

    @invariant()
    def rebuild_gives_the_same(self) -> None:
        if hasattr(self, "house"):
            assert self.house.rebuilt_digest(self.blank, self.folder / "fold.sqlite3") == catalogue_digest()
            assert verify(self.house.stores).findings == []

    @invariant()
    def the_index_catches_up(self) -> None:
        if hasattr(self, "house"):
            feed(self.house.stores)
            page = self.house.stores.index.search(All(()), Scope({"clients": None}), limit=1000)
            sealed = Record.objects.filter(state="sealed").values_list("id", "generation")
            assert {(hit.record, hit.generation) for hit in page.hits} == set(sealed)


def test_operations_in_any_order(
    engine: str, emptied: Callable[[], None], tmp_path: Path, blank_catalogue: Path
) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    AnyOrder.blank, AnyOrder.folder, AnyOrder.emptied = blank_catalogue, tmp_path, staticmethod(emptied)
    run_state_machine_as_test(
        AnyOrder,
        settings=settings(
            max_examples=int(os.environ.get("DAICHO_ORDERS", "15" if engine == "sqlite" or ALL else "5")),
            stateful_step_count=12,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


EDITOR = """
import sys
from pathlib import Path
from core.errors import DaichoError
from core.settings import load
from wiring.setup import set_up
data, record, name = sys.argv[1:]
settings = load(Path(data), environment={})
set_up(settings)
from access.decide import Actor
from records.capture import edit
from records.found import person_by_login
from wiring.open import open_installation
stores = open_installation(settings)
actor = Actor(person_by_login("officer"), "cli")
print("ready", flush=True)
sys.stdin.readline()
try:
    edit(stores, actor, record, 1, {"name": name}, "同時")
    print("ok")
except DaichoError as error:
    print(error.code)
"""
"""One of two editors, each a process of its own on the same installation."""


def test_of_two_processes_one_wins(small: Installation, tmp_path: Path) -> None:
    here = copied(small, tmp_path)
    record = done("search", "--ledger", "dv-support", data=here.data)[0]["record"]
    people = {
        name: subprocess.Popen(
            [sys.executable, "-c", EDITOR, str(here.data), record, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        for name in ("甲", "乙")
    }
    for one in people.values():
        assert one.stdout is not None and one.stdout.readline() == "ready\n"
    told = {}
    for one in people.values():
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    for name, one in people.items():
        told[name] = one.communicate(timeout=60)[0].strip()
    [winner] = [name for name, answer in told.items() if answer == "ok"]
    [loser] = [answer for answer in told.values() if answer != "ok"]
    # Who came second found the generation moved on: in the catalogue, or in the store already.
    assert loser in ("record.moved_on", "storage.other_number", "storage.other_bytes")
    shown = done("record", "show", record, data=here.data)[0]
    assert (shown["generation"], shown["values"]["name"]) == (2, winner)
    assert done("verify", data=here.data)[-1]["ok"]
    assert [one["generation"] for one in content(here.data)["records"]].count(2) == 1


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_the_database_alone_refuses_to_change_the_past(house: House, tmp_path: Path) -> None:
    """Not only our code: any program that opens the file."""
    house.ledger()
    house.sealed(house.batch(1), 1)
    for table, column in (("generation", "person"), ("ledgerversion", "at"), ("segment", "digest"), ("entry", "event")):
        for statement in (f"UPDATE daicho_records_{table} SET {column} = 'x'", f"DELETE FROM daicho_records_{table}"):
            with sqlite3.connect(tmp_path / "catalogue.sqlite3") as database:
                with pytest.raises(sqlite3.IntegrityError, match="past"):
                    database.execute(statement)
                assert database.execute(f"SELECT count(*) FROM daicho_records_{table}").fetchone()[0] > 0
