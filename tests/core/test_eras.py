"""Dates in every writing of the office; the boundary days; the refusals."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.eras import ERAS, GREGORIAN, Era, ParsedDate, fiscal_year, parse_date, wareki

READ = """
令和7年3月1日 2025-03-01 令和
令和７年３月１日 2025-03-01 令和
令和07年03月01日 2025-03-01 令和
令和七年三月一日 2025-03-01 令和
令和元年5月1日 2019-05-01 令和
令和1年5月1日 2019-05-01 令和
令和元年五月一日 2019-05-01 令和
令和一年五月一日 2019-05-01 令和
R7.3.1 2025-03-01 令和
r7.3.1 2025-03-01 令和
Ｒ７．３．１ 2025-03-01 令和
ｒ７．３．１ 2025-03-01 令和
R07.03.01 2025-03-01 令和
R7/3/1 2025-03-01 令和
R7-3-1 2025-03-01 令和
R7・3・1 2025-03-01 令和
R7･3･1 2025-03-01 令和
R7，3，1 2025-03-01 令和
R7、3、1 2025-03-01 令和
R7。3。1 2025-03-01 令和
R.7.3.1 2025-03-01 令和
R7年3月1日 2025-03-01 令和
R元.5.1 2019-05-01 令和
R元年5月1日 2019-05-01 令和
令7.3.1 2025-03-01 令和
令7年3月1日 2025-03-01 令和
令和7.3.1 2025-03-01 令和
令和7/3/1 2025-03-01 令和
㋿7年3月1日 2025-03-01 令和
㋿元年5月1日 2019-05-01 令和
R6.2.29 2024-02-29 令和
令和六年十二月三十一日 2024-12-31 令和
令和十年十月十日 2028-10-10 令和
令和二十年二月二十日 2038-02-20 令和
S54.3.2 1979-03-02 昭和
s54.3.2 1979-03-02 昭和
Ｓ５４．３．２ 1979-03-02 昭和
S54/03/02 1979-03-02 昭和
Ｓ５４／３／２ 1979-03-02 昭和
S54－3－2 1979-03-02 昭和
S54ー3ー2 1979-03-02 昭和
S54−3−2 1979-03-02 昭和
昭和54年3月2日 1979-03-02 昭和
昭和五十四年三月二日 1979-03-02 昭和
昭和五四年三月二日 1979-03-02 昭和
昭和五拾四年参月弐日 1979-03-02 昭和
昭和五十四・三・二 1979-03-02 昭和
昭54.3.2 1979-03-02 昭和
昭54年3月2日 1979-03-02 昭和
㍼54年3月2日 1979-03-02 昭和
㍼五十四年三月二日 1979-03-02 昭和
昭和54年三月2日 1979-03-02 昭和
昭和五十四年三月廿一日 1979-03-21 昭和
昭和五十四年三月卅一日 1979-03-31 昭和
昭和元年12月25日 1926-12-25 昭和
昭和元年12月31日 1926-12-31 昭和
S1.12.25 1926-12-25 昭和
昭和2年1月1日 1927-01-01 昭和
昭和二〇年八月一五日 1945-08-15 昭和
昭和二十年八月十五日 1945-08-15 昭和
昭和64年1月7日 1989-01-07 昭和
S64.1.7 1989-01-07 昭和
昭和六十四年一月七日 1989-01-07 昭和
平成元年1月8日 1989-01-08 平成
H1.1.8 1989-01-08 平成
平成一年一月八日 1989-01-08 平成
㍻元年1月8日 1989-01-08 平成
㍻31年4月30日 2019-04-30 平成
平成31年4月30日 2019-04-30 平成
H31.4.30 2019-04-30 平成
Ｈ３１．４．３０ 2019-04-30 平成
平31.4.30 2019-04-30 平成
平成三十一年四月三十日 2019-04-30 平成
平成三一年四月三〇日 2019-04-30 平成
平成12年2月29日 2000-02-29 平成
大正元年7月30日 1912-07-30 大正
T1.7.30 1912-07-30 大正
大正15年12月25日 1926-12-25 大正
T15.12.25 1926-12-25 大正
大正15年12月24日 1926-12-24 大正
大12.9.1 1923-09-01 大正
大正十二年九月一日 1923-09-01 大正
㍽12年9月1日 1923-09-01 大正
明治45年7月30日 1912-07-30 明治
明治45年7月29日 1912-07-29 明治
M45.7.29 1912-07-29 明治
明治四十五年七月二十九日 1912-07-29 明治
明33.2.28 1900-02-28 明治
㍾33年2月28日 1900-02-28 明治
明治6年1月1日 1873-01-01 明治
M6.1.1 1873-01-01 明治
1979-03-02 1979-03-02 -
1979-3-2 1979-03-02 -
1979/3/2 1979-03-02 -
1979/03/02 1979-03-02 -
1979.3.2 1979-03-02 -
１９７９／３／２ 1979-03-02 -
１９７９－０３－０２ 1979-03-02 -
1979年3月2日 1979-03-02 -
１９７９年３月２日 1979-03-02 -
一九七九年三月二日 1979-03-02 -
二〇二五年一〇月三〇日 2025-10-30 -
二〇二五年十月三十日 2025-10-30 -
千九百七十九年三月二日 1979-03-02 -
二千二十五年三月一日 2025-03-01 -
西暦1979年3月2日 1979-03-02 -
2024-02-29 2024-02-29 -
2000/2/29 2000-02-29 -
1868-10-23 1868-10-23 -
1850年1月1日 1850-01-01 -
"""

REFUSED = """
令和7年2月30日 令和7年2月29日 令和7年4月31日 令和7年13月1日 令和7年0月1日 令和7年3月0日 令和7年3月32日
令和元年4月30日 平成31年5月1日 平成35年3月31日 H31.5.1 昭和64年1月8日 S64.1.8 平成元年1月7日 H1.1.7
昭和65年1月1日 昭和元年12月24日 大正15年12月26日 大正元年7月29日 明治45年7月31日 明治5年12月31日 明治5年12月2日
明治元年10月23日 M1.10.23 令和0年1月1日 令和-1年1月1日 2023-02-29 1900-02-29 2025-13-01 2025-00-10 2025-01-00
54.3.2 79/3/2 3月2日 令和7年3月 令和7年 令和 R7 R7.3 7.3.1 S54 元年5月1日 元年 1979 1979-03 1979年3月 19790302
年月日 令和年月日 令和年3月1日 令和7年月1日 R.. R7.. R7..1 令和七七七年三月一日 令和7年003月1日 昭和007年3月1日
令和十十年一月一日 令和一十百年一月一日 五十四年三月二日 X7.3.1 慶応4年1月1日 安政元年1月1日 山田太郎
令和7年3月1日生 約令和7年3月1日
令和7年3月1日から 1979-03-02T00:00:00 1979年3月2 １９７９年３月２ 令和7月3日1年 2025年3.1
R7.3-1-1 R7.3-1 1979/3-2 00000-01-01 0000-01-01 99999-1-1
"""


def rows() -> list[tuple[str, str, str]]:
    return [(a, b, c) for a, b, c in (line.split(" ") for line in READ.strip().splitlines())]


def test_the_table_is_long_enough() -> None:
    assert len(rows()) + len(REFUSED.split()) >= 170


@pytest.mark.parametrize(("text", "day", "era"), rows())
def test_reads(text: str, day: str, era: str) -> None:
    expected = ParsedDate(date.fromisoformat(day), None if era == "-" else era)
    assert parse_date(text) == expected
    assert parse_date("　" + " ".join(text) + "\n") == expected


@pytest.mark.parametrize("text", ["", " ", "9" * 10_000, "令和" * 5_000, *REFUSED.split()])
def test_refuses(text: str) -> None:
    assert parse_date(text) is None


@pytest.mark.parametrize(
    ("day", "text"),
    [
        ("2025-03-01", "令和7年3月1日"),
        ("2019-05-01", "令和元年5月1日"),
        ("2019-12-31", "令和元年12月31日"),
        ("2020-01-01", "令和2年1月1日"),
        ("2019-04-30", "平成31年4月30日"),
        ("1989-01-08", "平成元年1月8日"),
        ("1989-01-07", "昭和64年1月7日"),
        ("1926-12-25", "昭和元年12月25日"),
        ("1926-12-24", "大正15年12月24日"),
        ("1912-07-30", "大正元年7月30日"),
        ("1912-07-29", "明治45年7月29日"),
        ("1873-01-01", "明治6年1月1日"),
        ("1872-12-31", "1872年12月31日"),
        ("0987-01-02", "987年1月2日"),
    ],
)
def test_writes(day: str, text: str) -> None:
    assert wareki(date.fromisoformat(day)) == text


@given(st.dates(date(1000, 1, 1), date(2099, 12, 31)))
def test_what_is_written_is_read_again(day: date) -> None:
    read = parse_date(wareki(day))
    assert read is not None
    assert read.day == day
    assert (read.era is None) == (day < GREGORIAN)
    assert parse_date(day.isoformat()) == ParsedDate(day, None)


def test_a_new_era_is_one_more_row() -> None:
    eras = (*ERAS, Era("新星", "N", date(2040, 4, 1)))
    assert wareki(date(2040, 4, 1), eras) == "新星元年4月1日"
    assert wareki(date(2040, 3, 31), eras) == "令和22年3月31日"
    assert parse_date("N1.4.1", eras) == ParsedDate(date(2040, 4, 1), "新星")
    assert parse_date("令和22年4月1日", eras) is None
    assert parse_date("新星2年1月1日") is None


def test_eras_follow_each_other() -> None:
    assert [era.start for era in ERAS] == sorted(era.start for era in ERAS)
    for before, after in pairwise(ERAS):
        eve = after.start - timedelta(days=1)
        assert wareki(eve).startswith(before.name)
        assert wareki(after.start).startswith(after.name)


@given(
    st.text(alphabet="令和昭平成大正明治RSHTM元年月日0123456789０９一二十百千廿〇./-ー・ 　㍻㋿", max_size=20)
    | st.text()
)
def test_any_text_gives_a_day_or_nothing(text: str) -> None:
    read = parse_date(text)
    assert read is None or isinstance(read.day, date)


@pytest.mark.parametrize(
    ("day", "year"), [("2025-03-31", 2024), ("2025-04-01", 2025), ("2025-12-31", 2025), ("2026-01-01", 2025)]
)
def test_fiscal_years_begin_in_april(day: str, year: int) -> None:
    assert fiscal_year(date.fromisoformat(day)) == year
