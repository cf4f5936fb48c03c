"""Finding: a text and conditions, asked only inside what the actor may see, journalled before the answer leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from access.decide import Actor, ledgers
from records import queries
from records.content import content
from records.found import definition_of, unknown_ledger
from records.indexing import feed_own
from records.ledger import Definition
from records.operation import log_key, operation
from records.stores import Stores
from search.port import All, Any, Contains, Has, Not, Query, Scope
from search.query import parse


@dataclass(frozen=True)
class Found:
    """A hit with what lists show of it: the title items of its ledger, as kept."""

    record: str
    generation: int
    ledger: str
    definition: Definition
    title: Mapping[str, str]
    form: str
    made_at: str
    sheets: tuple[str, ...]


@dataclass(frozen=True)
class Results:
    """A page of hits, the exact total, counts per value of each asked facet, and the cursor of the next page."""

    hits: tuple[Found, ...]
    total: int
    facets: Mapping[str, Mapping[str, int]]
    cursor: str | None


def find(
    stores: Stores,
    actor: Actor,
    text: str,
    *,
    ledger: str | None = None,
    where: Mapping[str, str] | None = None,
    has: Mapping[str, str] | None = None,
    facets: tuple[str, ...] = (),
    past: bool = False,
    limit: int = 50,
    cursor: str | None = None,
) -> Results:
    """Search all ledgers that the actor may see, or one of them.

    Args:
        text: what people type into the box; empty finds everything.
        where: item id -> text that it must contain.
        has: facet -> the value chosen in a drill-down.
        facets: facets to count over the hits (`ledger`, `year`, or an item that is a facet).
        past: also superseded generations.

    Raises:
        NotFound: (`ledger.not_found`) a ledger that is unknown to the actor.
        BadInput: (`search.*`) a query or cursor that cannot be understood.
    """
    permitted = ledgers(actor, "view")
    if ledger is not None:
        if ledger not in permitted:
            raise unknown_ledger()
        permitted = frozenset([ledger])
    scope = Scope(dict.fromkeys(permitted))
    conditions: list[Query] = [parse(text)] if text.strip() else []
    conditions += [_within(item, parse(words)) for item, words in (where or {}).items()]
    conditions += [Has(facet, value) for facet, value in (has or {}).items()]
    query = All(tuple(conditions))
    feed_own(stores, actor.person)
    page = stores.index.search(query, scope, past=past, limit=limit, cursor=cursor)
    counted = {facet: stores.index.facet(facet, query, scope, past=past) for facet in facets}
    key = log_key(stores)
    with operation(stores, actor) as work:
        # Rights may have been taken away since the index was asked; what is shown is decided here.
        still = ledgers(actor, "view")
        hits = [hit for hit in page.hits if hit.partition in still]
        work.note(
            "searched",
            ledger=ledger or "",
            data={"total": page.total, "records": [hit.record for hit in hits]},
            personal={"text": text, "where": dict(where or {}), "has": dict(has or {})},
            key=key,
        )
    names = queries.sheet_names([hit.record for hit in hits])
    found = [_found(stores, hit.record, hit.generation, names.get(hit.record, ())) for hit in hits]
    return Results(tuple(one for one in found if one is not None), page.total, counted, page.cursor)


def _within(item: str, query: Query) -> Query:
    """The query with every text narrowed to one item."""
    match query:
        case Contains():
            return Contains(query.text, item)
        case All():
            return All(tuple(_within(item, part) for part in query.parts))
        case Any():
            return Any(tuple(_within(item, part) for part in query.parts))
        case Not():
            return Not(_within(item, query.part))
        case _:
            return query


def _found(stores: Stores, record_id: str, number: int, sheets: tuple[str, ...]) -> Found | None:
    row = queries.generation(record_id, number)
    if row is None:
        return None
    read = content(stores, record_id, row.object_version, row.object_digest)
    definition, _ = definition_of(read.body["ledger"], row.ledger_version)
    values = read.values
    title = {item: values.get(item, "") for item in definition.title}
    return Found(record_id, number, definition.id, definition, title, row.form, row.at, sheets)
