"""The rules of every item type, by table."""

from __future__ import annotations

import pytest

from ingest.form import Zone
from ingest.items import TWINS, VARIANTS, settled
from ingest.readers import ReadCharacter

CHOICES = ("本人", "妻", "夫", "長男", "長女", "世帯主")


def zone(kind, required=False):
    return Zone("i", kind, 0.0, 0.0, 10.0, 10.0, CHOICES if kind == "choice" else (), required)


@pytest.mark.parametrize(
    "kind, raw, value, confidence, reason",
    [
        ("text", "　転入届 と　同時 ", "転入届 と 同時", 1.0, ""),
        ("text", "ＡＢＣ１２３", "ＡＢＣ１２３", 1.0, ""),
        ("name", "髙橋　一郎", "髙橋 一郎", 1.0, ""),
        ("name", "渡邉 Ｏ子", "渡邉 Ｏ子", 1.0, ""),
        ("address", "霞が関１－２", "霞が関１－２", 1.0, ""),
        ("kana", "ﾔﾏﾀﾞ　ﾀﾛｳ", "ヤマダ タロウ", 1.0, ""),
        ("kana", "やまだ たろう", "ヤマダ タロウ", 1.0, ""),
        ("kana", "力トウ ケンニ", "カトウ ケンニ", 0.99, ""),
        ("kana", "サト一", "サトー", 0.99, ""),
        ("kana", "ヤマダ7", "ヤマダ7", 0.5, "low_confidence"),
        ("kana", "山田", "山田", 0.5, "low_confidence"),
        ("number", "１２３", "123", 1.0, ""),
        ("number", "1,234,567", "1234567", 1.0, ""),
        ("number", "2O24-l5", "2024-15", 0.99, ""),
        ("number", "20240315ー0042", "20240315-0042", 1.0, ""),
        ("number", "12人", "12人", 0.5, "low_confidence"),
        ("phone", "０３（５２５３）５１１１", "03-5253-5111", 1.0, ""),
        ("phone", "03ー5253ー5111", "03-5253-5111", 1.0, ""),
        ("phone", "O9O-1234-5678", "090-1234-5678", 0.99, ""),
        ("phone", "03-5253-511", "03-5253-511", 0.5, "low_confidence"),
        ("phone", "(  ) -", "", 1.0, ""),
        ("date", "昭和52年3月14日", "1977-03-14", 1.0, ""),
        ("date", "令和元年５月１日", "2019-05-01", 1.0, ""),
        ("date", "R7.3.1", "2025-03-01", 1.0, ""),
        ("date", "今和6年4月1日", "2024-04-01", 0.97, "low_confidence"),
        ("date", "平成3O年l月5日", "2018-01-05", 0.97, "low_confidence"),
        ("date", "昭和64年1月8日", "昭和64年1月8日", 1.0, "not_a_date"),
        ("date", "不詳", "不詳", 1.0, "not_a_date"),
        ("date", "年 月 日", "", 1.0, ""),
        ("choice", "長男", "長男", 1.0, ""),
        ("choice", " 世帯 主", "世帯主", 1.0, ""),
        ("choice", "世帯王", "世帯主", 0.9, "low_confidence"),
        ("choice", "長力", "長力", 1.0, "not_a_choice"),
        ("choice", "犬", "犬", 1.0, "not_a_choice"),
        ("choice", "本人妻夫", "本人妻夫", 1.0, "not_a_choice"),
        ("yes_no", "レ", "yes", 1.0, ""),
        ("yes_no", "有", "yes", 1.0, ""),
        ("yes_no", "いいえ", "no", 1.0, ""),
        ("yes_no", "×", "no", 1.0, ""),
        ("yes_no", "多分", "多分", 1.0, "not_a_choice"),
    ],
)
def test_rules(kind, raw, value, confidence, reason):
    found = settled(zone(kind), raw, 1.0, 0.98)
    assert (found.value, found.reason) == (value, reason)
    assert found.confidence == pytest.approx(confidence)


@pytest.mark.parametrize("kind", ["text", "kana", "name", "address", "date", "number", "phone", "choice", "yes_no"])
def test_an_empty_zone_is_a_sure_nothing_unless_it_is_required(kind):
    assert settled(zone(kind), "", 1.0, 0.98) == settled(zone(kind), "  ", 1.0, 0.98)
    assert settled(zone(kind), "", 1.0, 0.98).reason == ""
    required = settled(zone(kind, required=True), "", 1.0, 0.98)
    assert (required.value, required.confidence, required.reason) == ("", 1.0, "missing")


@pytest.mark.parametrize("kind", ["text", "kana", "name", "address", "date", "number", "phone", "choice", "yes_no"])
@pytest.mark.parametrize("raw", ["力", "O1l", "長男", "令和6年4月1日", "髙", "有", "???"])
def test_no_rule_raises_confidence(kind, raw):
    assert settled(zone(kind), raw, 0.6, 0.98).confidence <= 0.6


def test_low_confidence_is_said():
    assert settled(zone("text"), "あ", 0.979, 0.98).reason == "low_confidence"
    assert settled(zone("text"), "あ", 0.98, 0.98).reason == ""


@pytest.mark.parametrize("read", sorted(TWINS))
def test_a_twin_the_reader_cannot_give_is_ambiguous_only_where_its_signs_show(read):
    twin = TWINS[read]
    calm = (ReadCharacter(read, 0.99, tuple((c, twin.least / 100) for c in twin.signs)),)
    doubtful = (ReadCharacter(read, 0.99, tuple((c, twin.least * 2) for c in twin.signs)),)
    assert settled(zone("name"), read, 0.99, 0.98, calm).reason == ""
    assert settled(zone("name"), read, 0.99, 0.98, doubtful).reason == "ambiguous"
    assert settled(zone("text"), read, 0.99, 0.98, doubtful).reason == ""
    if twin.against:
        outweighed = (ReadCharacter(read, 0.99, ((twin.signs[0], twin.least * 2), (twin.against[0], twin.least * 4))),)
        assert settled(zone("name"), read, 0.99, 0.98, outweighed).reason == ""


@pytest.mark.parametrize("group", VARIANTS)
def test_variants_close_beside_each_other_are_ambiguous(group):
    for read in group:
        other = next(c for c in group if c != read)
        near = (ReadCharacter(read, 0.9, ((other, 0.08),)),)
        assert settled(zone("name"), read, 0.99, 0.98, near).reason == "ambiguous"
        alone = (ReadCharacter(read, 0.999, (("門", 0.08),)),)
        assert settled(zone("name"), read, 0.99, 0.98, alone).reason == ""
