"""Lengthening locks: each in its turn, the journal's first, past objects that cannot be locked; and the alarm where it was not done."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.clock import stamp
from core.errors import NotFound, NotReady, Unreachable
from core.settings import S3Settings, Settings, load
from records.capture import seal_spans
from records.found import define
from records.locks import FILE, Extended, ending_locks, extend_locks
from storage.port import Locks, every
from tests.house import House, template

pytestmark = pytest.mark.parametrize("engine", ["sqlite"])

WHERE = S3Settings("https://storage.example", "daicho", "key", "secret")
ROUND = 15
"""Days of a round: half of those between `lock_days` and `alarm_days`."""


class Kept(Locks):
    """Locks on paper: when each ends, and what was asked. `bad` objects cannot be locked; `idle`: says yes and does nothing."""

    def __init__(self, house: House, bad: frozenset[str] = frozenset(), idle: bool = False) -> None:
        self.house = house
        self.bad = bad
        self.idle = idle
        self.sealed = house.stores.clock.now()
        self.until: dict[str, str] = {}
        self.asked: list[str] = []

    def end(self, name: str) -> str:
        """Of an object, of a segment (its number), or of the description ("")."""
        return self.until.get(name) or stamp(self.sealed + timedelta(days=WHERE.lock_days))

    def segments(self) -> range:
        return range(1, self.house.stores.journal.last() + 1)

    def extend(self, object_id: str, until: str) -> int:
        if object_id in self.bad:
            raise NotFound("ない", "gone", code="object.missing")
        self.asked.append(object_id)
        return self._set(object_id, until)

    def extend_rest(self, until: str, due: object = every) -> int:
        assert callable(due)
        chosen = [str(number) for number in self.segments() if due(number)]
        self.asked += ["", *chosen]
        return sum(self._set(name, until) for name in ("", *chosen))

    def _set(self, name: str, until: str) -> int:
        if self.idle or self.end(name) >= until:
            return 0
        self.until[name] = until
        return 1

    def ends(self, object_id: str) -> str:
        if object_id in self.bad:
            raise NotFound("ない", "gone", code="object.missing")
        return self.end(object_id)

    def rest_ends(self, due: object = every) -> str:
        assert callable(due)
        return min(self.end(name) for name in ("", *(str(number) for number in self.segments() if due(number))))

    def hold(self, object_id: str) -> None:
        raise NotImplementedError

    def release(self, object_id: str) -> None:
        raise NotImplementedError


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return replace(load(tmp_path, environment={}), store_engine=WHERE)


@pytest.fixture
def sealed(house: House) -> list[str]:
    """All objects: 40 records and the ledger's."""
    define(house.stores, house.officer, template())
    batch = house.batch(40)
    captured = [house.captured(batch, number) for number in range(1, 41)]
    seal_spans(house.stores, house.officer, batch, captured)
    return [one.record for one in captured]


def run(house: House, settings: Settings, locks: Locks) -> Extended:
    return extend_locks(replace(house.stores, locks=locks), settings)


def test_the_first_time_everything_and_the_journal_first(house: House, settings: Settings, sealed: list[str]) -> None:
    locks = Kept(house)
    done = run(house, settings, locks)
    rest = ["", *map(str, locks.segments())]
    assert locks.asked[: len(rest)] == rest and set(locks.asked[len(rest) :]) >= set(sealed)
    assert done.objects == done.due == len(sealed) + 1 and not done.failed
    # To the end of the sixtieth day.
    assert done.until == "2026-06-01T00:00:00.000000Z" and set(locks.until.values()) == {done.until}
    assert done.lengthened == len(locks.asked)


def test_again_on_the_same_day_nothing_is_left(house: House, settings: Settings, sealed: list[str]) -> None:
    locks = Kept(house)
    run(house, settings, locks)
    locks.asked.clear()
    done = run(house, settings, locks)
    assert (done.due, done.lengthened, locks.asked) == (0, 0, [""])
    (settings.data / FILE).unlink()
    done = run(house, settings, locks)
    assert (done.due, done.lengthened) == (len(sealed) + 1, 0)


def test_a_day_asks_for_its_part_and_no_lock_comes_near_its_end(
    house: House, settings: Settings, sealed: list[str]
) -> None:
    """Three rounds with days missed in between: every lock stays further away than the alarm, although most are not asked for on most days."""
    locks = Kept(house)
    names = [*sealed, "", *map(str, locks.segments())]
    run(house, settings, locks)
    asked = []
    for day in range(1, 3 * ROUND):
        house.later(days=1)
        if day % 7 in (5, 6):
            continue  # the machine was off
        locks.asked.clear()
        run(house, settings, locks)
        asked.append(len(locks.asked))
        alarm = stamp(house.stores.clock.now() + timedelta(days=WHERE.alarm_days))
        assert min(map(locks.end, names)) > alarm
    assert sum(asked) / len(asked) < len(names) / 4


def test_after_a_long_pause_everything_has_its_turn(house: House, settings: Settings, sealed: list[str]) -> None:
    locks = Kept(house)
    run(house, settings, locks)
    house.later(days=ROUND + 1)
    assert run(house, settings, locks).due == len(sealed) + 1


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "",
        lambda text: text[:-20],
        lambda text: json.dumps(json.loads(text) | {"day": "soon"}),
        lambda text: json.dumps(json.loads(text) | {"day": json.loads(text)["day"] + 400}),
        lambda text: text.replace("storage.example", "elsewhere.example"),
        lambda text: text.replace('"lock_days":60', '"lock_days":90'),
    ],
    ids=["empty", "torn", "nonsense", "a day to come", "another bucket", "other days"],
)
def test_what_is_remembered_of_something_else_is_worth_nothing(
    house: House, settings: Settings, sealed: list[str], change: object
) -> None:
    locks = Kept(house)
    run(house, settings, locks)
    place = settings.data / FILE
    before = place.read_text("utf-8")
    assert callable(change) and change(before) != before
    place.write_text(change(before), "utf-8")
    assert run(house, settings, locks).due == len(sealed) + 1
    assert run(house, settings, locks).due == 0


def test_one_bad_object_does_not_let_the_others_lapse_and_comes_again(
    house: House, settings: Settings, sealed: list[str]
) -> None:
    locks = Kept(house, frozenset(sealed[:1]))
    done = run(house, settings, locks)
    assert [finding.object_id for finding in done.failed] == sealed[:1]
    assert set(locks.asked) >= set(sealed[1:])
    again = run(house, settings, locks)
    assert again.due == 1 and [finding.code for finding in again.failed] == ["object.missing"]
    locks.bad = frozenset()
    assert run(house, settings, locks).lengthened == 1
    assert run(house, settings, locks).due == 0


def test_an_engine_that_is_gone_is_told_and_the_day_is_not_done(
    house: House, settings: Settings, sealed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(object_id: str, until: str = "") -> int:
        raise Unreachable("応答なし", "no answer", code="store.unreachable")

    locks = Kept(house)
    with monkeypatch.context() as patched:
        patched.setattr(house.stores.objects, "head", away)
        patched.setattr(locks, "extend", away)
        with pytest.raises(Unreachable):
            run(house, settings, locks)
    assert not (settings.data / FILE).exists()
    assert run(house, settings, locks).due == len(sealed) + 1


def test_a_store_without_locks_says_so(house: House, settings: Settings) -> None:
    for stores, engine in ((house.stores, WHERE), (replace(house.stores, locks=Kept(house)), None)):
        with pytest.raises(NotReady) as caught:
            extend_locks(stores, replace(settings, store_engine=engine))
        assert caught.value.code == "store.no_locks"


@pytest.mark.parametrize("all_of_them", [True, False], ids=["all", "sample"])
def test_the_alarm(house: House, settings: Settings, sealed: list[str], all_of_them: bool) -> None:
    """Asked of the store, not of what we remember: also a run that succeeds and lengthens nothing is seen, a month before anything ends."""
    locks = Kept(house)
    stores = replace(house.stores, locks=locks)
    run(house, settings, locks)
    found = ending_locks(stores, settings, all_of_them=all_of_them)
    assert found.alarm is None and (found.extended, found.soonest) == ("2026-04-01", "2026-06-01T00:00:00.000000Z")
    assert found.asked == len(sealed) + 1 if all_of_them else found.asked < len(sealed)
    locks.idle = True
    asked = []
    for _ in range(WHERE.lock_days - WHERE.alarm_days):
        house.later(days=1)
        run(house, settings, locks)
        asked.append(ending_locks(stores, settings, all_of_them=all_of_them).asked)
    # A sample is what has its turn: each object once in a round.
    assert all_of_them or sum(asked[:ROUND]) == sum(asked[ROUND:]) == len(sealed) + 1
    assert ending_locks(stores, settings, all_of_them=all_of_them).alarm is None
    house.later(days=1)
    run(house, settings, locks)
    found = ending_locks(stores, settings, all_of_them=all_of_them)
    assert found.alarm is not None and (found.alarm.code, found.alarm.exit_code) == ("locks.ending", 74)
    assert {finding.code for finding in found.short} == {"lock.short"} and found.short[0].object_id == ""
    assert datetime.fromisoformat(found.soonest) - house.stores.clock.now() > timedelta(days=29)
    locks.idle = False
    (settings.data / FILE).unlink()
    run(house, settings, locks)
    assert ending_locks(stores, settings, all_of_them=all_of_them).alarm is None


def test_what_has_no_lock_or_cannot_be_asked_raises_the_alarm(
    house: House, settings: Settings, sealed: list[str]
) -> None:
    locks = Kept(house, frozenset(sealed[:1]))
    run(house, settings, locks)
    ends = locks.ends

    def unlocked(object_id: str) -> str:
        return "" if object_id == sealed[1] else ends(object_id)

    locks.ends = unlocked  # type: ignore[method-assign]
    found = ending_locks(replace(house.stores, locks=locks), settings, all_of_them=True)
    assert {(finding.object_id, finding.code) for finding in found.short} == {
        (sealed[0], "object.missing"),
        (sealed[1], "unlocked"),
    }
    assert found.soonest == "" and found.alarm is not None


def test_days_are_those_of_utc(house: House, settings: Settings, sealed: list[str]) -> None:
    clock = house.stores.clock
    clock.moment = datetime(2028, 2, 29, 23, 59, 59, tzinfo=UTC)  # type: ignore[attr-defined]
    assert run(house, settings, Kept(house)).until == "2028-04-30T00:00:00.000000Z"
