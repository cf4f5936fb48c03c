"""Proving a journal: its chain, its numbers, its tree, every checkpoint that is at hand, and the place of an entry in it.

Needs the journal alone, of an installation or of a copy: no keys, no catalogue. Or, of a copy that leaves personal content out, the log's folder alone.
Reads once, in order, with a memory that does not grow.
"""

from __future__ import annotations

import base64
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from core.errors import BadInput, DigestMismatch, NotFound, StoreDamaged
from records.entries import (
    LAG,
    Fault,
    Run,
    chain_fault,
    examine,
    examine_leaves,
    missing_leaves,
    number_fault,
)
from storage.merkle import HASH, inclusion_ranges, leaf_hashes, verify_inclusion
from storage.notes import Checkpoint, Verifier, checkpoint, verifier
from storage.places import segment_place
from storage.port import Journal
from storage.tiles import (
    CHECKPOINT,
    ENTRIES,
    PUBLIC_KEY,
    WIDTH,
    Edge,
    LogFolder,
    Tile,
    partial_width,
    tile_place,
    unbundled,
)

AT_ONCE = 500
"""Segments that a worker reads for one answer."""

FEW = 20_000
"""Segments that are read faster by one process than workers are started."""

PUBLISHED = f"log/{CHECKPOINT}"

FAULTS = 1000
"""So many faults are kept; the others are counted."""


@dataclass(frozen=True)
class Claim:
    """A checkpoint at hand: where it comes from (a file's name, or the entry that keeps it), the note, and the public key noted beside it."""

    source: str
    note: bytes
    key: str = ""
    entry: int = 0


@dataclass(frozen=True)
class Checked:
    """A checkpoint from outside the journal, compared with the tree. `trusted`: signed by a key that the caller gave, not by one found in the
    copy. `fault`: code of what is wrong with it, "" for nothing.
    """

    source: str
    size: int
    trusted: bool
    fault: str


@dataclass
class Verified:
    """What a verification read, and what it found wrong.

    `root`: of the tree over all entries. `kept`: checkpoints kept in the journal. `proven`: so many entries the largest sound checkpoint from
    outside covers, 0 without one. `proof`: of the entry asked for, as C2SP `tlog-proof` text.
    """

    origin: str = ""
    entries: int = 0
    segments: int = 0
    root: bytes = b""
    began: str = ""
    ended: str = ""
    tiles: int = 0
    kept: int = 0
    proven: int = 0
    proof: str = ""
    checkpoints: list[Checked] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    more: int = 0

    def say(self, fault: Fault) -> None:
        """Keep a fault, or count it when there are too many."""
        if len(self.faults) < FAULTS:
            self.faults.append(fault)
        else:
            self.more += 1


def verify(
    open_journal: Callable[[], Journal] | None,
    log: LogFolder | None,
    notes: Sequence[tuple[str, bytes]] = (),
    keys: Sequence[Verifier] = (),
    *,
    entry: int | None = None,
    jobs: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Verified:
    """Prove a journal, or the log's folder of one.

    Args:
        open_journal: opens the journal; it must pickle, since workers open it too. None: `log` alone is at hand.
        log: the folder of tiles, compared where it is there.
        notes: (name, bytes) of checkpoints from elsewhere.
        keys: public keys of the log that the caller trusts; without one, those noted in the copy count.
        entry: number of an entry whose inclusion is to be proved, in the smallest checkpoint from outside that covers it.
        jobs: processes that read.
        progress: called with the entries or segments done and to do.

    Raises:
        NotFound: (`audit.no_entry`) no checkpoint at hand covers the entry asked for.
        BadInput: (`audit.nothing`) neither a journal nor a log is there.
    """
    noted = _noted(log, notes)
    total = 0
    runs: Iterator[Run] = iter(())
    if open_journal is not None:
        total, runs = _segments(open_journal, jobs)
    elif log is not None and log.read(CHECKPOINT) is not None:
        total, runs = _bundles(log)
    if not total:
        raise BadInput(
            "ここには記録簿もログもありません。保管庫（journal/ のあるフォルダー）か、ログ（checkpoint のあるフォルダー）を指定してください。",
            "There is neither a journal nor a log here. Name a store (with journal/) or a log (with checkpoint).",
            code="audit.nothing",
        )
    walk = _Walk(log, keys, noted, entry)
    done = 0
    for run in runs:
        walk.join(run, chained=open_journal is not None)
        done += run.segments or 1
        progress(min(done, total), total)
    walk.end()
    return walk.result


def _noted(log: LogFolder | None, notes: Sequence[tuple[str, bytes]]) -> list[Claim]:
    """The checkpoints from outside the journal."""
    claims = [Claim(name, note) for name, note in notes]
    if log is not None and (note := log.read(CHECKPOINT)) is not None:
        key = log.read(PUBLIC_KEY) or b""
        claims.append(Claim(PUBLISHED, note, key.decode("utf-8", "replace").removesuffix("\n")))
    return claims


def _segments(open_journal: Callable[[], Journal], jobs: int) -> tuple[int, Iterator[Run]]:
    journal = open_journal()
    last = journal.last()
    if jobs < 2 or last < FEW:
        return last, _alone(journal, last)
    return last, _together(journal, open_journal, last, jobs)


def _alone(journal: Journal, last: int) -> Iterator[Run]:
    for start in range(1, last + 1, AT_ONCE):
        yield _run(journal, start, last)


def _run(journal: Journal, first: int, last: int) -> Run:
    return examine(_read(journal, first, min(AT_ONCE, last + 1 - first)))


def _read(journal: Journal, first: int, count: int) -> Iterator[tuple[int, bytes]]:
    """So many segments from `first`; one that the disk does not give back reads as nothing, and the others go on."""
    number, end = first, first + count
    while number < end:
        try:
            for each, data in islice(journal.segments(number), end - number):
                yield each, data
                number = each + 1
            return
        except (DigestMismatch, NotFound, StoreDamaged):
            yield number, b""
            number += 1


def _together(journal: Journal, open_journal: Callable[[], Journal], last: int, jobs: int) -> Iterator[Run]:
    """The runs in order, each read and examined by one of `jobs` processes, of which this is one: it takes what the others have no hand free for."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs - 1, context, _open, (open_journal,)) as pool:
        started = pool.submit(len, ())
        waiting: deque[Future[Run]] = deque()
        try:
            for start in range(1, last + 1, AT_ONCE):
                busy = sum(not each.done() for each in waiting)
                if started.done() and busy < 2 * (jobs - 1):
                    waiting.append(pool.submit(_examine, start, last))
                else:
                    waiting.append(Future())
                    waiting[-1].set_result(_run(journal, start, last))
                while waiting and (waiting[0].done() or len(waiting) > 4 * jobs):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for each in waiting:
                each.cancel()


_journals: list[Journal] = []
"""The journal that this worker reads."""


def _open(open_journal: Callable[[], Journal]) -> None:
    _journals[:] = [open_journal()]


def _examine(first: int, last: int) -> Run:
    return _run(_journals[0], first, last)


def _bundles(log: LogFolder) -> tuple[int, Iterator[Run]]:
    """One run a bundle, as far as the log's checkpoint says that there are leaves."""
    size = checkpoint(log.read(CHECKPOINT) or b"").size
    count = -(-size // WIDTH)

    def runs() -> Iterator[Run]:
        for index in range(count):
            width = min(WIDTH, size - index * WIDTH)
            place = f"log/{tile_place(ENTRIES, index, width)}"
            leaves = log.leaves(index, width)
            if leaves is None:
                run = Run(first=index * WIDTH + 1, entries=width, leaves=bytearray(missing_leaves(width)))
                run.faults.append(Fault("tile.missing", place, 0, "the bundle is missing or cut short"))
                yield run
                return  # a checkpoint may say that there are as many as it likes
            yield examine_leaves(place, leaves)

    return count, runs()


class _Walk:
    """The way along the leaves: the growing tree, and what has to be compared with it on the way."""

    def __init__(
        self, log: LogFolder | None, keys: Sequence[Verifier], claims: Sequence[Claim], entry: int | None
    ) -> None:
        self.result = Verified()
        self._log = log
        self._given = tuple(keys)
        self._noted: dict[str, Verifier] = {}
        self._edge = Edge()
        self._waiting = bytearray()
        self._digest = ""
        self._heads: dict[int, list[tuple[Claim, Checkpoint]]] = {}
        self._met: list[tuple[Claim, Checkpoint, str, str]] = []
        self._published = 0
        for claim in claims:
            self._expect(claim)
            if claim.key:
                self._note_key(claim)
        self._proof = self._wanted(entry)

    def join(self, run: Run, *, chained: bool) -> None:
        """Take the next run: does it follow what came before, and what does it hold?"""
        result = self.result
        place = segment_place(result.segments + 1) if chained else "log"
        if chained and run.previous != self._digest:
            result.say(chain_fault(result.segments + 1))
        expected = result.entries + 1
        if run.entries and run.first != expected:
            result.say(number_fault(place, run.first, expected))
            lost = missing_leaves(run.first - expected)
            self._waiting += lost
            result.entries += len(lost) // HASH
        if run.began and run.began < result.ended:
            result.say(Fault("entry.time", place, run.first, "it is older than the entry before it"))
        for fault in run.faults:
            result.say(fault)
        result.segments += run.segments
        result.entries += run.entries
        result.began = result.began or run.began
        result.ended = max(result.ended, run.ended)
        self._digest = run.digest
        self._waiting += run.leaves
        for number, data in run.signed:
            self._keep(number, data)
        self._grow(LAG)

    def end(self) -> None:
        """Take what is left, and judge the checkpoints from outside."""
        self._grow(0)
        self._meet()
        result = self.result
        result.root = self._edge.root()
        for tile in self._edge.partial():
            self._compare(tile)
        for waiting in self._heads.values():
            for claim, said in waiting:
                words = f"it covers {said.size} entries, and there are {result.entries}"
                self._met.append((claim, said, "checkpoint.ahead", words))
        for claim, said, wrong, words in self._met:
            fault = self._judge(claim, said, wrong, words)
            trusted = not fault and bool(self._given)
            result.checkpoints.append(Checked(claim.source, said.size, trusted, fault))
            if not fault:
                result.proven = max(result.proven, said.size)
        if self._proof is not None:
            result.proof = self._proof.text()

    def _grow(self, keep: int) -> None:
        """Let the tree take what waits, but for the last `keep` leaves: entries that keep checkpoints of these may still come."""
        count = len(self._waiting) // HASH - keep
        if count <= 0:
            return
        leaves = bytes(self._waiting[: count * HASH])
        del self._waiting[: count * HASH]
        begun, end = self._edge.size, self._edge.size + count
        for stop in [*sorted(size for size in self._heads if begun <= size < end), end]:
            part = leaves[(self._edge.size - begun) * HASH : (stop - begun) * HASH]
            if self._proof is not None:
                self._proof.take(self._edge.size, part)
            for tile in self._edge.extend(part):
                self._compare(tile)
            if stop < end:
                self._meet()

    def _expect(self, claim: Claim) -> None:
        """A checkpoint from outside the journal."""
        try:
            said = checkpoint(claim.note)
        except BadInput as error:
            self.result.say(Fault("checkpoint.malformed", claim.source, 0, error.en))
            self.result.checkpoints.append(Checked(claim.source, 0, False, "checkpoint.malformed"))
            return
        if claim.source == PUBLISHED:
            self._published = said.size
        self._heads.setdefault(said.size, []).append((claim, said))

    def _keep(self, number: int, data: dict[str, Any]) -> None:
        """A checkpoint that entry `number` keeps."""
        claim = Claim(f"entry {number}", str(data.get("note")).encode(), str(data.get("key")), number)
        self.result.kept += 1
        self._note_key(claim)
        try:
            said = checkpoint(claim.note)
        except BadInput as error:
            self.result.say(Fault("checkpoint.malformed", claim.source, number, error.en))
            return
        if self._edge.size <= said.size < number:
            self._heads.setdefault(said.size, []).append((claim, said))
        else:
            self.result.say(
                Fault(
                    "checkpoint.late", claim.source, number, f"it covers {said.size} entries, not those just before it"
                )
            )

    def _note_key(self, claim: Claim) -> None:
        try:
            key = verifier(claim.key)
        except BadInput:
            key = None
        if key is None or str(key) != claim.key:
            self.result.say(Fault("checkpoint.key", claim.source, claim.entry, "the public key beside it is none"))
        else:
            self._noted[claim.key] = key

    def _meet(self) -> None:
        """The tree is as large as checkpoints say: is its root theirs?"""
        for claim, said in self._heads.pop(self._edge.size, ()):
            fits = said.root == self._edge.root()
            fault, words = (
                "" if fits else "checkpoint.root",
                f"the first {said.size} entries are not those that it covers",
            )
            if claim.entry:
                self._judge(claim, said, fault, words)
            else:
                self._met.append((claim, said, fault, words))  # the key may stand in a later entry

    def _judge(self, claim: Claim, said: Checkpoint, fault: str, words: str) -> str:
        """Add what its name and its signature tell; the name first, since a checkpoint of another log is wrong in everything."""
        names = {key.name for key in (*self._given, *self._noted.values())}
        if names and said.origin not in names:
            fault, words = "checkpoint.other_log", f"it is of the log {said.origin}"
        elif not fault:
            words = self._unsigned(claim)
            fault = "checkpoint.signature" if words else ""
        if fault:
            self.result.say(Fault(fault, claim.source, claim.entry, words))
        self.result.origin = self.result.origin or said.origin
        return fault

    def _unsigned(self, claim: Claim) -> str:
        """Why no key vouches for a checkpoint, "" when one does: a given key, or without any the one noted beside it or in the copy."""
        beside = [self._noted[claim.key]] if claim.key in self._noted else list(self._noted.values())
        words = "there is no public key of the log at hand"
        for key in self._given or beside:
            try:
                checkpoint(claim.note, key)
            except BadInput as error:
                words = error.en
            else:
                return ""
        return words

    def _compare(self, tile: Tile) -> None:
        """Compare a tile with its files in the log's folder."""
        if self._log is None:
            return
        for level in (tile.level, ENTRIES) if tile.level == 0 else (tile.level,):
            due = partial_width(self._published, tile.level)
            last = self._published // WIDTH ** (tile.level + 1)
            needed = {WIDTH} if tile.index < last else {due} if tile.index == last and due else set()
            # Wider ones are of entries that came since we began.
            there = {width for width in self._log.partial_widths(level, tile.index) if width <= tile.width}
            for width in sorted(needed | there | ({WIDTH} if tile.width == WIDTH else set())):
                self._compare_file(level, tile, width, width in needed)

    def _compare_file(self, level: int, tile: Tile, width: int, needed: bool) -> None:
        assert self._log is not None
        place = tile_place(level, tile.index, width)
        data = self._log.read(place)
        if data is None:
            if needed and (width == WIDTH or self._log.read(tile_place(level, tile.index)) is None):
                self.result.say(Fault("tile.missing", f"log/{place}", 0, "the log's checkpoint needs it"))
            return
        self.result.tiles += 1
        if level == ENTRIES:
            try:
                data = leaf_hashes(unbundled(data))
            except ValueError:
                data = b""
        expected = tile.data[: width * HASH]
        if data == expected and len(data) == width * HASH:
            return
        same = next(
            (at for at in range(width) if data[at * HASH : (at + 1) * HASH] != expected[at * HASH : (at + 1) * HASH]), 0
        )
        entry = (tile.index * WIDTH + same) * WIDTH**tile.level + 1
        self.result.say(
            Fault("tile.differs", f"log/{place}", entry, "it is not what follows from the entries, from this one on")
        )

    def _wanted(self, entry: int | None) -> _Proof | None:
        """The proof to be gathered on the way."""
        if entry is None:
            return None
        covering = [(said, claim) for size, waiting in self._heads.items() if size >= entry for claim, said in waiting]
        if entry < 1 or not covering:
            raise NotFound(
                f"{entry} 番の記入を含むチェックポイントが手元にありません。番号を確かめ、`daicho audit checkpoint` を実行するか、--checkpoint で渡してください。",
                f"No checkpoint at hand covers entry {entry}. Check the number; run `daicho audit checkpoint`, or give one with --checkpoint.",
                code="audit.no_entry",
            )
        said, claim = min(covering, key=lambda each: each[0].size)
        return _Proof(entry - 1, said, claim.note.decode())


class _Proof:
    """The proof of one leaf, gathered while the leaves go by."""

    def __init__(self, index: int, said: Checkpoint, note: str) -> None:
        self._index, self._said, self._note = index, said, note
        self._leaf = b""
        self._ranges = inclusion_ranges(index, said.size)
        self._edges = [Edge() for _ in self._ranges]

    def take(self, first: int, leaves: bytes) -> None:
        """The hashes of the next leaves, from number `first` on."""
        end = first + len(leaves) // HASH
        if first <= self._index < end:
            self._leaf = leaves[(self._index - first) * HASH :][:HASH]
        for (begin, stop), edge in zip(self._ranges, self._edges, strict=True):
            if begin < end and first < stop:
                edge.extend(leaves[(max(begin, first) - first) * HASH : (min(stop, end) - first) * HASH])

    def text(self) -> str:
        """As C2SP `tlog-proof`, which ends with the checkpoint; "" where the checkpoint is not of these entries."""
        proof = [edge.root() for edge in self._edges]
        if not verify_inclusion(self._leaf, self._index, self._said.size, proof, self._said.root):
            return ""
        hashes = "".join(f"{base64.b64encode(each).decode()}\n" for each in proof)
        return f"c2sp.org/tlog-proof@v1\nindex {self._index}\n{hashes}\n{self._note}"
