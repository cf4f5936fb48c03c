"""What every `SearchIndex` must do. An adapter's test file gives the fixture `index` and an empty class deriving from
`IndexContract`.

The truth here is a scan written again, apart from the adapters and from `search.plan`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import BadInput
from search.normalise import normalise
from search.port import All, Any, Contains, Document, Equals, Has, Hit, Not, Query, Scope, SearchIndex
from search.query import parse

RUNS = settings(
    deadline=None,
    database=None,
    # One body runs for every adapter on purpose, and each example makes an index of its own.
    suppress_health_check=[HealthCheck.differing_executors, HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

EVERYTHING = All(())
ITEMS = ("name", "note", "住所 1", "a.b:c")
FACETS = ("ledger", "year", "section", "note", "a.b:c")
PARTITIONS = ("p1", "p2", "p/3")

# Few characters, so that random texts and queries meet: variants, kana of all kinds, marks, signs of regular
# expressions, blanks, emoji.
LETTERS = "山田髙高﨑崎𠮷吉カガかが゛ッっーｰ-〜パバハﾊﾟ０0aA.*\\[(^$|~#: 　😀\u3099\U000e0100"
texts = st.text(alphabet=LETTERS, max_size=8)
values = st.sampled_from(["", "a", "A", "2020-01-01T00:00:00Z", "5", "可", "a.b"])


@st.composite
def documents(draw: st.DrawFn) -> list[Document]:
    made = []
    for record in draw(
        st.lists(st.sampled_from(["r-2", "r-a", "r-aaaaaa2", "r-aaaaaab", "q", "s", "r-A", "r-{"]), unique=True)
    ):
        partition = draw(st.sampled_from(PARTITIONS))
        newest = draw(st.integers(1, 3))
        for generation in range(1, newest + 1):
            made.append(
                Document(
                    record=record,
                    generation=generation,
                    partition=partition,
                    items=draw(st.dictionaries(st.sampled_from(ITEMS), st.lists(texts, max_size=2), max_size=4)),
                    facets=draw(st.dictionaries(st.sampled_from(FACETS), st.lists(values, max_size=2), max_size=3)),
                    sort=draw(st.sampled_from([0, 1, 20250301, 2**31 - 1])),
                    latest=generation == newest,
                )
            )
    return made


leaves = st.one_of(
    st.builds(Contains, texts, st.none() | st.sampled_from([*ITEMS, "unknown"])),
    st.builds(Equals, texts, st.sampled_from(ITEMS)),
    st.builds(Has, st.sampled_from([*FACETS, "unknown"]), values),
)
queries = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(All, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Any, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Not, inner),
    ),
    max_leaves=6,
)
scopes = st.builds(
    Scope,
    st.dictionaries(
        st.sampled_from([*PARTITIONS, "p9"]),
        st.none() | st.frozensets(st.sampled_from([*ITEMS, "elsewhere"])),
        max_size=4,
    ),
)


def holds(query: Query, document: Document, items: frozenset[str] | None) -> bool:
    def open_items() -> list[tuple[str, list[str]]]:
        return [(n, [normalise(t) for t in ts]) for n, ts in document.items.items() if items is None or n in items]

    if isinstance(query, Contains):
        wanted = normalise(query.text)
        return wanted != "" and any(
            wanted in text for name, texts in open_items() if query.item in (None, name) for text in texts
        )
    if isinstance(query, Equals):
        wanted = normalise(query.text)
        return wanted != "" and any(wanted in texts for name, texts in open_items() if name == query.item)
    if isinstance(query, Has):
        visible = query.facet in ("ledger", "year", "section") or items is None or query.facet in items
        return visible and query.value in document.facets.get(query.facet, ())
    if isinstance(query, All):
        return all(holds(part, document, items) for part in query.parts)
    if isinstance(query, Any):
        return any(holds(part, document, items) for part in query.parts)
    return not holds(query.part, document, items)


def scan(corpus: list[Document], query: Query, scope: Scope, past: bool) -> list[Document]:
    found = [
        d
        for d in corpus
        if d.partition in scope.partitions and (past or d.latest) and holds(query, d, scope.partitions[d.partition])
    ]
    return sorted(found, key=lambda d: (-d.sort, d.record, -d.generation))


def counted(found: list[Document], facet: str, scope: Scope) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for document in found:
        items = scope.partitions[document.partition]
        if facet in ("ledger", "year", "section") or items is None or facet in items:
            counts.update(set(document.facets.get(facet, ())))
    return dict(counts)


def walk(index: SearchIndex, query: Query, scope: Scope, past: bool, limit: int) -> tuple[list[Hit], set[int]]:
    hits: list[Hit] = []
    totals = set()
    cursor = None
    for _ in range(1000):
        page = index.search(query, scope, past=past, limit=limit, cursor=cursor)
        hits += page.hits
        totals.add(page.total)
        cursor = page.cursor
        if cursor is None:
            return hits, totals
        assert len(page.hits) == limit
    raise AssertionError("the walk does not end")


def hits_of(found: list[Document]) -> list[Hit]:
    return [Hit(d.record, d.generation, d.partition) for d in found]


def doc(record: str, *texts: str, item: str = "name", partition: str = "p1", sort: int = 1, **more: object) -> Document:
    return Document(record, 1, partition, {item: texts}, {}, sort, **more)  # type: ignore[arg-type]


OPEN = Scope({"p1": None, "p2": None, "p/3": None})


def found(index: SearchIndex, text: str, scope: Scope = OPEN, item: str | None = None) -> list[str]:
    return [hit.record for hit in index.search(Contains(text, item), scope).hits]


class IndexContract:
    """Derive, and give a fixture `make_index` that returns a function making an empty index."""

    @settings(RUNS, max_examples=60)
    @given(
        corpus=documents(),
        asked=st.lists(st.tuples(queries, scopes, st.booleans()), min_size=1, max_size=8),
        limit=st.integers(1, 5),
    )
    def test_answers_as_a_scan_does(
        self,
        make_index: Callable[[], SearchIndex],
        corpus: list[Document],
        asked: list[tuple[Query, Scope, bool]],
        limit: int,
    ) -> None:
        index = make_index()
        index.write(corpus, (), 1)
        assert index.count() == len(corpus)
        for query, scope, past in asked:
            true = scan(corpus, query, scope, past)
            hits, totals = walk(index, query, scope, past, limit)
            assert hits == hits_of(true)
            assert totals == {len(true)}
            for facet in FACETS:
                assert index.facet(facet, query, scope, past=past) == counted(true, facet, scope)

    @settings(RUNS, max_examples=30)
    @given(
        corpus=documents(),
        query=queries,
        scope=scopes,
        past=st.booleans(),
        texts=st.lists(texts, min_size=2, max_size=2),
    )
    def test_a_hidden_record_changes_no_answer(
        self,
        make_index: Callable[[], SearchIndex],
        corpus: list[Document],
        query: Query,
        scope: Scope,
        past: bool,
        texts: list[str],
    ) -> None:
        hidden = Document("r-hidden", 1, "hidden", {"name": texts}, {"ledger": ["秘"], "note": ["a"]}, 20250301)
        masked = [
            Document(
                d.record,
                d.generation,
                d.partition,
                {**d.items, "masked": texts},
                {**d.facets, "masked": ["a"]},
                d.sort,
                d.latest,
            )
            for d in corpus
        ]
        narrow = Scope({p: frozenset(ITEMS) if i is None else i for p, i in scope.partitions.items()})
        one, other = make_index(), make_index()
        one.write(corpus, (), 1)
        other.write([hidden, *masked], (), 1)
        for limit in (1, 50):
            cursors = []
            for index in (one, other):
                page = index.search(query, narrow, past=past, limit=limit)
                cursors.append(
                    (page, page.cursor and index.search(query, narrow, past=past, limit=limit, cursor=page.cursor))
                )
            assert cursors[0] == cursors[1]
        for facet in (*FACETS, "masked"):
            assert one.facet(facet, query, narrow, past=past) == other.facet(facet, query, narrow, past=past)

    @settings(RUNS, max_examples=25)
    @given(
        first=documents(),
        second=documents(),
        gone=st.frozensets(st.sampled_from(["r-a", "q", "r-none"])),
        query=queries,
    )
    def test_writing_again_replaces_and_removes(
        self,
        make_index: Callable[[], SearchIndex],
        first: list[Document],
        second: list[Document],
        gone: frozenset[str],
        query: Query,
    ) -> None:
        index = make_index()
        index.write(first, (), 3)
        rewritten = {d.record for d in second} | gone
        corpus = [d for d in first if d.record not in rewritten] + [d for d in second if d.record not in gone]
        for _ in range(2):
            index.write(second, gone, 4)
            assert index.upto() == 4
            assert index.count() == len(corpus)
            true = scan(corpus, query, OPEN, True)
            assert walk(index, query, OPEN, True, 50)[0] == hits_of(true)

    def test_an_empty_index(self, index: SearchIndex) -> None:
        assert (index.upto(), index.count()) == (0, 0)
        assert index.search(EVERYTHING, OPEN).hits == ()
        assert index.facet("ledger", EVERYTHING, OPEN) == {}
        index.write((), (), 9)
        assert (index.upto(), index.count()) == (9, 0)

    def test_a_substring_of_any_length_is_found_at_any_place(self, index: SearchIndex) -> None:
        text = "東京都三鷹市野崎一丁目𠮷😀"
        index.write([doc("r-1", text)], (), 1)
        characters = [*text]
        for start in range(len(characters)):
            for end in range(start + 1, len(characters) + 1):
                assert found(index, "".join(characters[start:end])) == ["r-1"]
        assert found(index, "東都") == []
        assert found(index, "京東") == []

    def test_no_match_runs_across_texts_items_or_records(self, index: SearchIndex) -> None:
        index.write(
            [Document("r-1", 1, "p1", {"name": ["山田", "太郎"], "note": ["花子"]}, {}, 1), doc("r-2", "次郎")], (), 1
        )
        assert [found(index, t) for t in ("田太", "山田太郎", "郎花", "子次", "子山")] == [[]] * 5
        assert found(index, "郎") == ["r-1", "r-2"]

    def test_writings_of_the_same_are_found_and_different_ones_are_not(self, index: SearchIndex) -> None:
        index.write(
            [
                doc("r-1", "山﨑 髙子"),
                doc("r-2", "パリ"),
                doc("r-3", "バリ"),
                doc("r-4", "ハリ"),
                doc("r-5", "オーサカ"),
            ],
            (),
            1,
        )
        for text in ("山崎高子", "山 崎　高子", "﨑髙", "崎\U000e0101高"):
            assert found(index, text) == ["r-1"]
        assert found(index, "ぱり") == found(index, "ﾊﾟﾘ") == found(index, "ハ゜リ") == ["r-2"]
        assert found(index, "バリ") == ["r-3"]
        assert found(index, "ハリ") == ["r-4"]
        for dash in "-ー－‐―−ｰ〜":
            assert found(index, f"おお{dash}"[1:] + "さか") == ["r-5"]

    def test_a_day_is_found_in_any_writing(self, index: SearchIndex) -> None:
        index.write([doc("r-1", "1979-03-02", item="birth"), doc("r-2", "1979-03-03", item="birth")], (), 1)
        for text in (
            "S54.3.2",
            "昭和54年3月2日",
            "昭和 五十四年 三月 二日",
            "1979/3/2",
            "1979-03-02",
            '"昭和54年 3月2日"',
        ):
            assert [h.record for h in index.search(parse(text), OPEN).hits] == ["r-1"]
        assert index.search(parse("1979"), OPEN).total == 2
        assert index.search(parse("-S54.3.2"), OPEN).hits == (Hit("r-2", 1, "p1"),)

    def test_text_of_which_nothing_remains_finds_nothing(self, index: SearchIndex) -> None:
        index.write([doc("r-1", "", "　", "山")], (), 1)
        for text in ("", " 　", "\u200b"):
            assert found(index, text) == []
            assert index.search(Equals(text, "name"), OPEN).total == 0
            assert index.search(Not(Contains(text)), OPEN).total == 1

    def test_an_item_is_searched_only_where_it_is_permitted(self, index: SearchIndex) -> None:
        index.write(
            [
                Document(
                    "r-1", 1, "p1", {"name": ["山田"], "number": ["山田"]}, {"number": ["可"], "ledger": ["L"]}, 1
                ),
                Document(
                    "r-2", 1, "p2", {"name": ["鈴木"], "number": ["山田"]}, {"number": ["可"], "ledger": ["L"]}, 1
                ),
            ],
            (),
            1,
        )
        half = Scope({"p1": frozenset({"name"}), "p2": frozenset({"number"})})
        assert found(index, "山田", half) == ["r-1", "r-2"]
        assert found(index, "山", half, "number") == ["r-2"]
        assert found(index, "山田", half, "name") == ["r-1"]
        assert index.search(Equals("山田", "number"), half).total == 1
        assert index.facet("number", EVERYTHING, half) == {"可": 1}
        assert index.search(Has("number", "可"), half).hits == (Hit("r-2", 1, "p2"),)
        assert index.search(Not(Contains("山田", "number")), half).hits == (Hit("r-1", 1, "p1"),)
        none = Scope({"p1": frozenset(), "p2": frozenset()})
        assert found(index, "山", none) == []
        assert index.search(EVERYTHING, none).total == 2
        assert index.facet("ledger", EVERYTHING, none) == {"L": 2}
        assert index.facet("number", EVERYTHING, none) == {}
        assert index.search(EVERYTHING, Scope({})).total == 0
        assert index.facet("ledger", EVERYTHING, Scope({})) == {}

    def test_superseded_generations_are_found_only_when_asked_for(self, index: SearchIndex) -> None:
        def generation(number: int, latest: bool) -> Document:
            return Document("r-1", number, "p1", {"name": [f"世代{number}"]}, {"year": [str(number)]}, 1, latest)

        index.write([generation(1, False), generation(2, True)], (), 1)
        assert found(index, "世代1") == []
        assert index.search(Contains("世代"), OPEN, past=True).hits == (Hit("r-1", 2, "p1"), Hit("r-1", 1, "p1"))
        assert index.facet("year", EVERYTHING, OPEN) == {"2": 1}
        assert index.facet("year", EVERYTHING, OPEN, past=True) == {"1": 1, "2": 1}

    def test_a_cursor_is_good_for_its_own_question_alone(self, index: SearchIndex) -> None:
        index.write([doc(f"r-{n}", "山") for n in range(5)], (), 1)
        cursor = index.search(Contains("山"), OPEN, limit=2).cursor
        assert cursor is not None
        assert [h.record for h in index.search(Contains("山"), OPEN, limit=2, cursor=cursor).hits] == ["r-2", "r-3"]
        narrow = Scope({"p1": frozenset({"name"}), "p2": None, "p/3": None})
        for query, scope, past, given_cursor in (
            (Contains("田"), OPEN, False, cursor),
            (Contains("山"), narrow, False, cursor),
            (Contains("山"), OPEN, True, cursor),
            (Contains("山"), OPEN, False, cursor[:-4]),
            (Contains("山"), OPEN, False, "x" + cursor),
            (Contains("山"), OPEN, False, ""),
            (Contains("山"), OPEN, False, "山"),
            (Contains("山"), OPEN, False, "W10"),
        ):
            with pytest.raises(BadInput) as caught:
                index.search(query, scope, past=past, cursor=given_cursor)
            assert caught.value.code == "search.cursor"

    def test_a_walk_goes_on_where_it_stood_while_others_write(self, index: SearchIndex) -> None:
        index.write([doc(f"r-{n}", "山", sort=n) for n in range(9)], (), 1)
        first = index.search(Contains("山"), OPEN, limit=4)
        index.write([doc("r-new", "山", sort=8)], ["r-8", "r-5", "r-4"], 2)
        second = index.search(Contains("山"), OPEN, limit=50, cursor=first.cursor)
        assert [h.record for h in second.hits] == ["r-3", "r-2", "r-1", "r-0"]
        assert second.total == 7

    def test_a_whole_page_of_text(self, index: SearchIndex) -> None:
        page = "".join(chr(0x4E00 + (n * 7919) % 20000) for n in range(100_000))
        index.write([doc("r-1", page)], (), 1)
        assert found(index, page[50_000:50_900]) == ["r-1"]
        assert found(index, page[-1]) == ["r-1"]
        assert index.search(Equals(page, "name"), OPEN).total == 1
        assert index.search(Equals(page[1:], "name"), OPEN).total == 0

    @pytest.mark.parametrize("limit", [0, -1, 1001])
    def test_limits(self, index: SearchIndex, limit: int) -> None:
        with pytest.raises(BadInput) as caught:
            index.search(EVERYTHING, OPEN, limit=limit)
        assert caught.value.code == "search.limit"

    def test_a_query_nested_without_end_is_refused(self, index: SearchIndex) -> None:
        query: Query = Contains("山")
        for _ in range(60):
            query = Not(query)
        with pytest.raises(BadInput) as caught:
            index.search(query, OPEN)
        assert caught.value.code == "search.depth"

    @pytest.mark.parametrize(
        "bad",
        [
            [doc("r-1", "山", sort=2**31)],
            [doc("r-1", "山", sort=-1)],
            [doc("", "山")],
            [doc("r-1\x01", "山")],
            [doc("r-1", "山"), doc("r-1", "川")],
        ],
    )
    def test_a_write_with_a_bad_document_leaves_everything_as_it_was(
        self, index: SearchIndex, bad: list[Document]
    ) -> None:
        index.write([doc("r-0", "海")], (), 1)
        with pytest.raises(BadInput) as caught:
            index.write([doc("r-9", "海"), *bad], ["r-0"], 2)
        assert caught.value.code == "index.document"
        assert (index.upto(), index.count(), found(index, "海")) == (1, 1, ["r-0"])
        index.write([doc("r-9", "海")], ["r-0"], 2)
        assert (index.upto(), index.count(), found(index, "海")) == (2, 1, ["r-9"])
