"""Lengthening the locks of what is sealed: short at first, longer every day, so that a mistake does not lock for decades."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from core.clock import stamp
from core.errors import NotReady
from records import queries
from records.stores import Stores


@dataclass(frozen=True)
class Extended:
    """Objects looked at, files whose lock was lengthened, and until when all are locked at least."""

    objects: int
    lengthened: int
    until: str


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
    objects = sorted({object_id for object_id, _, _ in queries.pins()})
    lengthened = 0
    for done, object_id in enumerate(objects, 1):
        lengthened += stores.locks.extend(object_id, until)
        progress("locks", done, len(objects))
    lengthened += stores.locks.extend_rest(until)
    return Extended(len(objects), lengthened, until)
