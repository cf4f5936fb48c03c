"""Rebuilding: the store first, then the catalogue, then texts that were lost, then the index."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from core.settings import FolderSettings, Settings
from pipelines.progress import Progress
from pipelines.texts import read_lost_texts
from records.indexing import write_through
from records.rebuild import check_pins
from records.rebuild import rebuild as fold_all
from records.stores import Stores
from search.port import SearchIndex
from storage.port import Finding
from wiring import catalogue
from wiring.engines import open_store, renew_index
from wiring.open import give_way, goes_on, hold, open_installation, opened, taken, write_settings


@dataclass(frozen=True)
class Rebuilt:
    """Journal segments folded, records indexed, lost texts read again, password hashes carried over; what the journal names and the store or
    the key folder lacks.
    """

    segments: int
    records: int
    texts: int
    passwords: int
    findings: tuple[Finding, ...]


def rebuild(settings: Settings, progress: Progress = lambda step, done, total: None) -> Rebuilt:
    """Make catalogue and index again from store and keys. The old catalogue lies aside until the new one is whole.

    A rebuild that was broken off goes on where it was. What the store has lost is told and breaks nothing off: the catalogue is right
    without it, and all else can be used.
    """
    found, keys = opened(settings)
    hold(settings, alone=True)
    keys.heal()
    journal = open_store(settings).journal
    if not goes_on(settings, found, journal):
        give_way(settings, found, journal)
    stores = open_installation(settings, fresh=True, index=False)
    segments = fold_all(stores, lambda done, total: progress("rebuild", done, total))
    findings = check_pins(stores, lambda done, total: progress("check", done, total))
    passwords = catalogue.carry_credentials(settings)
    # A text read again could not be kept beside a store that is only read.
    texts = 0 if only_read(settings) else read_lost_texts(settings, stores, progress=progress)
    records = reindex(settings, stores)
    catalogue.drop_aside(settings)
    return Rebuilt(segments, records, texts, passwords, tuple(findings))


def read_from(settings: Settings, store: Path) -> Settings:
    """The settings of an installation over a store that is only read, which lies in the folder `store`; its own data folder is begun here.

    Raises:
        NotReady: there is no store (`store.missing`), or one that cannot be read.
        Conflict: (`store.exists`) the data folder holds something else already.
    """
    made = replace(settings, store_engine=FolderSettings(str(store.absolute())))
    if settings.store_engine == made.store_engine:
        return made  # begun before: the same command goes on
    opened(made)
    if settings.data.exists() and any(settings.data.iterdir()):
        raise taken(settings.data)
    settings.data.mkdir(parents=True, exist_ok=True)
    settings.data.chmod(0o700)
    write_settings(made, settings.person)
    return made


def only_read(settings: Settings) -> bool:
    """Is the store one that must not be written?"""
    return isinstance(settings.store_engine, FolderSettings)


def reindex(settings: Settings, stores: Stores) -> int:
    """Make the index again from the catalogue; the present one answers until the new one is whole. Returns the number of records.

    `stores` may have been opened without its index, as it must where that is outdated. What others write meanwhile is fed by the
    next who feeds.
    """
    records = 0

    def fill(index: SearchIndex) -> None:
        nonlocal records
        records = write_through(replace(stores, index=index))

    renew_index(settings, stores.id, fill)
    return records
