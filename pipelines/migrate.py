"""Moving an installation between engines: the store is copied and compared, catalogue and index are made anew from it, and the
settings change last, so that until then the source is what counts.

Keys stay where they are. What is not in the store moves too: password hashes. Sessions do not: people sign in again.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import tomlkit

from access import queries as access_queries
from core.errors import BadInput, Conflict, DigestMismatch, NotReady
from core.settings import (
    ENGINES_NOTE,
    FILE,
    ElasticsearchSettings,
    FolderSettings,
    PostgresSettings,
    S3Settings,
    Settings,
    engines_toml,
)
from pipelines.progress import Progress
from pipelines.rebuild import reindex
from records.check import catalogue_digest, verify
from records.locks import extend_locks
from records.rebuild import rebuild as fold_all
from storage.copying import Copied, copy_store
from storage.durable import replace as put_in_place
from storage.durable import write_new, writing
from wiring import catalogue, engines
from wiring.open import give_way, hold, open_installation, opened
from wiring.setup import set_up_child

TABLES = ("store", "catalogue", "index")


@dataclass(frozen=True)
class Migrated:
    """`moved`: which of store, catalogue and index changed engine. `copied`: of the store, None when it stayed. `digest`: of the catalogue, the
    same before and after. `records`: indexed in the new index, 0 when it stayed.
    """

    moved: tuple[str, ...]
    copied: Copied | None
    digest: str
    records: int


def migrate(settings: Settings, target: Settings, progress: Progress = lambda step, done, total: None) -> Migrated:
    """Move the installation to the engines of `target`; run again after a break, it goes on.

    The source is only read until the new engines have answered with the same catalogue digest and every byte of the new store was
    read and found right; then the settings file is replaced in one step. The source stays as it was, for its keeper to remove.

    Raises:
        BadInput: (`migrate.same`) the installation is there already.
        Busy: somebody uses the installation.
        Conflict: the target holds another store, or has gone on by itself.
        DigestMismatch: (`migrate.differs`) the moved catalogue has another digest; the settings are unchanged.
    """
    moved = tuple(name for name in TABLES if _where(settings, name) != _where(target, name))
    if not moved:
        raise BadInput(
            "もうその先にあります。移し先の設定ファイルを確かめてください。",
            "The installation is there already. Check the file that names the engines.",
            code="migrate.same",
        )
    opened(settings)
    hold(settings, alone=True)
    stores = open_installation(settings, held=True, index=False)
    digest = catalogue_digest()
    copied = _copied(settings, target, stores.id, progress) if "store" in moved else None
    arrived = _elsewhere(_Journey(target, stores.id, moved, dict(access_queries.credentials())))
    if arrived.digest != digest or arrived.findings:
        raise DigestMismatch(
            f"移した先が元と一致しません（問題 {arrived.findings} 件）。設定は元のままです。`daicho verify` で元の保管庫を確かめてください。",
            f"What was moved differs from the source ({arrived.findings} findings). The settings are unchanged. Check the source with `daicho verify`.",
            code="migrate.differs",
        )
    _point(target)
    return Migrated(moved, copied, digest, arrived.records)


def _where(settings: Settings, name: str) -> tuple[str, ...]:
    """Which place a part lives in. The same place under other time-outs or passwords is no other place: the settings file tells those."""
    match getattr(settings, f"{name}_engine"):
        case S3Settings(endpoint=endpoint, bucket=bucket):
            return (endpoint, bucket)
        case FolderSettings(path=path):
            return (path,)
        case PostgresSettings(host=host, port=port, database=database):
            return (host, str(port), database)
        case ElasticsearchSettings(url=url, name=index):
            return (url, index)
        case _:
            return ()


def _copied(settings: Settings, target: Settings, store_id: str, progress: Progress) -> Copied:
    source = engines.open_store(settings)
    try:
        found = engines.store_id(target)
    except NotReady as error:
        if error.code != "store.missing":
            raise
        engines.create_store(target, store_id)
        found = store_id
    if found != store_id:
        raise Conflict(
            "移し先には別の保管庫があります。空の移し先を指定してください。",
            "The target holds another store. Name an empty one.",
            code="migrate.foreign",
        )
    total = sum(1 for _ in source.objects.objects())
    there = engines.side(engines.open_store(target))
    return copy_store(engines.side(source), there, lambda done: progress("copy", done, total))


@dataclass(frozen=True)
class _Journey:
    """What the process that opens the new engines is told. `store`: its id. `passwords`: person id -> hash."""

    target: Settings
    store: str
    moved: tuple[str, ...]
    passwords: Mapping[str, str]


@dataclass(frozen=True)
class _Arrived:
    """Digest of the catalogue there, findings of a whole verification, records indexed."""

    digest: str
    findings: int
    records: int


def _elsewhere(journey: _Journey) -> _Arrived:
    """Run `_arrive` in a process of its own: one process serves one installation."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=set_up_child, initargs=(journey.target,)) as pool:
        return pool.submit(_arrive, journey).result()


def _arrive(journey: _Journey) -> _Arrived:
    """Make catalogue and index where they moved to, then read everything there."""
    target, records = journey.target, 0
    if "catalogue" in journey.moved:
        # Nobody else may be there; and should this be the source's own database under another name, its lock is ours already.
        catalogue.hold(target, alone=True)
        give_way(target, journey.store, engines.open_store(target).journal)
        stores = open_installation(target, fresh=True, index=False)
        fold_all(stores)
        for person, password in journey.passwords.items():
            access_queries.save_credential(person, password)
        catalogue.drop_aside(target)
    else:
        stores = open_installation(target, held=True, index=False)
    if "index" in journey.moved:
        records = reindex(target, stores)
    if stores.locks is not None and isinstance(target.store_engine, S3Settings):
        extend_locks(stores, target)  # what was copied first may have waited for long
    return _Arrived(catalogue_digest(), len(verify(stores).findings), records)


def _point(target: Settings) -> None:
    """Make the settings file name the engines of `target`; everything else in it stays as people wrote it."""
    place = target.data / FILE
    document = tomlkit.parse(place.read_text("utf-8") if place.is_file() else "")
    for name in TABLES:
        document.pop(name, None)
    text = tomlkit.dumps(document).replace(ENGINES_NOTE.strip(), "").rstrip() + "\n" + engines_toml(target)
    made = place.with_name(f"{FILE}.new")
    with writing():
        made.unlink(missing_ok=True)
        write_new(made, text.encode(), 0o600)
        put_in_place(made, place)
