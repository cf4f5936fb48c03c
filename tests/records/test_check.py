"""A verification names what is wrong and where, goes on after anything, and after a break."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest

from core.errors import DigestMismatch, StoreDamaged, Unreachable
from records.check import LONGEST, Pace, Reading, Verified, _checked, read_journal, verify, verify_copy
from records.check import Pins as JournalPins
from storage.memory import MemoryObjects
from storage.port import Checked, NewVersion, Pin
from storage.streams import PIECE
from tests.house import House

Told = list[tuple[str, str, str]]


def told(result: Verified) -> Told:
    return [(each.object_id, each.path, each.code) for each in result.findings]


@pytest.fixture
def records(house: House) -> list[str]:
    """Six sealed records."""
    house.ledger()
    batch = house.batch(6)
    return sorted(house.sealed(batch, number) for number in range(1, 7))


@pytest.mark.parametrize("jobs", [1, 3])
def test_findings_are_the_same_however_many_read(house: House, records: list[str], jobs: int) -> None:
    objects: Any = house.stores.objects
    wrong: Told = []
    for record in records[1::2]:
        path = next(path for name, path in sorted(objects.files) if name == record)
        objects.files[record, path] = b"rot"
        wrong.append((record, path, "damaged"))
    result = verify(house.stores, reading=Reading(jobs=jobs))
    assert told(result) == wrong and result.whole
    assert result.objects == len(records) + 1, "the ledger's object too"


def test_whatever_one_object_raises_the_others_are_read(
    house: House, records: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    objects: Any = house.stores.objects
    real = objects.check
    bad = {records[0]: DigestMismatch("", "rot", code="storage.unreadable"), records[3]: ZeroDivisionError()}

    def check(object_id: str, pins: Any = (), pace: Any = None) -> Checked:
        if object_id in bad:
            raise bad[object_id]
        return real(object_id, pins)

    monkeypatch.setattr(objects, "check", check)
    result = verify(house.stores, reading=Reading(jobs=2))
    assert told(result) == [(records[0], "", "storage.unreadable"), (records[3], "", "unreadable")]
    assert result.objects == len(records) + 1


def test_an_engine_that_is_gone_ends_the_run_and_it_goes_on_where_it_was(
    house: House, records: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    objects: Any = house.stores.objects
    path = next(path for name, path in sorted(objects.files) if name == records[1])
    objects.files[records[1], path] = b"rot"
    real, read = objects.check, list[str]()

    def check(object_id: str, pins: Any = (), pace: Any = None) -> Checked:
        if object_id == records[3] and read.count(records[3]) == 0:
            read.append(object_id)
            raise Unreachable("", "gone")
        read.append(object_id)
        return real(object_id, pins)

    monkeypatch.setattr(objects, "check", check)
    kept = list[Verified]()

    def keep(so_far: Verified) -> None:
        kept.append(replace(so_far, findings=[*so_far.findings]))

    with pytest.raises(Unreachable):
        verify(house.stores, reading=Reading(told=keep))
    assert kept[-1].reached == records[2] and [each.object_id for each in kept[-1].findings] == [records[1]]
    read.clear()
    read.append(records[3])
    result = verify(house.stores, reading=Reading(before=kept[-1]))
    assert read[1:] == records[3:], "nothing is read twice"
    assert told(result) == [(records[1], path, "damaged")] and result.objects == len(records) + 1


def test_read_in_shares_everything_comes_once(
    house: House, records: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    objects: Any = house.stores.objects
    real, read = objects.check, list[str]()

    def check(object_id: str, pins: Any = (), pace: Any = None) -> Checked:
        read.append(object_id)
        return real(object_id, pins)

    monkeypatch.setattr(objects, "check", check)
    before, runs = Verified(), 0
    while not before.whole:
        runs += 1
        before = verify(house.stores, reading=Reading(before=replace(before, findings=[]), share=runs / 4))
    assert runs == 4 and sorted(read) == sorted([*records, _ledger(house)])
    assert before.objects == len(read)


def _ledger(house: House) -> str:
    return next(name for name in house.stores.objects.objects() if name.startswith("l-"))


def test_the_pace_is_kept_by_all_threads_together() -> None:
    now = 100.0
    slept = list[float]()
    lock = threading.Lock()

    def sleep(seconds: float) -> None:
        nonlocal now
        with lock:
            slept.append(seconds)
            now += seconds

    pace = Pace(1_000_000, sleep, lambda: now)
    for _ in range(50):
        pace(100_000)
    assert 4.0 - 0.001 <= now - 100.0 <= 5.0, (
        "five million bytes at one million a second, one second of which may come at once"
    )
    fast = Pace(1e12, sleep, lambda: now)
    slept.clear()
    fast(10**9)
    assert slept == []


def test_the_rate_holds_within_a_large_file() -> None:
    """At no moment has more been read than the rate allows and one piece; the control is a store that tells of whole objects alone."""
    objects, big = MemoryObjects(), 40 * PIECE
    pins = objects.seal([NewVersion("r-big", 1, {"a": bytes(big)}, "2026-04-01T00:00:00Z", "p-1", "capture")])
    rate, now, read, most = 2.0 * PIECE, 0.0, 0, 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    pace = Pace(rate, sleep, lambda: now)

    def told_of(size: int) -> None:
        nonlocal read, most
        read += size
        most = max(most, read - rate * now)
        pace(size)

    class Whole:
        """As it was: told of when all of it has been read."""

        def check(self, object_id: str, pins: Any, pacer: Any) -> Checked:
            checked: Checked = objects.check(object_id, pins)
            pacer(checked.bytes)
            return checked

    one = [("r-big", pins)]
    assert [each.bytes for each in _checked(objects, one, Reading(pace=told_of))] == [big]
    assert most <= rate + PIECE
    assert now >= big / rate - 1.0
    whole: Any = Whole()
    list(_checked(whole, one, Reading(pace=told_of)))
    assert most >= big - rate


def test_nobody_is_held_up_for_long_in_the_middle_of_a_file() -> None:
    """A server would close the connection; what is owed is waited for behind the object."""
    slept: list[float] = []
    pace = Pace(1_000, slept.append, lambda: 0.0)
    for size in (100_000, 100_000, 0):
        pace(size)
    assert slept == [LONGEST, LONGEST, pytest.approx(199.0)]


def test_each_damaged_segment_is_named_whatever_it_is(house: House, records: list[str]) -> None:
    journal: Any = house.stores.journal
    whole = list(journal._segments)
    last = len(whole)
    assert last > 4
    for number in range(1, last + 1):
        for change in (_flipped, lambda data: data[:-1], lambda data: b"", lambda data: b"[]"):
            journal._segments[number - 1] = change(whole[number - 1])
            code = "journal.rewritten" if number == last else "journal.broken"
            assert told(verify(house.stores)) == [("journal", str(number), code)]
        journal._segments[:] = whole
    assert told(verify(house.stores)) == []


def _flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def test_a_damaged_segment_does_not_hide_what_lies_behind_it(house: House, records: list[str]) -> None:
    """Of a store alone: its later segments are read, and their objects compared."""
    journal: Any = house.stores.journal
    journal._segments[2] = b"rot"
    objects: Any = house.stores.objects
    path = next(path for name, path in sorted(objects.files) if name == records[5])
    objects.files[records[5], path] = b"rot"
    result = verify_copy(journal, objects)
    assert (records[5], path, "damaged") in told(result)
    assert [(place, code) for name, place, code in told(result) if name == "journal"] == [("3", "journal.broken")]


def test_a_gap_is_told_and_read_around(house: House, records: list[str]) -> None:
    inner: Any = house.stores.journal

    class Gapped:
        def last(self) -> int:
            return int(inner.last())

        def read(self, number: int) -> bytes:
            if number in (2, 4):
                raise StoreDamaged("", f"segment {number} is missing", code="journal.gap")
            return bytes(inner.read(number))

        def segments(self, first: int = 1) -> Any:
            for number in range(first, self.last() + 1):
                yield number, self.read(number)

    result = verify_copy(Gapped(), house.stores.objects)
    assert told(result) == [("journal", "2", "journal.gap"), ("journal", "4", "journal.gap")]
    assert result.segments == inner.last() - 2


def test_a_store_alone_is_verified_without_catalogue_or_keys(house: House, records: list[str]) -> None:
    result = verify_copy(house.stores.journal, house.stores.objects)
    assert (told(result), result.objects, result.keys, result.whole) == ([], len(records) + 1, 0, True)
    objects: Any = house.stores.objects
    kept = objects.inventories.pop((records[0], 1))
    assert (records[0], "", "missing") in told(verify_copy(house.stores.journal, house.stores.objects))
    objects.inventories[records[0], 1] = kept


def test_what_the_journal_does_not_name_is_told_apart(house: House, records: list[str]) -> None:
    """As in a store whose journal was copied before its objects."""
    journal: Any = house.stores.journal
    del journal._segments[-1]
    result = verify_copy(journal, house.stores.objects)
    assert result.findings == []
    (unnamed,) = result.unacknowledged
    assert unnamed.object_id in records


def test_every_version_that_was_acknowledged_is_pinned(house: House) -> None:
    house.ledger()
    record = house.waiting(house.batch(1), 1)
    from records.capture import edit, settle

    settle(house.stores, house.officer, record, {"name": "山本"})
    edit(house.stores, house.officer, record, 1, {"name": "山田"}, "誤り")
    with_pins, result = JournalPins(), Verified()
    read_journal(house.stores.journal, with_pins, result)
    assert [pin.number for pin in with_pins.of(record)] == [1, 2, 3]
    with_pins.close()
    # The inventory of a version that later ones have replaced is pinned too.
    objects: Any = house.stores.objects
    objects.inventories[record, 1] = objects.inventories[record, 1].replace(b'"message":"', b'"message":"x')
    assert (record, "v1/inventory.json", "inventory") in told(verify(house.stores))


def test_pins_of_a_journal_that_names_nothing(house: House) -> None:
    empty = JournalPins()
    assert empty.count() == 0 and list(empty.objects()) == [] and empty.of("r-1") == []
    empty.add([Pin("r-1", 2, "b"), Pin("r-1", 1, "a"), Pin("r-0", 1, "c"), Pin("r-1", 1, "other")])
    assert list(empty.objects()) == [("r-0", [Pin("r-0", 1, "c")]), ("r-1", [Pin("r-1", 1, "a"), Pin("r-1", 2, "b")])]
    assert (empty.count(), empty.count("r-0"), list(empty.objects("r-1"))) == (2, 1, [])
    empty.close()
