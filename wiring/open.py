"""Opening and creating an installation: folders become ports, ports become `Stores`. Import it after `wiring.setup.set_up`."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from django.db import DatabaseError

from access.signin import require_login_form
from core.clock import SystemClock
from core.errors import Busy, Conflict, DaichoError, DigestMismatch, KeysMissing, NotFound, NotReady
from core.ids import RandomIds
from core.settings import FILE, TEMPLATE, Settings, engines_toml
from records import queries
from records.found import MARKS_KEY
from records.indexing import feed
from records.operation import catch_up
from records.rebuild import require_same_history
from records.stores import Stores
from search.memory import MemoryIndex
from storage.durable import require_suitable, write_new, writing
from storage.keys import FilesystemKeys, create_keys, store_of_keys
from storage.port import Journal
from wiring import catalogue
from wiring.engines import create_store, open_index, open_keys, open_store, store_id


def create(settings: Settings, person: str) -> Stores:
    """Create store, keys, catalogue, index and settings file of a new installation.

    Raises:
        Conflict: (`store.exists`) the data folder or the key folder holds something already.
        NotReady: (`storage.unsuitable`) no installation can live in one of them.
    """
    for folder in (settings.data, settings.keys):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise taken(folder)
    require_login_form(person)
    catalogue.check_server(settings)
    catalogue.check_owner(settings)
    if catalogue.exists(settings):
        raise foreign_catalogue()
    made = RandomIds().new("s")
    make_folders(settings.data, settings.keys)
    if not write_settings(settings, person):
        raise taken(settings.data)  # somebody else began here a moment ago: nothing of it may be removed below
    try:
        with writing():
            open_index(settings, made)
            create_keys(settings.keys, made)
            create_store(settings, made)  # last: what is laid out on an engine cannot be taken back
    except BaseException:
        # Both folders were empty and the settings file is ours; nothing is sealed yet: the same command can be given again.
        for folder in (settings.data, settings.keys):
            shutil.rmtree(folder, ignore_errors=True)
        raise
    with founding(settings):
        hold(settings)
        return open_installation(settings, fresh=True)


@contextmanager
def founding(settings: Settings) -> Iterator[None]:
    """Around what makes an installation out of what `create` has laid out: where it fails, nothing is left, and the same command can be given again.

    Not where the store or the catalogue is on an engine: what is laid out there is for its administrator to remove.
    """
    try:
        yield
    except BaseException:
        if settings.store_engine is None and settings.catalogue_engine is None:
            for folder in (settings.data, settings.keys):
                shutil.rmtree(folder, ignore_errors=True)
        raise


def make_folders(*folders: Path) -> None:
    """Make the empty folders of an installation, for nobody else to read; leaves none where one of them cannot be had.

    Raises:
        NotReady: (`storage.unsuitable`) no installation can live there.
    """
    made: list[Path] = []
    try:
        for folder in folders:
            with writing():
                if not folder.exists():
                    made.append(folder)
                    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                require_suitable(folder)
                folder.chmod(0o700)
    except BaseException:
        for folder in made:
            with suppress(OSError):  # not empty: somebody else's by now
                folder.rmdir()
        raise


def taken(folder: Path) -> Conflict:
    """The answer where a folder was to be empty."""
    return Conflict(
        f"フォルダー {folder} は空ではありません。空のフォルダーを --data（鍵は --keys）で指定してください。",
        f"The folder {folder} is not empty. Name an empty one with --data (keys: --keys).",
        code="store.exists",
    )


def write_settings(settings: Settings, person: str) -> bool:
    """Write the settings file of a new installation; it may hold passwords of engines, so nobody else may read it. False: there is one."""
    text = TEMPLATE.format(person=json.dumps(person, ensure_ascii=False)) + engines_toml(settings)
    try:
        write_new(settings.data / FILE, text.encode(), 0o600)
    except FileExistsError:
        return False
    except BaseException:
        (settings.data / FILE).unlink(missing_ok=True)  # half written, it would keep the next attempt out
        raise
    return True


def opened(settings: Settings) -> tuple[str, FilesystemKeys]:
    """The store's id and its keys, when both are there and belong together; errors as `open_installation`."""
    found = store_id(settings)
    return found, open_keys(settings, found)


def named_store(settings: Settings) -> str:
    """The id of the store that the key folder belongs to; `KeysMissing` where there is none."""
    return store_of_keys(settings.keys)


_held: list[int] = []
"""Descriptors of the locks that this process holds until it ends."""


def hold(settings: Settings, *, alone: bool = False) -> None:
    """Tell other processes that this one uses the installation, until it ends.

    Args:
        alone: nobody else may, because the catalogue is about to be replaced.

    Raises:
        Busy: (`installation.in_use`) others are using it, or somebody is replacing its catalogue.
    """
    with writing():
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
    catalogue.hold(settings, alone)


def open_installation(
    settings: Settings, *, fresh: bool = False, held: bool = False, index: bool = True, suspect: bool = False
) -> Stores:
    """Open an installation, finish what a crash left unfinished, and give its ports.

    Args:
        fresh: the catalogue is being made (a new store, or a rebuild), and is made empty where there is none.
        held: whoever called holds the installation alone already.
        index: open the index too; without it an empty one in memory stands in, for callers that are about to make it anew.
        suspect: open it too where catalogue and journal contradict each other, for who is about to find out how.

    Raises:
        NotReady: there is no installation, or no catalogue (`catalogue.missing`).
        Conflict: catalogue and journal contradict each other; as `require_same_history`.
        KeysMissing, DigestMismatch: the key folder is missing, of another store, damaged (as `FilesystemKeys`) or without its keys (`keys.lost`).
        IndexOutdated: the index must be rebuilt.
    """
    found, keys = opened(settings)
    catalogue.check_server(settings)
    if not fresh and not catalogue.exists(settings):
        raise NotReady(
            "目録（データベース）がありません。`daicho rebuild` で保管庫から作り直してください。",
            "The catalogue is missing. Make it again from the store with `daicho rebuild`.",
            code="catalogue.missing",
        )
    if not fresh and catalogue.unfinished(settings):
        raise NotReady(
            "目録の作り直しが途中で止まっています。`daicho rebuild` をもう一度実行してください。失われたものはありません。",
            "A rebuild of the catalogue was broken off. Run `daicho rebuild` again; nothing is lost.",
            code="catalogue.unfinished",
        )
    if not fresh and not held:
        hold(settings)
    _web_secret(settings)
    store = open_store(settings)
    stores = Stores(
        store.id,
        store.objects,
        keys,
        store.journal,
        store.derivatives,
        open_index(settings, store.id) if index else MemoryIndex(),
        SystemClock(),
        RandomIds(),
        store.locks,
    )
    if fresh:
        if not catalogue.exists(settings):
            catalogue.create(settings)
        return stores
    own_catalogue(found)
    try:
        require_same_history(store.journal)
        _require_keys(keys)
    except (Conflict, KeysMissing):
        if not suspect:
            raise
        return stores
    with queries.exclusive():
        catch_up(stores)
    if index:
        feed(stores)
    return stores


def _require_keys(keys: FilesystemKeys) -> None:
    """`KeysMissing` (`keys.lost`) when a founded installation has not even its first key: without keys, whatever is read is taken for destroyed."""
    try:
        if queries.municipality() is not None:
            keys.get(MARKS_KEY)
    except DigestMismatch:
        pass  # one damaged key; `daicho verify` names it
    except KeysMissing as error:
        raise KeysMissing(
            "鍵フォルダーに、あるはずの鍵がありません。失われたか、空の控えを指しています。鍵の控えから復元してください。",
            "The key folder lacks a key that must be there: its keys were lost, or it is an empty copy. Restore it from the backup of the keys.",
            code="keys.lost",
        ) from error


def own_catalogue(store: str) -> None:
    """`Conflict` (`catalogue.foreign`) when the catalogue names another store than `store`."""
    row = queries.municipality()
    if row is not None and row.store_id != store:
        raise foreign_catalogue()


def goes_on(settings: Settings, store: str, journal: Journal) -> bool:
    """Has a rebuild been broken off that can go on where it was? What it made must be whole as far as it goes: of this store, of this version's
    tables, and folded from the journal as it is now; the digest of its last segment says so for all before it.
    """
    if not catalogue.unfinished(settings) or not catalogue.exists(settings):
        return False
    try:
        own_catalogue(store)
        require_same_history(journal)
        return catalogue.up_to_date()
    except (Conflict, NotFound, DatabaseError) as error:
        if isinstance(error, DaichoError) and not isinstance(error, Conflict | NotFound):
            raise  # a database that does not answer: nothing is known of it
        return False
    finally:
        queries.let_go()


def give_way(settings: Settings, store: str, journal: Journal) -> None:
    """Set the catalogue of this store aside, damaged or not.

    Raises:
        Conflict: one of another store stays (`catalogue.foreign`), and so does one that contradicts the journal, since it may be all that
            is left of it (as `require_same_history`).
    """
    if catalogue.exists(settings):
        try:
            own_catalogue(store)
            if not catalogue.unfinished(settings):  # else it is half made, and the one before it stood on this journal
                require_same_history(journal)
        except DaichoError:  # also a database that does not answer: nothing is known of it
            raise
        except DatabaseError:
            pass  # damaged or half made: the reason to rebuild
        queries.let_go()
    catalogue.set_aside(settings)


def foreign_catalogue() -> Conflict:
    """The database holds a catalogue that is not this installation's."""
    return Conflict(
        "このデータベースには、別の導入の目録があります。設定の [catalogue] を確かめ、空のデータベースを指定してください。",
        "This database holds the catalogue of another installation. Check [catalogue] in the settings and name an empty database.",
        code="catalogue.foreign",
    )


def _web_secret(settings: Settings) -> None:
    """Make the secret that signs sessions, where there is none or a power cut left an empty one; losing it signs everybody out."""
    place = settings.data / "web.secret"
    if place.is_file() and place.stat().st_size:
        return
    made = place.with_name(f"{place.name}.{secrets.token_hex(4)}")
    with writing():
        write_new(made, secrets.token_urlsafe(50).encode(), 0o600)
        made.replace(place)
