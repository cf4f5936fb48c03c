"""Which keys there are and what they open: every key unwrapped, compared with the objects of the store."""

from __future__ import annotations

from dataclasses import dataclass

from records.stores import Stores
from storage.port import Finding

_OF_OBJECTS = ("r-", "l-")


@dataclass(frozen=True)
class KeysChecked:
    """Living keys, what is wrong, and ids of keys whose object is not in the store.

    `idle` is no damage: a broken-off ingest makes keys first, and its next run uses them.
    """

    keys: int
    findings: tuple[Finding, ...]
    idle: tuple[str, ...]


def check_keys(stores: Stores) -> KeysChecked:
    """Unwrap every key and compare keys with objects; an object without its key is `keys.gone`, the key of an item left of it `keys.left`."""
    findings = stores.keys.check()
    living = set(stores.keys.ids())
    objects = set(stores.objects.objects())
    findings += [
        Finding(object_id, "", "keys.gone", "the key of this object is missing")
        for object_id in sorted(objects - living)
    ]
    findings += [
        Finding(key, "", "keys.left", "the key of an item is left of a record whose own key is gone: destroy it too")
        for key in sorted(living)
        if (record := key.partition(".")[0]) != key and record in objects - living
    ]
    idle = (key for key in living if key.startswith(_OF_OBJECTS) and key.partition(".")[0] not in objects)
    return KeysChecked(len(living), tuple(findings), tuple(sorted(idle)))
