"""Opening and creating an installation: folders become ports, ports become `Stores`. Import it after `wiring.setup.set_up`."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import sqlite3
from pathlib import Path

from django.core.management import call_command

from access import queries as access_queries
from core.clock import SystemClock
from core.errors import Busy, Conflict, NotReady
from core.ids import RandomIds
from core.settings import FILE, TEMPLATE, Settings
from records import queries
from records.indexing import feed
from records.operation import catch_up
from records.stores import Stores
from search.embedded import TantivyIndex
from storage.durable import write_new, writing
from storage.filesystem import (
    FilesystemDerivatives,
    FilesystemJournal,
    create_store,
    open_store,
)
from storage.keys import FilesystemKeys, create_keys
from wiring.objects import open_objects


def create(settings: Settings, person: str) -> Stores:
    """Create store, keys, catalogue, index and settings file of a new installation.

    Raises:
        Conflict: (`store.exists`) the data folder or the key folder holds something already.
    """
    for folder in (settings.data, settings.keys):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise Conflict(
                f"フォルダー {folder} は空ではありません。空のフォルダーを --data（鍵は --keys）で指定してください。",
                f"The folder {folder} is not empty. Name an empty one with --data (keys: --keys).",
                code="store.exists",
            )
    store_id = RandomIds().new("s")
    with writing():
        settings.data.mkdir(parents=True, exist_ok=True)
        settings.data.chmod(0o700)
        (settings.data / FILE).write_text(TEMPLATE.format(person=person), "utf-8")
        create_keys(settings.keys, store_id)
        create_store(settings.store, store_id)
    return open_installation(settings, fresh=True)


def opened(settings: Settings) -> tuple[str, FilesystemKeys]:
    """The store's id and its keys, when both are there and belong together; errors as `open_installation`."""
    store_id = open_store(settings.store)
    return store_id, FilesystemKeys(settings.keys, store_id)


_held: list[int] = []
"""Descriptors of the locks that this process holds until it ends."""


def hold(settings: Settings, *, alone: bool = False) -> None:
    """Tell other processes that this one uses the installation, until it ends.

    Args:
        alone: nobody else may, because the catalogue is about to be replaced.

    Raises:
        Busy: (`installation.in_use`) others are using it, or somebody is replacing its catalogue.
    """
    handle = os.open(settings.data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise Busy(
            "ほかの daicho が動いています。終わるのを待つか、`daicho serve` を止めてから、もう一度実行してください。",
            "Another daicho is at work here. Wait for it, or stop `daicho serve`, and run the command again.",
            code="installation.in_use",
        ) from error
    _held.append(handle)


def open_installation(settings: Settings, *, fresh: bool = False) -> Stores:
    """Open an installation, finish what a crash left unfinished, and give its ports.

    Args:
        fresh: the catalogue does not exist yet and is made empty (a new store, or a rebuild).

    Raises:
        NotReady: there is no installation, or no catalogue (`catalogue.missing`).
        KeysMissing: the key folder is missing or of another store.
        IndexOutdated: the index must be rebuilt.
    """
    store_id, keys = opened(settings)
    if not fresh and not settings.catalogue.is_file():
        raise NotReady(
            "目録（データベース）がありません。`daicho rebuild` で保管庫から作り直してください。",
            "The catalogue is missing. Make it again from the store with `daicho rebuild`.",
            code="catalogue.missing",
        )
    if not fresh:
        hold(settings)
    _web_secret(settings)
    objects = open_objects(settings)
    stores = Stores(
        store_id,
        objects,
        keys,
        FilesystemJournal(settings.store),
        FilesystemDerivatives(settings.store),
        TantivyIndex(settings.index),
        SystemClock(),
        RandomIds(),
    )
    objects.heal()
    if fresh:
        call_command("migrate", verbosity=0)
    else:
        with queries.exclusive():
            catch_up(stores)
        feed(stores)
    return stores


def _web_secret(settings: Settings) -> None:
    """Make the secret that signs sessions, where there is none or a power cut left an empty one; losing it signs everybody out."""
    place = settings.data / "web.secret"
    if place.is_file() and place.stat().st_size:
        return
    made = place.with_name(f"{place.name}.{secrets.token_hex(4)}")
    with writing():
        write_new(made, secrets.token_urlsafe(50).encode(), 0o600)
        made.replace(place)


def set_aside_catalogue(settings: Settings) -> Path | None:
    """Move an existing catalogue out of the way of a rebuild; returns where it lies now, None when there was none."""
    aside = settings.catalogue.with_suffix(".before")
    if settings.catalogue.exists():
        with contextlib.suppress(sqlite3.Error), sqlite3.connect(settings.catalogue) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if aside.exists():  # a rebuild was broken off: what lies here is its unfinished work
            settings.catalogue.unlink()
        else:
            settings.catalogue.replace(aside)
    for suffix in ("-wal", "-shm"):
        settings.catalogue.with_name(settings.catalogue.name + suffix).unlink(missing_ok=True)
    return aside if aside.exists() else None


def carry_credentials(aside: Path) -> int:
    """Copy password hashes of people who are still there out of a set-aside catalogue; they are nowhere else. Returns how many."""
    try:
        with sqlite3.connect(f"file:{aside}?mode=ro", uri=True) as database:
            rows = database.execute("SELECT person_id, password FROM daicho_access_credential").fetchall()
    except sqlite3.Error:
        return 0
    living = {person.id for person, _ in access_queries.people()}
    carried = [(person, password) for person, password in rows if person in living]
    for person, password in carried:
        access_queries.save_credential(person, password)
    return len(carried)
