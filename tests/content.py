"""Prints what an installation holds as JSON, without ids, times and cipher digests: two ingests of the same sheets print the same.

Run as a program (`python tests/content.py DATA`), since a process serves one installation only.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from core.settings import load
from wiring.setup import set_up


def told(data: Path) -> dict[str, Any]:
    """Batches with their sheets; records by their first sheet, with every generation as sealed; counts of journal events and of the index; what `verify` finds."""
    settings = load(data)
    set_up(settings)

    from collections import Counter

    from records import alone, queries
    from records.check import verify
    from records.content import content
    from records.models import Batch, Entry, Record, Sheet
    from search.port import All, Scope
    from wiring.open import open_installation

    stores = open_installation(settings)
    batches = []
    for batch in Batch.objects.order_by("ledger_id", "name"):
        sheets = queries.sheets(batch.id)
        batches.append(
            {
                "ledger": batch.ledger_id,
                "name": batch.name,
                "sheets": [[s.number, s.file, s.page, s.kind, s.state, s.reason] for s in sheets],
            }
        )
    records = []
    for record in Record.objects.order_by("ledger_id", "id"):
        rows = queries.generations(record.id)
        pins = [(row.object_version, row.object_digest) for row in rows]
        sealed = pins or [(record.object_version, record.object_digest)]
        bodies = [alone.opened(stores, content(stores, record.id, *pin)) for pin in sealed]
        pages = [_page(stores, body, page) for body in bodies for page in body.body["pages"]]
        records.append(
            {
                "sheets": list(Sheet.objects.filter(record=record).order_by("number").values_list("file", "page")),
                "ledger": record.ledger_id,
                "state": record.state,
                "reason": record.reason,
                "generation": record.generation,
                "items": sorted(_items(record.id)),
                "retention": [[r.retention_state, r.retention_start, r.retention_due] for r in rows],
                "plain": pages,
                "bodies": [_without_names(body.body) for body in bodies],
            }
        )
    ledgers = [row.ledger_id for row in queries.ledgers({batch["ledger"] for batch in batches})]
    scope = Scope(dict.fromkeys(ledgers))
    found = stores.index.search(All(()), scope, limit=1000)
    looked = ("batches_viewed", "batch_viewed", "queue_viewed")  # the tests themselves
    events = Counter(Entry.objects.exclude(event__in=looked).values_list("event", flat=True))
    return {
        "batches": batches,
        "records": sorted(records, key=lambda record: json.dumps(record["sheets"])),
        "events": dict(sorted(events.items())),
        "indexed": sorted(queries.sheet_names([hit.record])[hit.record] for hit in found.hits),
        "documents": stores.index.count(),
        "unread": Sheet.objects.filter(state="").count(),
        "findings": [repr(finding) for finding in verify(stores).findings],
        "scratch": [file.name for file in settings.scratch.rglob("*")],
    }


def _page(stores: Any, body: Any, page: Any) -> str:
    """SHA-256 of a page as it was scanned or masked; "destroyed" where a key that it lies under is gone."""
    import hashlib

    from core.errors import KeysMissing
    from records.alone import page_bytes

    try:
        return hashlib.sha256(page_bytes(stores, body, page["path"], page.get("under", ()))).hexdigest()
    except KeysMissing:
        return "destroyed"


def _items(record: str) -> list[list[Any]]:
    """Items at which a person must look: [item, reason, confidence in thousandths]."""
    from records import queries

    return [[item.item, item.reason, item.confidence] for item in queries.waiting_items([record])]


def _without_names(body: Any) -> dict[str, Any]:
    """A record's JSON without what differs from one ingest to the next."""
    pages = [{key: value for key, value in page.items() if key != "batch"} for page in body["pages"]]
    return {key: value for key, value in body.items() if key not in ("record", "made", "captured")} | {"pages": pages}


if __name__ == "__main__":
    print(json.dumps(told(Path(sys.argv[1])), ensure_ascii=False))
