"""The index in memory: a scan of normalised texts. The reference that every engine is compared with, and good for small
tests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from search import plan
from search.normalise import normalise
from search.port import All, Any, Contains, Document, Equals, Has, Not, Page, Query, Scope


@dataclass(frozen=True)
class _Entry:
    document: Document
    texts: dict[str, tuple[str, ...]]


class MemoryIndex:
    """A `SearchIndex` that forgets when the process ends.

    `fail` is called with "write.before" and "write.after" around each commit; what it raises leaves `write` there, so a
    test can break a write before and after it lands.
    """

    def __init__(self, fail: Callable[[str], None] = lambda step: None) -> None:
        self._fail = fail
        self._state: tuple[dict[str, tuple[_Entry, ...]], int] = ({}, 0)

    def write(self, documents: Iterable[Document], gone: Iterable[str], upto: int) -> None:
        removed = frozenset(gone)
        fresh: dict[str, list[_Entry]] = {record: [] for record in removed}
        for document in plan.checked(documents, removed):
            texts = {item: tuple(normalise(text) for text in texts) for item, texts in document.items.items()}
            fresh.setdefault(document.record, []).append(_Entry(document, texts))
        records = self._state[0] | {record: tuple(entries) for record, entries in fresh.items()}
        self._fail("write.before")
        self._state = ({record: entries for record, entries in records.items() if entries}, upto)
        self._fail("write.after")

    def upto(self) -> int:
        return self._state[1]

    def count(self) -> int:
        return sum(len(entries) for entries in self._state[0].values())

    def search(
        self, query: Query, scope: Scope, *, past: bool = False, limit: int = 50, cursor: str | None = None
    ) -> Page:
        plan.check_limit(limit)
        query = plan.prepared(query)
        after = None if cursor is None else plan.key_of(cursor, query, scope, past)
        keys = sorted(plan.order(entry.document) for entry in self._found(query, scope, past))
        rest = keys if after is None else [key for key in keys if key > after]
        return Page(
            hits=tuple(plan.hit(key) for key in rest[:limit]),
            total=len(keys),
            cursor=plan.cursor_after(rest[limit - 1], query, scope, past) if len(rest) > limit else None,
        )

    def facet(self, facet: str, query: Query, scope: Scope, *, past: bool = False) -> dict[str, int]:
        counts: Counter[str] = Counter()
        for entry in self._found(plan.prepared(query), scope, past):
            if plan.facet_permitted(facet, scope.partitions[entry.document.partition]):
                counts.update(set(entry.document.facets.get(facet, ())))
        return dict(counts)

    def _found(self, query: Query, scope: Scope, past: bool) -> list[_Entry]:
        return [
            entry
            for entries in self._state[0].values()
            for entry in entries
            if entry.document.partition in scope.partitions
            and (past or entry.document.latest)
            and _holds(query, entry, scope.partitions[entry.document.partition])
        ]


def _holds(query: Query, entry: _Entry, items: plan.Items) -> bool:
    match query:
        case Contains(text, item):
            return any(
                text in written
                for name, texts in entry.texts.items()
                if plan.permitted(name, items) and item in (None, name)
                for written in texts
            )
        case Equals(text, item):
            return plan.permitted(item, items) and text in entry.texts.get(item, ())
        case Has(facet, value):
            return plan.facet_permitted(facet, items) and value in entry.document.facets.get(facet, ())
        case All(parts):
            return all(_holds(part, entry, items) for part in parts)
        case Any(parts):
            return any(_holds(part, entry, items) for part in parts)
        case Not(part):
            return not _holds(part, entry, items)
