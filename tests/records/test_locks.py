"""Lengthening locks: all of them, the journal's first, past objects that cannot be locked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core.errors import NotFound, NotReady, Unreachable
from records.found import define
from records.locks import extend_locks
from storage.port import Locks
from tests.house import House, template


class Noted(Locks):
    """Locks that note what they are asked, and refuse some objects."""

    def __init__(self, bad: frozenset[str] = frozenset()) -> None:
        self.asked: list[tuple[str, str]] = []
        self.bad = bad

    def extend(self, object_id: str, until: str) -> int:
        if object_id in self.bad:
            raise NotFound("ない", "gone", code="object.missing")
        self.asked.append((object_id, until))
        return 3

    def extend_rest(self, until: str) -> int:
        self.asked.append(("", until))
        return 1


def test_every_object_and_the_journal(house: House) -> None:
    define(house.stores, house.officer, template())
    batch = house.batch(2)
    sealed = [house.sealed(batch, number) for number in (1, 2)]
    locks = Noted()
    done = extend_locks(replace(house.stores, locks=locks), 30)
    assert locks.asked[0][0] == "" and {name for name, _ in locks.asked} >= {"", *sealed}
    assert {until for _, until in locks.asked} == {done.until} and done.until.startswith("2026-05-01")
    assert done.objects == len(locks.asked) - 1 and done.lengthened == 3 * done.objects + 1 and not done.failed


def test_one_bad_object_does_not_let_the_others_lapse(house: House) -> None:
    define(house.stores, house.officer, template())
    batch = house.batch(3)
    sealed = sorted(house.sealed(batch, number) for number in (1, 2, 3))
    locks = Noted(frozenset(sealed[:1]))
    done = extend_locks(replace(house.stores, locks=locks), 30)
    assert [finding.object_id for finding in done.failed] == sealed[:1]
    assert {name for name, _ in locks.asked} >= {"", *sealed[1:]}


def test_an_engine_that_is_gone_is_told(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    define(house.stores, house.officer, template())
    house.sealed(house.batch(1), 1)

    def away(object_id: str) -> int:
        raise Unreachable("応答なし", "no answer", code="store.unreachable")

    monkeypatch.setattr(house.stores.objects, "head", away)
    with pytest.raises(Unreachable):
        extend_locks(replace(house.stores, locks=_Gone()), 30)


class _Gone(Noted):
    def extend(self, object_id: str, until: str) -> int:
        raise Unreachable("応答なし", "no answer", code="store.unreachable")


def test_a_store_without_locks_says_so(house: House) -> None:
    with pytest.raises(NotReady) as caught:
        extend_locks(house.stores, 30)
    assert caught.value.code == "store.no_locks"
