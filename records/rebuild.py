"""Rebuilding the catalogue from store and keys: the same fold over the whole journal."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from core.errors import StoreDamaged
from records import fold, queries
from records.operation import opened, personal_part
from records.stores import Stores
from storage.canonical import sha256_hex
from storage.port import Pin

GROUP = 200
"""Segments folded in one transaction."""


def rebuild(stores: Stores, progress: Callable[[int, int], None] = lambda done, total: None) -> int:
    """Fold the whole journal into an empty catalogue. Returns the number of segments.

    Every object version that the journal names must be in the store (`StoreDamaged`, `object.missing`).
    """
    total = stores.journal.last()
    previous, folded = "", 0
    while folded < total:
        with queries.exclusive():
            for number, segment in islice(stores.journal.segments(folded + 1), GROUP):
                entries = opened(number, segment, previous)
                previous = sha256_hex(segment)
                fold.take(number, previous, entries, [personal_part(stores.keys, entry) for entry in entries])
                folded = number
        progress(folded, total)
    for object_id, version, digest in queries.pins():
        if stores.objects.head(object_id) < version:
            raise StoreDamaged(
                f"記録簿にある記録 {object_id} の第 {version} 版が保管庫にありません。控えから復元してください。",
                f"The journal names version {version} of object {object_id}, which the store lacks. Restore from a backup.",
                code="object.missing",
            )
        stores.objects.paths(Pin(object_id, version, digest))
    return total
