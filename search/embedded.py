"""The embedded index: tantivy, in a folder, without a server.

What stands where: a text becomes its overlapping character pairs, the last character paired with an end sign, so a
phrase of pairs is exactly a substring (from two characters up) and never runs across the border of two texts: the pair
over the border does not exist. One character is every pair that begins with it. Pairs are kept twice: in `any`, for
askers who may see all items of a partition, and in `items`, each pair headed by its item, for the others. No source
text is stored, and nothing is scored.

Damage to the lists of segments and to headers is noticed; a flipped bit within postings may not be: the engine checks
its sums only where it reads headers, and a rebuild (the records are the truth) is the cure.

`upto` lies in a document of its own, replaced in the same commit as the documents it speaks of, so the two cannot
differ.

The folder holds a note and numbered folders: the note says which of them is the index, and what made it. A renewal
fills another one and replaces the note; what looks at the note before each question follows it.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any as Anything
from urllib.parse import quote

import tantivy
from tantivy import FieldType, Occur, Order

from core.errors import BadInput, Busy, DaichoError, IndexOutdated, StorageFull, StoreDamaged
from search import plan
from search.normalise import FINGERPRINT, normalise
from search.port import All, Any, Contains, Document, Equals, Has, Not, Page, Query, Scope, SearchIndex
from search.terms import exact, pairs

LAYOUT = 2
"""Raised with every change of the fields or of how tokens are written."""

_NOTE = "daicho-index.json"
_FRESH_NOTE = _NOTE + ".new"
_HEAP = 64_000_000
"""Bytes the writer may hold before it writes a segment: it runs beside the workers that read characters."""

_BUCKETS = 65_000
"""Values of one facet; the engine refuses more."""

_BASE32 = "234567abcdefghijklmnopqrstuvwxyz"
_REGEX_SIGNS = frozenset(r".^$*+?()[]{}|\-&~#")


def _schema() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    for name in ("any", "items"):
        builder.add_text_field(name, tokenizer_name="whitespace", index_option="position")
    for name in ("record", "partition", "state", "exact"):
        builder.add_text_field(name, tokenizer_name="raw", index_option="basic")
    builder.add_bytes_field("key", stored=True)
    builder.add_integer_field("rank", indexed=True, fast=True)
    builder.add_json_field("facets", fast=True, tokenizer_name="raw", index_option="basic")
    builder.add_integer_field("upto", stored=True)
    return builder.build()


def _name(name: str) -> str:
    # A name that is one token and one step of a JSON path, whatever characters people gave it.
    return quote(name, safe="", errors="surrogatepass").replace(".", "%2E")


def _record_prefix(record: str) -> int:
    """A number of 32 bits that never decreases as `record` grows (most different for ids of core.ids)."""
    if not record.startswith("r-"):
        return 0 if record < "r-" else 2**32 - 1
    digits: list[int] = []
    for character in record[2:8]:
        place = bisect_left(_BASE32, character)
        if place == len(_BASE32):
            digits += [31] * 6
        elif _BASE32[place] == character:
            digits.append(place)
            continue
        else:
            digits.append(place)
        break
    number = 0
    for digit in (digits + [0] * 6)[:6]:
        number = number * 32 + digit
    return number + 1


def _rank(key: plan.Key) -> int:
    """The first 63 bits of the order; equal ranks are told apart by the stored key."""
    return (2**31 - 1 + key[0]) << 32 | _record_prefix(key[1])


def _written(key: plan.Key) -> bytes:
    return json.dumps(key, ensure_ascii=False, separators=(",", ":")).encode()


def _read(written: bytes) -> plan.Key:
    sort, record, generation, partition = json.loads(written)
    return (sort, record, generation, partition)


def _busy() -> DaichoError:
    return Busy(
        "別の処理が検索索引に書き込み中です。しばらくしてからもう一度実行してください。",
        "Another process is writing the search index. Try again later.",
        code="index.busy",
    )


def _damaged(cause: BaseException) -> DaichoError:
    words = str(cause)
    if "LockBusy" in words:
        return _busy()
    if "No space left" in words or "StorageFull" in words or "QuotaExceeded" in words:
        return StorageFull(
            "検索索引を書く空き容量がありません。空きを作ってからもう一度実行してください。",
            "There is no room to write the search index. Free some and try again.",
            code="index.full",
        )
    return StoreDamaged(
        "検索索引が壊れています。`daicho reindex` で作り直してください(台帳の記録は無事です)。",
        "The search index is damaged. Make it again with `daicho reindex` (the records are not affected).",
        code="index.damaged",
    )


@contextmanager
def _edge() -> Iterator[None]:
    """Turns what the engine throws, a panic included, into a coded error."""
    try:
        yield
    except DaichoError:
        raise
    except (ValueError, OSError, SystemError) as error:
        raise _damaged(error) from error
    except BaseException as error:
        if type(error).__name__ == "PanicException":
            raise _damaged(error) from error
        raise


class TantivyIndex:
    """A `SearchIndex` in `folder`, which is made when it is not there.

    Any number of processes may read; whoever writes holds the engine's lock for the length of one `write`, others get
    `Busy`. Threads of one process wait for each other. `StoreDamaged` (`index.damaged`) when the folder cannot be read
    as an index.
    """

    def __init__(self, folder: Path) -> None:
        self._open(folder)

    def _open(self, folder: Path, filling: Path | None = None) -> None:
        """Open the index that the note names, or the one being filled, which no note names yet."""
        self._folder = folder
        self._filling = filling
        self._schema = _schema()
        self._writing = threading.Lock()
        self._loading = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        if filling is None:
            _claim(folder)
        self._at = self._place()
        with _edge():
            self._at.mkdir(exist_ok=True)
            self._index = tantivy.Index(self._schema, str(self._at))
            self._index.config_reader("manual")
            self._searcher = self._index.searcher()
        self._fresh()

    @classmethod
    def renewed(cls, folder: Path, fill: Callable[[SearchIndex], None]) -> TantivyIndex:
        """Fill a new index beside the present one, which goes on answering, then put it in its place in one step.

        Works where the present one is outdated, damaged or missing. What a renewal that was broken off left is removed
        first, so there must be one at a time.
        """
        with _edge():
            folder.mkdir(parents=True, exist_ok=True)
            if not _ours(folder):
                raise _damaged(ValueError("a folder with other files"))
            fresh = folder / str(
                1 + max((int(path.name) for path in folder.iterdir() if path.name.isdigit()), default=0)
            )
            present = _named(folder)
            if present is not None:
                _clear(folder, present)
        try:
            filling = cls.__new__(cls)
            filling._open(folder, fresh)
            fill(filling)
            with _edge():
                _write_note(folder, fresh)
        except BaseException:
            if _named(folder) != fresh:
                shutil.rmtree(fresh, ignore_errors=True)
            raise
        with _edge():
            _clear(folder, fresh)
        return cls(folder)

    def write(self, documents: Iterable[Document], gone: Iterable[str], upto: int) -> None:
        removed = frozenset(gone)
        with self._writing:
            self._fresh()
            at = self._at
            try:
                self._commit(documents, removed, upto)
            except StoreDamaged as error:
                if self._place() != at:
                    raise _busy() from error
                raise
            if self._place() != at:
                # It was exchanged meanwhile: what we wrote has gone with the old one.
                raise _busy()

    def _commit(self, documents: Iterable[Document], removed: frozenset[str], upto: int) -> None:
        """The write itself. When it left something over, `upto` goes back to where it was in a commit of its own, so that
        whoever feeds comes again, and is told again, until it is right.
        """
        with _edge():
            writer = self._index.writer(_HEAP, 1)
        try:
            # Read under the engine's lock, so that it is the last one.
            before = self.upto()
            written = {record: 0 for record in removed if plan.has_utf8(record)}
            with _edge():
                # A process killed while it committed leaves files under names that this commit may choose again (a
                # segment's deletes are named by a counter), and the engine refuses to write over them.
                writer.garbage_collect_files()
                for record in removed:
                    writer.delete_documents_by_query(self._term("record", record))
            for document in plan.checked(documents, removed):
                with _edge():
                    if document.record not in written:
                        writer.delete_documents_by_query(self._term("record", document.record))
                        written[document.record] = 0
                    writer.add_document(_document(document))
                    written[document.record] += 1
            self._close(writer, upto)
            try:
                self._assert_written(written)
            except StoreDamaged:
                self._close(writer, before)
                raise
        except BaseException:
            with _edge():
                writer.rollback()
                writer.wait_merging_threads()
            raise
        with _edge():
            # Also lets the lock go; a writer dropped without it would throw its merges away.
            writer.wait_merging_threads()

    def _close(self, writer: tantivy.IndexWriter, upto: int) -> None:
        """Commit what the writer was given, and `upto` with it."""
        with _edge():
            writer.delete_documents_by_query(self._term("state", "upto"))
            mark = tantivy.Document()
            mark.add_text("state", "upto")
            mark.add_integer("upto", upto)
            writer.add_document(mark)
            writer.commit()

    def _assert_written(self, written: dict[str, int]) -> None:
        # The engine has been seen to ignore deletes without a word, which would leave old personal data searchable.
        searcher = self._fresh(force=True)
        records = sorted(written)
        for start in range(0, len(records), 1000):
            some = records[start : start + 1000]
            with _edge():
                query = tantivy.Query.term_set_query(self._schema, "record", some)
                found = _count(searcher, query)
            if found != sum(written[record] for record in some):
                raise _damaged(ValueError("documents in the index differ from those written"))

    def upto(self) -> int:
        searcher = self._fresh()
        with _edge():
            hits = searcher.search(self._term("state", "upto"), limit=1000).hits
            # There is one, unless the engine ignored a delete: then the commit before the first such one counts.
            return min((int(searcher.doc(address)["upto"][0]) for _, address in hits), default=0)

    def count(self) -> int:
        searcher = self._fresh()
        with _edge():
            return int(searcher.num_docs) - _count(searcher, self._term("state", "upto"))

    def search(
        self, query: Query, scope: Scope, *, past: bool = False, limit: int = 50, cursor: str | None = None
    ) -> Page:
        plan.check_limit(limit)
        query = plan.prepared(query)
        after = None if cursor is None else plan.key_of(cursor, query, scope, past)
        asked = self._inside(query, plan.groups(scope), past)
        searcher = self._fresh()
        with _edge():
            keys, total = self._after(searcher, asked, after, limit + 1)
        more = len(keys) > limit
        keys = keys[:limit]
        return Page(
            hits=tuple(plan.hit(key) for key in keys),
            total=total,
            cursor=plan.cursor_after(keys[-1], query, scope, past) if more else None,
        )

    def _after(
        self, searcher: tantivy.Searcher, asked: tantivy.Query, after: plan.Key | None, wanted: int
    ) -> tuple[list[plan.Key], int]:
        """The first `wanted` keys behind `after`, and the number of all hits."""
        total = None
        if after is not None:
            total = _count(searcher, asked)
            place = tantivy.Query.range_query(self._schema, "rank", FieldType.Integer, _rank(after), None)
            asked = tantivy.Query.boolean_query([(Occur.Must, asked), (Occur.Must, place)])
        fetch = wanted + 2
        while True:
            result = searcher.search(asked, limit=fetch, count=total is None, order_by_field="rank", order=Order.Asc)
            if total is None:
                total = int(result.count)  # type: ignore[attr-defined]
            hits = result.hits
            complete = len(hits) < fetch
            if not complete:
                # Equal ranks come in no order, and more of the last one may lie beyond: only whole groups can be put in
                # order.
                hits = [hit for hit in hits if hit[0] != hits[-1][0]]
            keys = [_read(bytes(searcher.doc(address)["key"][0])) for _, address in hits]
            keys = sorted(key for key in keys if after is None or key > after)
            if complete or len(keys) >= wanted:
                return keys[:wanted], total
            fetch *= 4

    def facet(self, facet: str, query: Query, scope: Scope, *, past: bool = False) -> dict[str, int]:
        query = plan.prepared(query)
        open_groups = [group for group in plan.groups(scope) if plan.facet_permitted(facet, group[0])]
        asked = self._inside(query, open_groups, past)
        searcher = self._fresh()
        terms = {"terms": {"field": f"facets.{_name(facet)}", "size": _BUCKETS, "segment_size": _BUCKETS}}
        with _edge():
            answer = searcher.aggregate(asked, {"values": terms})["values"]
        if answer["sum_other_doc_count"] or answer["doc_count_error_upper_bound"]:
            raise BadInput(
                "値の種類が多すぎて数えられません。条件で絞ってください。",
                "This item has too many different values to count. Narrow the search.",
                code="search.facet",
            )
        return {str(bucket["key"])[1:]: int(bucket["doc_count"]) for bucket in answer["buckets"]}

    def _place(self) -> Path:
        return self._filling or _read_note(self._folder)

    def _fresh(self, *, force: bool = False) -> tantivy.Searcher:
        """A searcher over the last commit of any process, in the index that the note names now."""
        with self._loading:
            while True:
                place = self._place()
                try:
                    state = (place / "meta.json").stat()
                    now = (state.st_ino, state.st_mtime_ns, state.st_size)
                    if force or place != self._at or now != self._seen:
                        with _edge():
                            if place != self._at:
                                # Only opened, never made: it may be removed at this moment.
                                self._index = tantivy.Index.open(str(place))
                                self._index.config_reader("manual")
                                self._at = place
                            self._index.reload()
                            self._searcher = self._index.searcher()
                        self._seen = now
                    return self._searcher
                except (OSError, StoreDamaged) as error:
                    if self._place() == place:
                        raise _damaged(error) from error

    def _term(self, field: str, value: str) -> tantivy.Query:
        if not plan.has_utf8(value):
            return tantivy.Query.empty_query()
        return tantivy.Query.term_query(self._schema, field, value, "basic")

    def _inside(self, query: Query, groups: Sequence[tuple[plan.Items, tuple[str, ...]]], past: bool) -> tantivy.Query:
        """The query, asked in each group of partitions in terms of the items permitted there, and nowhere else."""
        parts = []
        for items, partitions in groups:
            # One term each, not a term set: a set reads every document of the partitions before it looks at the query.
            inside = _some([self._term("partition", partition) for partition in partitions])
            must = [(Occur.Must, self._translated(query, items)), (Occur.Must, inside)]
            if not past:
                must.append((Occur.Must, self._term("state", "latest")))
            parts.append(tantivy.Query.boolean_query(must))
        return _some(parts)

    def _translated(self, query: Query, items: plan.Items) -> tantivy.Query:
        match query:
            case Contains(text, None):
                if items is None:
                    return self._contains("any", "", text)
                return _some([self._contains("items", _name(item) + ":", text) for item in sorted(items)])
            case Contains(text, str(item)):
                if not plan.permitted(item, items):
                    return tantivy.Query.empty_query()
                return self._contains("items", _name(item) + ":", text)
            case Equals(text, item):
                if not plan.permitted(item, items):
                    return tantivy.Query.empty_query()
                return self._term("exact", exact(item, text))
            case Has(facet, value):
                if not plan.facet_permitted(facet, items):
                    return tantivy.Query.empty_query()
                return self._term(f"facets.{_name(facet)}", "=" + value)
            case All(parts):
                if not parts:
                    return tantivy.Query.all_query()
                return tantivy.Query.boolean_query([(Occur.Must, self._translated(part, items)) for part in parts])
            case Any(parts):
                return _some([self._translated(part, items) for part in parts])
            case Not(part):
                return tantivy.Query.boolean_query(
                    [(Occur.Must, tantivy.Query.all_query()), (Occur.MustNot, self._translated(part, items))]
                )
        raise AssertionError(query)

    def _contains(self, field: str, head: str, text: str) -> tantivy.Query:
        if len(text) == 1:
            pattern = "".join("\\" + c if c in _REGEX_SIGNS else c for c in head + text)
            return tantivy.Query.regex_query(self._schema, field, pattern + ".")
        headed = [head + pair for pair in pairs(text)[:-1]]
        if len(headed) == 1:
            return self._term(field, headed[0])
        return tantivy.Query.phrase_query(self._schema, field, [*headed])


def _some(queries: list[tantivy.Query]) -> tantivy.Query:
    if not queries:
        return tantivy.Query.empty_query()
    if len(queries) == 1:
        return queries[0]
    return tantivy.Query.boolean_query([(Occur.Should, query) for query in queries])


def _count(searcher: tantivy.Searcher, query: tantivy.Query) -> int:
    found = searcher.search(query, limit=1, count=True)
    return int(found.count)  # type: ignore[attr-defined]  # the engine's stub forgets it


def _document(document: Document) -> tantivy.Document:
    made = tantivy.Document()
    key = plan.order(document)
    made.add_text("record", document.record)
    made.add_text("partition", document.partition)
    made.add_bytes("key", _written(key))
    made.add_integer("rank", _rank(key))
    if document.latest:
        made.add_text("state", "latest")
    everything: list[str] = []
    headed: list[str] = []
    for item, texts in document.items.items():
        head = _name(item) + ":"
        for text in texts:
            folded = normalise(text)
            if folded:
                words = pairs(folded)
                everything.append(" ".join(words))
                headed.append(head + f" {head}".join(words))
                made.add_text("exact", exact(item, folded))
    if everything:
        made.add_text("any", " ".join(everything))
        made.add_text("items", " ".join(headed))
    facets: dict[str, Anything] = {
        # "=" keeps the engine from reading a value as a number or a time.
        _name(name): ["=" + value for value in sorted(set(values))]
        for name, values in document.facets.items()
        if values
    }
    if facets:
        made.add_json("facets", facets)
    return made


def _claim(folder: Path) -> None:
    """Make the folder ours, or check that it is: the note is durable before the engine writes anything."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / _NOTE).exists():
            if any(path.name != _FRESH_NOTE for path in folder.iterdir()):
                raise _damaged(ValueError("a folder with other files"))
            _write_note(folder, folder / "1")
    except OSError as error:
        raise _damaged(error) from error
    _read_note(folder)


def _write_note(folder: Path, place: Path) -> None:
    """Name `place` as the index, durably and in one step."""
    _sync(folder)
    fresh = folder / _FRESH_NOTE
    with fresh.open("w", encoding="utf-8") as file:
        json.dump({"layout": LAYOUT, "normaliser": FINGERPRINT, "folder": place.name}, file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(folder / _NOTE)
    _sync(folder)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_note(folder: Path) -> Path:
    """Where the index lies; `IndexOutdated` when another version made it."""
    note = _note(folder)
    if (note.get("layout"), note.get("normaliser")) != (LAYOUT, FINGERPRINT):
        raise IndexOutdated(
            "検索索引は別の版で作られています。`daicho reindex` で作り直してください。",
            "The search index was made by another version. Make it again with `daicho reindex`.",
        )
    name = str(note.get("folder"))
    if not name.isdigit():
        raise _damaged(ValueError("no folder in the note"))
    return folder / name


def _named(folder: Path) -> Path | None:
    """The folder that the note names, whatever version wrote it; None where it cannot be told."""
    try:
        name = str(_note(folder).get("folder"))
    except StoreDamaged:
        return None
    return folder / name if name.isdigit() else None


def _note(folder: Path) -> dict[str, Anything]:
    try:
        note = json.loads((folder / _NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(error) from error
    if not isinstance(note, dict):
        raise _damaged(ValueError("not a note"))
    return note


def _ours(folder: Path) -> bool:
    """Whether all in the folder may be removed: it is empty, or holds an index of whatever layout and state."""
    names = {path.name for path in folder.iterdir()}
    return bool(names & {_NOTE, "meta.json"}) or all(name.isdigit() or name == _FRESH_NOTE for name in names)


def _clear(folder: Path, kept: Path) -> None:
    """Remove all but the note and the folder it names."""
    for path in folder.iterdir():
        if path.is_dir() and path != kept:
            shutil.rmtree(path, ignore_errors=True)
        elif not path.is_dir() and path.name != _NOTE:
            path.unlink(missing_ok=True)
