"""What `daicho info` tells of an installation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from core.errors import DaichoError, KeysMissing
from core.settings import FolderSettings, S3Settings, Settings
from ingest import confine
from pipelines.backups import keys_until, last_backup
from pipelines.verification import last_verification
from records import queries
from records.audit import newest_kept
from records.check import catalogue_digest
from records.locks import ending_locks
from records.stores import Stores
from wiring import catalogue
from wiring.engines import open_index, store_id
from wiring.open import named_store


@dataclass(frozen=True)
class EngineState:
    """One part of the installation (`store`, `catalogue`, `index`), the engine it lives on, and what is wrong with it (None: it answers)."""

    part: str
    engine: str
    error: DaichoError | None


def ask_engines(settings: Settings) -> list[EngineState]:
    """Ask each engine for itself, so that one that is down does not hide how the others are."""
    found = ""

    def store() -> None:
        nonlocal found
        found = store_id(settings)

    asked: list[tuple[str, str, Callable[[], object]]] = [
        ("store", engine_names(settings)[0], store),
        ("catalogue", engine_names(settings)[1], lambda: catalogue.check_server(settings)),
        # The id stands in the key folder too, so that the index is asked while the store is away.
        ("index", engine_names(settings)[2], lambda: open_index(settings, found or named_store(settings))),
    ]
    states = []
    for part, engine, ask in asked:
        try:
            ask()
            states.append(EngineState(part, engine, None))
        except KeysMissing:
            continue  # neither store nor keys: there is nothing whose index could be asked
        except DaichoError as error:
            states.append(EngineState(part, engine, error))
    return states


def engine_names(settings: Settings) -> tuple[str, str, str]:
    """Engine and address of store, catalogue and index, without passwords."""
    store, rows, index = settings.store_engine, settings.catalogue_engine, settings.index_engine
    match store:
        case S3Settings():
            place = f"s3 {store.endpoint}/{store.bucket}"
        case FolderSettings():
            place = f"filesystem, read only: {store.path}"
        case None:
            place = "filesystem"
    return (
        place,
        f"postgresql {rows.host}:{rows.port}/{rows.database}" if rows else "sqlite",
        f"elasticsearch {index.url}" if index else "tantivy",
    )


def inform(settings: Settings, stores: Stores) -> dict[str, Any]:
    """Folders, engines and their limits, counts, the state of the index, and the digest over the catalogue."""
    municipality = queries.municipality()
    entries, last_at = queries.last_entry()
    described = stores.objects.describe()
    return {
        "municipality": municipality.name if municipality else "",
        "store": stores.id,
        "data": str(settings.data),
        "keys": str(settings.keys),
        "engine": described.get("engine", ""),
        "layout": described.get("layout", ""),
        "worm": described.get("worm", ""),
        "probed": described.get("probed", ""),
        "locks": _locks(settings, stores),
        "decoder": confine.tried(),
        "catalogue": engine_names(settings)[1],
        "index": engine_names(settings)[2],
        "database": queries.integrity(),
        "digest": catalogue_digest(),
        "entries": entries,
        "signed": kept.said.size if (kept := newest_kept()) else 0,
        "segments": queries.last_segment().number,
        "last_entry_at": last_at,
        "index_documents": stores.index.count(),
        "index_upto": stores.index.upto(),
        "tables": queries.counts(),
        "verified": last_verification(settings),
        "backup": last_backup(settings),
        "keys_until": until.isoformat() if (until := keys_until(settings)) else "",
    }


def _locks(settings: Settings, stores: Stores) -> dict[str, Any]:
    """When locks were last lengthened and when the first of those asked ends; empty for a store without locks."""
    if stores.locks is None:
        return {}
    found = ending_locks(stores, settings, all_of_them=False)
    return {
        "extended": found.extended,
        "asked": found.asked,
        "soonest": found.soonest,
        "short": len(found.short),
        "alarm": found.alarm.code if found.alarm else "",
    }
