"""`TantivyIndex` keeps the contract; and what only a folder can go wrong with: other processes, damage, versions, kill
-9.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import tantivy
from hypothesis import given
from hypothesis import strategies as st

from core.errors import BadInput, Busy, IndexOutdated, StoreDamaged
from search.embedded import TantivyIndex, _record_prefix
from search.memory import MemoryIndex
from search.normalise import normalise
from search.port import Contains, Document, Equals, Has, Scope, SearchIndex
from tests.contracts.index_contract import EVERYTHING, OPEN, IndexContract, doc, found, walk
from tests.search.renewal import RenewalContract, Site


@pytest.fixture
def make_index() -> Iterator[Callable[[], SearchIndex]]:
    with TemporaryDirectory() as place:
        names = iter(range(10**6))
        yield lambda: TantivyIndex(Path(place) / str(next(names)))


@pytest.fixture
def index(tmp_path: Path) -> SearchIndex:
    return TantivyIndex(tmp_path / "index")


class TestTantivyIndex(IndexContract):
    pass


class TestRenewal(RenewalContract):
    @pytest.fixture
    def site(self, tmp_path: Path) -> Site:
        folder = tmp_path / "index"

        def hurt(how: str) -> None:
            if how == "missing":
                shutil.rmtree(folder)
            elif how == "outdated":
                # As layout 1 was: no folder within the folder.
                shutil.rmtree(folder / "1")
                (folder / "daicho-index.json").write_text('{"layout": 1, "normaliser": "1/15.0.0"}')
                (folder / "meta.json").write_text("{}")
            else:
                (folder / "daicho-index.json").write_bytes(b"")

        return Site(TantivyIndex, (folder,), lambda: [p.name for p in folder.iterdir() if p.is_dir()], hurt)


def test_a_renewal_does_not_clear_a_folder_of_others(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("keep")
    with pytest.raises(StoreDamaged):
        TantivyIndex.renewed(tmp_path, lambda fresh: fresh.write((), (), 1))
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_write_that_a_renewal_overtakes_is_refused(tmp_path: Path) -> None:
    index = TantivyIndex(tmp_path / "index")

    def documents() -> Iterator[Document]:
        yield doc("r-1", "山")
        TantivyIndex.renewed(tmp_path / "index", lambda fresh: fresh.write([doc("r-2", "山")], (), 1))

    with pytest.raises(Busy) as caught:
        index.write(documents(), (), 2)
    assert caught.value.code == "index.busy"
    assert (index.upto(), found(index, "山")) == (1, ["r-2"])
    index.write([doc("r-1", "山")], (), 2)
    assert (index.upto(), found(index, "山")) == (2, ["r-1", "r-2"])


def test_another_object_sees_each_commit_at_once(tmp_path: Path) -> None:
    one, other = TantivyIndex(tmp_path / "index"), TantivyIndex(tmp_path / "index")
    for number in range(1, 4):
        one.write([doc(f"r-{number}", "山")], (), number)
        assert other.upto() == other.count() == number
        assert found(other, "山") == found(one, "山")


def test_the_normalisers_version_and_the_layout_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    TantivyIndex(tmp_path / "index").write([doc("r-1", "山")], (), 1)
    for name, value in (("FINGERPRINT", "0/0"), ("LAYOUT", 0)):
        with monkeypatch.context() as other:
            other.setattr("search.embedded." + name, value)
            with pytest.raises(IndexOutdated) as caught:
                TantivyIndex(tmp_path / "index")
            assert "`daicho reindex`" in caught.value.ja
            assert "`daicho reindex`" in caught.value.en
    assert TantivyIndex(tmp_path / "index").upto() == 1


def test_a_folder_of_others_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("keep")
    with pytest.raises(StoreDamaged):
        TantivyIndex(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("all_of_them", [False, True])
def test_what_was_left_over_is_told_until_it_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, all_of_them: bool
) -> None:
    index, other = TantivyIndex(tmp_path / "index"), TantivyIndex(tmp_path / "index")
    index.write([doc("r-1", "山"), doc("r-2", "山")], (), 4)
    new, gone = [Document("r-1", 2, "p1", {"name": ["川"]}, {}, 1)], ["r-2"]
    with monkeypatch.context() as deaf:
        deaf.setattr(index, "_index", Deaf(index._index, all_of_them))
        for _ in range(3):
            with pytest.raises(StoreDamaged) as caught:
                index.write(new, gone, 5)
            assert caught.value.code == "index.damaged"
            assert index.upto() == other.upto() == TantivyIndex(tmp_path / "index").upto() == 4
    other.write(new, gone, 5)
    assert (index.upto(), index.count(), found(index, "山"), found(index, "川")) == (5, 1, [], ["r-1"])


HALF = "half \ud842"


@pytest.mark.parametrize(
    "bad",
    [
        Document("r-\ud842", 1, "p1", {}, {}, 1),
        Document("r-9", 1, "p\ud842", {}, {}, 1),
        Document("r-9", 1, "p1", {}, {"year": ["1979", "\ud842"]}, 1),
    ],
)
def test_a_document_that_the_engine_cannot_keep_changes_nothing(tmp_path: Path, bad: Document) -> None:
    index, memory = TantivyIndex(tmp_path / "index"), MemoryIndex()
    for each in (index, memory):
        each.write([doc("r-1", "山")], (), 1)
        with pytest.raises(BadInput) as caught:
            each.write([doc("r-2", "山"), bad], ["r-1"], 2)
        assert caught.value.code == "index.document"
        assert (each.upto(), each.count(), found(each, "山")) == (1, 1, ["r-1"])


def test_half_a_character_elsewhere_does_no_harm(tmp_path: Path) -> None:
    index, memory = TantivyIndex(tmp_path / "index"), MemoryIndex()
    for each in (index, memory):
        each.write([Document("r-1", 1, "p1", {HALF: ["山", HALF]}, {HALF: ["可"]}, 1)], [HALF], 1)
    for scope in (Scope({"p1": None, HALF: None}), Scope({"p1": frozenset({HALF})}), Scope({HALF: None})):
        for query in (Contains(HALF), Contains("山", HALF), Equals(HALF, HALF), Has(HALF, HALF), Has(HALF, "可")):
            assert index.search(query, scope) == memory.search(query, scope)
        assert index.facet(HALF, EVERYTHING, scope) == memory.facet(HALF, EVERYTHING, scope)
    assert index.search(Contains("山", HALF), OPEN).total == 1


def _files(folder: Path) -> list[Path]:
    return sorted(
        p
        for p in folder.rglob("*")
        if p.is_file() and p.stat().st_size and p.suffix != ".lock" and p.name != ".managed.json"
    )


def test_damage_gives_a_coded_error_or_the_truth(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    TantivyIndex(folder).write([doc(f"r-{n}", "山田太郎") for n in range(20)], (), 1)
    names = [str(path.relative_to(folder)) for path in _files(folder)]
    assert {"1/meta.json", "daicho-index.json"} < set(names)
    refused = 0
    for name in names:
        for damage in (lambda b: b"", lambda b: b[: len(b) // 2], lambda b: b"\xff" * len(b), None):
            copy = tmp_path / "copy"
            shutil.copytree(folder, copy)
            if damage is None:
                (copy / name).unlink()
            else:
                (copy / name).write_bytes(damage((copy / name).read_bytes()))
            try:
                hurt = TantivyIndex(copy)
                answer = (hurt.count(), hurt.upto(), hurt.search(Contains("田太"), OPEN).total)
                # An index without its list of segments is an empty one, and its `upto` says that all is to be replayed.
                assert answer in ((20, 1, 20), (0, 0, 0)), (name, damage)
            except StoreDamaged as error:
                refused += 1
                assert error.code == "index.damaged"
                assert "daicho reindex" in error.ja
                assert "daicho reindex" in error.en
            shutil.rmtree(copy)
    assert refused >= len(names)


class Deaf:
    """The engine's index, or its writer, that ignores deletes without a word: of records alone, or all of them."""

    def __init__(self, real: Any, all_of_them: bool) -> None:
        self._real, self._all = real, all_of_them

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def writer(self, heap: int, threads: int) -> Deaf:
        return Deaf(self._real.writer(heap, threads), self._all)

    def delete_documents_by_query(self, query: tantivy.Query) -> None:
        if not self._all and '"upto"' in repr(query):
            self._real.delete_documents_by_query(query)


CHILD = """
import sys
from pathlib import Path
from search.embedded import TantivyIndex
from search.port import Document
index = TantivyIndex(Path(sys.argv[1]))
start = index.upto()
print("ready", flush=True)
for number in range(start + 1, 10_000):
    items = {"name": [f"世代{number}番"]}
    documents = [Document(f"r-{number % 7}-{n}", number, "p1", items, {}, number) for n in range(40)]
    index.write(documents, [], number)
    print(number, flush=True)
"""


def test_kill_9_leaves_whole_commits_and_replay_converges(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    chance = random.Random(5)
    for _ in range(6):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(folder)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0.02, 0.4))
        child.kill()
        acknowledged = [int(line) for line in child.stdout.read().splitlines()]
        child.stdout.close()
        child.wait()
        index = TantivyIndex(folder)
        reached = index.upto()
        # What was acknowledged is there; one commit more may have landed before its acknowledgement.
        assert not acknowledged or acknowledged[-1] <= reached <= acknowledged[-1] + 1
        _whole(index, reached)
        # Replay what may be missing, the last one twice.
        for number in (reached, reached, reached + 1):
            if number:
                names = [f"r-{number % 7}-{n}" for n in range(40)]
                index.write(
                    [Document(r, number, "p1", {"name": [f"世代{number}番"]}, {}, number) for r in names], (), number
                )
        assert index.upto() == reached + 1
        _whole(index, reached + 1)
    assert index.upto() > 6


def _whole(index: TantivyIndex, upto: int) -> None:
    living = range(max(1, upto - 6), upto + 1)
    assert index.count() == 40 * len(living)
    for number in living:
        assert index.search(Contains(f"世代{number}番"), OPEN).total == 40


def test_a_second_writer_is_told_to_wait(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    index = TantivyIndex(folder)
    index.write([doc("r-1", "山")], (), 1)

    def documents() -> Iterator[Document]:
        holder = "import sys; from pathlib import Path; from search.embedded import TantivyIndex\n"
        holder += "from core.errors import Busy\n"
        holder += "index = TantivyIndex(Path(sys.argv[1]))\n"
        holder += "assert index.upto() == 1\n"
        holder += "try: index.write((), (), 5)\n"
        holder += "except Busy as error: print(error.code, error.retryable)\n"
        done = subprocess.run(
            [sys.executable, "-c", holder, str(folder)],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[2],
        )
        assert done.stdout == "index.busy True\n"
        yield doc("r-2", "山")

    index.write(documents(), (), 2)
    assert (index.upto(), index.count()) == (2, 2)
    TantivyIndex(folder).write([doc("r-3", "山")], (), 3)
    assert index.upto() == 3


def test_threads_write_and_read_together(tmp_path: Path) -> None:
    index = TantivyIndex(tmp_path / "index")

    def work(number: int) -> int:
        index.write([doc(f"r-{number}-{n}", "山田") for n in range(5)], (), number)
        return index.search(Contains("山田"), OPEN).total % 5

    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(work, range(1, 13))) == {0}
    assert index.count() == 60


def test_many_ties_and_odd_ids_keep_the_order(tmp_path: Path) -> None:
    index, memory = TantivyIndex(tmp_path / "index"), MemoryIndex()
    chance = random.Random(3)
    records = {"r-" + "".join(chance.choices("ab2{A-", k=chance.randint(1, 8))) for _ in range(300)} | {
        "q",
        "r",
        "r-",
        "s",
    }
    corpus = [
        Document(record, generation, "p1", {"name": ["山"]}, {}, sort=len(record) % 2)
        for record in records
        for generation in (1, 2)
    ]
    for some in (corpus[:200], corpus[200:]):
        index.write(some, (), 1)
        memory.write(some, (), 1)
    for limit in (1, 7, 500, 1000):
        assert walk(index, Contains("山"), OPEN, False, limit) == walk(memory, Contains("山"), OPEN, False, limit)


ids = st.text(st.sampled_from("r-2aAz{7𠮷"), max_size=10) | st.from_regex(r"\Ar-[a-z2-7]{26}\Z")


@given(st.lists(ids, min_size=2, max_size=10))
def test_ranks_never_contradict_the_order(records: list[str]) -> None:
    numbers = [_record_prefix(record) for record in sorted(records)]
    assert numbers == sorted(numbers)
    assert all(0 <= number < 2**32 for number in numbers)


def test_every_sign_is_found_alone(tmp_path: Path) -> None:
    index = TantivyIndex(tmp_path / "index")
    signs = [chr(c) for c in range(0x21, 0x7F)] + ["😀", "𠮷", "・", "「"]
    index.write([doc(f"r-{ord(sign)}", sign, item="it.em-1") for sign in signs], (), 1)
    for sign in signs:
        twins = sorted(f"r-{ord(s)}" for s in signs if normalise(s) == normalise(sign))
        assert found(index, sign) == found(index, sign, item="it.em-1") == twins
        assert found(index, sign, Scope({"p1": frozenset({"it.em-1"})})) == twins
        assert found(index, sign, Scope({"p1": frozenset({"item-1"})})) == []


def test_many_partitions_items_and_values(tmp_path: Path) -> None:
    index = TantivyIndex(tmp_path / "index")
    corpus = [
        Document(f"r-{n}", 1, f"p{n}", {f"i{n}": ["山田"]}, {"ledger": [f"L{n}"], f"i{n}": ["可"]}, n)
        for n in range(1500)
    ]
    index.write(corpus, (), 1)
    scope = Scope({f"p{n}": frozenset({f"i{n}", "other"}) for n in range(1500)})
    assert index.search(Contains("山田"), scope).total == 1500
    assert len(index.facet("ledger", EVERYTHING, scope)) == 1500
    assert index.facet("i7", EVERYTHING, scope) == {"可": 1}
