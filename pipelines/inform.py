"""What `daicho info` tells of an installation."""

from __future__ import annotations

from typing import Any

from core.settings import Settings
from ingest.pages import LimitedPageSource
from records import queries
from records.check import catalogue_digest
from records.stores import Stores


def inform(settings: Settings, stores: Stores) -> dict[str, Any]:
    """Folders, engines and their limits, counts, the state of the index, and the digest over the catalogue."""
    municipality = queries.municipality()
    entries, last_at = queries.last_entry()
    described = stores.objects.describe()
    with LimitedPageSource() as source:
        decoder = source.limits()
    return {
        "municipality": municipality.name if municipality else "",
        "store": stores.id,
        "data": str(settings.data),
        "keys": str(settings.keys),
        "engine": described.get("engine", ""),
        "layout": described.get("layout", ""),
        "worm": described.get("worm", ""),
        "decoder": decoder,
        "database": queries.integrity(),
        "digest": catalogue_digest(),
        "entries": entries,
        "segments": queries.last_segment().number,
        "last_entry_at": last_at,
        "index_documents": stores.index.count(),
        "index_upto": stores.index.upto(),
        "tables": queries.counts(),
    }
