"""When the retention of a record starts and ends: cases worked out by hand."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from records.ledger import Schedule
from records.retention import Retention, compute

NAMES = {"ja": "", "en": ""}
CREATED = date(2026, 4, 1)


def schedule(trigger: str = "closed_on", start: str = "fiscal_year_after", years: int | None = 5) -> Schedule:
    return Schedule(NAMES, NAMES, trigger, start, years, "destroy")


@pytest.mark.parametrize(
    ("start", "years", "closed", "first", "last"),
    [
        # 年度: April to March; closed on its last day counts from the very next day.
        ("fiscal_year_after", 5, "2024-05-10", "2025-04-01", "2030-03-31"),
        ("fiscal_year_after", 5, "2025-03-31", "2025-04-01", "2030-03-31"),
        ("fiscal_year_after", 5, "2025-04-01", "2026-04-01", "2031-03-31"),
        ("fiscal_year_after", 1, "2024-01-01", "2024-04-01", "2025-03-31"),
        ("fiscal_year_after", 30, "1989-01-08", "1989-04-01", "2019-03-31"),
        ("calendar_year_after", 3, "2024-12-31", "2025-01-01", "2027-12-31"),
        ("calendar_year_after", 3, "2025-01-01", "2026-01-01", "2028-12-31"),
        ("same_day", 1, "2024-05-10", "2024-05-10", "2025-05-09"),
        ("same_day", 5, "2024-03-01", "2024-03-01", "2029-02-28"),
        ("same_day", 4, "2024-03-01", "2024-03-01", "2028-02-29"),
        # From a leap day: a year without one ends with 28 February, one with it the day before.
        ("same_day", 1, "2024-02-29", "2024-02-29", "2025-02-28"),
        ("same_day", 4, "2024-02-29", "2024-02-29", "2028-02-28"),
        ("same_day", 100, "2000-02-29", "2000-02-29", "2100-02-28"),
    ],
)
def test_period(start: str, years: int, closed: str, first: str, last: str) -> None:
    kept = compute(schedule(start=start, years=years), {"closed_on": closed}, CREATED)
    assert kept == Retention("running", date.fromisoformat(first), date.fromisoformat(last), "destroy")


@pytest.mark.parametrize("values", [{}, {"closed_on": ""}])
def test_a_case_that_is_not_closed_lives(values: dict[str, str]) -> None:
    assert compute(schedule(), values, CREATED) == Retention("living", None, None, "destroy")


@pytest.mark.parametrize("values", [{}, {"closed_on": "2024-05-10"}])
def test_permanent_never_starts(values: dict[str, str]) -> None:
    assert compute(schedule(years=None), values, CREATED) == Retention("permanent", None, None, "destroy")


def test_creation_starts_it_whatever_the_values_say() -> None:
    kept = compute(schedule(trigger="creation"), {"closed_on": "2001-01-01"}, date(2026, 3, 31))
    assert (kept.start, kept.due) == (date(2026, 4, 1), date(2031, 3, 31))


@given(
    st.dates(date(1873, 1, 1), date(2200, 1, 1)),
    st.integers(1, 100),
    st.sampled_from(["fiscal_year_after", "calendar_year_after", "same_day"]),
)
def test_it_never_ends_early(closed: date, years: int, start: str) -> None:
    """At least `years` years from the trigger, at most one more; no start before the trigger."""
    kept = compute(schedule(start=start, years=years), {"closed_on": closed.isoformat()}, CREATED)
    assert kept.start is not None and kept.due is not None
    assert closed <= kept.start <= closed.replace(year=closed.year + 1, day=min(closed.day, 28)) or start == "same_day"
    assert years * 365 <= (kept.due - kept.start).days + 1 <= years * 366
    assert (kept.due.year, kept.due.month) >= (kept.start.year + years - 1, 1)
