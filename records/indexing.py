"""Feeding the index from the journal: what each record's generations say, written until the index has caught up.

No operation does this before it is acknowledged; it leaves word in `Stores.outbox`. Whoever opened the installation feeds: `daicho serve` in
a thread that this wakes, a command when it has printed its result, an ingest between its groups; and whoever opens it next, what these left.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime

from core.clock import day_in_japan
from core.eras import fiscal_year
from core.errors import (
    Busy,
    DigestMismatch,
    KeysMissing,
    NotFound,
    NotReady,
    StorageFull,
    StoreDamaged,
    Unreachable,
)
from ingest.alto import text_of
from records import queries
from records.archive import unpack
from records.content import content
from records.found import definition_of
from records.ledger import Definition
from records.models import Record
from records.stores import Stores
from search.port import Document
from storage.cipher import decrypt

PAGES = "page_text"
"""Item id under which the text of whole pages is indexed."""

GROUP = 500
QUIET = 1000
"""Entries that change nothing in the index are let pass until there are this many."""

PATIENCE = 20.0
"""Seconds for which another process that is feeding is waited for."""

SOON = 1.0
"""Seconds that a search waits for what its person has changed."""
FEW = 50
"""Records written together meanwhile."""


def feed(stores: Stores) -> int:
    """Write to the index what the journal says and the index does not know yet. Returns the number of records written.

    An index that does not answer, is full or refuses us leaves the rest for the next call, and so does another process that feeds for long:
    what is acknowledged lies in the journal, and nothing of it is forgotten. `daicho info` tells how far behind the index is.
    """
    try:
        return write_through(stores)
    except (Unreachable, Busy, StorageFull, NotReady):
        return 0


def feed_own(stores: Stores, person: str) -> None:
    """Before a search: what this person changed is found, unless it takes longer than a moment to get it into the index.

    Mostly whoever was woken by the change is at it, and is waited for. What others change comes when it comes.
    """
    begun = time.monotonic()
    try:
        if not queries.changed_by(person, stores.index.upto()) or not stores.outbox.feeding.acquire(timeout=SOON):
            return
        try:
            left = max(begun + SOON - time.monotonic(), 0.0)
            if queries.changed_by(person, stores.index.upto()):
                _written(stores, FEW, left, left)
        finally:
            stores.outbox.feeding.release()
    except (Unreachable, Busy, StorageFull, NotReady):
        return


def write_through(stores: Stores) -> int:
    """As `feed`, but an index that cannot be written is an error. Another thread or process that is feeding is waited for."""
    with stores.outbox.feeding:
        return _written(stores, GROUP, PATIENCE, math.inf)


def _written(stores: Stores, size: int, patience: float, within: float) -> int:
    """Write what is outstanding in groups of `size`; begin none after `within` seconds, nor try one for longer than `patience`.

    Groups come in the order of their newest entries, and the index remembers each: what is broken off goes on behind the last.
    """
    ends, until = time.monotonic() + within, time.monotonic() + patience
    count = 0
    while True:
        stores.outbox.waits.clear()  # before looking: what comes later sets it again
        after = stores.index.upto()
        changed, upto = queries.outbox(after)
        if upto == after or (not changed and upto - after < QUIET and after):
            return count
        try:
            for start in range(0, len(changed) or 1, size):
                if time.monotonic() > ends:
                    return count
                group = changed[start : start + size]
                reached = upto if start + size >= len(changed) else group[-1][1]
                documents, gone = _told(stores, [record for record, _ in group])
                stores.index.write(documents, gone, reached)
                count += len(group)
                until = time.monotonic() + patience
        except Busy:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
        # Once more: another process may have gone on while we read, and ours would be the older documents.


def _told(stores: Stores, records: Sequence[str]) -> tuple[list[Document], list[str]]:
    """The documents of these records, and those that cannot be read: one damaged object must not keep all others from being found.

    Such a record is found no more until it is whole and the index made again; `daicho verify` names it.
    """
    documents: list[Document] = []
    gone = []
    definitions = functools.cache(
        definition_of
    )  # a version of a definition never changes; parsing it costs more than reading a record
    for record in records:
        try:
            documents += _documents(stores, record, definitions)
        except (DigestMismatch, KeysMissing, StoreDamaged, NotFound):
            gone.append(record)
    return documents, gone


def _documents(
    stores: Stores, record_id: str, definitions: Callable[[str, int], tuple[Definition, int]]
) -> Iterator[Document]:
    record = queries.record(record_id)
    if record is None or record.state != "sealed":
        return
    pages = page_texts(stores, record)
    for row in queries.generations(record_id):
        body = content(stores, record_id, row.object_version, row.object_digest).body
        definition, _ = definitions(record.ledger_id, row.ledger_version)
        values = {item["item"]: item["value"] for item in body["items"] if item.get("value")}
        day = values.get(definition.year_item) or day_in_japan(datetime.fromisoformat(body["captured"])).isoformat()
        facets: dict[str, Sequence[str]] = {
            "ledger": [record.ledger_id],
            "year": [str(fiscal_year(date.fromisoformat(day)))],
        }
        for item in definition.items:
            if item.facet and values.get(item.id):
                facets[item.id] = [values[item.id]]
        items: dict[str, Sequence[str]] = {item: [value] for item, value in values.items()}
        if pages:
            items[PAGES] = list(pages.values())
        yield Document(
            record=record_id,
            generation=row.number,
            partition=record.ledger_id,
            items=items,
            facets=facets,
            sort=int(day.replace("-", "")),
            latest=row.number == record.generation,
        )


def page_texts(stores: Stores, record: Record) -> Mapping[int, str]:
    """Page number (from 1) -> text, of a record whose pages have been read whole; empty when they have not, or the text was lost."""
    if queries.page_text(record.id) is None:
        return {}
    archive = derived(stores, record.id)
    return {
        int(name[len("text-") : -len(".xml")]): text_of(data)
        for name, data in archive.items()
        if name.startswith("text-")
    }


def derived(stores: Stores, record_id: str) -> dict[str, bytes]:
    """The record's derivatives (name -> bytes); empty when they are lost or damaged, since they can be made again."""
    sealed = stores.derivatives.get(record_id)
    if sealed is None:
        return {}
    try:
        return unpack(decrypt(sealed, stores.keys.get(record_id).secret))
    except (DigestMismatch, KeysMissing):
        return {}
