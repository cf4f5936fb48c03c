"""Queries on the catalogue. What is personal starts from the permitted set of ledgers, given by the caller."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from django.apps import apps
from django.conf import settings
from django.db import DatabaseError, connection, connections, models, transaction
from django.db.models import Count

from core.errors import DaichoError, StoreDamaged
from records.models import (
    Batch,
    Entry,
    Generation,
    Ledger,
    LedgerVersion,
    Municipality,
    PageText,
    Record,
    Segment,
    Sheet,
    WaitingItem,
)

M = TypeVar("M", bound=models.Model)

LIVE = "default"
"""The catalogue that people use, among those that functions here take as `catalogue`; the others are made by `scratch`."""

UNDIGESTED = frozenset({"Credential"})
"""Catalogue tables that live in the database alone."""

INDEXED_EVENTS = ("sealed", "edited", "pages_read")
"""Events after which a record is indexed anew."""

WINDOW = 20_000
"""Entries among which the outbox looks at a time."""


PAST = (Generation, LedgerVersion, Segment, Entry)
"""Tables whose rows never change; the database refuses it (migration 0002)."""

WRITER = (0x64616963, 1)
"""PostgreSQL's advisory lock of who writes."""


@contextmanager
def exclusive(catalogue: str = LIVE) -> Iterator[None]:
    """One transaction that no other writer shares.

    On SQLite it begins IMMEDIATE. On PostgreSQL it first takes a lock that ends with it. READ COMMITTED is right there: every later statement
    sees what the writer before us committed, whereas a snapshot taken with the first one would be older than the lock.

    Raises:
        Busy: (PostgreSQL) another writer did not end within half a minute.
    """
    database = connections[catalogue]
    if database.connection is not None and not database.in_atomic_block and not database.is_usable():
        database.close()  # lost since it was last used; nothing of ours was under way
    with transaction.atomic(catalogue, durable=True):
        if database.vendor == "postgresql":
            with database.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", WRITER)
        yield


@contextmanager
def snapshot() -> Iterator[None]:
    """Reads of the block see the live catalogue as it was at the first of them; nobody who writes is held up."""
    if connection.vendor == "postgresql":
        with transaction.atomic(durable=True):
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield
        return
    with readable(), connection.cursor() as cursor:
        cursor.execute("BEGIN DEFERRED")
    # A text that is none any more must be shown to differ, not break the reading off.
    connection.connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
    try:
        yield
    finally:
        connection.connection.text_factory = str
        if connection.connection.in_transaction:
            connection.connection.execute("ROLLBACK")


@contextmanager
def scratch() -> Iterator[str]:
    """An empty catalogue of this thread's own, whatever engine the live one has; gone when the block or the process ends.

    A file of SQLite in the installation's scratch folder, whose name is taken away before the first row comes, since rows name people.
    """
    alias = f"scratch-{secrets.token_hex(4)}"
    settings.SCRATCH.mkdir(parents=True, exist_ok=True)
    place = settings.SCRATCH / f"{alias}.sqlite3"
    # Nothing is ever taken back in it, and what a journal would remember for that grows with the catalogue.
    told = {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(place),
        "OPTIONS": {"init_command": "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA locking_mode=EXCLUSIVE;"},
    }
    connections.settings[alias] = connections.configure_settings({LIVE: told})[LIVE]
    try:
        with connections[alias].schema_editor() as editor:
            for _, model in _digested():
                editor.create_model(model)
        place.unlink()
        yield alias
    finally:
        connections[alias].close()
        del connections[alias]
        del connections.settings[alias]
        place.unlink(missing_ok=True)


def let_go() -> None:
    """Give up this thread's connection; the next question opens one. For threads that pause."""
    connection.close()


def insert(model: type[models.Model], rows: Collection[Mapping[str, Any]], catalogue: str = LIVE) -> None:
    """Add rows: every column by its name, but surrogate keys."""
    if rows:
        _write(_statements(model).insert, model, rows, catalogue)


def put(model: type[models.Model], rows: Collection[Mapping[str, Any]], catalogue: str = LIVE) -> None:
    """As `insert`; a row whose primary key is there takes that row's place. Not for tables of the past."""
    if rows:
        _write(_statements(model).put, model, rows, catalogue)


def drop_waiting(record_ids: Iterable[str], catalogue: str = LIVE) -> None:
    """Nothing of these records waits any longer."""
    _many("DELETE FROM daicho_records_waitingitem WHERE record_id = %s", [(each,) for each in record_ids], catalogue)


def give_outcomes(outcomes: Mapping[tuple[str, int], tuple[str, str, str | None]], catalogue: str = LIVE) -> None:
    """Sheet (batch, number) -> its state, reason and record; None leaves the record as it is."""
    rows = [(*outcome, *sheet) for sheet, outcome in outcomes.items()]
    _many(
        "UPDATE daicho_records_sheet SET state = %s, reason = %s, record_id = COALESCE(%s, record_id) "
        "WHERE batch_id = %s AND number = %s",
        rows,
        catalogue,
    )


def close_batches(closed: Iterable[tuple[str, str, str]], catalogue: str = LIVE) -> None:
    """(batch, time, person) of each."""
    rows = [(at, person, batch) for batch, at, person in closed]
    _many("UPDATE daicho_records_batch SET closed_at = %s, closed_by = %s WHERE id = %s", rows, catalogue)


@dataclass(frozen=True)
class _Statements:
    """How rows of a table are written. `columns`: (name, whether it holds JSON) of each value, in order."""

    insert: str
    put: str
    columns: tuple[tuple[str, bool], ...]


@lru_cache
def _statements(model: type[models.Model]) -> _Statements:
    fields = _columns(model)
    columns = ", ".join(f'"{field.column}"' for field in fields)
    values = ", ".join(["%s"] * len(fields))
    insert = f'INSERT INTO "{model._meta.db_table}" ({columns}) VALUES ({values})'  # noqa: S608  # names of our own columns
    changes = ", ".join(f'"{each.column}" = excluded."{each.column}"' for each in fields if not each.primary_key)
    assert model._meta.pk is not None
    put = f'{insert} ON CONFLICT ("{model._meta.pk.column}") DO UPDATE SET {changes}'
    return _Statements(insert, put, tuple((field.attname, isinstance(field, models.JSONField)) for field in fields))


def _write(statement: str, model: type[models.Model], rows: Collection[Mapping[str, Any]], catalogue: str) -> None:
    """Rather than by Django's `bulk_create`, which makes an object of every row first; that takes longer than writing it."""
    columns = _statements(model).columns
    json = connections[catalogue].ops.adapt_json_value
    told = [tuple([json(row[name], None) if is_json else row[name] for name, is_json in columns]) for row in rows]
    _many(statement, told, catalogue)


def _many(statement: str, rows: Sequence[tuple[Any, ...]], catalogue: str) -> None:
    if rows:
        with connections[catalogue].cursor() as cursor:
            cursor.executemany(statement, rows)


@dataclass(frozen=True)
class Head:
    """Where a catalogue ends: number and digest of its newest segment, number and time of its newest entry."""

    segment: int = 0
    digest: str = ""
    entry: int = 0
    at: str = ""


def head(catalogue: str = LIVE) -> Head:
    """Where the catalogue ends. In one question, since every operation asks it."""
    with connections[catalogue].cursor() as cursor:
        cursor.execute(HEAD)
        row = cursor.fetchone()
    return Head(*row) if row else Head()


HEAD = """
SELECT s.number, s.digest, COALESCE(e.number, 0), COALESCE(e.at, '')
FROM (SELECT number, digest FROM daicho_records_segment ORDER BY number DESC LIMIT 1) AS s
LEFT JOIN (SELECT number, at FROM daicho_records_entry ORDER BY number DESC LIMIT 1) AS e ON 1 = 1
"""


def last_entry(catalogue: str = LIVE) -> tuple[int, str]:
    """(number, time) of the newest entry the catalogue knows; (0, "") for none."""
    number, at = _newest("SELECT number, at FROM daicho_records_entry", catalogue) or (0, "")
    return number, at


def newest_entry(event: str) -> Entry | None:
    """The newest entry of this event."""
    return Entry.objects.filter(event=event).order_by("-number").first()


def last_segment(catalogue: str = LIVE) -> Segment:
    """The newest segment the catalogue knows; number 0 and an empty digest for none."""
    row = _newest('SELECT number, digest, "first", entries FROM daicho_records_segment', catalogue) or (0, "", 0, 0)
    return Segment(**dict(zip(("number", "digest", "first", "entries"), row, strict=True)))


def _newest(select: str, catalogue: str) -> tuple[Any, ...] | None:
    """The row of the highest number. Django takes longer to say it than a database to answer."""
    with connections[catalogue].cursor() as cursor:
        cursor.execute(f"{select} ORDER BY number DESC LIMIT 1")
        row: tuple[Any, ...] | None = cursor.fetchone()
        return row


def segment_digests(first: int, last: int) -> dict[int, str]:
    """Number -> SHA-256 of the segments that the catalogue folded, from `first` to `last`."""
    return dict(Segment.objects.filter(number__gte=first, number__lte=last).values_list("number", "digest"))


def segment_of(number: int) -> Segment | None:
    """The segment that holds entry `number`."""
    row = Segment.objects.filter(first__lte=number).order_by("-number").first()
    return row if row is not None and number < row.first + row.entries else None


def entries_but(after: int, events: Sequence[str]) -> bool:
    """Whether there are entries after number `after` of other events than these."""
    return Entry.objects.filter(number__gt=after).exclude(event__in=events).exists()


def entries(upto: int, conditions: Mapping[str, Any]) -> Iterator[Entry]:
    """Entries up to number `upto` that meet the conditions (column lookups), in order; never all in memory."""
    with _streaming(LIVE):
        yield from Entry.objects.filter(number__lte=upto, **conditions).order_by("number").iterator(chunk_size=2000)


def municipality() -> Municipality | None:
    return Municipality.objects.first()


def ledger(ledger_id: str) -> Ledger | None:
    return Ledger.objects.filter(id=ledger_id).first()


def ledgers(permitted: Iterable[str]) -> list[LedgerVersion]:
    """The newest definition of each permitted ledger, by id."""
    newest = LedgerVersion.objects.filter(ledger_id__in=list(permitted), version=models.F("ledger__version"))
    return list(newest.order_by("ledger_id"))


def definition(ledger_id: str, version: int | None = None) -> tuple[str, int] | None:
    """(JSON text, version) of a definition version, the newest when `version` is None."""
    condition, told = ("", (ledger_id,)) if version is None else (" AND version = %s", (ledger_id, version))
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT definition, version FROM daicho_records_ledgerversion "  # noqa: S608  # one of two texts of ours
            f"WHERE ledger_id = %s{condition} ORDER BY version DESC LIMIT 1",
            told,
        )
        row: tuple[str, int] | None = cursor.fetchone()
        return row


def ledger_version(ledger_id: str, version: int | None = None) -> LedgerVersion | None:
    """A definition version, the newest when `version` is None."""
    rows = LedgerVersion.objects.filter(ledger_id=ledger_id)
    return (rows.order_by("-version") if version is None else rows.filter(version=version)).first()


def record(record_id: str) -> Record | None:
    return _one(Record, {"id": record_id})


def generation(record_id: str, number: int) -> Generation | None:
    return _one(Generation, {"record_id": record_id, "number": number})


def _one(model: type[M], wanted: Mapping[str, str | int]) -> M | None:
    """The row with these values of unique columns; for tables without JSON. These are asked several times an operation: see `_newest`."""
    with connection.cursor() as cursor:
        cursor.execute(_selecting(model, tuple(wanted)), tuple(wanted.values()))
        row = cursor.fetchone()
    return model.from_db(LIVE, [field.attname for field in model._meta.concrete_fields], row) if row else None


@lru_cache
def _selecting(model: type[models.Model], wanted: tuple[str, ...]) -> str:
    columns = ", ".join(f'"{field.column}"' for field in model._meta.concrete_fields)
    conditions = " AND ".join(f'"{name}" = %s' for name in wanted)
    return f'SELECT {columns} FROM "{model._meta.db_table}" WHERE {conditions}'  # noqa: S608  # names of our own columns


def generations(record_id: str) -> list[Generation]:
    return list(Generation.objects.filter(record_id=record_id).order_by("number"))


def history(record_id: str, events: Sequence[str]) -> list[Entry]:
    return list(Entry.objects.filter(record=record_id, event__in=events).order_by("number"))


def batch(batch_id: str) -> Batch | None:
    return Batch.objects.filter(id=batch_id).first()


def batch_by_source(source: str) -> Batch | None:
    return Batch.objects.filter(source=source).first()


def batches(permitted: Iterable[str]) -> list[tuple[Batch, dict[str, int]]]:
    """Batches of the permitted ledgers, newest first, each with its number of sheets per state ("" for unread)."""
    rows = list(Batch.objects.filter(ledger_id__in=list(permitted)).order_by("-opened_at", "id"))
    counted: dict[str, dict[str, int]] = {row.id: {} for row in rows}
    states = Sheet.objects.filter(batch_id__in=list(counted)).values_list("batch_id", "state").annotate(Count("id"))
    for batch_id, state, count in states.order_by():
        counted[batch_id][state] = count
    return [(row, counted[row.id]) for row in rows]


def sheets(batch_id: str) -> list[Sheet]:
    return list(Sheet.objects.filter(batch_id=batch_id).order_by("number"))


def first_sheet(record_id: str) -> int:
    """Number of the record's first sheet in its batch, 0 when it has none."""
    return Sheet.objects.filter(record_id=record_id).aggregate(models.Min("number"))["number__min"] or 0


def sheet_names(record_ids: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Record id -> its sheets by name (`file p.page`), in order."""
    rows = Sheet.objects.filter(record_id__in=list(record_ids)).order_by("batch_id", "number")
    names: dict[str, tuple[str, ...]] = {}
    for record_id, file, page in rows.values_list("record_id", "file", "page"):
        names[record_id] = (*names.get(record_id, ()), f"{file} p.{page}")
    return names


def finished(batch_id: str, numbers: Sequence[int]) -> set[int]:
    """Those numbers whose sheets have an outcome."""
    rows = Sheet.objects.filter(batch_id=batch_id, number__gte=min(numbers), number__lte=max(numbers)).exclude(state="")
    return set(rows.values_list("number", flat=True)) & set(numbers)


def sealed_marks(ledger_id: str, marks: Iterable[str]) -> frozenset[str]:
    """Those marks that a sealed or waiting sheet of the ledger already has."""
    return frozenset(
        Sheet.objects.filter(
            batch__ledger_id=ledger_id, mark__in=list(marks), state__in=("sealed", "waiting")
        ).values_list("mark", flat=True)
    )


def waiting(permitted: Iterable[str], batch_id: str | None = None) -> list[Record]:
    """Waiting records of the permitted ledgers, oldest batch first, in the order of their sheets."""
    rows = Record.objects.filter(state="waiting", ledger_id__in=list(permitted))
    if batch_id is not None:
        rows = rows.filter(batch_id=batch_id)
    places = (models.F(name).asc(nulls_first=True) for name in ("batch__opened_at", "batch_id", "first"))
    return list(rows.annotate(first=models.Min("sheet__number")).order_by(*places, "id"))


def waiting_places(batch_id: str) -> list[tuple[int, str]]:
    """(number of the first sheet, record) of the batch's waiting records, in that order."""
    rows = Record.objects.filter(state="waiting", batch_id=batch_id).annotate(first=models.Min("sheet__number"))
    placed = rows.order_by(models.F("first").asc(nulls_first=True), "id")
    return [(first or 0, record) for first, record in placed.values_list("first", "id")]


def waiting_items(record_ids: Iterable[str]) -> list[WaitingItem]:
    return list(WaitingItem.objects.filter(record_id__in=list(record_ids)).order_by("record_id", "id"))


def sealed(permitted: Iterable[str]) -> list[Record]:
    """Sealed records of the permitted ledgers."""
    return list(Record.objects.filter(state="sealed", ledger_id__in=list(permitted)).order_by("id"))


def with_text() -> Iterator[Record]:
    """Records whose pages have been read whole; never all in memory."""
    with _streaming(LIVE):
        yield from Record.objects.filter(pagetext__isnull=False).order_by("id").iterator(chunk_size=2000)


def page_text(record_id: str) -> PageText | None:
    return PageText.objects.filter(record_id=record_id).first()


def pins() -> Iterator[tuple[str, int, str]]:
    """(object id, version, inventory digest) of every version that the catalogue acknowledges, objects in order; never all in memory."""
    with _streaming(LIVE):
        yield from _pinned().order_by("record_id", "object_version").iterator(chunk_size=2000)


def pin_count() -> int:
    """How many `pins` there are."""
    return _pinned().count()


def _pinned() -> models.QuerySet[Any, tuple[str, int, str]]:
    return Generation.objects.values_list("record_id", "object_version", "object_digest").union(
        Record.objects.values_list("id", "object_version", "object_digest"),
        LedgerVersion.objects.values_list("object_id", "object_version", "object_digest"),
    )


def changed_by(person: str, after: int) -> bool:
    """Whether the person changed a record by an entry after number `after`."""
    return Entry.objects.filter(number__gt=after, person=person, event__in=INDEXED_EVENTS).exists()


def outbox(after: int) -> tuple[list[tuple[str, int]], int]:
    """(record, number of its newest entry) of records changed by entries after number `after`, in the order of these numbers; and the number
    of the entry up to which these are all: the newest, or where there are more than `WINDOW`, the last of so many. Records that changed again
    behind it come later.
    """
    newest, _ = last_entry()
    upto = min(newest, after + WINDOW)
    changes = Entry.objects.filter(event__in=INDEXED_EVENTS)
    again = changes.filter(record=models.OuterRef("record"), number__gt=upto)
    changed = changes.filter(~models.Exists(again), number__gt=after, number__lte=upto).values_list("record")
    return list(changed.annotate(newest=models.Max("number")).order_by("newest")), upto


def counts() -> dict[str, int]:
    """Rows a table, for `info`."""
    return {name: model.objects.count() for name, model in _digested()}


def digest_rows() -> Iterator[tuple[str, dict[str, Any]]]:
    """(table, row) of every digested table in canonical order; surrogate keys, which a rebuild may number anew, are left out."""
    for table, _ in tables():
        for row in table_rows(table):
            yield table, row


def tables() -> list[tuple[str, tuple[str, ...]]]:
    """(name, columns by which its rows are told apart) of every digested table, by name."""
    return [(name, _key(model)) for name, model in _digested()]


def columns(table: str) -> list[str]:
    """The columns of a digested table, surrogate keys left out."""
    return [field.attname for field in _columns(dict(_digested())[table])]


def table_rows(table: str, catalogue: str = LIVE) -> Iterator[dict[str, Any]]:
    """Every row of a digested table without surrogate keys, in the order of its key; never all in memory.

    Raises:
        StoreDamaged: (`catalogue.damaged`) the database cannot read its own file.
    """
    model = dict(_digested())[table]
    rows = model.objects.using(catalogue).order_by(*_key(model)).values(*columns(table))
    with readable(), _streaming(catalogue):
        yield from rows.iterator(chunk_size=2000)


@contextmanager
def readable() -> Iterator[None]:
    """Around reads of a catalogue that may be damaged; errors as `table_rows`."""
    try:
        yield
    except DaichoError:  # a server that does not answer is no damage
        raise
    except (DatabaseError, UnicodeDecodeError) as error:  # the second where SQLite quotes what it cannot read
        raise StoreDamaged(
            "目録（データベース）が壊れています。失われたものはありません。`daicho rebuild` で保管庫から作り直してください。",
            "The catalogue is damaged. Nothing is lost: make it again from the store with `daicho rebuild`.",
            code="catalogue.damaged",
        ) from error


def _streaming(catalogue: str) -> AbstractContextManager[object]:
    """Outside of a transaction PostgreSQL copies the whole answer before it gives the first row."""
    return transaction.atomic(catalogue) if connections[catalogue].vendor == "postgresql" else nullcontext()


def _key(model: Any) -> tuple[str, ...]:
    unique = (each for each in model._meta.constraints if isinstance(each, models.UniqueConstraint))
    return next(
        (tuple(model._meta.get_field(name).attname for name in each.fields) for each in unique),
        (model._meta.pk.attname,),
    )


def _columns(model: Any) -> list[Any]:
    return [field for field in model._meta.concrete_fields if not isinstance(field, models.BigAutoField)]


def _digested() -> list[tuple[str, Any]]:
    return sorted(
        (model._meta.db_table, model)
        for label in ("daicho_access", "daicho_records")
        for model in apps.get_app_config(label).get_models()
        if model.__name__ not in UNDIGESTED
    )


def integrity(*, indexes: bool = False) -> str:
    """What the database itself says of its file, or of the protection of the past: "ok" or the first complaint.

    Args:
        indexes: on SQLite, also compare every index with its table; takes as long as reading all of it.
    """
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            for table in sorted(model._meta.db_table for model in PAST):
                cursor.execute(UNPROTECTED, {"table": table})
                if (row := cursor.fetchone()) is not None:
                    return f"{table}: {row[0]}"
            cursor.execute(UNSAFE)
            row = cursor.fetchone()
            return row[0] if row else "ok"
        cursor.execute(f"PRAGMA {'integrity_check' if indexes else 'quick_check'}(1)")
        return str(cursor.fetchone()[0])


UNPROTECTED = """
SELECT complaint FROM (VALUES
    (1, 'the trigger that protects the past is missing or switched off', NOT EXISTS (
        SELECT FROM pg_trigger WHERE tgrelid = %(table)s::regclass AND tgname = replace(%(table)s, 'records', 'past')
            AND tgenabled = 'A' AND tgtype & 58 = 58 AND tgqual IS NULL)),
    (2, 'the role of the application may change the past', has_table_privilege(%(table)s, 'UPDATE, DELETE, TRUNCATE, TRIGGER')
        OR has_any_column_privilege(%(table)s, 'UPDATE')),
    (3, 'the role of the application owns the table', (
        SELECT pg_has_role(tableowner, 'MEMBER') FROM pg_tables WHERE schemaname = current_schema() AND tablename = %(table)s))
) AS complaints(number, complaint, holds) WHERE holds ORDER BY number LIMIT 1
"""
"""58: the bits of BEFORE, DELETE, UPDATE and TRUNCATE (`catalog/pg_trigger.h`)."""

UNSAFE = """
SELECT complaint FROM (VALUES
    (1, 'the role of the application may create in the schema', has_schema_privilege(current_schema(), 'CREATE')),
    (2, 'synchronous_commit is off', current_setting('synchronous_commit') = 'off'),
    (3, 'fsync is off', current_setting('fsync') = 'off'),
    (4, 'pages failed their checksum', coalesce((
        SELECT checksum_failures FROM pg_stat_database WHERE datname = current_database()), 0) > 0)
) AS complaints(number, complaint, holds) WHERE holds ORDER BY number LIMIT 1
"""
