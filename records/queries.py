"""Queries on the catalogue. What is personal starts from the permitted set of ledgers, given by the caller."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from django.apps import apps
from django.db import connection, models, transaction
from django.db.models import Count

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

UNDIGESTED = frozenset({"Credential"})
"""Catalogue tables that live in the database alone."""

INDEXED_EVENTS = ("sealed", "edited", "pages_read")
"""Events after which a record is indexed anew."""


PAST = (Generation, LedgerVersion, Segment, Entry)
"""Tables whose rows never change; the database refuses it (migration 0002)."""

WRITER = (0x64616963, 1)
"""PostgreSQL's advisory lock of who writes."""


@contextmanager
def exclusive() -> Iterator[None]:
    """One transaction that no other writer shares.

    On SQLite it begins IMMEDIATE. On PostgreSQL it first takes a lock that ends with it. READ COMMITTED is right there: every later statement
    sees what the writer before us committed, whereas a snapshot taken with the first one would be older than the lock.

    Raises:
        Busy: (PostgreSQL) another writer did not end within half a minute.
    """
    if connection.connection is not None and not connection.in_atomic_block and not connection.is_usable():
        connection.close()  # lost since it was last used; nothing of ours was under way
    with transaction.atomic(durable=True):
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", WRITER)
        yield


def let_go() -> None:
    """Give up this thread's connection; the next question opens one. For threads that pause."""
    connection.close()


def last_entry() -> tuple[int, str]:
    """(number, time) of the newest entry the catalogue knows; (0, "") for none."""
    row = Entry.objects.order_by("-number").values_list("number", "at").first()
    return row or (0, "")


def last_segment() -> Segment:
    """The newest segment the catalogue knows; number 0 and an empty digest for none."""
    return Segment.objects.order_by("-number").first() or Segment(number=0, digest="", first=0, entries=0)


def municipality() -> Municipality | None:
    return Municipality.objects.first()


def ledger(ledger_id: str) -> Ledger | None:
    return Ledger.objects.filter(id=ledger_id).first()


def ledgers(permitted: Iterable[str]) -> list[LedgerVersion]:
    """The newest definition of each permitted ledger, by id."""
    newest = LedgerVersion.objects.filter(ledger_id__in=list(permitted), version=models.F("ledger__version"))
    return list(newest.order_by("ledger_id"))


def ledger_version(ledger_id: str, version: int | None = None) -> LedgerVersion | None:
    """A definition version, the newest when `version` is None."""
    rows = LedgerVersion.objects.filter(ledger_id=ledger_id)
    return (rows.order_by("-version") if version is None else rows.filter(version=version)).first()


def record(record_id: str) -> Record | None:
    return Record.objects.filter(id=record_id).first()


def generation(record_id: str, number: int) -> Generation | None:
    return Generation.objects.filter(record_id=record_id, number=number).first()


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


def with_text() -> list[Record]:
    """Records whose pages have been read whole."""
    return list(Record.objects.filter(pagetext__isnull=False).order_by("id"))


def page_text(record_id: str) -> PageText | None:
    return PageText.objects.filter(record_id=record_id).first()


def pins() -> Iterator[tuple[str, int, str]]:
    """(object id, version, inventory digest) of every version that the catalogue acknowledges, objects in order."""
    rows = (
        Generation.objects.values_list("record_id", "object_version", "object_digest")
        .union(
            Record.objects.values_list("id", "object_version", "object_digest"),
            LedgerVersion.objects.values_list("object_id", "object_version", "object_digest"),
        )
        .order_by("record_id", "object_version")
    )
    yield from rows


def outbox(after: int) -> tuple[list[tuple[str, int]], int]:
    """(record, number of its newest entry) of records changed by entries after number `after`, in the order of these numbers; and the number
    of the newest entry of all.
    """
    changed = Entry.objects.filter(number__gt=after, event__in=INDEXED_EVENTS).values_list("record")
    upto, _ = last_entry()
    return list(changed.annotate(newest=models.Max("number")).order_by("newest")), upto


def counts() -> dict[str, int]:
    """Rows a table, for `info`."""
    return {name: model.objects.count() for name, model in _digested()}


def digest_rows() -> Iterator[tuple[str, dict[str, Any]]]:
    """(table, row) of every digested table in canonical order; surrogate keys, which a rebuild may number anew, are left out."""
    for name, model in _digested():
        key = next(
            (
                constraint.fields
                for constraint in model._meta.constraints
                if isinstance(constraint, models.UniqueConstraint)
            ),
            [model._meta.pk.attname],
        )
        columns = [field.attname for field in model._meta.concrete_fields if not isinstance(field, models.BigAutoField)]
        rows = model.objects.order_by(*key).values(*columns)
        # Outside of a transaction PostgreSQL copies the whole table before it gives the first row.
        with transaction.atomic() if connection.vendor == "postgresql" else nullcontext():
            for row in rows.iterator(chunk_size=2000):
                yield name, row


def _digested() -> list[tuple[str, Any]]:
    return sorted(
        (model._meta.db_table, model)
        for label in ("daicho_access", "daicho_records")
        for model in apps.get_app_config(label).get_models()
        if model.__name__ not in UNDIGESTED
    )


def integrity() -> str:
    """What the database itself says of its file, or of the protection of the past: "ok" or the first complaint."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            for table in sorted(model._meta.db_table for model in PAST):
                cursor.execute(UNPROTECTED, {"table": table})
                if (row := cursor.fetchone()) is not None:
                    return f"{table}: {row[0]}"
            cursor.execute(UNSAFE)
            row = cursor.fetchone()
            return row[0] if row else "ok"
        cursor.execute("PRAGMA quick_check(1)")
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
