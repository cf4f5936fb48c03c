"""Rotating the master key: the key folder gets another one, and the journal says so before the old one is destroyed."""

from __future__ import annotations

from access.decide import Actor, require_administrator
from core.settings import Settings
from pipelines.progress import Progress
from records import queries
from records.operation import operation
from records.stores import Stores
from storage.canonical import sha256_hex
from storage.port import Rotated
from wiring.open import opened


def rotate(
    settings: Settings, stores: Stores, actor: Actor, progress: Progress = lambda step, done, total: None
) -> Rotated:
    """Give the key folder a new master key, without touching an object; go on with what was broken off.

    The entry `master_rotated` names the new key by the digest of its public half, so that going on writes none twice.

    Raises:
        NotPermitted: the actor is no administrator.
        Others as `FilesystemKeys.rotate`: the folder opens as before.
    """
    require_administrator(actor)
    _, keys = opened(settings)

    def note(recipient: str, count: int) -> None:
        master = sha256_hex(recipient.encode())
        with operation(stores, actor) as work:
            require_administrator(actor)
            noted = {entry.data["master"] for entry in queries.history("", ("master_rotated",))}
            if master not in noted:
                work.note("master_rotated", data={"master": master, "keys": count})

    return keys.rotate(note, lambda done, total: progress("keys", done, total))
