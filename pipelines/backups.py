"""Backups: the store followed by a copy, the keys copied apart; the way back; and a drill that tries it out.

What was done when lies in the data folder (`backups.json`), for `daicho info` and so that what could not be copied is tried again. Losing it
costs nothing but that: `back_up(full=True)` finds what a copy lacks.
"""

from __future__ import annotations

import multiprocessing
import random
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime
from itertools import groupby, takewhile
from pathlib import Path
from secrets import token_hex
from typing import Any

from access.decide import Actor, require_administrator
from core.clock import Clock, SystemClock, day_in_japan, stamp
from core.errors import BadInput, Busy, Conflict, DaichoError, NotReady
from core.settings import FolderSettings, S3Settings, Settings, load
from pipelines.noted import note, noted
from pipelines.progress import Progress
from pipelines.rebuild import Rebuilt, rebuild
from records import queries
from records.check import (
    Pins,
    Reading,
    Verified,
    catalogue_digest,
    link,
    pinned,
    read_journal,
    verify,
    verify_copy,
)
from records.content import content
from records.operation import catch_up, note_alone
from records.operation import opened as opened_segment
from records.stores import Stores
from storage.backup import Followed, Named, asking_disk, follow
from storage.canonical import sha256_hex
from storage.cipher import decrypt
from storage.durable import flush_folder, writing
from storage.keycopies import KeyCopy, copy_keys, destroy, foreign, restore_keys
from storage.mending import mend_journal, mend_object, mend_root
from storage.port import Finding, Journal, Pin
from storage.readonly import read_only
from wiring.engines import alone, create_store, open_places, open_store, side, store_id
from wiring.open import make_folders, open_installation, opened, write_settings
from wiring.setup import set_up_child

FILE = "backups.json"
RESTORING = "restoring"


@dataclass(frozen=True)
class BackupReport:
    """What a backup brought: `store` of objects and journal, `keys` of the key folder; `repaired` files of the copy (full runs)."""

    store_id: str
    store: Followed
    keys: KeyCopy
    repaired: int
    damaged: tuple[Finding, ...]


@dataclass(frozen=True)
class RestoreReport:
    """What a restore brought back: the store's id, and its objects and journal."""

    store_id: str
    store: Followed


def back_up(
    settings: Settings,
    target: Path,
    keys_target: Path | None,
    progress: Progress = lambda step, done, total: None,
    *,
    full: bool = False,
    clock: Clock | None = None,
) -> BackupReport:
    """Bring the copy of the store in `target` up to date, and make a generation of the keys in `keys_target` (else there too).

    Keys come first, then objects, then the journal, up to the segment that was the last one at the beginning: what the copied segments name is
    in the copy. The installation may go on meanwhile.

    Args:
        target: a folder, or a file whose `[store]` names a bucket.
        full: also read the whole copy, and put back from the store what is damaged or missing there.

    Raises:
        BadInput: (`backup.inside`) the target lies in the store; (`backup.keys_apart`) keys cannot go into a bucket.
        Conflict: (`backup.foreign`) the target holds another store; others as `storage.backup.follow`.
    """
    clock = clock or SystemClock()
    if isinstance(settings.store_engine, FolderSettings):
        raise read_only()  # copying keys takes a lock in their folder
    found, _ = opened(settings)
    copy = copy_of(settings, target)
    if isinstance(copy.store_engine, S3Settings):
        if keys_target is None:
            raise BadInput(
                "鍵はバケットに置けません（廃棄した鍵が残ります）。鍵の保存先のフォルダーを --keys-target で指定してください。",
                "Keys cannot go into a bucket, where a destroyed one would stay. Name a folder for them with --keys-target.",
                code="backup.keys_apart",
            )
        keys_place = keys_target
    else:
        keys_place = keys_target or target
    _apart(settings, copy, keys_place)
    source = open_store(settings)
    try:
        there = store_id(copy)
    except NotReady as error:
        if error.code != "store.missing":
            raise
        create_store(copy, found)
        there = found
        if copy.store_engine is None:
            with writing():
                flush_folder(copy.data.parent)
    if there != found:
        raise foreign()
    last = source.journal.last()
    keys = copy_keys(settings.keys, keys_place, clock.now(), settings.key_backup_days, full=full)
    repaired = _mend_frame(found, settings, copy) if full else 0
    known = _known(settings)
    ours = known["stores"].setdefault(place_name(copy), {"at": "", "owed": [], "segments": 0})
    owed = [Pin(*each) for each in ours["owed"]]

    def owe(pin: Pin) -> None:
        if pin not in owed:  # noted first: should the power fail, the copy would lack it for good
            ours["owed"].append([pin.object_id, pin.number, pin.digest])
            note(settings, FILE, known)

    done = follow(
        side(source),
        side(open_store(copy, copy=True)),
        named,
        owed,
        last,
        lambda now, total: progress("copy", now, total),
        _asking(copy),
        owe,
    )
    damaged: tuple[Finding, ...] = ()
    if full:
        mended, damaged = _compared(settings, copy, progress)
        repaired += mended
    ours["owed"] = [[pin.object_id, pin.number, pin.digest] for pin in done.owed]
    ours |= {"at": stamp(clock.now()), "segments": done.segments}
    known["keys"][str(keys_place.absolute())] = {"at": stamp(clock.now()), "until": stamp(keys.until)}
    note(settings, FILE, known)
    return BackupReport(found, done, keys, repaired, tuple(dict.fromkeys((*done.damaged, *damaged))))


def _mend_frame(store: str, settings: Settings, copy: Settings) -> int:
    """Put back what the copy's descriptions and journal lack, without which it does not open; how many files."""
    places, source = open_places(copy), open_places(settings)
    described = mend_root(store, places, lambda about: None)
    journal = mend_journal(places, source, lambda number: "", link, lambda about: None)
    return len(described.repaired) + len(journal.repaired)


def _compared(settings: Settings, copy: Settings, progress: Progress) -> tuple[int, tuple[Finding, ...]]:
    """Read the whole copy and put back from the store what is damaged or missing; how many files, and what is still wrong."""
    places, source = open_places(copy), open_places(settings)
    store = open_store(copy)
    found = verify_copy(store.journal, store.objects, lambda done, total: progress("verify", done, total))
    repaired, left = 0, list[Finding]()
    with closing(Pins()) as pins:
        read_journal(store.journal, pins, Verified())
        for object_id, findings in groupby(found.findings, key=lambda each: each.object_id):
            wanted = {pin.number: pin.digest for pin in pins.of(object_id)}
            if not wanted:
                left += findings
                continue
            repaired += len(mend_object(object_id, wanted, places, source, lambda about: None).repaired)
            left += store.objects.check(object_id, pins.of(object_id)).findings
    return repaired, tuple(each for each in left if each.code != "unacknowledged")


def restore(
    settings: Settings, source: Path, keys_source: Path | None, progress: Progress = lambda step, done, total: None
) -> tuple[RestoreReport, Rebuilt]:
    """Bring a backup back into empty folders, then make catalogue and index. Run again after a break, it goes on.

    What is being restored lies aside (`restoring`) until all of it was brought, so that a part of it is never taken for a store. What is damaged
    in the backup is told and left out: another copy may have it (`pipelines.verification.repair`).

    Args:
        source: a folder, or a file whose `[store]` names a bucket.

    Raises:
        BadInput: (`backup.keys_apart`) the source is a bucket, and nothing says where the keys are.
        Conflict: (`restore.not_empty`) the data folder or the key folder holds something.
        NotReady: (`backup.missing`, `backup.no_keys`) there is no store, or no copy of keys; (`storage.unsuitable`) no installation can live here.
        DigestMismatch: (`backup.damaged`) a file of the keys' copy is damaged or missing. KeysMissing: (`keys.foreign`) the keys are another store's.
    """
    begun = settings.data / RESTORING
    resumed = begun.is_dir()  # then what lies in the key folder is ours
    for folder, ours in ((settings.data, {RESTORING}), (settings.keys, set[str]())):
        lying = {path.name for path in folder.iterdir()} if folder.exists() else set()
        if lying - ours and not (resumed and folder == settings.keys):
            raise Conflict(
                "復元先のフォルダーが空ではありません。空のフォルダーを --data（鍵は --keys）で指定してください。",
                "A folder to restore into is not empty. Name an empty one with --data (keys: --keys).",
                code="restore.not_empty",
            )
    told = reading_of(settings, source)
    if keys_source is None and isinstance(told.store_engine, S3Settings):
        raise BadInput(
            "鍵の控えの場所を --keys-source で指定してください。バケットに鍵はありません。",
            "Name the place of the copy of the keys with --keys-source. There are none in a bucket.",
            code="backup.keys_apart",
        )
    try:
        copy = open_store(told)
    except NotReady as error:
        if error.code != "store.missing":
            raise
        raise NotReady(
            "ここには控えがありません。保存先を確かめるか、別の控えを使ってください。",
            "There is no backup here. Check the place, or use another backup.",
            code="backup.missing",
        ) from error
    if not resumed:
        make_folders(settings.data, settings.keys)
    with writing():
        begun.mkdir(parents=True, exist_ok=True)
    aside = replace(settings, data=begun, store_engine=None)
    try:
        store_id(aside)
    except NotReady as error:
        if error.code != "store.missing":
            raise
        create_store(aside, copy.id)
    done = follow(
        side(copy),
        side(open_store(aside)),
        named,
        progress=lambda now, total: progress("copy", now, total),
        uncache=_asking(aside),
    )
    if not (settings.keys / "store.json").exists():
        restore_keys(keys_source or source, settings.keys)
    opened(aside)  # the keys are those of this store
    with writing():
        aside.store.rename(settings.store)
        flush_folder(settings.data)
        begun.rmdir()
    write_settings(settings, settings.person)
    return RestoreReport(copy.id, done), rebuild(settings, progress)


@dataclass(frozen=True)
class Drilled:
    """What a drill found. `segment`: where the backup's journal ends; `lacking`: how many segments the installation has since.

    `digest`: of the restored catalogue, after the installation's own later segments were folded into it; `expected`: of the live one. `opened`:
    records opened of those drawn; `findings`: of a whole verification, and of the records that did not open. `seconds`: by step.
    """

    segment: int
    lacking: int
    objects: int
    digest: str
    expected: str
    opened: int
    findings: tuple[Finding, ...]
    seconds: Mapping[str, float]

    @property
    def passed(self) -> bool:
        return not self.findings and self.digest == self.expected


SAMPLE = 20
"""Records that a drill opens."""

_TRIES = 5


def drill(
    settings: Settings,
    stores: Stores,
    actor: Actor,
    source: Path,
    keys_source: Path | None,
) -> Drilled:
    """Try a backup out: restore it into a scratch folder, rebuild, verify, compare with the installation, open some records; then remove it all.

    Nothing of the installation changes but its journal, which says how it went. Errors as `restore`; those are journalled too.
    """
    require_administrator(actor)
    running = Busy(
        "復元訓練は、もう始まっています。終わるのを待ってください。",
        "A drill is under way already. Wait until it has ended.",
        code="drill.running",
    )
    with alone(settings.data / "drill.lock", running):
        return _drilled(settings, stores, actor, source, keys_source)


def _drilled(settings: Settings, stores: Stores, actor: Actor, source: Path, keys_source: Path | None) -> Drilled:
    for left in settings.scratch.glob("drill-*"):  # of a drill that was killed: there are keys in it
        _remove(left)
    upto, expected = _settled(stores)
    folder = settings.scratch / f"drill-{token_hex(8)}"
    journey = _Journey(
        settings,
        replace(
            settings,
            data=folder / "data",
            keys=folder / "keys",
            store_engine=None,
            catalogue_engine=None,
            index_engine=None,
        ),
        source.absolute(),
        keys_source.absolute() if keys_source else None,
        upto,
    )
    outcome: dict[str, Any] = {"passed": False}
    try:
        with writing():
            folder.mkdir(parents=True, mode=0o700)
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=spawn, initializer=set_up_child, initargs=(journey.target,)) as pool:
            told = pool.submit(_try_out, journey).result()
        done = replace(told, expected=expected)
        outcome = {"passed": done.passed, "segment": done.segment, "findings": len(done.findings)}
        return done
    except DaichoError as error:
        outcome["error"] = error.code
        raise
    finally:
        _remove(folder)
        note_alone(stores, actor, "drill", data=outcome)


def _settled(stores: Stores) -> tuple[int, str]:
    """The number of the last segment folded, and the digest of the catalogue that it made."""
    for _ in range(_TRIES):
        before = queries.last_segment().number
        digest = catalogue_digest()
        if queries.last_segment().number == before:
            return before, digest
    raise Busy(
        "ほかの人の操作が続いていて、目録を比べられません。利用の少ない時間に、もう一度実行してください。",
        "Others keep writing, so that the catalogue cannot be compared. Run it again at a quieter time.",
        code="drill.busy",
    )


@dataclass(frozen=True)
class _Journey:
    """What the process that tries a backup out is told. `live`: the installation; `upto`: the segment up to which it is compared."""

    live: Settings
    target: Settings
    source: Path
    keys_source: Path | None
    upto: int


def _try_out(journey: _Journey) -> Drilled:
    """In a process of its own, since one serves one installation."""
    seconds: dict[str, float] = {}

    @contextmanager
    def timed(step: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        seconds[step] = round(time.perf_counter() - begun, 2)

    with timed("restore"):
        report, _ = restore(journey.target, journey.source, journey.keys_source)
    stores = open_installation(journey.target, held=True, index=False)
    with timed("verify"):
        verified = verify(stores, reading=Reading(jobs=journey.target.jobs))
    findings = list(verified.findings)
    segment = report.store.segments
    with timed("open"):
        drawn = _drawn()
        unread = [finding for finding in (_unopened(stores, each) for each in drawn) if finding]
    with timed("compare"):
        _, keys = opened(journey.live)
        later = _Upto(open_store(journey.live).journal, journey.upto)
        with queries.exclusive():
            catch_up(replace(stores, journal=later, keys=keys))
        digest = catalogue_digest()
    return Drilled(
        segment,
        journey.upto - segment,
        verified.objects,
        digest,
        "",
        len(drawn) - len(unread),
        (*findings, *unread),
        seconds,
    )


@dataclass(frozen=True)
class _Upto(Journal):
    """A journal as far as one of its segments, for reading."""

    inner: Journal
    end: int

    def append(self, number: int, segment: bytes) -> None:
        raise read_only()

    def last(self) -> int:
        return min(self.inner.last(), self.end)

    def read(self, number: int) -> bytes:
        return self.inner.read(number)

    def segments(self, first: int = 1) -> Iterator[tuple[int, bytes]]:
        return takewhile(lambda each: each[0] <= self.end, self.inner.segments(first))


def _drawn() -> list[Pin]:
    """The newest version of some records, each as likely as any other."""
    chance = random.SystemRandom()
    drawn: list[Pin] = []
    records = (
        Pin(*list(rows)[-1]) for name, rows in groupby(queries.pins(), key=lambda row: row[0]) if name[:2] == "r-"
    )
    for number, pin in enumerate(records):
        if number < SAMPLE:
            drawn.append(pin)
        elif (place := chance.randrange(number + 1)) < SAMPLE:
            drawn[place] = pin
    return drawn


def _unopened(stores: Stores, pin: Pin) -> Finding | None:
    """What keeps this version of a record from being opened; None when its JSON and every page under its key are those that were scanned."""
    try:
        body = content(stores, pin.object_id, pin.number, pin.digest).body
        key = stores.keys.get(pin.object_id).secret
        for page in body["pages"]:
            if "under" in page:
                continue  # of an item's own key, which may have been destroyed
            if sha256_hex(decrypt(stores.objects.read(pin, page["path"]), key)) != page["digest"]:
                return Finding(pin.object_id, page["path"], "damaged", "does not open to what was scanned")
    except DaichoError as error:
        return Finding(pin.object_id, "", error.code, error.en)
    return None


def _remove(folder: Path) -> None:
    """Remove what a drill made; keys are overwritten."""
    if (folder / "keys").is_dir():
        destroy(folder / "keys")
    shutil.rmtree(folder, ignore_errors=True)


def named(number: int, segment: bytes, previous: str) -> Named:
    """What a segment names, for `storage.backup.follow`."""
    entries = opened_segment(number, segment, previous)
    pins = tuple(pin for pin in map(pinned, entries) if pin)
    pictured = (
        entry["record"]
        for entry in entries
        if entry["record"] and ("pin" in entry["data"] or entry["event"] == "pages_read")
    )
    return Named(pins, tuple(pictured))


def copy_of(settings: Settings, place: Path) -> Settings:
    """The settings with the store at `place` instead: in the folder `store` of it, or in the bucket that the file `place` names."""
    if not place.is_file():
        return replace(settings, data=place.absolute(), store_engine=None)
    told = load(settings.data, settings.keys, environment={}, engines=place)
    if not isinstance(told.store_engine, S3Settings):
        raise BadInput(
            f'ファイル {place} に [store] の表（engine = "s3"）がありません。フォルダーか、バケットを書いたファイルを指定してください。',
            f'The file {place} has no table [store] with engine = "s3". Give a folder, or a file that names a bucket.',
            code="backup.no_store",
        )
    return replace(settings, store_engine=told.store_engine)


def reading_of(settings: Settings, place: Path) -> Settings:
    """As `copy_of`, for a copy that is only read: a backup, or the folder of a store itself."""
    told = copy_of(settings, place)
    if told.store_engine is not None:
        return told
    inner = place.absolute() / "store"
    return replace(settings, store_engine=FolderSettings(str(inner if inner.is_dir() else place.absolute())))


def keys_until(settings: Settings) -> date | None:
    """The day in Japan on which the last copy of a key destroyed now may go, with the backup run behind it; None where there is no copy."""
    moments = [datetime.fromisoformat(each["until"]) for each in _known(settings)["keys"].values()]
    return day_in_japan(max(moments)) if moments else None


def last_backup(settings: Settings) -> dict[str, Any] | None:
    """When the newest backup of the store was made (`at`), up to which segment, and how many versions it lacks (`owed`); None without one."""
    done = sorted(_known(settings)["stores"].values(), key=lambda each: each["at"])
    return {**done[-1], "owed": len(done[-1]["owed"])} if done else None


def _asking(copy: Settings) -> Callable[[str], None]:
    return asking_disk(copy.store) if copy.store_engine is None else lambda object_id: None


def place_name(settings: Settings) -> str:
    """Where the store lies: a folder, or address and bucket."""
    match settings.store_engine:
        case S3Settings(endpoint=endpoint, bucket=bucket):
            return f"{endpoint}/{bucket}"
        case FolderSettings(path=path):
            return str(Path(path).resolve())
        case None:
            return str(settings.store.resolve())


def _apart(settings: Settings, copy: Settings, keys_place: Path) -> None:
    folders = [keys_place.resolve()]
    if copy.store_engine is None:
        folders.append(copy.store.resolve())
    ours = [settings.keys.resolve(), settings.store.resolve()]
    if place_name(copy) == place_name(settings) or any(
        each.is_relative_to(other) for each in folders for other in ours
    ):
        raise BadInput(
            "控えの保存先が保管庫の中にあります。別のディスクを指定してください。",
            "The target of the backup lies inside the store. Give another disk.",
            code="backup.inside",
        )


def _known(settings: Settings) -> dict[str, dict[str, Any]]:
    return {"stores": {}, "keys": {}, **noted(settings, FILE)}
