"""Lengthening the locks of what is sealed, and the alarm when they are about to end: short at first, longer again and again, so that a mistake does not
lock for decades.

The work is spread. A lock is lengthened to `lock_days` from today, and it must never come nearer than `alarm_days`; half of the days between are a round,
and each object and each segment of the journal has its day of the round, which follows from its id or number. So a daily run asks the store for one
part of all objects only, and the other half of the days between is what it may fail before anything alarms. The one thing to be remembered is how far
the rounds have come: `locks.json` in the data folder. It can be lost, and then the next run asks for everything.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from core.clock import stamp
from core.errors import DaichoError, NotReady, StoreDamaged
from core.settings import S3Settings, Settings
from records import queries
from records.stores import Stores
from storage.canonical import canonical
from storage.durable import replace as put_in_place
from storage.durable import write_new, writing
from storage.port import Finding, Locks

FILE = "locks.json"
SAMPLE = 20
"""Objects, and segments of the journal, that are asked where not all are: of those that were lengthened longest ago."""

Progress = Callable[[str, int, int], None]


def _silent(step: str, done: int, total: int) -> None:
    """Told nobody."""


@dataclass(frozen=True)
class Extended:
    """`objects` there are, of which `due` had their day; files whose lock was `lengthened`; until when; and what could not be locked: it comes
    again the next day.
    """

    objects: int
    due: int
    lengthened: int
    until: str
    failed: tuple[Finding, ...]


@dataclass(frozen=True)
class Ending:
    """When locks end.

    `extended`: the day of the last run that came to its end ("" for none). `asked`: objects that the store was asked for. `soonest`: when the first
    lock among them, the journal and the description ends ("" when nothing was asked, or something has no lock). `short`: what ends within
    `alarm_days`, or is not locked (codes `lock.short`, `unlocked`), or could not be asked.
    """

    extended: str
    asked: int
    soonest: str
    short: tuple[Finding, ...]

    @property
    def alarm(self) -> DaichoError | None:
        """What people must be told; None when all is well."""
        if not self.short:
            return None
        return StoreDamaged(
            f"ロックがまもなく切れるものが {len(self.short)} 件あります。`daicho locks extend` を実行し、毎日の自動実行が動いているかを確かめてください。",
            f"{len(self.short)} locks are about to end. Run `daicho locks extend`, and check that it runs by itself every day.",
            code="locks.ending",
        )


def extend_locks(stores: Stores, settings: Settings, progress: Progress = _silent) -> Extended:
    """Lengthen the locks of all that has its day: acknowledged objects, the journal, the store's description.

    Days that were missed are made up for. May be repeated and broken off: on the same day a second run finds nothing more to do.

    Raises:
        NotReady: (`store.no_locks`) the store's engine has no locks.
    """
    locks, where = _locks(stores, settings)
    place = settings.data / FILE
    today = stores.clock.now().date()
    rounds = _Rounds.read(place, stores.id, where)
    due = rounds.due(today.toordinal())
    # To the end of a day, so that a second run on the same day finds nothing shorter.
    until = stamp(datetime.combine(today + timedelta(days=where.lock_days + 1), time(), UTC))
    lengthened = locks.extend_rest(until, due)  # first: without the journal, nothing else is proved
    objects = list(_objects())
    chosen = [name for name in objects if due(zlib.crc32(name.encode())) or name in rounds.failed]
    failed: list[Finding] = []
    for done, object_id in enumerate(chosen, 1):
        try:
            lengthened += locks.extend(object_id, until)
        except DaichoError as error:
            # One bad object must not let the locks of all behind it end. An engine that is gone altogether is told here.
            stores.objects.head(object_id)
            failed.append(Finding(object_id, "", error.code, error.en))
        progress("locks", done, len(chosen))
    rounds.done(place, today.toordinal(), [finding.object_id for finding in failed])
    return Extended(len(objects), len(chosen), lengthened, until, tuple(failed))


def ending_locks(stores: Stores, settings: Settings, *, all_of_them: bool, progress: Progress = _silent) -> Ending:
    """Ask the store when locks end: what should have been lengthened and was not.

    Args:
        all_of_them: every file, several requests each; else those of `SAMPLE` objects and segments whose turn is next, and which are therefore
            locked for the shortest time. A daily run that does not run, or does nothing, is seen either way.

    Raises:
        NotReady: (`store.no_locks`) the store's engine has no locks.
    """
    locks, where = _locks(stores, settings)
    now = stores.clock.now()
    alarm = now + timedelta(days=where.alarm_days)
    rounds = _Rounds.read(settings.data / FILE, stores.id, where)
    following = (rounds.day or now.date().toordinal()) + 1

    def next_turn(number: int) -> bool:
        return number % rounds.days == following % rounds.days

    def asked_segment(number: int) -> bool:
        return all_of_them or (next_turn(number) and number <= SAMPLE * rounds.days)

    names = _objects()
    if not all_of_them:
        names = islice((name for name in names if next_turn(zlib.crc32(name.encode()))), SAMPLE)
    asked = list(names)
    ends, short = [], list[Finding]()

    def look(object_id: str, ask: Callable[[], str]) -> None:
        try:
            end = ask()
        except DaichoError as error:
            stores.objects.head(object_id or "none")
            short.append(Finding(object_id, "", error.code, error.en))
            return
        ends.append(end)
        if not end:
            short.append(Finding(object_id, "", "unlocked", "a file has no lock"))
        elif datetime.fromisoformat(end) < alarm:
            detail = f"the first lock ends {end[:10]}, within {where.alarm_days} days"
            short.append(Finding(object_id, "", "lock.short", detail))

    look("", lambda: locks.rest_ends(asked_segment))
    for done, object_id in enumerate(asked, 1):
        look(object_id, partial(locks.ends, object_id))
        progress("locks", done, len(asked))
    day = datetime.fromordinal(rounds.day).date().isoformat() if rounds.day else ""
    return Ending(day, len(asked), min(ends, default=""), tuple(short))


def _locks(stores: Stores, settings: Settings) -> tuple[Locks, S3Settings]:
    if stores.locks is None or not isinstance(settings.store_engine, S3Settings):
        raise NotReady(
            "この保管庫にはロックがありません。オブジェクトロックの効く S3 で使えます（docs/operate.md）。",
            "This store has no locks. S3 with Object Lock has them (docs/operate.md).",
            code="store.no_locks",
        )
    return stores.locks, settings.store_engine


def _objects() -> Iterator[str]:
    """Ids of the acknowledged objects, in order."""
    for object_id, _ in groupby(queries.pins(), key=lambda row: row[0]):
        yield object_id


@dataclass(frozen=True)
class _Rounds:
    """How far the rounds have come.

    `day`: all that had its day until this one (a proleptic ordinal, 0 for none) has been lengthened, but for `failed`. `of`: the store, its place and
    its days; what was remembered of another is worth nothing.
    """

    day: int
    failed: frozenset[str]
    days: int
    of: dict[str, Any]

    @staticmethod
    def read(place: Path, store: str, where: S3Settings) -> _Rounds:
        days = max((where.lock_days - where.alarm_days) // 2, 1)
        of = {
            "store": store,
            "place": f"{where.endpoint}/{where.bucket}",
            "lock_days": where.lock_days,
            "alarm_days": where.alarm_days,
        }
        try:
            value = json.loads(place.read_bytes())
            if value["of"] == of:
                return _Rounds(int(value["day"]), frozenset(map(str, value["failed"])), days, of)
        except (OSError, ValueError, KeyError, TypeError):
            pass  # none, or one that nobody can read: everything has its day
        return _Rounds(0, frozenset(), days, of)

    def due(self, today: int) -> Callable[[int], bool]:
        """Whether what has this number has its day today, or had it on a day that was missed."""
        # A clock that stood ahead may have noted a day that is yet to come: nothing is known then.
        if not self.day or not 0 <= today - self.day < self.days:
            return lambda number: True
        turns = {day % self.days for day in range(self.day + 1, today + 1)}
        return lambda number: number % self.days in turns

    def done(self, place: Path, today: int, failed: list[str]) -> None:
        """Remember that the run of `today` came to its end; durable on return."""
        made = place.with_name(f"{place.name}.new")
        with writing():
            made.unlink(missing_ok=True)
            write_new(made, canonical({"day": today, "failed": failed, "of": self.of}) + b"\n", 0o600)
            put_in_place(made, place)
