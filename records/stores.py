"""The ports a records function works with, handed to it as one value."""

from __future__ import annotations

from dataclasses import dataclass

from core.clock import Clock
from core.ids import IdSource
from search.port import SearchIndex
from storage.port import DerivativeStore, Journal, KeyStore, Locks, ObjectStore


@dataclass(frozen=True)
class Stores:
    """Objects, keys, journal, derivatives and index of one installation, with its clock and its source of ids; `locks` where its store has any."""

    id: str
    objects: ObjectStore
    keys: KeyStore
    journal: Journal
    derivatives: DerivativeStore
    index: SearchIndex
    clock: Clock
    ids: IdSource
    locks: Locks | None = None
