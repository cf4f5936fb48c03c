"""The clock goes wrong: set back, set ahead, past 2038, on a leap day, in another time zone. Nothing ends early, entries never go back, and a jump is
in the journal.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from core.clock import FixedClock, day_in_japan, stamp
from records import capture, operation, queries
from records.models import Entry
from records.operation import BEHIND, IDLE, log_key, note_alone
from records.retention import compute
from tests.faults.operations import PARTS, SEED, laid_out, pages
from tests.house import House, definition
from tests.installed import DAICHO, done, run
from tests.machine import need

JUMPS = [
    timedelta(seconds=1),
    timedelta(minutes=4),
    timedelta(minutes=6),
    timedelta(hours=9),
    timedelta(days=1),
    timedelta(days=6),
    timedelta(days=8),
    timedelta(days=366),
    timedelta(days=365 * 12 + 3),
    timedelta(days=36525),
]
MOMENTS = [
    datetime(2028, 2, 29, 14, 59, 59, tzinfo=UTC),
    datetime(2027, 3, 31, 15, 0, tzinfo=UTC),
    datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC),
    datetime(2106, 2, 7, 6, 28, 16, tzinfo=UTC),
]
"""The end of a leap day in Japan, the beginning of a fiscal year there, the ends of 31 and 32 bits of seconds."""


def moments(rng: random.Random, begin: datetime) -> Iterator[datetime]:
    """What a clock says that goes on, jumps back and jumps ahead."""
    now = begin
    for _ in range(12):
        now = rng.choice(
            [now + rng.choice(JUMPS), max(now - rng.choice(JUMPS), begin - timedelta(days=36525)), *MOMENTS]
        )
        yield now


def by_creation(house: House) -> None:
    """A ledger whose records end five fiscal years after they were captured."""
    schedule = definition().schedule
    house.ledger(schedule=type(schedule)(schedule.title, schedule.mandate, "creation", schedule.start, 5, "destroy"))


def walked(house: House, walk: int) -> int:
    """Seal a record at each moment of a walk of the clock, and look when it ends; how many jumps there were."""
    by_creation(house)
    clock = house.stores.clock
    assert isinstance(clock, FixedClock)
    schedule = definition().schedule
    jumps = 0
    rng = random.Random(f"{SEED} {walk}")
    for step, now in enumerate(moments(rng, clock.moment)):
        _, before = queries.last_entry()
        latest = datetime.fromisoformat(before)
        clock.moment = now
        jumps += now < latest - BEHIND or now > latest + IDLE
        record = house.sealed(house.batch(1, name=f"{walk} {step}"), 1)
        row = queries.generations(record)[0]
        where = f"seed {SEED}, walk {walk}, step {step}: {now}"
        # What the journal has seen is the least that the time can be.
        least = compute(
            type(schedule)(schedule.title, schedule.mandate, "creation", schedule.start, 5, "destroy"),
            {},
            day_in_japan(max(now, latest)),
        )
        assert row.retention_due == str(least.due), f"{where}: ends early"
    times = list(Entry.objects.order_by("number").values_list("at", flat=True))
    assert times == sorted(times), "entries go back"
    return jumps


@pytest.mark.parametrize("walk", range(6 if PARTS == 1 else 300))
def test_entries_never_go_back_and_nothing_ends_early(
    walk: int, house: House, blank_catalogue: Path, tmp_path: Path
) -> None:
    jumps = walked(house, walk)
    told = [entry.data for entry in Entry.objects.filter(event="clock_jumped").order_by("number")]
    assert bool(told) == bool(jumps)
    assert all(each["last"] != each["clock"] for each in told)
    from records.check import catalogue_digest

    assert house.rebuilt_digest(blank_catalogue, tmp_path / "again.sqlite3") == catalogue_digest()


@pytest.mark.parametrize(
    ("where", "protection", "damage"),
    [
        (capture, ("moment", lambda stores: stores.clock.now()), "ends early"),
        (operation, ("max", lambda now, last: now), "ends early|entries go back"),
    ],
)
def test_a_clock_that_is_believed_is_seen(
    where: ModuleType, protection: tuple[str, Any], damage: str, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: a program that takes the time from the clock alone, for the day of capture or for its entries."""
    monkeypatch.setattr(where, *protection, raising=False)
    with pytest.raises(AssertionError, match=damage):
        walked(house, 0)


def test_a_jump_is_told_once(house: House) -> None:
    """Ahead and back; not for what an office does: a night, a long holiday, a clock that is set by a second."""
    clock = house.stores.clock
    assert isinstance(clock, FixedClock)

    def told() -> list[dict[str, str]]:
        return [entry.data for entry in Entry.objects.filter(event="clock_jumped").order_by("number")]

    begin = clock.moment
    for moment in (begin + timedelta(hours=15), begin + timedelta(days=6), begin + timedelta(days=6, seconds=-1)):
        clock.moment = moment
        note_alone(house.stores, house.officer, "signed_out")
    assert told() == []
    last = queries.last_entry()[1]
    clock.moment = begin - timedelta(days=400)
    for _ in range(3):
        note_alone(house.stores, house.officer, "signed_out")
    assert told() == [{"last": last, "clock": stamp(clock.moment)}]
    assert queries.last_entry()[1] == last
    clock.moment = begin + timedelta(days=4000)
    for _ in range(3):
        note_alone(house.stores, house.officer, "signed_out")
    assert told()[1:] == [{"last": last, "clock": stamp(clock.moment)}]


def test_the_log_of_a_year_is_that_of_the_journal(house: House) -> None:
    """A clock set back by years must not put today's searches under a key whose time is over."""
    clock = house.stores.clock
    assert isinstance(clock, FixedClock)
    note_alone(house.stores, house.officer, "signed_out")
    year = log_key(house.stores)
    clock.moment -= timedelta(days=4000)
    assert log_key(house.stores) == year


def test_the_command_at_odd_moments(town: Path, tmp_path: Path) -> None:
    """The installed command under another clock and in another time zone (Debian's faketime): leap day, past 2038, back again."""
    need("faketime")
    here = laid_out(town, tmp_path / "here")
    ends = {}
    for number, (moment, zone) in enumerate(
        [
            ("2028-02-29 14:30:00", "UTC"),
            ("2028-03-31 11:30:00", "America/New_York"),  # 1 April in Japan: another fiscal year
            ("2038-01-19 03:14:09", "UTC"),
            ("2027-01-01 00:00:00", "UTC"),
        ]
    ):
        scans = pages(here / f"{number}", 1, SEED + 100 + number)
        command = (
            "ingest",
            scans,
            "--ledger",
            "whole-pages",
            "--no-text",
            "--jobs",
            "1",
            "--json",
            "--data",
            here / "data",
        )
        result = run(*command, plain=True, program=("faketime", "-f", f"@{moment}", str(DAICHO)), TZ=zone)
        assert result.code == 0, result.err
        batch = json.loads(result.out.splitlines()[0])["batch"]
        [sheet] = done("batch", "show", batch, data=here / "data")[0]["by_name"]
        ends[number] = done("record", "show", sheet["record"], data=here / "data")[0]["retention"]
    starts = [date.fromisoformat(ends[number]["start"]) for number in ends]
    # The last was captured in 2027 as the clock said: not before 2038, as the journal knows.
    assert starts == [date(2028, 4, 1), date(2029, 4, 1), date(2038, 4, 1), date(2038, 4, 1)]
    assert [end["due"] for end in ends.values()][2:] == ["2068-03-31", "2068-03-31"]
    assert done("verify", data=here / "data")[-1]["ok"]
    segments = sorted((here / "data/store/journal").rglob("*.json"))
    entries = [entry for file in segments for entry in json.loads(file.read_bytes())["entries"]]
    times = [entry["at"] for entry in entries]
    assert times == sorted(times)
    assert [entry["event"] for entry in entries].count("clock_jumped") >= 2
