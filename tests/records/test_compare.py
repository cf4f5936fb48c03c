"""The catalogue under suspicion: one cell that is not what the journal gives is found, and named, whichever it is."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connection

from access.models import Credential
from access.signin import set_password
from core.errors import DaichoError, StoreDamaged
from records import check, compare, queries
from records.batches import NewSheet, close_batch, open_batch
from records.capture import edit, note_pages_read, settle
from records.check import catalogue_digest
from records.models import Record, Segment, Sheet
from tests.house import House
from tests.servers.running import PostgresServer

CELLS = [(table, column) for table, key in queries.tables() for column in queries.columns(table)]

CONTROLS = {
    ("daicho_access_grant", "action"),
    ("daicho_records_sheet", "state"),
    ("daicho_records_batch", "name"),
    ("daicho_records_generation", "retention_due"),
    ("daicho_records_entry", "data"),
}
"""Of these it is shown that nothing else in a verification sees them."""

FLIPS = 80
"""Bits of a file of SQLite that are flipped, one at a time."""


@pytest.fixture
def full(house: House) -> House:
    """A house with rows in every table."""
    house.ledger()
    house.person("clerk", "records-office")
    batch = house.batch(4)
    record = house.sealed(batch, 1)
    note_pages_read(house.stores, house.officer, [(record, 2)])
    edit(house.stores, house.officer, house.sealed(batch, 2), 1, {"name": "山本"}, "誤り")
    house.waiting(batch, 3)
    settle(house.stores, house.officer, house.waiting(batch, 4), {})
    closed, _ = open_batch(house.stores, house.officer, "clients", "閉", [NewSheet("a.pdf", 0, "", "file", "file.bad")])
    close_batch(house.stores, house.officer, closed)
    set_password(house.officer.person, "a long password")
    connection.close()
    return house


@pytest.fixture
def tamper(engine: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[[str], None]]:
    """Run a statement as somebody who owns the database and has switched its protection off."""
    if engine == "sqlite":

        def run(statement: str) -> None:
            with closing(sqlite3.connect(tmp_path / "catalogue.sqlite3", isolation_level=None)) as database:
                triggers = database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
                for name, _ in triggers:
                    database.execute(f"DROP TRIGGER {name}")
                assert database.execute(statement).rowcount == 1, statement
                for _, sql in triggers:
                    database.execute(sql)

        yield run
        return
    where = request.getfixturevalue("tables")
    server: PostgresServer = request.getfixturevalue("postgres")
    with closing(server.connect(where.database)) as superuser:

        def run(statement: str) -> None:
            with _unprotected(superuser):
                superuser.execute("SET search_path TO daicho")
                assert superuser.execute(statement).rowcount == 1, statement

        yield run


PAST = ("generation", "ledgerversion", "segment", "entry")


@contextmanager
def _unprotected(superuser: psycopg.Connection[Any]) -> Iterator[None]:
    tables = [f"daicho.daicho_records_{name}" for name in PAST]
    superuser.execute("SET session_replication_role = replica")
    for table in tables:
        superuser.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    yield
    for table, name in zip(tables, PAST, strict=True):
        superuser.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")
        superuser.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER daicho_past_{name}")
    superuser.execute("SET session_replication_role = origin")


def _literal(value: Any) -> str:
    match value:
        case None:
            return "NULL"
        case bool():
            return "TRUE" if value else "FALSE"
        case int():
            return str(value)
        case dict() | list():
            return "'" + json.dumps(value, ensure_ascii=False).replace("'", "''") + "'"
    return "'" + str(value).replace("'", "''") + "'"


def _other(value: Any) -> Any:
    """A value of the same kind that is not this one: a text or a number with one bit flipped, where there is one."""
    match value:
        case bool():
            return not value
        case int():
            return value ^ 1
        case dict():
            key = sorted(value)[0] if value else "x"
            return {**value, key: [value.get(key)]}
        case None:
            return None
    return chr(ord(value[0]) ^ 2) + value[1:] if value else "x"


def test_every_cell_that_is_changed_is_found_and_named(
    full: House, engine: str, tamper: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert compare.compare(full.stores) == []
    for table, column in CELLS if engine == "sqlite" else CELLS[::5]:
        key = dict(queries.tables())[table]
        row = next(each for each in queries.table_rows(table) if each[column] is not None)
        connection.close()
        other = _other(row[column])
        where = {name: row[name] for name in key}

        def change(value: Any, where: dict[str, Any], table: str = table, column: str = column) -> None:
            told = " AND ".join(f'"{name}" = {_literal(each)}' for name, each in where.items())
            tamper(f'UPDATE {table} SET "{column}" = {_literal(value)} WHERE {told}')

        change(other, where)
        found = {(each.path, each.code, each.detail) for each in compare.compare(full.stores)}
        named = " ".join((table, *(str(each) for each in where.values())))
        if column in key:
            (missing,) = (path for path, _, detail in found if detail == "the row is missing")
            (extra,) = (path for path, _, detail in found if detail == "a row that the journal does not give")
            assert (missing, len(found)) == (named, 2) and extra.startswith(f"{table} "), (table, column, found)
        else:
            detail = f"column {column} is not what the journal gives"
            assert found == {(named, "catalogue.differs", detail)}, (table, column, found)
            assert str(other) not in str(found) or len(str(other)) < 4
        if (table, column) in CONTROLS:
            assert named in {each.path for each in check.verify(full.stores).findings}
            with monkeypatch.context() as patch:
                patch.setattr(check, "compare", lambda stores: [])
                assert check.verify(full.stores).findings == [], (table, column)
        connection.close()
        change(row[column], where | ({column: other} if column in key else {}))
    assert compare.compare(full.stores) == []


def test_rows_too_many_and_too_few(full: House, tamper: Callable[[str], None]) -> None:
    post = "INSERT INTO daicho_access_grant (post_id, ledger, action) VALUES ('records-office', 'clients', '山田 太郎')"
    tamper(post)
    sheet = Sheet.objects.filter(state="").first() or Sheet.objects.order_by("-id").first()
    assert sheet is not None
    gone = f"{sheet.batch_id} {sheet.number}"
    connection.close()
    tamper(f"DELETE FROM daicho_records_sheet WHERE id = {sheet.id}")
    found = {(each.object_id, each.path, each.detail) for each in compare.compare(full.stores)}
    assert found == {
        # What somebody put into a key is not repeated: it may be a name.
        ("catalogue", "daicho_access_grant records-office clients …", "a row that the journal does not give"),
        ("catalogue", f"daicho_records_sheet {gone}", "the row is missing"),
    }


def test_a_catalogue_of_which_nothing_is_right(
    full: House, tamper: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "MOST", 2)
    for record in Record.objects.order_by("id"):
        connection.close()
        tamper(f"UPDATE daicho_records_record SET reason = 'x' WHERE id = '{record.id}'")
    found = compare.compare(full.stores)
    assert [each.detail for each in found] == ["column reason is not what the journal gives"] * 2 + ["and more"]


def test_others_write_meanwhile(full: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal has gone on, and the catalogue with it: both are compared as they were at the start."""
    fold_some = compare.fold_some
    count = Segment.objects.count()

    def late(stores: Any, catalogue: str, upto: int) -> bool:
        assert upto == count
        return fold_some(stores, catalogue, upto)

    monkeypatch.setattr(compare, "fold_some", late)
    whole = full.stores.journal.last
    assert whole() == count
    stores = full.stores
    stores.journal.append(count + 1, b"not to be read")
    assert compare.compare(stores) == []


def test_a_journal_that_cannot_be_folded_is_told(full: House) -> None:
    journal: Any = full.stores.journal
    journal._segments[2] = journal._segments[2][:-1]
    with pytest.raises(StoreDamaged) as caught:
        compare.compare(full.stores)
    assert caught.value.code == "journal.broken"


def test_nothing_of_the_scratch_catalogue_stays(full: House, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.conf import settings

    fold_some = compare.fold_some
    seen = []

    def look(stores: Any, catalogue: str, upto: int) -> bool:
        seen.append(sorted(settings.SCRATCH.iterdir()))
        return fold_some(stores, catalogue, upto)

    monkeypatch.setattr(compare, "fold_some", look)
    assert compare.compare(full.stores) == []
    assert seen and not any(seen)


def test_one_and_true_are_not_the_same() -> None:
    same = compare._same
    assert same(1, 1) and same({"a": 1, "b": 2}, {"b": 2, "a": 1}) and same("x", "x")
    assert not same(1, True) and not same({"a": 1}, {"a": 1.0}) and not same({"a": 1}, {"a": True}) and not same("1", 1)


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_one_flipped_bit_in_the_file(full: House, tmp_path: Path) -> None:
    """Somewhere in the file, in a row, an index or the pages' own bytes: what changes an answer is found."""
    place = tmp_path / "catalogue.sqlite3"
    Credential.objects.all().delete()  # what the journal does not know cannot be found
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    shutil.copyfile(place, tmp_path / "whole.sqlite3")
    whole = (tmp_path / "whole.sqlite3").read_bytes()
    asked = answers()
    connection.close()
    draw = random.Random(20261121)
    # A page header and a cell of each kind lie near the pages' ends and beginnings: zeros between them are nothing.
    used = [offset for offset in range(100, len(whole)) if whole[offset]]
    changed = found = 0
    for offset in draw.sample(used, FLIPS):
        data = bytearray(whole)
        data[offset] ^= 1 << draw.randrange(8)
        put(place, bytes(data))
        now = answers()
        connection.close()
        findings = findings_of(full)
        connection.close()
        changed += now != asked
        found += bool(findings)
        assert findings or now == asked, offset
    put(place, whole)
    assert compare.compare(full.stores) == []
    assert changed > FLIPS // 3 and found >= changed


def put(place: Path, data: bytes) -> None:
    for suffix in ("-wal", "-shm"):
        place.with_name(place.name + suffix).unlink(missing_ok=True)
    place.write_bytes(data)


def findings_of(house: House) -> list[str]:
    try:
        return [each.code for each in compare.compare(house.stores)]
    except DaichoError as error:
        return [error.code]


def answers() -> object:
    """What readers get: all rows, and rows that are looked up by indexes."""
    try:
        looked_up = [
            [row.id for row in queries.waiting(["clients"])],
            [queries.record(row) is not None for row in recorded()],
        ]
        return catalogue_digest(), looked_up
    except Exception as error:
        return type(error).__name__


def recorded() -> list[str]:
    return sorted(Sheet.objects.exclude(record=None).values_list("record_id", flat=True))
