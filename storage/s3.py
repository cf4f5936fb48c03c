"""The store in a bucket with Object Lock: the same places as on a filesystem (`storage/places.py`), so that what is
downloaded is an OCFL 1.1 storage root and a journal.

    store.json        format number and store id
    objects/          the OCFL storage root
    journal/0000/     segments 000001.json …
    probe/            what `worm` tries its hand on; removed when its lock has ended
    <bucket>-derived  a second bucket, not locked: derived/ab/cd/, archives that can be made again

Who may write into a bucket can put new bytes, or a delete marker, over any name; the lock keeps the old bytes under
their version ids. So a name proves nothing here: bytes with a known digest are looked for among all versions of their
name, and where no digest is known the first version counts, since nothing can come before it.

A version of an object is complete when its `vN/inventory.json` is there, put last and only where nothing lies.
How the server is spoken to stays in `storage/bucket.py`; nothing is tried twice (`storage/retrying.py` does).
"""

from __future__ import annotations

import functools
import io
import itertools
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import BinaryIO, TypeVar

from core.clock import Clock, SystemClock, stamp
from core.errors import DaichoError, NotReady, Unreachable
from core.settings import S3Settings
from storage import fixity
from storage.bucket import Answered, Bucket, Fetched, Kept, Lock, unreachable
from storage.canonical import sha512_hex
from storage.inventory import (
    NAME,
    OBJECT_DECLARATION,
    SIDECAR,
    Inventory,
    built,
    content_path,
    groups,
    missing,
    parsed,
    sidecar,
    unbuilt,
)
from storage.places import (
    LAYOUT_WORDS,
    ROOT_FILES,
    ROOT_PLACES,
    STORE_PLACE,
    belongs,
    derivative_at,
    derivative_name,
    derivative_place,
    described,
    description,
    is_root_copy,
    object_at,
    object_place,
    segment_at,
    segment_place,
    version_at,
)
from storage.port import Checked, Content, Finding, NewVersion, Pacer, Pin, every, unhurried
from storage.refusals import conflict, damaged, gap, store_exists
from storage.streams import LARGE, Digesting, Proved, Stored, buffered, size_of

THREADS = 8  # requests at a time; more gained nothing on two cores (facts: 47, 49, 51 records/s at 4, 8, 16)
_PARTS = 10_000  # of one upload at most, for every server
_AHEAD = 64  # segments fetched at once while the journal is read through
_AT_ONCE = 1000  # files whose locks are extended before more are listed
_REMEMBERED = 10_000  # files that somebody overlaid, whose version is known; and inventories
_PROBE = "probe/"
_PROBE_LOCK = timedelta(seconds=60)

T = TypeVar("T")


def create_s3_store(where: S3Settings, store_id: str) -> None:
    """Lay out an empty store in `where.bucket`, making it and `where.derived` when absent; durable on return.

    `store.json` comes last, so that a store cut short while it was laid out can simply be created again.

    Raises:
        Conflict: (`store.exists`) there is another store, or something that may be what is left of one.
        NotReady: (`store.unsuitable`) the bucket has no versions or no Object Lock, or the server overwrites what must
            be put once. `store.credentials` and others as everywhere.
    """
    bucket = Bucket(where, where.bucket)
    if not bucket.exists():
        bucket.make(locks=True)
    _suit(bucket)
    for kept in bucket.versions(""):
        ours = kept.key in (*ROOT_PLACES, STORE_PLACE) or kept.key.startswith(_PROBE)
        if not ours or (kept.key == STORE_PLACE and _first(bucket, STORE_PLACE) != description(store_id)):
            raise store_exists()
    if not _puts_once(bucket):
        raise _unsuited("If-None-Match")
    derived = Bucket(where, where.derived)
    if not derived.exists():
        derived.make(locks=False)
    lock = _lock(where, SystemClock())
    for place, data in (*ROOT_FILES.items(), (STORE_PLACE, description(store_id))):
        if bucket.put(place, data, lock, once=True) is None and _first(bucket, place) != data:
            raise store_exists()


def open_s3_store(where: S3Settings) -> str:
    """The id of the store in `where.bucket`; errors as `places.described`, and `NotReady` (`store.unsuitable`) when the
    bucket has no versions or no Object Lock.
    """
    bucket = Bucket(where, where.bucket)
    _suit(bucket)
    return described(_first(bucket, STORE_PLACE))


def _suit(bucket: Bucket) -> None:
    if lacking := bucket.lacking():
        raise _unsuited(lacking)


def _unsuited(lacking: str) -> NotReady:
    return NotReady(
        f"このバケットには {lacking} がありません。Object Lock を有効にした新しいバケットを使ってください。",
        f"This bucket lacks {lacking}. Use a new bucket with Object Lock switched on.",
        code="store.unsuitable",
    )


def _first(bucket: Bucket, place: str) -> bytes | None:
    """The bytes that were put under `place` before all others; None when nothing ever was."""
    versions = bucket.of_key(place)
    fetched = bucket.get(place, versions[-1].version) if versions else None
    return fetched.data if fetched else None


def _puts_once(bucket: Bucket) -> bool:
    """Whether the server keeps to `If-None-Match: *`, on which the journal rests."""
    place = f"{_PROBE}once-{secrets.token_hex(8)}"
    versions = [bucket.put(place, data, once=True) for data in (b"first", b"second")]
    for version in filter(None, versions):
        bucket.lets_delete(place, version)
    return versions[0] is not None and versions[1] is None


def _lock(where: S3Settings, clock: Clock) -> Lock:
    return Lock(where.lock_mode, clock.now() + timedelta(days=where.lock_days))


class _Threads:
    """Threads for requests that need not wait for each other; a forked child starts its own."""

    def __init__(self) -> None:
        self._mine: tuple[int, ThreadPoolExecutor] | None = None
        self._making = threading.Lock()

    def all(self, work: Iterable[Callable[[], T]]) -> list[T]:
        """Do all of `work` and give the answers in order. The first failure is raised when nothing is under way any more;
        what had not begun is left.
        """
        futures: list[Future[T]] = [self._pool.submit(each) for each in work]
        waiting = wait(futures, return_when=FIRST_EXCEPTION).not_done
        for each in waiting:
            each.cancel()
        wait(waiting)
        for each in futures:
            if not each.cancelled() and (error := each.exception()):
                raise error
        return [each.result() for each in futures]

    @property
    def _pool(self) -> ThreadPoolExecutor:
        with self._making:
            if self._mine is None or self._mine[0] != os.getpid():
                self._mine = (os.getpid(), ThreadPoolExecutor(THREADS, "s3"))
            return self._mine[1]


@dataclass(frozen=True)
class _Prepared:
    """A version to be put. `files`: path within the object -> bytes, all but the inventories and what is large and was
    put already. `sealed`: it is there already; `newest`: no later one is. `asked`: the server was asked for these two;
    else they are supposed.
    """

    version: NewVersion
    pin: Pin
    home: str
    inventory: bytes
    files: dict[str, bytes]
    sealed: bool
    newest: bool
    asked: bool


class S3Objects:
    """`ObjectStore` and `Locks` in a bucket with Object Lock.

    Args:
        where: the bucket, laid out by `create_s3_store`.
        clock: what the end of locks is counted from.
    """

    def __init__(self, where: S3Settings, *, clock: Clock | None = None) -> None:
        self._where = where
        self._clock = clock or SystemClock()
        self._bucket = Bucket(where, where.bucket)
        self._threads = _Threads()
        self._pinned = functools.lru_cache(maxsize=512)(self._read_pinned)
        self._acknowledged: dict[tuple[str, int], Inventory] = {}  # (object, number) -> what was read under a pin
        self._overlaid: dict[tuple[str, str], str] = {}  # (place, SHA-512) -> version, where the newest is not it
        self._probing = threading.Lock()
        self._probed: tuple[datetime, str] | None = None

    # Writing

    def seal(self, versions: Sequence[NewVersion]) -> list[Pin]:
        return [pin for group in groups(versions) for pin in self._seal_group(group)]

    def _seal_group(self, versions: Sequence[NewVersion]) -> list[Pin]:
        lock = _lock(self._where, self._clock)
        prepared = self._threads.all([functools.partial(self._prepare, version, lock) for version in versions])
        prepared = self._settled(prepared, lock)
        new = [each for each in prepared if not each.sealed]
        # The inventory makes a version: not before the server has acknowledged all that it names.
        self._threads.all(
            [
                functools.partial(self._bucket.put, f"{each.home}/{path}", data, lock)
                for each in new
                for path, data in each.files.items()
            ]
        )
        self._threads.all([functools.partial(self._complete, each, lock) for each in new])
        self._threads.all(
            [
                functools.partial(self._copy_to_root, each, path, data)
                for each in prepared
                if each.newest
                for path, data in ((NAME, each.inventory), (SIDECAR, sidecar(each.inventory)))
            ]
        )
        return [each.pin for each in prepared]

    def _settled(self, prepared: list[_Prepared], lock: Lock) -> list[_Prepared]:
        """The same, supposed no longer: a version is new where its sidecar could be put; for the others the server is asked. The
        sidecar comes before all other files, since every version has one: nothing of ours may come to lie in another's.
        """
        supposed = [each for each in prepared if not each.asked]
        put = self._threads.all([functools.partial(self._put_sidecar, each, lock) for each in supposed])
        taken = [each.version for each, fresh in zip(supposed, put, strict=True) if not fresh]
        asked = self._threads.all([functools.partial(self._prepare, version, lock, ask=True) for version in taken])
        known = {each.version.object_id: each for each in asked}
        return [known.get(each.version.object_id, each) for each in prepared]

    def _put_sidecar(self, each: _Prepared, lock: Lock) -> bool:
        place = f"v{each.pin.number}/{SIDECAR}"
        return self._bucket.put(f"{each.home}/{place}", each.files.pop(place), lock, once=True) is not None

    def _prepare(self, version: NewVersion, lock: Lock, *, ask: bool = False) -> _Prepared:
        """`ask`: what there is of the object, rather than suppose that it ends before this version. Whoever seals a first version,
        or one on a version that was just read, is mostly right in that, and a listing takes longer than all that is put.
        """
        home, number = object_place(version.object_id), version.number
        previous = self._acknowledged.get((version.object_id, number - 1))
        ask = ask or any(size_of(content) > LARGE for content in version.files.values())
        ask = ask or (number > 1 and previous is None)
        head = _head(self._listed(home)) if ask else number - 1
        if number > head + 1:
            raise conflict("number")
        if ask:
            previous = self._version(home, number - 1) if number > 1 else None
        files, digests = dict[str, bytes](), dict[str, str]()
        for path, content in version.files.items():
            place = content_path(number, path)
            # A piece of a large file is a part of its upload; small files are single parts of none.
            read = Digesting(content, max(LARGE, -(-size_of(content) // _PARTS)))
            if size_of(content) <= LARGE:
                files[place] = b"".join(read)
            elif number <= head:
                for _ in read:
                    pass
            else:
                self._bucket.put_parts(f"{home}/{place}", read, lock)
            digests[path] = read.digest
        data = built(version, previous, digests)
        files[f"v{number}/{SIDECAR}"] = sidecar(data)
        if number == 1:
            files[OBJECT_DECLARATION[0]] = OBJECT_DECLARATION[1]
        if number <= head and _first(self._bucket, f"{home}/v{number}/{NAME}") != data:
            raise conflict("bytes")
        pin = Pin(version.object_id, number, sha512_hex(data))
        return _Prepared(version, pin, home, data, files, number <= head, number >= head, ask)

    def _complete(self, each: _Prepared, lock: Lock) -> None:
        place = f"{each.home}/v{each.pin.number}/{NAME}"
        if (
            self._bucket.put(place, each.inventory, lock, once=True) is None
            and _first(self._bucket, place) != each.inventory
        ):
            raise conflict("bytes")  # another writer was first

    def _copy_to_root(self, each: _Prepared, path: str, data: bytes) -> None:
        """A convenience for other programs, and so not locked."""
        place = f"{each.home}/{path}"
        if each.sealed:
            there = self._bucket.get(place)
            if there is not None and there.data == data:
                return
        self._bucket.put(place, data)

    # Reading

    def head(self, object_id: str) -> int:
        return _head(self._listed(object_place(object_id)))

    def read(self, pin: Pin, path: str) -> bytes:
        content, digest = self._pinned(pin.object_id, pin.number, pin.digest).content(path)
        data = self._found(f"{object_place(pin.object_id)}/{content}", digest)
        if data is None:
            raise damaged("file.missing")
        return data

    def open(self, pin: Pin, path: str) -> BinaryIO:
        return self._opened(pin, path)[1]

    def _opened(self, pin: Pin, path: str) -> tuple[int, BinaryIO]:
        """(length, stream as `open` gives it)"""
        content, digest = self._pinned(pin.object_id, pin.number, pin.digest).content(path)
        place = f"{object_place(pin.object_id)}/{content}"
        known = self._overlaid.get((place, digest), "")
        newest = self._bucket.open(place, known)
        if newest is not None and newest.size <= LARGE:
            with newest.stream as stream:
                data = stream.read(newest.size)
            if sha512_hex(data) == digest:
                return len(data), io.BytesIO(data)
            newest = None
        versions = self._bucket.of_key(place)
        if newest is not None and (known or len(versions) == 1):
            return newest.size, buffered(Proved(newest.stream, digest))
        if newest is not None:
            newest.stream.close()
        # Something was put over it: which version is ours has to be known before the first byte is given.
        for kept in versions:
            measured = self._bucket.measure(place, kept.version)
            if measured is not None and measured.digest == digest and (ours := self._bucket.open(place, kept.version)):
                self._remember(place, digest, kept.version)
                return ours.size, buffered(Proved(ours.stream, digest))
        raise damaged("digest.mismatch" if versions else "file.missing")

    def paths(self, pin: Pin) -> dict[str, str]:
        return dict(self._pinned(pin.object_id, pin.number, pin.digest).state)

    def pin(self, object_id: str, number: int) -> Pin:
        data = _first(self._bucket, f"{object_place(object_id)}/v{number}/{NAME}")
        if data is None:
            raise missing("version")
        return Pin(object_id, number, sha512_hex(data))

    def exported(self, pin: Pin) -> NewVersion:
        def read(path: str) -> Content:
            size, stream = self._opened(pin, path)
            with stream:
                return Stored(self, pin, path, size) if size > LARGE else stream.read()

        return unbuilt(self._pinned(pin.object_id, pin.number, pin.digest), read)

    def objects(self) -> Iterator[str]:
        last = ""
        for kept in self._bucket.versions("objects/"):
            at = object_at(kept.key)
            if at and not kept.marker and at[0] != last and _inventory_number(at[1]):
                last = at[0]
                yield last

    def _found(self, place: str, digest: str) -> bytes | None:
        """The bytes with this SHA-512 under `place`, whatever was put over them; None where nothing ever lay.
        `DigestMismatch` when none of its versions has it.
        """
        known = self._overlaid.get((place, digest), "")
        newest = self._bucket.get(place, known)
        if newest is not None and sha512_hex(newest.data) == digest:
            return newest.data
        versions = self._bucket.of_key(place)
        for kept in versions:
            if newest is not None and kept.version == newest.version:
                continue
            older = self._bucket.get(place, kept.version)
            if older is not None and sha512_hex(older.data) == digest:
                self._remember(place, digest, kept.version)
                return older.data
        if versions:
            raise damaged("digest.mismatch")
        return None

    def _remember(self, place: str, digest: str, version: str) -> None:
        if len(self._overlaid) >= _REMEMBERED:
            self._overlaid.clear()
        self._overlaid[place, digest] = version

    def _listed(self, home: str) -> dict[str, list[Kept]]:
        """Path within the object -> all that is kept under it, newest first."""
        listed: dict[str, list[Kept]] = {}
        for kept in self._bucket.versions(f"{home}/"):
            listed.setdefault(kept.key.removeprefix(f"{home}/"), []).append(kept)
        return listed

    def _version(self, home: str, number: int) -> Inventory:
        """The inventory of version `number`, against its own sidecar only; `DigestMismatch`."""
        data = _first(self._bucket, f"{home}/v{number}/{NAME}")
        if data is None or self._found(f"{home}/v{number}/{SIDECAR}", sha512_hex(sidecar(data))) is None:
            raise damaged("file.missing")
        return _inventory(data)

    def _read_pinned(self, object_id: str, number: int, digest: str) -> Inventory:
        data = self._found(f"{object_place(object_id)}/v{number}/{NAME}", digest)
        if data is None:
            raise missing("version")
        inventory = _inventory(data)
        if len(self._acknowledged) >= _REMEMBERED:
            self._acknowledged.clear()
        self._acknowledged[object_id, number] = inventory
        return inventory

    # Checking

    def check(self, object_id: str, pins: Sequence[Pin] = (), pace: Pacer = unhurried) -> Checked:
        checked = Checked(object_id)
        listed = self._listed(object_place(object_id))
        numbers = _numbers(listed)
        if numbers:
            pinned = {pin.number: pin.digest for pin in pins}
            _Check(self._bucket, self._threads, self._clock.now(), checked, listed, pinned, pace).run(numbers)
        else:
            checked.findings.append(Finding(object_id, "", "missing", "no complete version of this object"))
        return checked

    def strays(self) -> list[Finding]:
        """What lies in the bucket and belongs to nobody. `object_id` is empty, `path` within the store.

        Also segments and the store's description where something was put over them (`overlaid`, `hidden`), and objects
        of which no version was ever completed (`unacknowledged`).
        """
        strays = [
            Finding("", place, "damaged", "not as the store was laid out")
            for place, data in ROOT_FILES.items()
            if _first(self._bucket, place) != data
        ]
        fixed = {*ROOT_PLACES, STORE_PLACE}
        begun: dict[str, bool] = {}
        for place, group in itertools.groupby(self._bucket.versions(""), key=lambda kept: kept.key):
            entries = list(group)
            kept = [each for each in entries if not each.marker]
            at = object_at(place)
            if at and belongs(at[1]):
                if kept:
                    begun[at[0]] = begun.get(at[0], False) or _inventory_number(at[1]) > 0
            elif place in fixed or segment_at(place):
                newest = next((each for each in entries if each.latest), entries[0])
                if newest.marker:
                    strays.append(Finding("", place, "hidden", _HIDDEN))
                elif newest.version != kept[-1].version:
                    strays.append(Finding("", place, "overlaid", _OVERLAID))
            elif kept and not place.startswith(_PROBE):
                strays.append(Finding("", place, "stray", "not part of the store"))
        strays += [
            Finding(object_id, "", "unacknowledged", "begun, but no version of this object was ever completed")
            for object_id, complete in begun.items()
            if not complete
        ]
        return strays

    # Locks

    def extend(self, object_id: str, until: str) -> int:
        return self._extend(self._sealed(object_id), until)

    def extend_rest(self, until: str, due: Callable[[int], bool] = every) -> int:
        return self._extend(self._rest(due), until)

    def ends(self, object_id: str) -> str:
        return self._ends(self._sealed(object_id))

    def rest_ends(self, due: Callable[[int], bool] = every) -> str:
        return self._ends(self._rest(due))

    def hold(self, object_id: str) -> None:
        self._hold(object_id, on=True)

    def release(self, object_id: str) -> None:
        self._hold(object_id, on=False)

    def _sealed(self, object_id: str) -> list[Kept]:
        """Every version of every sealed file: which of them are ours is not asked, more locks do no harm."""
        listed = self._listed(object_place(object_id))
        if not _numbers(listed):
            raise missing("object")
        return [
            kept
            for path, entries in listed.items()
            if belongs(path) and not is_root_copy(path)
            for kept in entries
            if not kept.marker
        ]

    def _rest(self, due: Callable[[int], bool]) -> Iterator[Kept]:
        """Every version of the files that lay the store out, and of the segments chosen."""
        for place in (STORE_PLACE, *ROOT_PLACES):
            yield from self._bucket.of_key(place)
        for kept in self._bucket.versions("journal/"):
            number = segment_at(kept.key)
            if number and due(number) and not kept.marker:
                yield kept

    def _ends(self, files: Iterable[Kept]) -> str:
        soonest, waiting = datetime.max.replace(tzinfo=UTC), iter(files)
        while group := list(itertools.islice(waiting, _AT_ONCE)):
            for end in self._threads.all([functools.partial(self._end, kept) for kept in group]):
                if end is None:
                    return ""
                soonest = min(soonest, end)
        return stamp(soonest)

    def _end(self, kept: Kept) -> datetime | None:
        lock = self._bucket.lock_of(kept.key, kept.version)
        if lock is None or lock.until <= self._clock.now():
            return datetime.max.replace(tzinfo=UTC) if self._bucket.held(kept.key, kept.version) else None
        return lock.until

    def _extend(self, files: Iterable[Kept], until: str) -> int:
        end = datetime.fromisoformat(until)
        end = (end if end.tzinfo else end.replace(tzinfo=UTC)) + timedelta(microseconds=999_999)
        end = end.replace(microsecond=0)  # servers know whole seconds: the next one
        extended, waiting = 0, iter(files)
        while group := list(itertools.islice(waiting, _AT_ONCE)):
            extended += sum(self._threads.all([functools.partial(self._lengthen, kept, end) for kept in group]))
        return extended

    def _lengthen(self, kept: Kept, end: datetime) -> bool:
        present = self._bucket.lock_of(kept.key, kept.version)
        if present and present.until >= end:
            return False
        mode = present.mode if present and present.until > self._clock.now() else self._where.lock_mode
        self._bucket.lock(kept.key, kept.version, Lock(mode, end))
        return True

    def _hold(self, object_id: str, *, on: bool) -> None:
        files = self._sealed(object_id)
        self._threads.all([functools.partial(self._bucket.hold, kept.key, kept.version, on=on) for kept in files])

    # What it resists

    def worm(self) -> bool:
        return self._objection() == ""

    def describe(self) -> dict[str, str]:
        mode, days = self._where.lock_mode, self._where.lock_days
        try:
            objection = self._objection()
        except DaichoError as error:
            worm = f"unknown: {error.en}"
        else:
            worm = f"no: {objection}" if objection else "yes: a probe could not delete, shorten or weaken a lock"
        return {
            "engine": "s3",
            "server": self._bucket.server,
            "layout": LAYOUT_WORDS,
            "worm": f"{worm}; {mode} for {days} days from sealing, extended after that",
            "probed": stamp(self._probed[0]) if self._probed else "",
        }

    def _objection(self) -> str:
        """Why this bucket is no WORM store, "" when it is one: asked of the server once a day."""
        with self._probing:
            now = self._clock.now()
            if self._probed is None or now - self._probed[0] >= timedelta(days=1):
                self._probed = (now, _probed(self._bucket, self._where.lock_mode, now))
            return self._probed[1]


def _probed(bucket: Bucket, mode: str, now: datetime) -> str:
    """Try to break a lock of our own; what speaks against the bucket, "" when all is refused and the bytes are there."""
    begun = time.monotonic()
    for kept in list(bucket.versions(_PROBE)):
        bucket.lets_delete(kept.key, kept.version)  # refused while another process is at it
    if lacking := bucket.lacking():
        return f"the bucket lacks {lacking}"
    # Refusals prove nothing of a lock when the account may do nothing anyway.
    free = f"{_PROBE}{secrets.token_hex(8)}"
    version = bucket.put(free, b"free") or ""
    if bucket.lock_of(free, version):
        return "the bucket locks by default whatever is put, so that nothing can be compared with a lock of ours"
    if not bucket.lets_delete(free, version) or bucket.get(free, version):
        return f"the account may not delete what is not locked under {_PROBE}, so that refusals prove nothing"
    place, data = f"{_PROBE}{secrets.token_hex(8)}", secrets.token_bytes(16)
    end = now.replace(microsecond=0) + _PROBE_LOCK
    version = bucket.put(place, data, Lock(mode, end)) or ""
    lock = Lock(mode, end + timedelta(seconds=1))
    if bucket.lock_of(place, version) != Lock(mode, end):
        return "the server does not put the lock that is asked for"
    if not bucket.lets_lock(place, version, lock):
        return "locks cannot be extended"
    attempts: list[tuple[str, Callable[[bool], bool]]] = [
        ("shorten", lambda bypass: bucket.lets_lock(place, version, Lock(mode, end - _PROBE_LOCK / 2), bypass=bypass)),
        ("clear", lambda bypass: bucket.lets_lock(place, version, None, bypass=bypass)),
        ("delete", lambda bypass: bucket.lets_delete(place, version, bypass=bypass)),
    ]
    if mode == "COMPLIANCE":
        weaker = Lock("GOVERNANCE", lock.until)
        attempts.insert(0, ("weaken", lambda bypass: bucket.lets_lock(place, version, weaker, bypass=bypass)))
    broken = [name for name, attempt in attempts if attempt(False) or attempt(True)]
    there = bucket.get(place, version)
    whole = there is not None and there.data == data and bucket.lock_of(place, version) == lock
    if time.monotonic() - begun > _PROBE_LOCK.total_seconds() / 3:
        raise unreachable()  # the lock may have ended by itself
    if broken:
        return f"the server lets this account {', '.join(broken)} what is locked"
    return "" if whole else "the server refuses to touch what is locked, and yet it changed"


@dataclass
class _Check:
    """One run of `check`: what is kept of the object, and which version of each file was found to be the sealed one."""

    bucket: Bucket
    threads: _Threads
    now: datetime
    checked: Checked
    listed: dict[str, list[Kept]]
    pinned: dict[int, str]
    pace: Pacer = unhurried
    sound: dict[str, Answered] = field(default_factory=dict)
    fetched: dict[tuple[str, str], Fetched | None] = field(default_factory=dict)

    def run(self, numbers: list[int]) -> None:
        # Together what is small, then together what is large: most of the time goes by between question and answer.
        small = [self._kept(path)[:1] for path in self.listed if path.endswith((NAME, SIDECAR, OBJECT_DECLARATION[0]))]
        self.threads.all([functools.partial(self._fetch, kept) for [kept] in filter(None, small)])
        told = fixity.history(self.checked.object_id, numbers, self.pinned, self._read, self._report)
        paths = sorted(told.contents)
        measured = self.threads.all([functools.partial(self._measure, path, told.contents[path]) for path in paths])
        for path, (read, size) in zip(paths, measured, strict=True):
            self._weigh(path, read, size)
        fixity.root(numbers[-1], self._read, self._report)
        for path in sorted(self.sound):
            self._guarded(path)
        begun = f"v{numbers[-1] + 1}/"
        if any(path.startswith(begun) and self._kept(path) for path in self.listed):
            self._report(begun.rstrip("/"), "unacknowledged", "the version was begun and never completed")
        for path in sorted(self.listed):
            known = path in told.expected or path in told.contents or path.startswith((begun, *told.unknown))
            if not known and self._kept(path):
                self._report(path, "extra", "not part of the object")

    def _report(self, path: str, code: str, detail: str) -> None:
        self.checked.findings.append(Finding(self.checked.object_id, path, code, detail))

    def _kept(self, path: str) -> list[Kept]:
        return [kept for kept in self.listed.get(path, ()) if not kept.marker]

    def _newest(self, path: str) -> Kept | None:
        """What who asks by name gets: a version, or a marker."""
        return next((kept for kept in self.listed.get(path, ()) if kept.latest), None)

    def _fetch(self, kept: Kept) -> Fetched | None:
        name = kept.key, kept.version
        if name not in self.fetched:
            self.fetched[name] = self._had(functools.partial(self.bucket.get, *name))
        return self.fetched[name]

    def _had(self, ask: Callable[[], T | None]) -> T | None:
        """The answer; None, too, where the server cannot give this one file while it answers otherwise: a bad disk
        behind it looks like one that is busy.
        """
        try:
            return ask()
        except Unreachable:
            self.bucket.exists()  # raises where nothing is answered
        try:
            return ask()
        except Unreachable:
            return None

    def _read(self, path: str, digest: str | None) -> bytes | None:
        """For `fixity`: the bytes with the digest; without one, the first that were put, at the object's root the newest."""
        versions = self._kept(path)
        if is_root_copy(path):
            newest = self._newest(path)
            versions = [newest] if newest and not newest.marker else []
        first = self._fetch(versions[-1]) if versions else None
        if first is None:
            return None
        for kept in versions:
            there = self._fetch(kept)
            if there is not None and sha512_hex(there.data) == (digest or sha512_hex(first.data)):
                self.sound[path] = there
                return there.data
        return first.data

    def _measure(self, path: str, digest: str) -> tuple[int, int]:
        """Read a content file through, newest version first, until one has the digest; (versions, bytes) that were read."""
        read = size = 0
        for kept in self._kept(path):
            measured = self._had(functools.partial(self.bucket.measure, kept.key, kept.version, self.pace))
            if measured is None:
                continue
            read += 1
            size += measured.size
            if measured.digest == digest:
                self.sound[path] = measured
                break
        return read, size

    def _weigh(self, path: str, read: int, size: int) -> None:
        self.checked.files += min(read, 1)
        self.checked.bytes += size
        if not self._kept(path):
            self._report(path, "missing", "the file is not there")
        elif not read:
            self._report(path, "damaged", "the file cannot be read, although the server answers")
        elif path not in self.sound:
            self._report(path, "damaged", "the bytes are not those that were sealed")

    def _guarded(self, path: str) -> None:
        """Whether somebody laid something over a sound file, and whether it is still locked."""
        if is_root_copy(path):
            return
        sound, newest = self.sound[path], self._newest(path)
        if newest is None or newest.marker:
            self._report(path, "hidden", _HIDDEN)
        elif newest.version != sound.version:
            self._report(path, "overlaid", _OVERLAID)
        at = version_at(path)
        if (at[0] if at else 1) <= max(self.pinned, default=0):
            place = self.listed[path][0].key
            lock = sound.lock or self.bucket.lock_of(place, sound.version)
            if not ((lock and lock.until > self.now) or sound.held or self.bucket.held(place, sound.version)):
                self._report(
                    path, "unlocked", "nothing keeps the file from being deleted: no lock, or its lock has ended"
                )


_HIDDEN = "a delete marker hides the file; the sealed bytes are safe beneath it"
_OVERLAID = "other bytes were put over the file; the sealed bytes are safe beneath them"


def _inventory_number(path: str) -> int:
    """The number of the version whose inventory lies at `path` within an object, 0 for any other file."""
    at = version_at(path)
    return at[0] if at and at[1] == NAME else 0


def _numbers(listed: dict[str, list[Kept]]) -> list[int]:
    """The complete versions, in order."""
    complete = {_inventory_number(path) for path, entries in listed.items() if not all(each.marker for each in entries)}
    return sorted(complete - {0})


def _head(listed: dict[str, list[Kept]]) -> int:
    return max(_numbers(listed), default=0)


def _inventory(data: bytes) -> Inventory:
    try:
        return parsed(data)
    except ValueError as error:
        raise damaged("digest.mismatch") from error


class S3Journal:
    """`Journal` in a bucket with Object Lock: what was first put under a segment's name is the segment.

    Names sort as numbers do, up to 9,999,999 segments.

    Args:
        where: the bucket, laid out by `create_s3_store`. Opening lists all segments once and raises `StoreDamaged` where
            a number is missing.
        clock: what the end of locks is counted from.
    """

    def __init__(self, where: S3Settings, *, clock: Clock | None = None) -> None:
        self._where = where
        self._clock = clock or SystemClock()
        self._bucket = Bucket(where, where.bucket)
        self._threads = _Threads()
        self._last = 0
        self.last()

    def append(self, number: int, segment: bytes) -> None:
        if number < 1 or (number > self._last + 1 and number > self.last() + 1):
            raise conflict("number")
        place = segment_place(number)
        put = (
            self._bucket.put(place, segment, _lock(self._where, self._clock), once=True)
            if number > self._last
            else None
        )
        # Asked even when ours was put: behind a delete marker, a second one can be.
        versions = self._bucket.of_key(place)
        first = versions[-1].version if versions else ""
        if not first or first != put:
            fetched = self._bucket.get(place, first) if versions else None
            if fetched is None or fetched.data != segment:
                raise conflict("bytes")
        self._last = max(self._last, number)

    def last(self) -> int:
        # Others may have appended; nobody removes.
        for number, _ in self._listed(self._last):
            self._last = max(self._last, number)
        return self._last

    def read(self, number: int) -> bytes:
        if number < 1 or (number > self._last and number > self.last()):
            raise missing("segment")
        data = _first(self._bucket, segment_place(number))
        if data is None:
            raise gap(number)
        return data

    def segments(self, first: int = 1) -> Iterator[tuple[int, bytes]]:
        listed = self._listed(max(first, 1) - 1)
        while group := list(itertools.islice(listed, _AHEAD)):
            yield from self._threads.all([functools.partial(self._fetch, *each) for each in group])

    def _fetch(self, number: int, version: str) -> tuple[int, bytes]:
        fetched = self._bucket.get(segment_place(number), version)
        if fetched is None:
            raise gap(number)
        return number, fetched.data

    def _listed(self, behind: int) -> Iterator[tuple[int, str]]:
        """(number, id of its first version) of the segments after `behind`; `StoreDamaged` at the first gap."""
        after = segment_place(behind) if behind else ""
        expected = behind
        for place, group in itertools.groupby(self._bucket.versions("journal/", after), key=lambda kept: kept.key):
            number = segment_at(place)
            versions = [kept.version for kept in group if not kept.marker]
            if number is None or not versions:
                continue
            expected += 1
            if number != expected:
                raise gap(expected)
            yield number, versions[-1]


class S3Derivatives:
    """`DerivativeStore` in the second bucket, as whole archives, which `age -d` opens. Not locked.

    Args:
        where: the buckets, made by `create_s3_store`.
    """

    def __init__(self, where: S3Settings) -> None:
        self._bucket = Bucket(where, where.derived)
        self._threads = _Threads()

    def put(self, archives: Mapping[str, bytes]) -> None:
        placed = {derivative_place(derivative_name(name)): data for name, data in archives.items()}
        self._threads.all([functools.partial(self._bucket.put, *each) for each in placed.items()])

    def get(self, name: str) -> bytes | None:
        fetched = self._bucket.get(derivative_place(derivative_name(name)))
        return fetched.data if fetched else None

    def delete(self, name: str) -> None:
        place = derivative_place(derivative_name(name))
        # Where somebody switched versions on, a plain delete would only hide it.
        for kept in list(self._bucket.versions(place)):
            if kept.key == place:
                self._bucket.delete(place, kept.version)

    def names(self) -> Iterable[str]:
        for kept in self._bucket.versions("derived/"):
            name = derivative_at(kept.key)
            if name and kept.latest and not kept.marker:
                yield name
