"""What the normaliser makes one, what it keeps apart, and that it keeps containment."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.folding import PAGE, page
from search.normalise import DASHES, FINGERPRINT, SMALL, VERSION, normalise, variants

SAME = """
髙橋 高橋
山﨑 山崎
山嵜 山崎
渡邊 渡辺
渡邉 渡辺
齋藤 斎藤
齊藤 斉藤
濵田 浜田
濱田 浜田
𠮷田 吉田
德川 徳川
中嶋 中島
中嶌 中島
廣澤 広沢
櫻井 桜井
眞鍋 真鍋
桒原 桑原
高栁 高柳
富岡 冨岡
圓山 円山
神 神
都 都
葛󠄀城 葛城
辻󠄁 辻
邊󠄂 辺
カ゛ ガ
か゛ が
ﾊ゛ バ
ハﾞ バ
ﾊﾞ バ
ﾊﾟ パ
ハ゜ パ
ゕ゛ ガ
ﾔﾏﾀﾞ やまだ
ヤマダ やまだ
キョウコ キヨウコ
きょうこ キヨウコ
ショッピング しよつぴんぐ
茅ヶ崎 茅ケ崎
ﾃｨｯｼｭ テイツシユ
オーサカ オ-サカ
オーサカ オｰサカ
オーサカ オ－サカ
オーサカ オ―サカ
オーサカ オ−サカ
らーめん ら〜めん
らーめん ら～めん
1-2-3 １－２－３
1-2-3 1‐2‐3
1-2-3 1–2–3
1-2-3 1ー2ー3
ABC ａｂｃ
Straße STRASSE
㈱山田 (株)山田
㍻元年 平成元年
①番 1番
㎡ m2
"""

APART = """
パ バ
パ ハ
バ ハ
ぱ ば
ﾊﾟ ﾊﾞ
斎藤 斉藤
齋藤 齊藤
ヴ ブ
ヶ が
一 1
一 ー
カ力 カカ
太田 大田
末 未
ア ア゛
1-2 12
ジョン・スミス ジョンスミス
"""


def pairs(table: str) -> list[tuple[str, str]]:
    return [(a, b) for a, b in (line.split(" ") for line in table.strip().splitlines())]


@pytest.mark.parametrize(("one", "other"), pairs(SAME))
def test_made_one(one: str, other: str) -> None:
    assert normalise(one) == normalise(other) != ""


@pytest.mark.parametrize(("one", "other"), pairs(APART))
def test_kept_apart(one: str, other: str) -> None:
    assert normalise(one) != normalise(other)


def test_blanks_and_invisible_characters_are_dropped() -> None:
    assert normalise("山田　太郎") == normalise("\ufeff山 田\u200b太\t郎\n\u00a0\u2003") == "山田太郎"
    assert normalise(" 　\u200b\ufe0f\U000e0100\x00\x1f\ud800") == ""


# Everything a register may hold, and what Unicode holds beyond it.
anything = st.text(
    st.characters() | st.sampled_from("カか゛゜ﾞﾟ\u3099\u309a髙﨑邊ｶﾊッっーｰ-~〜 　\U000e0100Σßİ"), max_size=30
)


@given(anything)
def test_twice_is_once(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zs", "Zl", "Zp") for c in once)
    once.encode()


ordinary = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0x7E)
    | st.characters(min_codepoint=0x3041, max_codepoint=0x3096)
    | st.characters(min_codepoint=0x30A1, max_codepoint=0x30FF)
    | st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF)
    | st.characters(min_codepoint=0xFF01, max_codepoint=0xFF9D)
    | st.sampled_from("　髙﨑𠮷邊濵😀"),
    max_size=12,
)


@given(ordinary, ordinary, ordinary)
def test_a_part_of_a_text_stays_a_part(before: str, part: str, after: str) -> None:
    assert normalise(before + part + after) == normalise(before) + normalise(part) + normalise(after)


def test_the_tables_hold_no_chains_and_nothing_that_does_nothing() -> None:
    table = variants()
    assert len(table) > 250
    for variant, base in table.items():
        assert len(variant) == len(base) == 1
        assert variant != base
        assert base not in table
        assert unicodedata.normalize("NFKC", variant) == variant
        assert normalise(base) == base
    assert all(normalise(small) == large for small, large in SMALL.items())
    assert all(normalise(dash) == "-" for dash in DASHES)


def test_each_variant_stands_once() -> None:
    lines = [line for line in page().splitlines() if line.startswith("| ")]
    listed = [c for line in lines[1:] for c in line.split("|")[2].split()]
    assert len(listed) == len(set(listed)) == len(variants())


def test_the_version_is_in_the_fingerprint() -> None:
    assert f"{VERSION}/{unicodedata.unidata_version}" == FINGERPRINT


def test_the_page_is_that_of_the_tables() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m search.folding"
