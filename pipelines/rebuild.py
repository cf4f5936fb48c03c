"""Rebuilding and restoring: the store first, then the catalogue, then texts that were lost, then the index."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from core.errors import Conflict, NotReady
from core.settings import Settings
from pipelines.ingest import Progress
from pipelines.texts import read_lost_texts
from records.indexing import write_through
from records.rebuild import rebuild as fold_all
from records.stores import Stores
from search.port import SearchIndex
from storage.backup import BackupReport, RestoreReport
from storage.backup import backup as copy_folder
from storage.backup import restore as copy_back
from storage.copying import copy_store
from wiring import catalogue
from wiring.engines import create_store, open_store, renew_index, side, store_id
from wiring.open import give_way, hold, open_installation, opened, write_settings


@dataclass(frozen=True)
class Rebuilt:
    """Journal segments folded, records indexed, lost texts read again, password hashes carried over."""

    segments: int
    records: int
    texts: int
    passwords: int


def rebuild(settings: Settings, progress: Progress = lambda step, done, total: None) -> Rebuilt:
    """Make catalogue and index again from store and keys. The old catalogue lies aside until the new one is whole."""
    found, keys = opened(settings)
    hold(settings, alone=True)
    keys.heal()
    give_way(settings, found)
    stores = open_installation(settings, fresh=True, index=False)
    segments = fold_all(stores, lambda done, total: progress("rebuild", done, total))
    passwords = catalogue.carry_credentials(settings)
    texts = read_lost_texts(settings, stores, progress=progress)
    records = reindex(settings, stores)
    catalogue.drop_aside(settings)
    return Rebuilt(segments, records, texts, passwords)


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


def back_up(
    settings: Settings, target: Path, keys_target: Path | None, progress: Progress = lambda step, done, total: None
) -> BackupReport:
    """Bring the copy of store and keys in `target` up to date; errors as `storage.backup.backup`.

    From an engine the store is copied into `target` as a folder first, so that a backup looks the same wherever it came from and a
    restore needs no engine.
    """
    if settings.store_engine is None:
        return copy_folder(settings.store, settings.keys, target, keys_target=keys_target)
    source = open_store(settings)
    folder = replace(settings, data=target, store_engine=None)
    try:
        found = store_id(folder)
    except NotReady as error:
        if error.code != "store.missing":
            raise
        create_store(folder, source.id)
        found = source.id
    if found != source.id:
        raise Conflict(
            "この保存先には別の保管庫の控えがあります。別の保存先を指定してください。",
            "This target holds the backup of another store. Give another target.",
            code="backup.foreign",
        )
    total = sum(1 for _ in source.objects.objects())
    copy_store(side(source), side(open_store(folder)), lambda done: progress("copy", done, total))
    return copy_folder(folder.store, settings.keys, target, keys_target=keys_target)


def restore(
    settings: Settings, source: Path, keys_source: Path | None, progress: Progress = lambda step, done, total: None
) -> tuple[RestoreReport, Rebuilt]:
    """Bring a backup back into empty folders, then rebuild.

    Raises:
        Conflict: (`restore.not_empty`) the data folder or the key folder holds something.
        NotReady, DigestMismatch, KeysMissing: the backup is unfinished, damaged, or not what it should be.
    """
    if settings.data.exists() and any(settings.data.iterdir()):
        raise Conflict(
            "データフォルダーが空ではありません。空のフォルダーを --data で指定してください。",
            "The data folder is not empty. Name an empty one with --data.",
            code="restore.not_empty",
        )
    report = copy_back(source, settings.store, settings.keys, keys_target=keys_source)
    settings.data.chmod(0o700)
    write_settings(settings, settings.person)
    return report, rebuild(settings, progress)
