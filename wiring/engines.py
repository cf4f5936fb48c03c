"""Which adapter stands behind each port of the store and the index: the one place that looks at the settings' engines."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from core.errors import Busy
from core.settings import FolderSettings, S3Settings, Settings
from search.port import SearchIndex
from storage.copying import Side
from storage.durable import writing
from storage.filesystem import (
    FilesystemDerivatives,
    FilesystemJournal,
    FilesystemObjects,
)
from storage.filesystem import create_store as create_folder
from storage.filesystem import open_store as open_folder
from storage.keys import FilesystemKeys
from storage.mending import FilesystemPlaces, Places
from storage.port import DerivativeStore, Journal, Locks, ObjectStore
from storage.readonly import ReadOnlyDerivatives, ReadOnlyJournal, ReadOnlyKeys, ReadOnlyObjects, read_only


@dataclass(frozen=True)
class Store:
    """The ports of one store. `locks` is None where nothing can be locked."""

    id: str
    objects: ObjectStore
    journal: Journal
    derivatives: DerivativeStore
    locks: Locks | None = None


def create_store(settings: Settings, store_id: str) -> None:
    """Lay out an empty store; durable on return. `Conflict` (`store.exists`) when one is there."""
    match settings.store_engine:
        case None:
            create_folder(settings.store, store_id)
        case FolderSettings():
            raise read_only()
        case S3Settings() as where:
            from storage.s3 import create_s3_store

            create_s3_store(where, store_id)


def store_id(settings: Settings) -> str:
    """The id of the store; `NotReady` (`store.missing` and others) where there is none to be opened."""
    match settings.store_engine:
        case None:
            return open_folder(settings.store)
        case FolderSettings(path=path):
            return open_folder(Path(path))
        case S3Settings() as where:
            from storage.s3 import open_s3_store

            return open_s3_store(where)


def open_objects(settings: Settings) -> ObjectStore:
    """The object store alone, for workers that only read."""
    match settings.store_engine:
        case None:
            return FilesystemObjects(settings.store)
        case FolderSettings(path=path):
            return ReadOnlyObjects(Path(path))
        case S3Settings() as where:
            from storage.retrying import RetryingObjects
            from storage.s3 import S3Objects

            return RetryingObjects(S3Objects(where))


def open_journal(settings: Settings) -> Journal:
    """The journal alone, for those who only read it; needs neither keys nor a catalogue."""
    match settings.store_engine:
        case None:
            return ReadOnlyJournal(settings.store)
        case FolderSettings(path=path):
            return ReadOnlyJournal(Path(path))
        case S3Settings() as where:
            from storage.retrying import RetryingJournal
            from storage.s3 import S3Journal

            return RetryingJournal(S3Journal(where))


def copied_journal(store: Path) -> Journal:
    """The journal of a store's folder, whoever's it is; only read."""
    return ReadOnlyJournal(store)


def open_store(settings: Settings, *, copy: bool = False) -> Store:
    """All ports of the store, what a crash left in it finished. `copy`: it follows another one, perhaps on a medium (`FilesystemJournal`)."""
    found = store_id(settings)
    match settings.store_engine:
        case None:
            objects = FilesystemObjects(settings.store)
            objects.heal()
            journal = FilesystemJournal(settings.store, copy=copy)
            return Store(found, objects, journal, FilesystemDerivatives(settings.store))
        case FolderSettings(path=path):
            root = Path(path)
            return Store(found, ReadOnlyObjects(root), ReadOnlyJournal(root), ReadOnlyDerivatives(root))
        case S3Settings() as where:
            from storage.retrying import RetryingDerivatives, RetryingJournal, RetryingLocks, RetryingObjects
            from storage.s3 import S3Derivatives, S3Journal, S3Objects

            sealed = S3Objects(where)
            return Store(
                found,
                RetryingObjects(sealed),
                RetryingJournal(S3Journal(where)),
                RetryingDerivatives(S3Derivatives(where)),
                RetryingLocks(sealed),
            )


def open_places(settings: Settings) -> Places:
    """The store as files, past its ports, for what does not open and for putting files back."""
    match settings.store_engine:
        case None:
            return FilesystemPlaces(settings.store)
        case FolderSettings(path=path):
            return FilesystemPlaces(Path(path))
        case S3Settings() as where:
            from storage.mending_s3 import S3Places

            return S3Places(where)


def open_keys(settings: Settings, store: str) -> FilesystemKeys:
    """The keys of this store; those of a store that is only read are only read too. Errors as `storage.keys.FilesystemKeys`."""
    only = isinstance(settings.store_engine, FolderSettings)
    return ReadOnlyKeys(settings.keys, store) if only else FilesystemKeys(settings.keys, store)


def side(store: Store) -> Side:
    """The store as one side of a copy."""
    return Side(store.objects, store.journal, store.derivatives)


def open_index(settings: Settings, store: str) -> SearchIndex:
    """The index of this store, made empty where there is none; `IndexOutdated` when another version made it."""
    if settings.index_engine is None:
        from search.embedded import TantivyIndex

        return TantivyIndex(settings.index)
    from search.elasticsearch import ElasticsearchIndex
    from search.retrying import RetryingIndex

    return RetryingIndex(ElasticsearchIndex(settings.index_engine, store))


def renew_index(settings: Settings, store: str, fill: Callable[[SearchIndex], None]) -> SearchIndex:
    """Fill a new index beside the present one, then put it in its place in one step; readers see the old one until then.

    Works where the present one is outdated, damaged or missing. `Busy` (`reindex.running`) while somebody else on this machine does it:
    the second would clear the first one's unfinished work away.
    """
    with alone(
        settings.data / "reindex.lock",
        Busy(
            "索引の作り直しは、もう始まっています。終わるのを待ってください。",
            "The index is being made again already. Wait until that has ended.",
            code="reindex.running",
        ),
    ):
        return _renewed(settings, store, fill)


@contextmanager
def alone(place: Path, busy: Busy) -> Iterator[None]:
    """Keep other processes of this machine from the same work while the block runs; where one is at it, `busy` is raised."""
    with writing():
        handle = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise busy from error
        yield
    finally:
        os.close(handle)


def _renewed(settings: Settings, store: str, fill: Callable[[SearchIndex], None]) -> SearchIndex:
    if settings.index_engine is None:
        from search.embedded import TantivyIndex

        return TantivyIndex.renewed(settings.index, fill)
    from search.elasticsearch import ElasticsearchIndex
    from search.retrying import RetryingIndex

    where = settings.index_engine
    return RetryingIndex(ElasticsearchIndex.renewed(where, store, lambda index: fill(RetryingIndex(index))))
