"""The same lists, counts and facets from the embedded index and from Elasticsearch, over the same invented records; and what each takes.

Both are asked through their ports, one after the other for each question, on this machine with one node of Elasticsearch beside us.
"""

from __future__ import annotations

import base64
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any as Anything

from search.elasticsearch import ElasticsearchIndex
from search.embedded import TantivyIndex
from search.port import All, Any, Contains, Document, Equals, Has, Hit, Not, Query, Scope, SearchIndex
from search.query import parse
from tests.servers.running import elasticsearch

GROUP = 500
"""Records a write, as the feed has it."""

LEDGERS = ("care-clients", "dv-support", "vacant-houses")


def _words(text: str) -> list[str]:
    return text.split()


FAMILY = _words(
    "佐藤 鈴木 高橋 髙橋 田中 渡邉 渡邊 山﨑 山崎 齋藤 斎藤 𠮷田 吉田 葛\U000e0100城 辻\U000e0101 濵田 神﨑 大和田 小野寺 五十嵐"
)
GIVEN = _words("太郎 花子 髙志 ゆき子 ヨシ子 美智子 正ニ 一 昭 さくら ケイ 奈々 弘・実 マリア・ルイス 凛 蓮")
KANA = _words(
    "サトウ スズキ ﾀｶﾊｼ タナカ ワタナベ やまざき サイトウ ヨシダ カツラギ ツジ ハマダ ガッツ パク ヴァン ヱビス ヶ崎"
)
TOWNS = _words(
    "三鷹市野崎 三鷹市下連雀 葛\U000e0100飾区立石 龍ケ崎市緑町 龍ヶ崎市緑町 茅ヶ崎市東海岸 𠮷野町上市 南アルプス市小笠原 つくば市天久保 塩竈市海岸通"
)
WORDS = _words(
    "訪問 相談 済 要確認 再調査 転居 手帳 更新 同居 長男 次女 〒送付 ・保留 ー延長 ★至急 😀 👨\u200d👩\u200d👧 ①新規 ㈱みどり 5月〜6月 "
    "1-2-3 １２－３ 03‐1234‐5678 A-5 ﾊﾞｽ通院 バス通院 ぱん パン が゛ ㍻元年 々 〆切 髙齢 𠮷報"
)
DASHES = "-－‐−ー―"

FULL = Scope(dict.fromkeys(LEDGERS))
PART = Scope({"care-clients": None, "dv-support": frozenset({"name", "note"})})
NARROW = Scope({"vacant-houses": frozenset({"address"})})
SCOPES = (FULL, PART, NARROW)
FACETS = ("ledger", "year", "kind")


def run(records: int = 100_000, each: int = 16) -> dict[str, Anything]:
    """Write `records` records to both, ask `each` questions of every kind of both, walk the longest lists to their ends."""
    with tempfile.TemporaryDirectory() as place, elasticsearch(Path(place)) as server:
        where = server.new()
        makers: dict[str, Callable[[Callable[[SearchIndex], None]], SearchIndex]] = {
            "tantivy": lambda fill: TantivyIndex.renewed(Path(place) / "tantivy", fill),
            "elasticsearch": lambda fill: ElasticsearchIndex.renewed(where, "s-parity", fill),
        }
        engines: dict[str, SearchIndex] = {}
        built = {}
        for name, make in makers.items():
            begun = time.monotonic()
            engines[name] = make(lambda index: fill(index, records))
            built[name] = round(time.monotonic() - begun, 1)
        return {
            "records": records,
            "documents": {name: index.count() for name, index in engines.items()},
            "build_s": built,
            "build_ratio": round(built["elasticsearch"] / built["tantivy"], 2),
            **_compared(engines, each),
            **_walked(engines),
        }


def fill(index: SearchIndex, records: int) -> None:
    """Write the invented records, in groups."""
    group: list[Document] = []
    for number in range(records):
        group += invented(number)
        if len(group) >= GROUP or number == records - 1:
            index.write(group, (), number + 1)
            group = []


def invented(number: int) -> Iterator[Document]:
    """The generations of one record; one in ten has two."""
    chance = random.Random(number)
    ledger = LEDGERS[number % len(LEDGERS)]
    year = chance.randint(1965, 2025)
    day = f"{year}-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}"
    newest = 2 if number % 10 == 0 else 1
    record = "r-" + base64.b32encode(chance.randbytes(16)).decode().rstrip("=").lower()
    for generation in range(1, newest + 1):
        dash = chance.choice(DASHES)
        numbers = dash.join(str(chance.randint(1, 30)) for _ in range(3))
        yield Document(
            record=record,
            generation=generation,
            partition=ledger,
            items={
                "name": [chance.choice(FAMILY) + chance.choice(("", " ", "　")) + chance.choice(GIVEN)],
                "kana": [chance.choice(KANA) + " " + chance.choice(KANA)],
                "birth": [day],
                "address": [
                    f"〒{chance.randint(100, 999)}{dash}{chance.randint(0, 9999):04} {chance.choice(TOWNS)}{numbers}"
                ],
                "note": ["".join(chance.choices(WORDS, k=chance.randint(3, 25))) for _ in range(chance.randint(0, 2))],
            },
            facets={"ledger": [ledger], "year": [str(year)], "kind": chance.sample(WORDS[:12], chance.randint(0, 2))},
            sort=int(day.replace("-", "")),
            latest=generation == newest,
        )


def questions(each: int) -> Iterator[tuple[str, Query]]:
    """Kind and question, `each` of every kind, always the same ones."""
    chance = random.Random(7)

    def drawn(make: Callable[[], Query]) -> list[Query]:
        return [make() for _ in range(each)]

    def cut(text: str, longest: int) -> str:
        start = chance.randrange(len(text))
        return text[start : start + chance.randint(1, longest)]

    def document() -> Document:
        return next(invented(chance.randrange(2000)))

    def text(item: str) -> str:
        return "".join(document().items[item][:1])

    def word() -> Query:
        return Contains(cut(chance.choice(WORDS + FAMILY + TOWNS), 4))

    kinds: dict[str, Callable[[], Query]] = {
        "name": lambda: Contains(text("name"), chance.choice((None, "name"))),
        "kana": lambda: Contains(text("kana").split()[0]),
        "address": lambda: Contains(cut(text("address"), 8), chance.choice((None, "address"))),
        "numbers with hyphens": lambda: Contains(
            chance.choice(DASHES).join(str(chance.randint(1, 30)) for _ in range(chance.choice((2, 3))))
        ),
        "postal mark": lambda: Contains(f"〒{chance.randint(10, 99)}"),
        "middle dot": lambda: Contains(chance.choice(("・", "弘・実", "マリア・ルイス", "・ルイス", "・保", "ア・"))),
        "beyond the basic plane": lambda: Contains(
            chance.choice(("𠮷", "𠮷田", "𠮷野町", "𠮷報", "😀", "👨\u200d👩\u200d👧", "👩"))
        ),
        "variation selectors": lambda: Contains(
            chance.choice(
                ("葛\U000e0100城", "葛城", "葛\U000e0101城", "葛\U000e0100飾", "辻\U000e0101", "辻", "城\U000e0100太")
            )
        ),
        "one character": lambda: Contains(
            chance.choice("山田一-〒・𠮷😀ヶケが々1★ー月") + chance.choice(("", "\u200b"))
        ),
        "voicing and width": lambda: Contains(
            chance.choice(("ﾊﾞｽ", "ハ゛ス", "ばす", "ぱん", "ハ゜ン", "が゛", "バス通", "ｶﾞｯﾂ"))
        ),
        "whole text": lambda: Equals(text("name"), "name"),
        "day": lambda: parse(document().items["birth"][0].replace("-", "/")),
        "search box": lambda: parse(
            chance.choice(("{} {}", "{} OR {}", "{} -{}", '"{}" {}')).format(
                chance.choice(FAMILY), cut(chance.choice(TOWNS), 3).strip("-") or "市"
            )
        ),
        "facet and text": lambda: All((Has("year", str(chance.randint(1965, 2025))), word())),
        "and, or, not": lambda: All((Any((word(), word(), Has("kind", "相談"))), Not(word()))),
        "everything": lambda: All(()),
        "nothing": lambda: Contains(chance.choice(("鷗外", "存在しない", "3鷹", "-〒-", "\U0002a6d6"))),
    }
    for kind, make in kinds.items():
        for query in drawn(make):
            yield kind, query


def _compared(engines: dict[str, SearchIndex], each: int) -> dict[str, Anything]:
    """Every question in a scope that is its turn: the first page with its total, and a facet."""
    lists = facets = asked = found = 0
    differing: list[str] = []
    times: dict[str, dict[str, list[float]]] = {}
    for number, (kind, query) in enumerate(questions(each)):
        scope, facet, past = SCOPES[number % 3], FACETS[number // 3 % 3], number % 7 == 0
        pages, counts = [], []
        for name, index in engines.items():
            begun = time.perf_counter()
            pages.append(index.search(query, scope, past=past))
            between = time.perf_counter()
            counts.append(index.facet(facet, query, scope, past=past))
            ended = time.perf_counter()
            times.setdefault(kind, {}).setdefault(name, []).append(between - begun)
            times.setdefault(f"{kind}: facet", {}).setdefault(name, []).append(ended - between)
        asked += 1
        found += pages[0].total > 0
        lists += (pages[0].hits, pages[0].total) == (pages[1].hits, pages[1].total)
        facets += counts[0] == counts[1]
        if (pages[0].hits, pages[0].total) != (pages[1].hits, pages[1].total) or counts[0] != counts[1]:
            differing.append(f"{kind}: {query}")
    table = {
        kind: {name: round(1000 * median(seconds), 2) for name, seconds in by.items()} for kind, by in times.items()
    }
    return {
        "equal_lists": f"{lists} of {asked}",
        "equal_facets": f"{facets} of {asked}",
        "questions_with_hits": found,
        "differing": differing,
        "ms_and_ratio": {
            kind: {**row, "ratio": round(row["elasticsearch"] / row["tantivy"], 1)} for kind, row in table.items()
        },
    }


def _walked(engines: dict[str, SearchIndex]) -> dict[str, Anything]:
    """Long lists, page after page by cursor, to their ends."""
    walks = (
        (Contains("山"), FULL, False),
        (Contains("市"), PART, True),
        (Contains("-"), NARROW, False),
        (All(()), FULL, True),
    )
    pages = hits = equal = 0
    seconds = dict.fromkeys(engines, 0.0)
    for query, scope, past in walks:
        lists: list[list[Hit]] = []
        for name, index in engines.items():
            begun, cursor, gathered = time.monotonic(), None, []
            while True:
                page = index.search(query, scope, past=past, limit=1000, cursor=cursor)
                gathered += page.hits
                cursor = page.cursor
                if name == "tantivy":
                    pages += 1
                if cursor is None:
                    break
            seconds[name] += time.monotonic() - begun
            lists.append(gathered)
        equal += lists[0] == lists[1]
        hits += len(lists[0])
    return {
        "walked_equal": f"{equal} of {len(walks)}",
        "walked_pages": pages,
        "walked_hits": hits,
        "walked_s": {name: round(value, 1) for name, value in seconds.items()},
    }
