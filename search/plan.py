"""What every adapter decides alike: which documents may be written, what a scope permits, the order of hits, and
cursors.

No engine is named here. Normalising is in `search.normalise`.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator
from itertools import chain

from core.errors import BadInput
from search.normalise import normalise
from search.port import All, Any, Contains, Document, Equals, Has, Hit, Not, Query, Scope

COMMON_FACETS = frozenset({"ledger", "year", "section"})
"""Facets that are no items: everybody who may see a partition may see them. Any other facet is an item and needs its
permission.
"""

MAX_LIMIT = 1000
"""Hits per page."""

MAX_DEPTH = 50
"""Nesting of a query; deeper ones are an attack on the stack, not a question."""

Items = frozenset[str] | None
Key = tuple[int, str, int, str]
"""Order of hits as an ascending tuple: sort (negated), record, generation (negated), partition."""


def checked(documents: Iterable[Document], gone: frozenset[str]) -> Iterator[Document]:
    """The documents to write, one by one; a record in `gone` is removed even if a document of it comes along.

    `BadInput` (`index.document`) for a sort outside 0..2**31-1, an id with control characters, an id or a facet's value
    that has no UTF-8, or a generation that comes twice.
    """
    seen: set[tuple[str, int]] = set()
    for document in documents:
        key = (document.record, document.generation)
        if (
            not 0 <= document.sort < 2**31
            or not 0 <= document.generation < 2**31
            or not document.record
            or key in seen
            or any(c < " " for c in document.record + document.partition)
            or not all(map(has_utf8, (document.record, document.partition, *chain(*document.facets.values()))))
        ):
            raise BadInput(
                "検索用の文書が正しくありません。並び順・世代・識別子を確かめてください。",
                "The document for the index is not valid: check its sort, generation and ids.",
                code="index.document",
            )
        seen.add(key)
        if document.record not in gone:
            yield document


def has_utf8(text: str) -> bool:
    """Whether engines can keep the text as it is: half a surrogate pair has no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def order(document: Document) -> Key:
    """Where the document stands in every list."""
    return (-document.sort, document.record, -document.generation, document.partition)


def hit(key: Key) -> Hit:
    """The hit at this place."""
    return Hit(record=key[1], generation=-key[2], partition=key[3])


def groups(scope: Scope) -> list[tuple[Items, tuple[str, ...]]]:
    """Partitions of the scope, gathered by the items permitted in them: each group is asked with the same query."""
    gathered: dict[Items, list[str]] = {}
    for partition, items in scope.partitions.items():
        gathered.setdefault(items, []).append(partition)
    return [(items, tuple(sorted(partitions))) for items, partitions in gathered.items()]


def permitted(name: str, items: Items) -> bool:
    """Whether the item may be searched where `items` are permitted."""
    return items is None or name in items


def facet_permitted(facet: str, items: Items) -> bool:
    """Whether the facet may be counted or asked for where `items` are permitted."""
    return facet in COMMON_FACETS or permitted(facet, items)


def prepared(query: Query, depth: int = 0) -> Query:
    """The query with its texts normalised and its choices of one part opened; `BadInput` (`search.depth`) when nested
    too deep.

    A text of which nothing remains finds nothing, so it becomes `Any(())`: a search must not widen because of a blank.
    """
    if depth > MAX_DEPTH:
        raise BadInput("検索条件の入れ子が深すぎます。", "The query is nested too deeply.", code="search.depth")
    match query:
        case Contains(text, item):
            folded = normalise(text)
            return Contains(folded, item) if folded else Any(())
        case Equals(text, item):
            folded = normalise(text)
            return Equals(folded, item) if folded else Any(())
        case Has():
            return query
        case All(parts):
            return All(tuple(prepared(part, depth + 1) for part in parts))
        case Any(parts):
            return Any(tuple(prepared(part, depth + 1) for part in parts))
        case Not(part):
            return Not(prepared(part, depth + 1))


def check_limit(limit: int) -> None:
    """`BadInput` (`search.limit`) unless 1 <= limit <= MAX_LIMIT."""
    if not 1 <= limit <= MAX_LIMIT:
        raise BadInput(
            f"件数は 1 から {MAX_LIMIT} までで指定してください。",
            f"Ask for 1 to {MAX_LIMIT} hits a page.",
            code="search.limit",
        )


def _question(query: Query, scope: Scope, past: bool) -> str:
    permitted_items = sorted((p, None if i is None else sorted(i)) for p, i in scope.partitions.items())
    return hashlib.sha256(repr((query, permitted_items, past)).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def cursor_after(key: Key, query: Query, scope: Scope, past: bool) -> str:
    """The cursor for the hits after `key`, good for this (prepared) query, scope and `past` alone."""
    data = json.dumps([_question(query, scope, past), *key], ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(data.encode()).decode().rstrip("=")


def key_of(cursor: str, query: Query, scope: Scope, past: bool) -> Key:
    """The key in `cursor`; `BadInput` (`search.cursor`) when it is not one, or belongs to another query or scope."""
    try:
        data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
        question, negated_sort, record, negated_generation, partition = json.loads(data)
        right = question == _question(query, scope, past)
        key = (negated_sort, record, negated_generation, partition)
        numbers = (negated_sort, negated_generation)
        right = right and all(type(n) is int and -(2**31) < n <= 0 for n in numbers)
        right = right and type(record) is str and type(partition) is str
    except (ValueError, TypeError, RecursionError):
        right = False
    if not right:
        raise BadInput(
            "続きの位置が正しくありません。最初から検索し直してください。",
            "This cursor is not of this search. Start the search again.",
            code="search.cursor",
        )
    return key
