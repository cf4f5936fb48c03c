"""A house on memory adapters: real functions, real catalogue, no disk beneath the store, no scans. Import it after Django is set up."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from django.core.management import call_command
from django.db import connections
from django.db.utils import load_backend
from psycopg import sql

from access.decide import Actor
from core.clock import FixedClock
from core.ids import RandomIds
from core.settings import PostgresSettings
from ingest.form import Form, ItemReading, Zone
from records import queries
from records.archive import pack
from records.batches import NewSheet, open_batch
from records.capture import seal_spans
from records.check import catalogue_digest
from records.found import define, found, save_person
from records.ledger import Definition, Item, Schedule, Template
from records.operation import catch_up
from records.rebuild import rebuild
from records.spans import Captured, CapturedPage
from records.stores import Stores
from search.memory import MemoryIndex
from storage.cipher import encrypt
from storage.memory import MemoryDerivatives, MemoryJournal, MemoryKeys, MemoryObjects
from wiring.postgresql import server

NOW = datetime(2026, 4, 1, 0, 30, tzinfo=UTC)
PNG = b"\x89PNG\r\n\x1a\n blank form"

ITEMS = (
    Item("name", "name", {"ja": "氏名", "en": "Name"}, required=True),
    Item("opened_on", "date", {"ja": "受付日", "en": "Opened on"}),
    Item("closed_on", "date", {"ja": "終結日", "en": "Closed on"}),
    Item("sex", "choice", {"ja": "性別", "en": "Sex"}, choices=("男", "女"), facet=True),
    Item("phone", "phone", {"ja": "電話", "en": "Telephone"}),
)


@contextmanager
def use_database(told: dict[str, Any]) -> Iterator[None]:
    """Let this thread's catalogue be another database for a while.

    Args:
        told: what Django's `DATABASES` says of it (`wiring.catalogue.django_database`).
    """
    before = connections["default"]
    before.close()
    conf = connections.configure_settings({"default": told})["default"]
    connections["default"] = load_backend(conf["ENGINE"]).DatabaseWrapper(conf, "default")
    try:
        yield
    finally:
        connections["default"].close()
        connections["default"] = before


@contextmanager
def use_catalogue(file: Path) -> Iterator[None]:
    """Let this thread's catalogue be an SQLite file for a while."""
    with use_database(connections.settings["default"] | {"NAME": str(file)}):
        yield


def use_server(where: PostgresSettings) -> AbstractContextManager[None]:
    """Let this thread's catalogue be in a database of PostgreSQL for a while."""
    return use_database(server.django_database(where))


def put_blank(blank: Path, place: Path) -> None:
    """Let `place` be an empty catalogue, whatever it was."""
    connections["default"].close()
    for suffix in ("-wal", "-shm"):
        place.with_name(place.name + suffix).unlink(missing_ok=True)
    shutil.copyfile(blank, place)


def empty_tables(superuser: psycopg.Connection[Any]) -> None:
    """Empty every table of a catalogue on PostgreSQL, the past too, which its protection refuses to everybody else."""
    connections["default"].close()
    with superuser.transaction():
        names = superuser.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'daicho'").fetchall()
        tables = [sql.Identifier("daicho", name) for (name,) in names if name != "django_migrations"]
        for table in tables:
            superuser.execute(sql.SQL("ALTER TABLE {} DISABLE TRIGGER USER").format(table))
        superuser.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY").format(sql.SQL(",").join(tables)))
        for table in tables:
            superuser.execute(sql.SQL("ALTER TABLE {} ENABLE TRIGGER USER").format(table))
        for name in ("generation", "ledgerversion", "segment", "entry"):
            superuser.execute(f"ALTER TABLE daicho.daicho_records_{name} ENABLE ALWAYS TRIGGER daicho_past_{name}")


def empty_catalogue(file: Path) -> Path:
    """Make a migrated catalogue without a row at `file`."""
    with use_catalogue(file):
        call_command("migrate", verbosity=0)
        with connections["default"].cursor() as cursor:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with sqlite3.connect(file) as database:
        assert not database.execute("SELECT * FROM daicho_records_entry").fetchall()
    return file


def definition(ledger: str = "clients", **changes: Any) -> Definition:
    """A ledger with one form of two items; records live until `closed_on`, then five fiscal years."""
    schedule = Schedule(
        {"ja": "5年", "en": "5 years"}, {"ja": "", "en": ""}, "closed_on", "fiscal_year_after", 5, "destroy"
    )
    label = {"ja": ledger, "en": ledger}
    zones = (Zone("name", "name", 20, 20, 60, 10, (), True), Zone("opened_on", "date", 20, 40, 60, 10))
    form = Form("form-a", 210, 297, zones)
    made = Definition(ledger, label, label, label, label, None, ITEMS, (form,), schedule, ("name",), "opened_on")
    return replace(made, **changes)


def template(ledger: str = "clients", posts: Sequence[str] = ("records-office",), **changes: Any) -> Template:
    """The definition with rights for posts: all actions for each."""
    made = definition(ledger, **changes)
    actions = ("view", "capture", "settle", "edit", "define")
    label = {post: {"ja": post, "en": post} for post in posts}
    return Template(made, {form.id: PNG for form in made.forms}, label, dict.fromkeys(posts, actions))


@dataclass
class Switch:
    """The fail hook of all memory adapters: breaks the nth write, before it lands or after."""

    breaks_at: int = 0
    moment: str = "before"
    seen: list[str] = field(default_factory=list)

    def __call__(self, operation: str, moment: str = "") -> None:
        if not moment:
            operation, _, moment = operation.partition(".")
        if moment == "before":
            self.seen.append(operation)
        if self.breaks_at and len(self.seen) == self.breaks_at and moment == self.moment:
            self.breaks_at = 0
            raise PowerCut


class PowerCut(Exception):
    """The process ends here: nothing after it happened."""


@dataclass
class House:
    """A house and the person who founded it, an administrator of the records office."""

    stores: Stores
    officer: Actor
    switch: Switch

    @staticmethod
    def founded() -> House:
        switch = Switch()
        fail: Callable[..., None] = switch
        stores = Stores(
            "s-memory",
            MemoryObjects(fail),
            MemoryKeys(fail),
            MemoryJournal(fail),
            MemoryDerivatives(fail),
            MemoryIndex(fail),
            FixedClock(NOW),
            RandomIds(),
        )
        return House(stores, Actor(found(stores, "試験市", "officer", "文書 整理"), "cli"), switch)

    def ledger(self, ledger: str = "clients", posts: Sequence[str] = ("records-office",), **changes: Any) -> None:
        define(self.stores, self.officer, template(ledger, posts, **changes))

    def person(self, login: str, *posts: str) -> Actor:
        return Actor(save_person(self.stores, self.officer, login, login, posts), "cli")

    def batch(self, sheets: int = 2, ledger: str = "clients", name: str = "束") -> str:
        counted = [NewSheet(f"{name}-{n}.jpg", 1, sha(f"{name}{n}".encode()), "form") for n in range(1, sheets + 1)]
        return open_batch(self.stores, self.officer, ledger, name, counted)[0]

    def captured(self, batch: str, sheet: int, reason: str = "", **values: str) -> Captured:
        """A span of one sheet as a worker hands it over; `reason` makes its name wait."""
        record = f"r-{hashlib.sha256(f'{batch}{sheet}'.encode()).hexdigest()[:26].translate(SAFE)}"
        [key] = self.stores.keys.create([record])
        values = {"name": f"山田 {sheet}", "opened_on": "2024-05-01"} | values
        items = tuple(
            ItemReading(
                item,
                value,
                value,
                0.5 if reason else 0.99,
                "paddle",
                (1, 2, 3, 4),
                "",
                reason if item == "name" else "",
            )
            for item, value in values.items()
        )
        scan = f"scan {batch} {sheet}".encode()
        page = CapturedPage(sheet, "page-0001.age", "image/jpeg", sha(scan), 100, 200, 200.0, "form", False)
        box = {"page-0001.age": encrypt(scan, key.recipient)}
        pictures = encrypt(pack({"view-0001.jpg": b"picture"}), key.recipient)
        matrix = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
        return Captured(record, "form-a", "", (page,), items, box, pictures, matrix, 200.0, "marks", 0, 0)

    def sealed(self, batch: str, sheet: int, **values: str) -> str:
        """Seal one sheet; its record."""
        one = self.captured(batch, sheet, **values)
        seal_spans(self.stores, self.officer, batch, [one])
        return one.record

    def waiting(self, batch: str, sheet: int) -> str:
        """Let one sheet wait; its record."""
        one = self.captured(batch, sheet, reason="low_confidence")
        seal_spans(self.stores, self.officer, batch, [one])
        return one.record

    def later(self, **delta: float) -> None:
        clock = self.stores.clock
        assert isinstance(clock, FixedClock)
        clock.moment += timedelta(**delta)

    def restarted(self) -> None:
        """What a start of the process does: take in what a crash left in the journal."""
        with queries.exclusive():
            catch_up(self.stores)

    def rebuilt_digest(self, blank: Path, place: Path) -> str:
        """The digest of a catalogue folded from the journal alone."""
        place.write_bytes(blank.read_bytes())
        with use_catalogue(place):
            rebuild(self.stores)
            return catalogue_digest()


SAFE = str.maketrans("0189", "wxyz")
"""Hexadecimal digits that an id may not have."""


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
