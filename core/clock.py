"""Time as an argument."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Protocol
from zoneinfo import ZoneInfo

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
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
