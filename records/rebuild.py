"""Rebuilding the catalogue from store and keys: the same fold over the whole journal, then a look at all that it names."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

from core.errors import Conflict, DigestMismatch, KeysMissing, NotFound, StoreDamaged
from records import fold, queries
from records.operation import opened, personal_part, taking_in
from records.stores import Stores
from storage.canonical import sha256_hex
from storage.port import Finding, Journal, Pin

GROUP = 4000
"""Entries folded in one transaction, and the segment that fills it up: what a kill costs at most."""

THREADS = 8
"""Objects looked at side by side; most of the time a disk or a server is awaited."""

CHUNK = 100


def rebuild(stores: Stores, progress: Callable[[int, int], None] = lambda done, total: None) -> int:
    """Fold what the catalogue lacks of the journal: all of it into an empty one, the rest where a rebuild was broken off.

    Returns the number of segments that the journal has. Memory does not grow with it.

    Raises:
        StoreDamaged: (`journal.broken`, `journal.gap`, `journal.commitment`) what was folded before it stays.
    """
    total = stores.journal.last()
    while fold_some(stores, queries.LIVE, total):
        progress(queries.last_segment().number, total)
    return total


def fold_some(stores: Stores, catalogue: str, upto: int) -> bool:
    """Fold the next segments, as far as `upto`, in one transaction; False when there was none left."""
    with queries.exclusive(catalogue):
        head = queries.head(catalogue)
        gathered = fold.Fold(head, catalogue)
        for number, segment in islice(stores.journal.segments(head.segment + 1), max(upto - head.segment, 0)):
            told = opened(number, segment, gathered.head.digest)
            with taking_in(number):
                gathered.take(sha256_hex(segment), told, [personal_part(stores.keys, entry) for entry in told])
            if gathered.head.entry - head.entry >= GROUP:
                break
        gathered.write()
    return gathered.head != head


def check_pins(stores: Stores, progress: Callable[[int, int], None] = lambda done, total: None) -> list[Finding]:
    """Look whether every object version that the catalogue names is there with its inventory, and its key opens.

    Damage becomes findings (the object, `v` and the version's number, the code of the error that reading it would raise), in the order of
    the objects: a catalogue is right also where the store has lost something, and is needed then. Contents are not read: `check.verify` does.

    Args:
        progress: called with the number of versions looked at so far, and that of all.
    """
    pins, total = queries.pins(), queries.pin_count()
    running: deque[Future[list[Finding]]] = deque()
    findings: list[Finding] = []
    done = 0
    with ThreadPoolExecutor(THREADS) as pool:
        while chunk := [Pin(*row) for row in islice(pins, CHUNK)]:
            running.append(pool.submit(_look, stores, chunk))
            if len(running) > 2 * THREADS:
                findings += running.popleft().result()
            done += len(chunk)
            progress(done, total)
        for each in running:
            findings += each.result()
    return findings


def _look(stores: Stores, pins: Sequence[Pin]) -> list[Finding]:
    findings = []
    for pin in pins:
        try:
            stores.objects.paths(pin)
            stores.keys.get(pin.object_id)
        except (NotFound, DigestMismatch, KeysMissing, StoreDamaged) as error:
            findings.append(Finding(pin.object_id, f"v{pin.number}", error.code, error.en))
    return findings


def require_same_history(journal: Journal) -> None:
    """Refuse a catalogue that does not stand on this journal. One that is merely behind it catches up.

    Raises:
        Conflict: (`catalogue.ahead`) it has folded segments that the journal lacks, (`catalogue.other_history`) its newest segment has other
            bytes there.
    """
    last = queries.last_segment()
    if last.number > (there := journal.last()):
        raise Conflict(
            f"目録には記録簿の区切り {last.number} まで入っていますが、保管庫には {there} までしかありません。古い控えが戻されたか、末尾が失われています。"
            "新しい控えから保管庫を復元してください。失われたものを確かめたうえで今の保管庫で続けるときは、目録を別の場所へ移してから `daicho rebuild` を実行してください。",
            f"The catalogue knows the journal up to segment {last.number}, the store has it up to {there}: an older backup was put back, or the end is lost. "
            "Restore the store from a newer backup. To go on with this one, knowing what is lost, move the catalogue elsewhere and run `daicho rebuild`.",
            code="catalogue.ahead",
        )
    if last.number and sha256_hex(journal.read(last.number)) != last.digest:
        raise Conflict(
            f"記録簿の区切り {last.number} が、目録に入れたときのものと違います。どちらかが別の控えのものか、書き換えられています。`daicho verify` と手元の控えで確かめ、"
            "正しい方を残してください。目録が誤っているときは、別の場所へ移してから `daicho rebuild` を実行してください。",
            f"Segment {last.number} of the journal is not the one that the catalogue has taken in: one of them comes from another copy, or was altered. Look with "
            "`daicho verify` and at a copy kept elsewhere. If the catalogue is wrong, move it elsewhere and run `daicho rebuild`.",
            code="catalogue.other_history",
        )
