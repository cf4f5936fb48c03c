"""Proving that the store is what the journal says: every byte, every segment, every key; and the digest over the catalogue."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, Protocol

from core.clock import Sleep
from core.errors import DaichoError, StoreDamaged, Unreachable
from records import queries
from records.compare import compare
from records.operation import opened
from records.stores import Stores
from storage.canonical import canonical, sha256_hex
from storage.port import Checked, Finding, ObjectStore, Pacer, Pin, unhurried

GROUP = 1000
"""Digests of segments asked of the catalogue at a time."""

LONGEST = 5.0
"""Seconds between two pieces of one file at most."""

AHEAD = 4
"""Objects a thread that wait to be read, or to be told of in their order."""


@dataclass
class Verified:
    """What a verification read and what it found wrong.

    `reached`: the last object, in order of ids, up to which all were read. `whole`: all were, and what lies in the store besides them.
    `unacknowledged`: what a broken-off write left, which is no damage.
    """

    objects: int = 0
    files: int = 0
    bytes: int = 0
    segments: int = 0
    keys: int = 0
    findings: list[Finding] = field(default_factory=list)
    unacknowledged: list[Finding] = field(default_factory=list)
    reached: str = ""
    whole: bool = False

    def note(self, findings: Iterable[Finding]) -> None:
        """Take findings in, each where it belongs."""
        for finding in findings:
            (self.unacknowledged if finding.code == "unacknowledged" else self.findings).append(finding)

    def sort(self) -> None:
        """Bring the findings into the order of objects, paths and codes."""
        for findings in (self.findings, self.unacknowledged):
            findings.sort(key=lambda each: (each.object_id, each.path, each.code))


@dataclass(frozen=True)
class Reading:
    """How objects are read, and which.

    Args:
        jobs: objects at a time. Threads: hashing and reading leave the interpreter to the others.
        pace: called with the bytes of every piece that was read, and with 0 after each object; holds up whoever reads too fast.
        before: what a run that was broken off, or an earlier part, read of the objects: they are not read again.
        share: stop when this share of all objects (0 to 1, those read before included) has been read.
        told: called after every object with what was read of the objects so far.
    """

    jobs: int = 1
    pace: Pacer = unhurried
    before: Verified = field(default_factory=Verified)
    share: float = 1.0
    told: Callable[[Verified], None] = lambda result: None


WHOLE = Reading()


class Pace:
    """At most so many bytes a second, for all threads together (a bucket of tokens that holds one second's).

    It holds within a large file, too, which is read in pieces. Nobody is held up longer than `LONGEST` in the middle of one, since servers lose
    patience with who does not go on; what is owed then is waited for when the object has been read.

    Args:
        rate: bytes a second.
        sleep: waits the given seconds.
        now: seconds that only grow.
    """

    def __init__(self, rate: float, sleep: Sleep = time.sleep, now: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._sleep = sleep
        self._now = now
        self._spent = now() - 1.0
        self._lock = threading.Lock()

    def __call__(self, size: int) -> None:
        with self._lock:
            self._spent = max(self._spent, self._now() - 1.0) + size / self._rate
            wait = self._spent - self._now()
        if size:
            wait = min(wait, LONGEST)
        if wait > 0:
            self._sleep(wait)


class Segments(Protocol):
    """The reading half of `Journal`."""

    def last(self) -> int: ...

    def read(self, number: int) -> bytes: ...

    def segments(self, first: int = 1) -> Iterator[tuple[int, bytes]]: ...


class Pins:
    """The pins that a journal names, by object, in a database of its own that spills to the disk: memory stays flat. Closed, it is gone."""

    def __init__(self) -> None:
        self._rows = sqlite3.connect("")
        self._rows.execute("CREATE TABLE pin(object, number, digest, PRIMARY KEY(object, number)) WITHOUT ROWID")

    def add(self, pins: Iterable[Pin]) -> None:
        """Take pins in; the first of an object's version counts."""
        rows = ((pin.object_id, pin.number, pin.digest) for pin in pins)
        self._rows.executemany("INSERT OR IGNORE INTO pin VALUES(?, ?, ?)", rows)

    def objects(self, after: str = "") -> Iterator[tuple[str, list[Pin]]]:
        """Objects behind `after`, in order of ids, with their pins."""
        rows = self._rows.execute("SELECT * FROM pin WHERE object > ? ORDER BY object, number", (after,))
        for object_id, pins in groupby(rows, key=lambda row: row[0]):
            yield object_id, [Pin(*row) for row in pins]

    def count(self, upto: str | None = None) -> int:
        """How many objects there are, or how many up to this id."""
        end = "" if upto is None else " WHERE object <= ?"
        asked = self._rows.execute(f"SELECT count(DISTINCT object) FROM pin{end}", () if upto is None else (upto,))  # noqa: S608
        return int(asked.fetchone()[0])

    def of(self, object_id: str) -> list[Pin]:
        """The pins of one object, none for an unknown one."""
        return [Pin(*row) for row in self._rows.execute("SELECT * FROM pin WHERE object = ?", (object_id,))]

    def close(self) -> None:
        self._rows.close()


def verify(
    stores: Stores,
    progress: Callable[[int, int], None] = lambda done, total: None,
    reading: Reading = WHOLE,
) -> Verified:
    """Read every segment, object and key of an installation. Damage becomes findings, never an error; what a broken-off write left is told apart.

    Args:
        progress: called with the number of objects read so far, and of all.

    Raises:
        Unreachable: the store's engine is gone: what was read so far has been told to `reading.told`.
    """
    result = Verified()
    with closing(Pins()) as pins:
        read_journal(stores.journal, pins, result, Folded(), queries.last_segment().number)
        pins.add(Pin(*row) for row in queries.pins())  # where the journal is damaged, the catalogue still knows
        read_objects(stores.objects, pins, result, progress, reading)
        altered = any(each.object_id == "journal" and each.code != "journal.short" for each in result.findings)
        # Once a round: it folds the whole journal, which must be one that can be believed.
        if result.whole and not altered:
            try:
                result.note(compare(stores))
            except (
                DaichoError
            ) as error:  # the journal cannot be folded, which is told already where it can be read alone
                if not any(each.object_id == "journal" for each in result.findings):
                    result.note([Finding("journal", str(result.segments), error.code, error.en)])
        living = set[str]()
        try:
            result.note(stores.keys.check())
            living.update(stores.keys.ids())
            result.note(
                Finding(name, "", "keys.gone", "the key of this object is missing")
                for name, _ in pins.objects()
                if name not in living
            )
        except DaichoError as error:
            result.note([Finding("", "", error.code, error.en)])
        result.keys = len(living)
    result.sort()
    return result


def verify_copy(
    journal: Segments,
    objects: ObjectStore,
    progress: Callable[[int, int], None] = lambda done, total: None,
    reading: Reading = WHOLE,
) -> Verified:
    """The same of a store alone, without installation, catalogue or keys: what is pinned is what its own journal says."""
    result = Verified()
    with closing(Pins()) as pins:
        read_journal(journal, pins, result)
        read_objects(objects, pins, result, progress, reading)
    result.sort()
    return result


def read_journal(
    journal: Segments,
    pins: Pins,
    result: Verified,
    folded: Callable[[int], str] = lambda number: "",
    expected: int = 0,
) -> None:
    """Read every segment, compare the chain, gather the pins; what cannot be read is told and left.

    Args:
        folded: the SHA-256 of a segment as the catalogue folded it, "" where it does not know.
        expected: the number of the last segment that the catalogue folded.
    """
    previous: str | None = ""
    for number, segment in _read_through(journal):
        known = folded(number)
        if isinstance(segment, DaichoError):
            result.note([Finding("journal", str(number), segment.code, segment.en)])
            previous = known or None
            continue
        result.segments += 1
        told = sha256_hex(segment)
        try:
            if known and told != known:
                code = "journal.rewritten" if number == expected else "journal.broken"
                raise StoreDamaged("", "not what the catalogue folded", code=code)
            entries = opened(number, segment, link(segment) if previous is None else previous)
            pins.add(pin for pin in map(pinned, entries) if pin)
            previous = told
        except DaichoError as error:
            result.note([Finding("journal", str(number), error.code, error.en)])
            previous = known or (told if link(segment) else None)  # what tells nothing proves nothing of the next one
    if journal.last() < expected:
        result.note([Finding("journal", str(expected), "journal.short", "segments are missing at the end")])


def _read_through(journal: Segments) -> Iterator[tuple[int, bytes | DaichoError]]:
    whole, last = 0, journal.last()
    try:
        for whole, segment in journal.segments():
            yield whole, segment
        return
    except Unreachable:
        raise
    except DaichoError:
        pass  # read one by one what lies behind
    for number in range(whole + 1, last + 1):
        try:
            yield number, journal.read(number)
        except Unreachable:
            raise
        except DaichoError as error:
            yield number, error


def link(segment: bytes) -> str:
    """The SHA-256 of the segment before, as the segment's bytes tell it; "" where they tell nothing."""
    try:
        return str(json.loads(segment)["previous"])
    except (ValueError, KeyError, TypeError):
        return ""


def pinned(entry: dict[str, Any]) -> Pin | None:
    """The version of an object that an entry acknowledges, None where it acknowledges none."""
    pin = entry["data"].get("pin")
    return Pin(entry["data"].get("object") or entry["record"], pin["version"], pin["digest"]) if pin else None


class Folded:
    """The SHA-256 of each segment as the catalogue folded it, asked for in groups; "" for one that it does not know."""

    def __init__(self) -> None:
        self._first = -GROUP
        self._known: dict[int, str] = {}

    def __call__(self, number: int) -> str:
        if not self._first <= number < self._first + GROUP:
            self._first = number - number % GROUP
            self._known = queries.segment_digests(self._first, self._first + GROUP - 1)
        return self._known.get(number, "")


def read_objects(
    objects: ObjectStore,
    pins: Pins,
    result: Verified,
    progress: Callable[[int, int], None] = lambda done, total: None,
    reading: Reading = WHOLE,
) -> None:
    """Read the objects that `reading` asks for; after the last, also those that nobody acknowledged, and what belongs to nobody."""
    read = replace(
        reading.before,
        findings=[*reading.before.findings],
        unacknowledged=[*reading.before.unacknowledged],
    )
    total = pins.count()
    done = pins.count(read.reached) if read.reached else 0
    try:
        if done < reading.share * total:
            for checked in _checked(objects, pins.objects(read.reached), reading):
                _take(read, checked)
                read.reached = checked.object_id
                done += 1
                progress(done, total)
                reading.told(read)
                if done >= reading.share * total and done < total:
                    break
        result.whole = done >= total
    finally:
        result.objects, result.files, result.bytes, result.reached = read.objects, read.files, read.bytes, read.reached
        result.note([*read.findings, *read.unacknowledged])
    if not result.whole:
        return
    try:
        unknown = ((object_id, list[Pin]()) for object_id in objects.objects() if not pins.of(object_id))
        for checked in _checked(objects, unknown, reading):
            _take(result, checked)
            result.note([Finding(checked.object_id, "", "unacknowledged", "the journal does not name this object")])
        result.note(objects.strays())
    except Unreachable:
        raise
    except DaichoError as error:
        result.note([Finding("", "", error.code, error.en)])


def _take(result: Verified, checked: Checked) -> None:
    result.objects += 1
    result.files += checked.files
    result.bytes += checked.bytes
    result.note(checked.findings)


def _checked(objects: ObjectStore, wanted: Iterable[tuple[str, list[Pin]]], reading: Reading) -> Iterator[Checked]:
    """What was read of each object, in order."""

    def one(object_id: str, pins: list[Pin]) -> Checked:
        try:
            checked = objects.check(object_id, pins, reading.pace)
        except Unreachable:  # that of the engine, not of this object: it would be told of all behind it
            raise
        except DaichoError as error:
            return Checked(object_id, findings=[Finding(object_id, "", error.code, error.en)])
        except Exception as error:  # one bad object must not end what takes days
            name = type(error).__name__
            return Checked(object_id, findings=[Finding(object_id, "", "unreadable", f"cannot be checked ({name})")])
        reading.pace(0)
        return checked

    if reading.jobs == 1:
        yield from (one(*each) for each in wanted)
        return
    waiting: deque[Future[Checked]] = deque()
    pool = ThreadPoolExecutor(reading.jobs, "verify")
    try:
        for each in wanted:
            waiting.append(pool.submit(one, *each))
            if len(waiting) >= AHEAD * reading.jobs:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def catalogue_digest() -> str:
    """SHA-256 (hex) over every catalogue table but sessions and password hashes, rows in canonical form and order."""
    digest = hashlib.sha256()
    for table, row in queries.digest_rows():
        digest.update(canonical([table, row]) + b"\n")
    return digest.hexdigest()
