"""Time as an argument: moments, days, and waiting for what may be back soon."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Protocol, TypeVar
from zoneinfo import ZoneInfo

from core.errors import Unreachable

TOKYO = ZoneInfo("Asia/Tokyo")


class Clock(Protocol):
    """Tells the time; the only source of it below `cli` and `web`."""

    def now(self) -> datetime:
        """The moment, aware, in UTC, whole microseconds."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class FixedClock:
    """Stands still until it is set: for tests and for reproducible samples."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def now(self) -> datetime:
        return self.moment


def day_in_japan(moment: datetime) -> date:
    """The calendar day in Japan at `moment`."""
    return moment.astimezone(TOKYO).date()


def stamp(moment: datetime) -> str:
    """RFC 3339 in UTC with microseconds, the one form in which times are written."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


TRIES = 7
FIRST_PAUSE = 0.2
"""Seconds; each pause is twice the one before, less up to half of it by chance."""

ENOUGH = 10.0
"""Seconds after which nothing more is begun: a page must not be held for minutes."""

REST = 10.0
"""Seconds after giving up in which a call is tried once only."""

Sleep = Callable[[float], None]
T = TypeVar("T")


class Patient:
    """Tries again what an engine did not answer. The wrappers of ports rest on it: adapters themselves never try twice.

    Args:
        sleep: waits the given seconds.
        now: seconds that only grow.
    """

    def __init__(self, sleep: Sleep = time.sleep, now: Callable[[], float] = time.monotonic) -> None:
        self._sleep = sleep
        self._now = now
        self._gave_up = -REST

    def again(self, call: Callable[[], T]) -> T:
        """The answer of `call`, tried again while it raises `Unreachable`, which is raised in the end.

        Once patience is lost there is one try a call for a while, so that those who come later do not wait as long again.
        """
        begun = self._now()
        tries = 1 if begun - self._gave_up < REST else TRIES
        pause = FIRST_PAUSE
        for left in range(tries - 1, -1, -1):
            try:
                answer = call()
                self._gave_up = -REST
                return answer
            except Unreachable:
                if not left or self._now() - begun + pause > ENOUGH:
                    self._gave_up = self._now()
                    raise
            # Not all processes should come back at once; no secret rests on this chance.
            self._sleep(pause * random.uniform(0.5, 1))  # noqa: S311
            pause *= 2
        raise AssertionError
