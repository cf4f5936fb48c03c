"""Lengthening the locks of what is sealed: short at first, longer every day, so that a mistake does not lock for decades."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby

from core.clock import stamp
from core.errors import DaichoError, NotReady
from records import queries
from records.stores import Stores
from storage.port import Finding


@dataclass(frozen=True)
class Extended:
    """Objects looked at, files whose lock was lengthened, until when all are locked at least, and those that could not be."""

    objects: int
    lengthened: int
    until: str
    failed: tuple[Finding, ...]


def extend_locks(
    stores: Stores, days: int, progress: Callable[[str, int, int], None] = lambda step, done, total: None
) -> Extended:
    """Lock every acknowledged object, and the journal, for at least `days` from now. May be repeated and broken off.

    Raises:
        NotReady: (`store.no_locks`) the store's engine has no locks.
    """
    if stores.locks is None:
        raise NotReady(
            "この保管庫にはロックがありません。オブジェクトロックの効く S3 で使えます（docs/operate.md）。",
            "This store has no locks. S3 with Object Lock has them (docs/operate.md).",
            code="store.no_locks",
        )
    until = stamp(stores.clock.now() + timedelta(days=days))
    lengthened = stores.locks.extend_rest(until)  # first: without the journal, nothing else is proved
    objects = [object_id for object_id, _ in groupby(queries.pins(), key=lambda row: row[0])]
    failed: list[Finding] = []
    for done, object_id in enumerate(objects, 1):
        try:
            lengthened += stores.locks.extend(object_id, until)
        except DaichoError as error:
            # One bad object must not let the locks of all behind it end. An engine that is gone altogether is told here.
            stores.objects.head(object_id)
            failed.append(Finding(object_id, "", error.code, error.en))
        progress("locks", done, len(objects))
    return Extended(len(objects), lengthened, until, tuple(failed))
