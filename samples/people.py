"""Invented people, addresses and numbers of an invented city.

Surnames and given names are common ones, joined at random. Cities do not exist. Telephone numbers have a local part
beginning with 0, which is never given out in Japan, so that no number here can ring anywhere. Nothing here knows of
paper or pixels.
"""

from __future__ import annotations

import datetime as dt

import numpy as np

from samples.template import Item, Template

SURNAMES = [
    ("佐藤", "サトウ"), ("鈴木", "スズキ"), ("髙橋", "タカハシ"), ("田中", "タナカ"), ("渡邊", "ワタナベ"),
    ("伊藤", "イトウ"), ("山本", "ヤマモト"), ("中村", "ナカムラ"), ("小林", "コバヤシ"), ("加藤", "カトウ"),
    ("𠮷田", "ヨシダ"), ("山田", "ヤマダ"), ("山﨑", "ヤマザキ"), ("松本", "マツモト"), ("井上", "イノウエ"),
    ("木村", "キムラ"), ("林", "ハヤシ"), ("斎藤", "サイトウ"), ("清水", "シミズ"), ("森", "モリ"),
    ("阿部", "アベ"), ("池田", "イケダ"), ("橋本", "ハシモト"), ("石川", "イシカワ"), ("前田", "マエダ"),
    ("藤田", "フジタ"), ("岡田", "オカダ"), ("長谷川", "ハセガワ"), ("村上", "ムラカミ"), ("近藤", "コンドウ"),
    ("濵田", "ハマダ"), ("田邉", "タナベ"), ("宮﨑", "ミヤザキ"), ("遠藤", "エンドウ"), ("五十嵐", "イガラシ"),
]  # fmt: skip
GIVEN = {
    "男": [
        ("茂", "シゲル"), ("清", "キヨシ"), ("健太", "ケンタ"), ("一郎", "イチロウ"), ("正雄", "マサオ"),
        ("勇", "イサム"), ("博", "ヒロシ"), ("大輔", "ダイスケ"), ("幸三", "コウゾウ"), ("義男", "ヨシオ"),
        ("修", "オサム"), ("隆", "タカシ"), ("昭二", "ショウジ"), ("和夫", "カズオ"),
    ],
    "女": [
        ("花子", "ハナコ"), ("美咲", "ミサキ"), ("キヨ", "キヨ"), ("千代子", "チヨコ"), ("和子", "カズコ"),
        ("恵美", "エミ"), ("久美子", "クミコ"), ("ハル", "ハル"), ("裕子", "ユウコ"), ("節子", "セツコ"),
        ("文江", "フミエ"), ("静", "シズカ"), ("由紀", "ユキ"), ("順子", "ジュンコ"),
    ],
}  # fmt: skip
TOWNS = ["若葉町", "緑台", "東台", "西原", "南沢", "北野", "泉が丘", "桜堤", "大字下谷", "字上ノ原", "新町", "本町"]
OTHER_CITIES = ["あおば台市", "つきみ野市", "東雲郡白川町", "南浜市", "星が丘市"]
BUILDINGS = ["みどりハイツ", "コーポ若葉", "第2泉荘", "市営住宅3号棟", "グリーンコート"]
NOTES = {
    "care-clients": ["週2回デイサービスを利用", "長女が毎日訪問", "耳が遠いため筆談", "手すりを改修済み"],
    "vacant-houses": ["隣家から樹木の苦情あり", "雨どいが落下", "所有者と面談済み", "相続の手続き中", "門に施錠あり"],
    "dv-support": ["子2人を併せて支援", "警察署の意見書あり", "前年度から継続", "転送先は別紙のとおり"],
}  # fmt: skip

Values = dict[str, str]
"""Item id to value: dates as ISO 8601 (`1938-03-04`), everything else as it is written; "" where nothing is written."""


def invent_values(template: Template, rng: np.random.Generator) -> Values:
    """Values for every item of `template`, fitting together: kana agree with the name, the end follows the start."""
    sex = _pick(rng, ["男", "女"])
    name, kana = _person(rng, sex)
    birth = _day(rng, dt.date(1926, 12, 25), dt.date(1958, 12, 31))
    if template.id == "dv-support":
        birth = _day(rng, dt.date(1955, 1, 1), dt.date(2004, 12, 31))
    start = _day(rng, dt.date(2015, 4, 1), dt.date(2025, 3, 31))
    closed = _day(rng, start, dt.date(2026, 3, 31)) if rng.random() < 0.3 else None
    if template.id == "dv-support":
        closed = dt.date(start.year + 1, start.month, min(start.day, 28))
    known: Values = {
        "name": name,
        "name_kana": kana,
        "owner_name": name,
        "owner_kana": kana,
        "sex": sex,
        "birth_date": birth.isoformat(),
        "opened_on": start.isoformat(),
        "found_on": start.isoformat(),
        "start_on": start.isoformat(),
        "closed_on": closed.isoformat() if closed else "",
        "end_on": closed.isoformat() if closed else "",
        "house_number": f"{start.year}{int(rng.integers(1, 999)):04d}",
        "insured_number": f"000{int(rng.integers(1_000_000, 9_999_999))}",
        "resident_number": f"{int(rng.integers(10_000_000, 99_999_999))}",
        "floors": str(int(rng.integers(1, 4))),
        "other_name": _person(rng, sex)[0] if rng.random() < 0.4 else "",
        "contact": _person(rng, _pick(rng, ["男", "女"]))[0],
        "note": _pick(rng, NOTES.get(template.id, ["特になし"])) if rng.random() < 0.7 else "",
        "former_address": _address(rng, _pick(rng, OTHER_CITIES)),
        "domicile": _address(rng, _pick(rng, OTHER_CITIES), building=False),
        "owner_address": _address(rng, _pick(rng, ["みどり野市", *OTHER_CITIES])),
    }
    return {item.id: known[item.id] if item.id in known else _value(item, rng) for item in template.items}


def _value(item: Item, rng: np.random.Generator) -> str:
    """A value for an item of an unknown id, by its type: so a template of one's own can be drawn too."""
    if item.type == "choice":
        return _pick(rng, list(item.choices))
    if item.type == "yes_no":
        return _pick(rng, ["有", "無"])
    if item.type == "date":
        return _day(rng, dt.date(1990, 1, 1), dt.date(2025, 3, 31)).isoformat()
    if item.type == "number":
        return str(int(rng.integers(1, 99_999)))
    if item.type == "phone":
        local = f"0{int(rng.integers(10, 99))}"
        last = f"{int(rng.integers(0, 9999)):04d}"
        return f"090-{local}{int(rng.integers(0, 9))}-{last}" if rng.random() < 0.4 else f"0499-{local[:2]}-{last}"
    if item.type == "address":
        return _address(rng, "みどり野市")
    if item.type == "name":
        return _person(rng, _pick(rng, ["男", "女"]))[0]
    if item.type == "kana":
        return _person(rng, _pick(rng, ["男", "女"]))[1]
    return "特になし"


def _person(rng: np.random.Generator, sex: str) -> tuple[str, str]:
    surname, surname_kana = SURNAMES[int(rng.integers(len(SURNAMES)))]
    given, given_kana = GIVEN[sex][int(rng.integers(len(GIVEN[sex])))]
    return f"{surname} {given}", f"{surname_kana} {given_kana}"


def _address(rng: np.random.Generator, city: str, *, building: bool = True) -> str:
    numbers = f"{int(rng.integers(1, 9))}-{int(rng.integers(1, 40))}-{int(rng.integers(1, 30))}"
    if rng.random() < 0.4:
        numbers = f"{int(rng.integers(1, 9))}丁目{int(rng.integers(1, 40))}番{int(rng.integers(1, 30))}号"
    if not building:
        numbers = f"{int(rng.integers(1, 1800))}番地"
    tail = f" {_pick(rng, BUILDINGS)}{int(rng.integers(101, 410))}" if building and rng.random() < 0.35 else ""
    return f"{city}{_pick(rng, TOWNS)}{numbers}{tail}"


def _day(rng: np.random.Generator, first: dt.date, last: dt.date) -> dt.date:
    return first + dt.timedelta(days=int(rng.integers(0, max(1, (last - first).days))))


def _pick(rng: np.random.Generator, values: list[str]) -> str:
    return values[int(rng.integers(len(values)))]
