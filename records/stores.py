"""The ports a records function works with, handed to it as one value."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from core.clock import Clock
from core.ids import IdSource
from search.port import SearchIndex
from storage.port import DerivativeStore, Journal, KeyStore, Locks, ObjectStore


class Outbox:
    """The way from the journal to the index, as far as this process knows: whether something of its own waits there, and which thread is at it.

    No operation waits for the index: it sets `waits`, and who keeps a process feeds the index when it is set (`records/indexing.py`).
    """

    def __init__(self) -> None:
        self.waits = threading.Event()
        self.feeding = threading.Lock()


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
    outbox: Outbox = field(default_factory=Outbox)
