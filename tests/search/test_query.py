"""What people type into the search box, and what it asks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import BadInput
from search.port import All, Any, Contains, Not, Query
from search.query import MAX_LENGTH, parse

DAY = Contains("1979-03-02")


def day(text: str) -> Query:
    return Any((Contains(text), DAY))


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("", All(())),
        (" 　\n", All(())),
        ("山田", Contains("山田")),
        ("山田 太郎", All((Contains("山田"), Contains("太郎")))),
        ("　山田　　太郎　", All((Contains("山田"), Contains("太郎")))),
        ("山田 -太郎", All((Contains("山田"), Not(Contains("太郎"))))),
        ("山田 －太郎", All((Contains("山田"), Not(Contains("太郎"))))),
        ("-太郎", Not(Contains("太郎"))),
        ("-", Contains("-")),
        ("--a", Not(Contains("-a"))),
        ("1-2", Contains("1-2")),
        ('"山田 太郎"', Contains("山田 太郎")),
        ("“山田　太郎”", Contains("山田　太郎")),
        ("＂山田 太郎＂", Contains("山田 太郎")),
        ('-"山田 太郎"', Not(Contains("山田 太郎"))),
        ('"-太郎"', Contains("-太郎")),
        ('"-太郎', BadInput),
        ('""', Contains("")),
        ('山田"太郎"', All((Contains("山田"), Contains("太郎")))),
        ("山田 OR 鈴木", Any((Contains("山田"), Contains("鈴木")))),
        ("山田 または 鈴木", Any((Contains("山田"), Contains("鈴木")))),
        ("山田 ＯＲ 鈴木", Any((Contains("山田"), Contains("鈴木")))),
        (
            "a b OR c OR -d e",
            All((Contains("a"), Any((Contains("b"), Contains("c"), Not(Contains("d")))), Contains("e"))),
        ),
        ('"OR"', Contains("OR")),
        ("or", Contains("or")),
        ("S54.3.2", day("S54.3.2")),
        ("昭和54年3月2日", day("昭和54年3月2日")),
        ("昭和 54年 3月 2日", day("昭和 54年 3月 2日")),
        ("1979-03-02", DAY),
        ("1979", Contains("1979")),
        ("山田 S54.3.2", All((Contains("山田"), day("S54.3.2")))),
        ('山田 "S54. 3. 2"', All((Contains("山田"), day("S54. 3. 2")))),
        ("-S54.3.2", Not(day("S54.3.2"))),
        ("S54.2.30", Contains("S54.2.30")),
        ("あ" * MAX_LENGTH, Contains("あ" * MAX_LENGTH)),
    ],
)
def test_reads(text: str, query: Query | type[BadInput]) -> None:
    if query is BadInput:
        with pytest.raises(BadInput):
            parse(text)
    else:
        assert parse(text) == query


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("あ" * (MAX_LENGTH + 1), "search.too_long"),
        ("山\x00田", "search.control"),
        ("山\x1b[0m", "search.control"),
        ("\ud800", "search.control"),
        ('"山田', "search.quote"),
        ('山田"', "search.quote"),
        ('"山田" "', "search.quote"),
        ("OR 山田", "search.or"),
        ("山田 OR", "search.or"),
        ("山田 OR OR 鈴木", "search.or"),
        ("または", "search.or"),
    ],
)
def test_refuses(text: str, code: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse(text)
    assert caught.value.code == code
    assert "山田" not in caught.value.ja + caught.value.en


@given(st.text(max_size=60) | st.text(alphabet='山田 　-－"“”OR または1.S', max_size=30))
def test_any_text_is_a_query_or_a_coded_refusal(text: str) -> None:
    try:
        parse(text)
    except BadInput as error:
        assert error.code.startswith("search.")
