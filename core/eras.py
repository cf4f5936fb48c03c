"""Eras (和暦): dates read from any writing of the office, and written in the era's reckoning.

A new era is one more row of `ERAS`. What a date means to a record does not belong here, nor does the clock.

Two facts of history are kept. Until the end of 1872 Japan counted days by the moon, so 明治5年3月1日 on paper is not 1
March 1872: written dates of 明治 before its year 6 are refused rather than turned into a wrong day. And 1912-07-30 and
1926-12-25 were days of both eras, since the change was proclaimed "from this day" while papers were already being
written; since 1989 an era begins on the day after.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True)
class Era:
    """An era (元号). `start` is its first day; `shared`: that day also belonged to the era before."""

    name: str
    letter: str
    start: date
    shared: bool = False


@dataclass(frozen=True)
class ParsedDate:
    """A day, and the name of the era it was written in (None: years of the common era)."""

    day: date
    era: str | None


ERAS: tuple[Era, ...] = (
    Era("明治", "M", date(1868, 10, 23)),
    Era("大正", "T", date(1912, 7, 30), shared=True),
    Era("昭和", "S", date(1926, 12, 25), shared=True),
    Era("平成", "H", date(1989, 1, 8)),
    Era("令和", "R", date(2019, 5, 1)),
)
"""In order of time; the proclamations (詔書, 政令) of each change are the source."""

GREGORIAN = date(1873, 1, 1)
"""明治6年1月1日, the first day of the present calendar (太政官布告第337号)."""

_NUMERALS = str.maketrans("〇零○◯一壱壹二弐貳三参參四五六七八九拾", "0000111222333456789十")
_NUMBER = r"[0-9十百千廿卅]+"
_UNITS = re.compile(r"(?:([1-9]?)千)?(?:([1-9]?)百)?(?:([1-9]?)十|(廿|卅))?([1-9]?)")
_DAY = re.compile(
    rf"(?:年(?P<m>{_NUMBER})月(?P<d>{_NUMBER})日|(?P<by>[./\-])(?P<m2>{_NUMBER})(?P=by)(?P<d2>{_NUMBER}))"
)
_SEPARATORS = str.maketrans(dict.fromkeys("‐‑‒–—―−ー", "-") | dict.fromkeys("・。、,", "."))


def _number(text: str, digits: int = 2) -> int | None:
    if text.isascii():
        return int(text) if len(text) <= digits else None
    match = _UNITS.fullmatch(text)
    if match is None:
        return None
    thousands, hundreds, tens, old, ones = match.groups()
    total = 0
    for digit, unit in ((thousands, 1000), (hundreds, 100), (tens, 10)):
        if digit is not None:
            total += unit * int(digit or "1")
    return total + {None: 0, "廿": 20, "卅": 30}[old] + int(ones or "0")


def _tidy(text: str) -> str:
    text = unicodedata.normalize("NFKC", text)
    text = "".join(c for c in text if not c.isspace())
    return text.translate(_SEPARATORS).translate(_NUMERALS)


def parse_date(text: str, eras: tuple[Era, ...] = ERAS) -> ParsedDate | None:
    """The day that `text` writes, or None when it is not one whole, possible date.

    Reads 令和7年3月1日, 令和元年5月1日, R7.3.1, Ｓ５４／３／２, 昭54.3.2, ㍼54年3月2日, 昭和五十四年三月二日,
    1979-03-02, 1979/3/2, 1979年3月2日, 西暦1979年3月2日; blanks anywhere. A day outside its era (昭和64年1月8日), one
    that no calendar has (2月30日), a year without era or century (54.3.2), and 明治 before its year 6 give None.
    """
    if len(text) > 64:
        return None
    tidy = _tidy(text)
    for position, era in enumerate(eras):
        for sign in (era.name, era.letter, era.letter.lower(), era.name[0]):
            if tidy.startswith(sign):
                rest = tidy[len(sign) :].removeprefix(".")
                day = _within(rest, era.start.year)
                if day is None or day < max(era.start, GREGORIAN):
                    return None
                if position + 1 < len(eras):
                    after = eras[position + 1]
                    if day > after.start or (day == after.start and not after.shared):
                        return None
                return ParsedDate(day, era.name)
    day = _within(tidy.removeprefix("西暦"), None)
    return None if day is None else ParsedDate(day, None)


def _within(text: str, first_year: int | None) -> date | None:
    """The day in `text`, a year of the era that began in `first_year`, or of the common era."""
    head = re.match(rf"元|{_NUMBER}", text)
    if head is None:
        return None
    tail = _DAY.fullmatch(text, head.end())
    if tail is None:
        return None
    month, day = _number(tail["m"] or tail["m2"]), _number(tail["d"] or tail["d2"])
    if first_year is None:
        year = None if head[0] == "元" else _number(head[0], 4)
        if year is None or year < 1000:
            return None
    else:
        year = 1 if head[0] == "元" else _number(head[0])
        if not year:
            return None
        year += first_year - 1
    if month is None or day is None:
        return None
    try:
        return date(year, month, day)
    except ValueError:
        return None


def wareki(day: date, eras: tuple[Era, ...] = ERAS) -> str:
    """The day in its era: 令和7年3月1日, 令和元年5月1日. Days before the present calendar keep their year:
    1872年12月31日.
    """
    for era in reversed(eras):
        if day >= max(era.start, GREGORIAN):
            year = day.year - era.start.year + 1
            return f"{era.name}{'元' if year == 1 else year}年{day.month}月{day.day}日"
    return f"{day.year}年{day.month}月{day.day}日"


def fiscal_year(day: date) -> int:
    """The fiscal year (年度) of the day, by the year in which it began: April to March."""
    return day.year if day.month >= 4 else day.year - 1
