"""Retention (保存期間): when it starts, when it ends, what happens then. Computed and shown; nothing disposes by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from core.eras import fiscal_year
from records.ledger import Schedule


@dataclass(frozen=True)
class Retention:
    """`state`: `living` (常用: the end of the case has not come), `running`, or `permanent`.

    `start`: first day of the period (起算日), `due`: last day of it (満了日); None where there is none.
    """

    state: str
    start: date | None
    due: date | None
    action: str


def compute(schedule: Schedule, values: Mapping[str, str], created: date) -> Retention:
    """Retention of a record with these values (item id -> value; dates as ISO days), captured on `created` (a day in Japan)."""
    if schedule.years is None:
        return Retention("permanent", None, None, schedule.action)
    if schedule.trigger == "creation":
        trigger = created
    elif values.get(schedule.trigger):
        trigger = date.fromisoformat(values[schedule.trigger])
    else:
        return Retention("living", None, None, schedule.action)
    if schedule.start == "fiscal_year_after":
        start = date(fiscal_year(trigger) + 1, 4, 1)
    elif schedule.start == "calendar_year_after":
        start = date(trigger.year + 1, 1, 1)
    else:
        start = trigger
    return Retention("running", start, _years_after(start, schedule.years) - timedelta(days=1), schedule.action)


def _years_after(day: date, years: int) -> date:
    """The same day `years` later; 29 February becomes 1 March where there is none (民法143条: the period ends the day before)."""
    try:
        return day.replace(year=day.year + years)
    except ValueError:
        return date(day.year + years, 3, 1)
