"""The catalogue on PostgreSQL: the past is safe from the application, the server is checked, faults are coded and nothing acknowledged is lost.

That records behave the same on both engines is shown by tests/records, which run on both.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from django.db import IntegrityError, close_old_connections, connection
from psycopg import sql
from psycopg.types.json import Json

from access import queries as access_queries
from core.errors import BadInput, Busy, Conflict, DaichoError, NotReady, StorageFull, Unreachable
from core.settings import PostgresSettings, Settings, engines_toml, load
from records import fold, queries
from records.check import catalogue_digest, verify
from records.models import Batch, Entry, Ledger, Record, Segment, Sheet
from records.operation import note_alone
from records.rebuild import rebuild
from storage.memory import MemoryJournal
from tests.house import House, empty_tables, put_blank, use_catalogue, use_database, use_server
from tests.installed import done, environment
from tests.servers.proxy import Proxy
from tests.servers.running import POSTGRES_USER, PostgresServer
from wiring import catalogue
from wiring.postgresql import server

PAST = ("generation", "ledgerversion", "segment", "entry")


def settings(where: PostgresSettings | None, data: Path = Path("nowhere")) -> Settings:
    return replace(load(data, environment={}), catalogue_engine=where)


@pytest.fixture(scope="module")
def made(postgres: PostgresServer) -> PostgresSettings:
    """A database with a catalogue. Tests that use it leave the server's rights as they were."""
    where = postgres.new()
    catalogue.create(settings(where))
    return where


@pytest.fixture
def superuser(postgres: PostgresServer, made: PostgresSettings) -> Iterator[psycopg.Connection[Any]]:
    """The superuser in the database of `made`."""
    with closing(postgres.connect(made.database)) as connection:
        yield connection


@pytest.fixture
def house(made: PostgresSettings, superuser: psycopg.Connection[Any]) -> Iterator[House]:
    """A founded house with a ledger and a sealed record, its catalogue in `made`."""
    with use_server(made):
        empty_tables(superuser)
        house = House.founded()
        house.ledger()
        house.sealed(house.batch(2), 1)
        yield house


def folded_on_sqlite(house: House, blank: Path, folder: Path) -> str:
    return house.rebuilt_digest(blank, folder / "again.sqlite3")


# --- The past

ATTEMPTS = (
    "UPDATE daicho_records_{0} SET {1} = {1}",
    "UPDATE daicho_records_{0} SET {1} = {1} WHERE false",
    "DELETE FROM daicho_records_{0}",
    "DELETE FROM daicho_records_{0} WHERE false",
    "TRUNCATE daicho_records_{0} CASCADE",
    "INSERT INTO daicho_records_{0} SELECT * FROM daicho_records_{0} ON CONFLICT ({1}) DO UPDATE SET {1} = excluded.{1}",
    "MERGE INTO daicho_records_{0} USING (SELECT 1) AS one ON true WHEN MATCHED THEN UPDATE SET {1} = {1}",
    "MERGE INTO daicho_records_{0} USING (SELECT 1) AS one ON true WHEN MATCHED THEN DELETE",
    "WITH gone AS (DELETE FROM daicho_records_{0} RETURNING *) SELECT count(*) FROM gone",
)
"""What would change the past, with the name of a table and of its key."""

POWERS = (
    "ALTER TABLE daicho_records_{0} DISABLE TRIGGER ALL",
    "ALTER TABLE daicho_records_{0} DISABLE TRIGGER daicho_past_{0}",
    "ALTER TABLE daicho_records_{0} DROP COLUMN {1} CASCADE",
    "ALTER TABLE daicho_records_{0} RENAME TO gone",
    "DROP TABLE daicho_records_{0} CASCADE",
    "DROP TRIGGER daicho_past_{0} ON daicho_records_{0}",
    "DROP FUNCTION daicho_past() CASCADE",
    "CREATE OR REPLACE FUNCTION daicho_past() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    "CREATE TRIGGER other BEFORE INSERT ON daicho_records_{0} FOR EACH ROW EXECUTE FUNCTION daicho_past()",
    "CREATE RULE other AS ON INSERT TO daicho_records_{0} DO INSTEAD NOTHING",
    "SELECT * FROM daicho_records_{0} FOR UPDATE",
    "BEGIN; LOCK TABLE daicho_records_{0} IN ACCESS EXCLUSIVE MODE",
    "COPY daicho_records_{0} FROM PROGRAM 'true'",
    "COPY daicho_records_{0} FROM '/dev/null'",
    "SET session_replication_role = replica",
    "ALTER SCHEMA daicho RENAME TO gone",
    "DROP SCHEMA daicho CASCADE",
    "CREATE TABLE daicho.other ()",
    "CREATE TABLE public.other ()",
    "CREATE SCHEMA other",
    "CREATE TEMPORARY TABLE daicho_records_{0} ()",
    "ALTER DATABASE {2} SET search_path = other",
    "SET ROLE {3}",
    "DELETE FROM django_migrations",
)
"""What would give the power to."""

KEYS = {"generation": "id", "ledgerversion": "id", "segment": "number", "entry": "number"}


@pytest.mark.parametrize("table", PAST)
def test_the_application_cannot_change_the_past(house: House, made: PostgresSettings, table: str) -> None:
    before = catalogue_digest()
    with closing(server.connect(made, autocommit=True)) as application:
        # PostgreSQL refuses by a warning alone; what follows shows that nothing was granted.
        application.execute(f"GRANT ALL ON daicho_records_{table} TO CURRENT_USER")
    told = {}
    for attempt in ATTEMPTS + POWERS:
        statement = attempt.format(table, KEYS[table], made.database, made.owner)
        with closing(server.connect(made, autocommit=True)) as application:
            try:
                application.execute(statement)
                told[statement] = "done"
            except psycopg.Error as error:
                told[statement] = str(error.sqlstate)
    assert {statement: state for statement, state in told.items() if state != "42501"} == {}
    assert len(told) == len(ATTEMPTS + POWERS)
    # What the role may do to the past is add to it, by any way.
    with closing(server.connect(made)) as application:
        with pytest.raises(psycopg.errors.UniqueViolation), application.cursor() as cursor:
            rows = cursor.execute(f"SELECT * FROM daicho_records_{table}").fetchall()
            with cursor.copy(f"COPY daicho_records_{table} FROM STDIN") as copy:
                for row in rows:
                    copy.write_row([Json(cell) if isinstance(cell, dict) else cell for cell in row])
        application.rollback()
    assert catalogue_digest() == before
    assert queries.integrity() == "ok"


@pytest.mark.parametrize("table", PAST)
@pytest.mark.parametrize("role", ["owner", "superuser"])
def test_nor_can_the_owner_without_taking_the_protection_away(
    house: House, made: PostgresSettings, superuser: psycopg.Connection[Any], table: str, role: str
) -> None:
    before = catalogue_digest()
    with closing(server.connect(made, owner=True, autocommit=True)) as owner:
        powerful = owner if role == "owner" else superuser
        powerful.execute("SET search_path = daicho")
        if role == "superuser":
            # Ordinary triggers rest then.
            powerful.execute("SET session_replication_role = replica")
        for attempt in ATTEMPTS:
            with pytest.raises(psycopg.errors.IntegrityConstraintViolation, match="the past cannot be changed"):
                powerful.execute(attempt.format(table, KEYS[table]))
    assert catalogue_digest() == before


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_only_a_migration_takes_the_protection_away(postgres: PostgresServer, tmp_path: Path, kind: str) -> None:
    """And the same act ends in the same class of error on both engines, where rights alone would not refuse it."""
    where = postgres.new() if kind == "postgresql" else None
    here = settings(where, tmp_path)
    with use_database(server.django_database(where, owner=True) if where else catalogue.django_database(here)):
        catalogue.create(here)
        Segment.objects.create(number=1, digest="", first=1, entries=0)
        for act in (lambda: Segment.objects.update(digest="x"), lambda: Segment.objects.all().delete()):
            with pytest.raises(IntegrityError, match="the past cannot be changed"):
                act()
        call_command("migrate", "daicho_records", "0001", verbosity=0)
        assert Segment.objects.update(digest="x") == 1
        call_command("migrate", verbosity=0)
        with pytest.raises(IntegrityError, match="the past cannot be changed"):
            Segment.objects.update(digest="y")


@pytest.mark.parametrize(
    ("harm", "mend", "complaint"),
    [
        (
            "ALTER TABLE daicho.daicho_records_entry DISABLE TRIGGER daicho_past_entry",
            "ALTER TABLE daicho.daicho_records_entry ENABLE ALWAYS TRIGGER daicho_past_entry",
            "daicho_records_entry: the trigger that protects the past is missing or switched off",
        ),
        (
            "ALTER TABLE daicho.daicho_records_segment ENABLE TRIGGER daicho_past_segment",
            "ALTER TABLE daicho.daicho_records_segment ENABLE ALWAYS TRIGGER daicho_past_segment",
            "daicho_records_segment: the trigger that protects the past is missing or switched off",
        ),
        (
            "GRANT TRUNCATE ON daicho.daicho_records_generation TO {user}",
            "REVOKE TRUNCATE ON daicho.daicho_records_generation FROM {user}",
            "daicho_records_generation: the role of the application may change the past",
        ),
        (
            "GRANT UPDATE (at) ON daicho.daicho_records_ledgerversion TO {user}",
            "REVOKE UPDATE (at) ON daicho.daicho_records_ledgerversion FROM {user}",
            "daicho_records_ledgerversion: the role of the application may change the past",
        ),
        (
            "GRANT {owner} TO {user}",
            "REVOKE {owner} FROM {user}",
            "daicho_records_entry: the role of the application may change the past",
        ),
        (
            "GRANT pg_write_all_data TO {user}",
            "REVOKE pg_write_all_data FROM {user}",
            "daicho_records_entry: the role of the application may change the past",
        ),
        (
            "GRANT CREATE ON SCHEMA daicho TO {user}",
            "REVOKE CREATE ON SCHEMA daicho FROM {user}",
            "the role of the application may create in the schema",
        ),
        (
            "ALTER ROLE {user} SET synchronous_commit = off",
            "ALTER ROLE {user} RESET synchronous_commit",
            "synchronous_commit is off",
        ),
    ],
)
def test_a_protection_that_is_gone_is_told(
    house: House, made: PostgresSettings, superuser: psycopg.Connection[Any], harm: str, mend: str, complaint: str
) -> None:
    superuser.execute(harm.format(user=made.user, owner=made.owner))
    try:
        connection.close()
        assert queries.integrity() == complaint
    finally:
        superuser.execute(mend.format(user=made.user, owner=made.owner))
    connection.close()
    assert queries.integrity() == "ok"


# --- The same rows on both engines


def test_names_sort_by_their_bytes(house: House, tmp_path: Path, blank_catalogue: Path) -> None:
    for login in ("ab", "a-b", "a.b", "a_b", "a1", "bb"):
        house.person(login, "records-office")
    assert [person.login for person, _ in access_queries.people()] == sorted(
        person.login for person, _ in access_queries.people()
    )
    assert catalogue_digest() == folded_on_sqlite(house, blank_catalogue, tmp_path)


ODD: dict[str, Any] = {
    "float": [1e22, -0.0, 1.0, 1e-7, 5e-324, 1.7976931348623157e308],
    "integer": 2**70,
    "text": "a\x01b𠮷\u200d",
    "": {"b": 1, "a": None},
}
"""What the canonical JSON of the journal may hold and binary JSON of PostgreSQL changes."""


def test_json_stays_as_it_was(house: House, tmp_path: Path, blank_catalogue: Path) -> None:
    note_alone(house.stores, house.officer, "batch_listed", data=ODD)
    [kept] = Entry.objects.filter(event="batch_listed").values_list("data", flat=True)
    assert repr(kept) == repr(ODD)
    assert catalogue_digest() == folded_on_sqlite(house, blank_catalogue, tmp_path)


def test_lengths_are_no_limit_where_sqlite_has_none(house: House, tmp_path: Path, blank_catalogue: Path) -> None:
    """A journal that one engine took in must fold on the other."""
    long = "x" * 1000
    note_alone(house.stores, house.officer, long, ledger=long, batch=long, record=long)
    assert Entry.objects.filter(record=long).count() == 1
    assert catalogue_digest() == folded_on_sqlite(house, blank_catalogue, tmp_path)


def test_what_no_column_can_hold_is_refused_before_it_is_journalled(house: House) -> None:
    last = house.stores.journal.last()
    with pytest.raises(BadInput) as caught:
        house.person("a" * 10, "records-office") and house.batch(1, name="a\x00b")
    assert caught.value.code == "input.nul"
    with pytest.raises(BadInput) as caught:
        note_alone(house.stores, house.officer, "batch_listed", data={"text": ["a\x00b"]})
    assert caught.value.code == "input.nul"
    assert house.stores.journal.last() == last + 1  # the person
    assert Segment.objects.count() == last + 1
    house.batch(1, name="again")


def test_an_odd_question_finds_nothing(house: House) -> None:
    assert queries.generation("r-nobody", 2**40) is None
    assert queries.record("x" * 5000) is None
    assert queries.ledgers(["'; DROP TABLE x", "%", "_"]) == []


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_what_has_no_place_comes_first(house: House, tmp_path: Path, blank_catalogue: Path, kind: str) -> None:
    """The engines disagree about where NULL sorts."""

    def told() -> tuple[list[str], list[tuple[int, str]]]:
        Ledger.objects.create(id="odd", version=1)
        Batch.objects.create(id="b", ledger_id="odd", name="", source="", opened_at="2026", opened_by="")
        for name, batch in (("r-1", "b"), ("r-2", None), ("r-3", "b")):
            Record.objects.create(
                id=name, ledger_id="odd", batch_id=batch, state="waiting", object_version=1, object_digest=""
            )
        Sheet.objects.create(batch_id="b", number=1, file="", page=1, mark="", kind="form", record_id="r-1")
        return [row.id for row in queries.waiting(["odd"])], queries.waiting_places("b")

    expected = (["r-2", "r-3", "r-1"], [(0, "r-3"), (1, "r-1")])
    if kind == "postgresql":
        assert told() == expected
    else:
        place = tmp_path / "odd.sqlite3"
        put_blank(blank_catalogue, place)
        with use_catalogue(place):
            assert told() == expected


# --- Letting in, and being fit


def refused(where: PostgresSettings) -> DaichoError:
    with pytest.raises(DaichoError) as caught:
        catalogue.check_server(settings(where))
    return caught.value


def test_a_server_that_does_not_answer(postgres: PostgresServer, made: PostgresSettings) -> None:
    catalogue.check_server(settings(made))
    with Proxy("127.0.0.1", postgres.port) as proxy:
        behind = replace(made, port=proxy.port, timeout=1)
        catalogue.check_server(settings(behind))
        proxy.delay(0.05)
        catalogue.check_server(settings(behind))
        proxy.silence()
        started = time.monotonic()
        silent = refused(behind)
        assert time.monotonic() - started < 10
        proxy.normal()
        catalogue.check_server(settings(behind))
        proxy.refuse()
        for error in (silent, refused(behind), refused(replace(made, host="host.invalid"))):
            assert isinstance(error, Unreachable)
            assert (error.code, error.retryable) == ("catalogue.unreachable", True)


def test_who_is_not_let_in(
    postgres: PostgresServer, made: PostgresSettings, superuser: psycopg.Connection[Any]
) -> None:
    stranger = postgres.new()
    for where in (
        replace(made, password="wrong"),
        replace(made, user="nobody"),
        replace(made, password=""),
        replace(made, user=stranger.user, password=stranger.password),
    ):
        error = refused(where)
        assert isinstance(error, NotReady) and not error.retryable
        assert error.code == "catalogue.credentials", where
        assert "wrong" not in error.ja + error.en
    with pytest.raises(NotReady) as caught:
        catalogue.create(settings(replace(postgres.new(), owner_password="wrong")))
    assert caught.value.code == "catalogue.credentials"
    with use_server(replace(made, password="wrong")), pytest.raises(NotReady) as caught:
        queries.municipality()
    assert caught.value.code == "catalogue.credentials"


def test_what_an_administrator_must_make(made: PostgresSettings) -> None:
    error = refused(replace(made, database="daicho_other"))
    line = f"CREATE DATABASE daicho_other OWNER {made.owner} ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0;"
    assert (error.code, line in error.ja, line in error.en) == ("catalogue.unsuitable", True, True)
    error = refused(replace(made, sslmode="require"))
    assert (error.code, "sslmode" in error.ja, "sslmode" in error.en) == ("catalogue.unsuitable", True, True)


def test_an_encrypted_connection(
    postgres: PostgresServer, made: PostgresSettings, superuser: psycopg.Connection[Any], tmp_path: Path
) -> None:
    """The certificate counts, and what a server says over it is told apart as without."""
    for name in ("server", "other"):
        make = f"openssl req -x509 -nodes -newkey rsa:2048 -days 2 -subj /CN={name} -addext subjectAltName=IP:127.0.0.1"
        subprocess.run([*make.split(), "-keyout", f"{name}.key", "-out", f"{name}.crt"], cwd=tmp_path, check=True)
    row = superuser.execute("SHOW data_directory").fetchone()
    assert row is not None
    data = Path(row[0])
    for name in ("server.key", "server.crt"):
        shutil.copyfile(tmp_path / name, data / name)
        (data / name).chmod(0o600)
        shutil.chown(data / name, data.stat().st_uid)
    superuser.execute("ALTER SYSTEM SET ssl = on")
    superuser.execute("SELECT pg_reload_conf()")
    try:
        safe = replace(made, sslmode="verify-full", ca=str(tmp_path / "server.crt"))
        until = time.monotonic() + 10
        while True:
            try:
                catalogue.check_server(settings(safe))
                break
            except NotReady:  # the server takes a moment to read its configuration
                assert time.monotonic() < until
                time.sleep(0.1)
        with use_server(safe), connection.cursor() as cursor:
            cursor.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            assert cursor.fetchone() == (True,)
        assert refused(replace(safe, password="wrong")).code == "catalogue.credentials"
        error = refused(replace(safe, ca=str(tmp_path / "other.crt")))
        assert (error.code, "sslmode" in error.en) == ("catalogue.unsuitable", True)
    finally:
        superuser.execute("ALTER SYSTEM RESET ssl")
        superuser.execute("SELECT pg_reload_conf()")


@pytest.mark.parametrize(
    ("options", "fits"),
    [
        ("ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'", True),
        ("ENCODING 'UTF8' LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8'", True),
        ("ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C' LOCALE_PROVIDER icu ICU_LOCALE 'ja'", False),
        ("ENCODING 'EUC_JP' LC_COLLATE 'C' LC_CTYPE 'C'", False),
        ("ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'", False),
    ],
)
def test_a_database_that_sorts_otherwise(postgres: PostgresServer, options: str, fits: bool) -> None:
    where = postgres.new()
    with closing(postgres.connect()) as superuser:
        superuser.execute(f"DROP DATABASE {where.database}")
        superuser.execute(f"CREATE DATABASE {where.database} OWNER {where.owner} {options} TEMPLATE template0")
        if fits:
            catalogue.create(settings(where))
            assert catalogue.exists(settings(where))
            return
        error = refused(where)
        assert (error.code, f"CREATE DATABASE {where.database} OWNER {where.owner}" in error.ja) == (
            "catalogue.unsuitable",
            True,
        )
        with pytest.raises(NotReady):
            catalogue.create(settings(where))


@pytest.mark.parametrize(
    ("harm", "mend", "word"),
    [
        ("ALTER SYSTEM SET fsync = off", "ALTER SYSTEM RESET fsync", "fsync"),
        ("ALTER SYSTEM SET full_page_writes = off", "ALTER SYSTEM RESET full_page_writes", "full_page_writes"),
        (
            "ALTER ROLE {user} SET synchronous_commit = off",
            "ALTER ROLE {user} RESET synchronous_commit",
            "synchronous_commit",
        ),
        (
            "ALTER DATABASE {database} SET default_transaction_read_only = on",
            "ALTER DATABASE {database} RESET default_transaction_read_only",
            "primary",
        ),
        ("ALTER ROLE {user} SUPERUSER", "ALTER ROLE {user} NOSUPERUSER", "SUPERUSER"),
        ("GRANT {owner} TO {user}", "REVOKE {owner} FROM {user}", "{owner}"),
        ("GRANT pg_write_all_data TO {user}", "REVOKE pg_write_all_data FROM {user}", "pg_write_all_data"),
        (
            "ALTER DATABASE {database} OWNER TO {user}",
            "ALTER DATABASE {database} OWNER TO {owner}; GRANT CONNECT ON DATABASE {database} TO {user}",
            "CREATE DATABASE",
        ),
    ],
)
def test_a_server_that_cannot_be_trusted(
    made: PostgresSettings, superuser: psycopg.Connection[Any], harm: str, mend: str, word: str
) -> None:
    names = {"user": made.user, "owner": made.owner, "database": made.database}

    def tell(statement: str) -> None:
        superuser.execute("SET default_transaction_read_only = off")
        superuser.execute(statement.format(**names))
        superuser.execute("SELECT pg_reload_conf()")
        time.sleep(0.3)

    tell(harm)
    try:
        error = refused(made)
    finally:
        tell(mend)
    assert (error.code, word.format(**names) in error.en, error.retryable) == ("catalogue.unsuitable", True, False)
    catalogue.check_server(settings(made))


def test_a_server_of_an_older_version(made: PostgresSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "OLDEST", 99)
    error = refused(made)
    assert (error.code, "PostgreSQL 15" in error.ja, "99" in error.en) == ("catalogue.unsuitable", True, True)


# --- Faults in the middle


class Interrupting(MemoryJournal):
    """A journal after whose next append something happens, before the catalogue commits."""

    happens: Callable[[], object] | None = None

    def append(self, number: int, segment: bytes) -> None:
        super().append(number, segment)
        if self.happens is not None:
            happens, self.happens = self.happens, None
            happens()


def interrupting(house: House, happens: Callable[[], object]) -> House:
    journal = Interrupting()
    for number, segment in house.stores.journal.segments():
        journal.append(number, segment)
    journal.happens = happens
    return replace(house, stores=replace(house.stores, journal=journal))


def backend() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


def whole(house: House, blank: Path, folder: Path, listed: int) -> None:
    """The catalogue is the fold of the journal, and so many `batch_listed` are in it."""
    assert Entry.objects.filter(event="batch_listed").count() == listed
    numbers = list(Entry.objects.order_by("number").values_list("number", flat=True))
    assert numbers == list(range(1, len(numbers) + 1))
    assert Segment.objects.count() == house.stores.journal.last()
    assert verify(house.stores).findings == []
    assert catalogue_digest() == folded_on_sqlite(house, blank, folder)


def list_batches(house: House) -> None:
    note_alone(house.stores, house.officer, "batch_listed")


def test_a_backend_killed_between_operations(
    house: House, superuser: psycopg.Connection[Any], tmp_path: Path, blank_catalogue: Path
) -> None:
    """The next operation does not notice, nor the next request of the pages; nor does, after one error, a plain question."""
    superuser.execute("SELECT pg_terminate_backend(%s, 5000)", [backend()])
    list_batches(house)
    superuser.execute("SELECT pg_terminate_backend(%s, 5000)", [backend()])
    close_old_connections()  # as Django does before each request
    assert queries.municipality() is not None
    superuser.execute("SELECT pg_terminate_backend(%s, 5000)", [backend()])
    with pytest.raises(Unreachable):
        queries.municipality()
    assert queries.municipality() is not None
    whole(house, blank_catalogue, tmp_path, 1)


def test_a_backend_killed_within_an_operation(
    house: House,
    superuser: psycopg.Connection[Any],
    tmp_path: Path,
    blank_catalogue: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    last = house.stores.journal.last()
    steps = dict(fold.STEPS)

    def kill(gathered: fold.Fold, entry: dict[str, Any], personal: Any) -> None:
        superuser.execute("SELECT pg_terminate_backend(%s, 5000)", [backend()])

    monkeypatch.setattr(fold, "STEPS", steps | {"batch_listed": kill})
    with pytest.raises(Unreachable) as caught:
        list_batches(house)
    assert caught.value.code == "catalogue.unreachable"
    assert house.stores.journal.last() == last
    monkeypatch.setattr(fold, "STEPS", steps)
    list_batches(house)
    whole(house, blank_catalogue, tmp_path, 1)


def test_a_backend_killed_before_the_commit(
    house: House, superuser: psycopg.Connection[Any], tmp_path: Path, blank_catalogue: Path
) -> None:
    """The segment is in the store, the catalogue lacks it, the caller is told; the next operation takes it in first."""
    pid = backend()
    house = interrupting(house, lambda: superuser.execute("SELECT pg_terminate_backend(%s, 5000)", [pid]))
    with pytest.raises(Unreachable) as caught:
        list_batches(house)
    assert caught.value.retryable
    assert house.stores.journal.last() == Segment.objects.count() + 1
    list_batches(house)
    whole(house, blank_catalogue, tmp_path, 2)


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_commit_lost_in_transit(
    house: House, postgres: PostgresServer, made: PostgresSettings, tmp_path: Path, blank_catalogue: Path, way: Any
) -> None:
    """On the way up the server never heard of it; on the way down it is done and nobody was told."""
    with Proxy("127.0.0.1", postgres.port) as proxy, use_server(replace(made, port=proxy.port)):
        house = interrupting(house, lambda: proxy.cut(after=0, way=way, times=1))
        with pytest.raises(Unreachable):
            list_batches(house)
        proxy.normal()
        lacks = 1 if way == "up" else 0
        until = time.monotonic() + 5
        while house.stores.journal.last() != Segment.objects.count() + lacks and time.monotonic() < until:
            time.sleep(0.05)
        assert house.stores.journal.last() == Segment.objects.count() + lacks
        list_batches(house)
        whole(house, blank_catalogue, tmp_path, 2)


def test_a_server_stopped_and_started_again(
    house: House, postgres: PostgresServer, tmp_path: Path, blank_catalogue: Path
) -> None:
    list_batches(house)
    for end in (postgres.stop, postgres.kill):
        end()
        try:
            for _ in range(2):
                with pytest.raises(Unreachable) as caught:
                    list_batches(house)
                assert caught.value.code == "catalogue.unreachable"
        finally:
            postgres.start()
        list_batches(house)
    whole(house, blank_catalogue, tmp_path, 3)


def test_a_server_killed_before_the_commit(
    house: House, postgres: PostgresServer, tmp_path: Path, blank_catalogue: Path
) -> None:
    """What was committed is there after SIGKILL; what was not comes from the journal."""
    list_batches(house)
    house = interrupting(house, postgres.kill)
    try:
        with pytest.raises(Unreachable):
            list_batches(house)
    finally:
        postgres.start()
    assert Entry.objects.filter(event="batch_listed").count() == 1
    list_batches(house)
    whole(house, blank_catalogue, tmp_path, 3)


def test_a_server_that_goes_silent_is_given_up(
    house: House,
    postgres: PostgresServer,
    made: PostgresSettings,
    tmp_path: Path,
    blank_catalogue: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "ANSWER", 1.0)
    with Proxy("127.0.0.1", postgres.port) as proxy, use_server(replace(made, port=proxy.port, timeout=1)):
        list_batches(house)
        house = interrupting(house, proxy.silence)
        started = time.monotonic()
        with pytest.raises(Unreachable) as caught:
            list_batches(house)
        assert time.monotonic() - started < 10
        assert caught.value.code == "catalogue.unreachable"
        proxy.normal()
        list_batches(house)
        whole(house, blank_catalogue, tmp_path, 3)


def test_another_writer_that_does_not_end(
    house: House, made: PostgresSettings, tmp_path: Path, blank_catalogue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "LOCK_WAIT", 1)
    connection.close()
    last = house.stores.journal.last()
    with closing(server.connect(made)) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s, %s)", queries.WRITER)
        with pytest.raises(Busy) as caught:
            list_batches(house)
        assert (caught.value.code, caught.value.retryable) == ("busy", True)
        assert queries.municipality() is not None  # who reads does not wait
    assert house.stores.journal.last() == last
    list_batches(house)
    whole(house, blank_catalogue, tmp_path, 1)


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of its own that is soon full, for the user that the server runs as."""
    folder.mkdir()
    user = pwd.getpwnam(POSTGRES_USER).pw_uid
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,uid={user},mode=0700", "tmpfs", str(folder)],
        capture_output=True,
    )
    if made.returncode:
        pytest.skip("a small file system cannot be mounted here: needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk(postgres: PostgresServer, servers_folder: Path, tmp_path: Path, blank_catalogue: Path) -> None:
    where = postgres.new()
    name = f"small_{where.database}"
    with small_disk(servers_folder / name, 24) as place, closing(postgres.connect()) as superuser:
        superuser.execute(sql.SQL("CREATE TABLESPACE {} LOCATION {}").format(sql.Identifier(name), str(place)))
        superuser.execute(f"ALTER DATABASE {where.database} SET TABLESPACE {name}")
        catalogue.create(settings(where))
        with closing(postgres.connect(where.database)) as inside, use_server(where):
            house = House.founded()
            inside.execute("CREATE TABLE filler (bytes bytea)")
            with pytest.raises(psycopg.errors.DiskFull):
                for _ in range(1000):
                    inside.execute(
                        "INSERT INTO filler SELECT string_agg(uuid_send(gen_random_uuid()), '') FROM generate_series(1, 10000)"
                    )
            done = 0
            with pytest.raises(StorageFull) as caught:
                for _ in range(2000):
                    note_alone(house.stores, house.officer, "batch_listed", data={"filler": os.urandom(20000).hex()})
                    done += 1
            assert (caught.value.code, caught.value.retryable) == ("storage.full", True)
            assert queries.municipality() is not None
            inside.execute("DROP TABLE filler")
            list_batches(house)
            whole(house, blank_catalogue, tmp_path, done + 1)
        superuser.execute(f"DROP DATABASE {where.database} WITH (FORCE)")
        superuser.execute(f"DROP TABLESPACE {name}")


# --- Several processes

WRITER = """
import sys
from pathlib import Path
from core.settings import load
from wiring.setup import set_up
settings = load(Path(sys.argv[1]), environment={})
set_up(settings)
from access.decide import Actor
from records.found import person_by_login
from records.operation import note_alone
from wiring.open import open_installation
stores = open_installation(settings)
actor = Actor(person_by_login("officer"), "cli")
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[2])):
    note_alone(stores, actor, "batch_listed", data={"from": sys.argv[3]})
print("ok")
"""

FOUNDER = """
import sys
from pathlib import Path
from core.settings import load
from wiring.setup import set_up
settings = load(Path(sys.argv[1]), environment={}, engines=Path(sys.argv[2]))
set_up(settings)
from records.found import found
from wiring.open import create
found(create(settings, "officer"), "試験市", "officer", "文書 整理")
"""

TOLD = """
import sys, json
from pathlib import Path
from core.settings import load
from wiring.setup import set_up
settings = load(Path(sys.argv[1]), environment={})
set_up(settings)
from records import queries
from records.check import catalogue_digest, verify
from records.models import Entry
from wiring.open import open_installation
stores = open_installation(settings)
entries = list(Entry.objects.order_by("number").values_list("number", "event", "data"))
print(json.dumps([entries, catalogue_digest(), len(verify(stores).findings), queries.integrity()]))
"""


def python(program: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )


def ended(process: subprocess.Popen[str], said: str = "") -> str:
    out, _ = process.communicate(said, timeout=120)
    assert process.returncode == 0, out
    return out


def waiting(connection: psycopg.Connection[Any]) -> int:
    """How many wait to write."""
    found = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND (classid, objid) = (%s, %s)"
    row = connection.execute(found, queries.WRITER).fetchone()
    return int(row[0]) if row else 0


def test_processes_that_write_at_once(made: PostgresSettings, postgres: PostgresServer, tmp_path: Path) -> None:
    """Every entry gets the next number, on one journal in a folder; no process hears of another."""
    where, data, each = postgres.new(), tmp_path / "data", 30
    engines = tmp_path / "engines.toml"
    engines.write_text(engines_toml(settings(where)), "utf-8")
    ended(python(FOUNDER, data, engines))
    writers = [python(WRITER, data, each, number) for number in range(3)]
    for one in writers:
        assert one.stdout is not None and one.stdout.readline() == "ready\n"
    with closing(server.connect(where, autocommit=True)) as gate:
        gate.execute("SELECT pg_advisory_lock(%s, %s)", queries.WRITER)
        for one in writers:
            assert one.stdin is not None
            one.stdin.write("\n")
            one.stdin.flush()
        until = time.monotonic() + 60
        while waiting(gate) < len(writers):
            assert time.monotonic() < until
            time.sleep(0.05)
    assert [ended(one) for one in writers] == ["ok\n"] * 3
    entries, digest, findings, integrity = json.loads(ended(python(TOLD, data)))
    assert [number for number, _, _ in entries] == list(range(1, len(entries) + 1))
    told = [data["from"] for _, event, data in entries if event == "batch_listed"]
    assert sorted(told) == sorted(["0", "1", "2"] * each)
    assert told != sorted(told), "they did not write at once"
    assert (findings, integrity) == (0, "ok")
    # The same journal on SQLite.
    (data / "daicho.toml").write_text('person = "officer"\n', "utf-8")
    assert done("rebuild", data=data)
    assert json.loads(ended(python(TOLD, data))) == [entries, digest, 0, "ok"]


@pytest.fixture
def no_holds(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What this process holds is given up after the test."""
    holds: list[Any] = []
    monkeypatch.setattr(server, "_holds", holds)
    yield
    for held in holds:
        held.connection.close()


@pytest.mark.usefixtures("no_holds")
def test_who_replaces_the_catalogue_is_alone(made: PostgresSettings) -> None:
    others = [server._locked(made, False) for _ in range(2)]
    with pytest.raises(Busy) as caught:
        catalogue.hold(settings(made), True)
    assert caught.value.code == "installation.in_use"
    for other in others:
        other.close()
    until = time.monotonic() + 5
    while True:
        try:
            catalogue.hold(settings(made), True)
            break
        except Busy:  # the server takes a moment to see that they are gone
            assert time.monotonic() < until
    for alone in (False, True):
        with pytest.raises(Busy) as caught:
            server._locked(made, alone)
        assert caught.value.code == "installation.in_use"


@pytest.mark.usefixtures("no_holds")
def test_a_hold_outlives_the_server(house: House, made: PostgresSettings, postgres: PostgresServer) -> None:
    """A restart takes it without a sign; the next connection of the process takes it again, or is refused."""
    catalogue.hold(settings(made), False)
    for _ in range(2):
        postgres.stop()
        postgres.start()
        list_batches(house)
        with pytest.raises(Busy):
            server._locked(made, True)
    postgres.stop()
    postgres.start()
    with closing(server._locked(made, True)):
        connection.close()
        with pytest.raises(Busy) as caught:
            list_batches(house)
        assert caught.value.code == "installation.in_use"


# --- Made, set aside, made again


def schemas(superuser: psycopg.Connection[Any]) -> set[str]:
    rows = superuser.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'daicho%'").fetchall()
    return {name for (name,) in rows}


def test_it_is_made_whole_or_not_at_all(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    where = postgres.new()
    assert not catalogue.exists(settings(where))
    grants = server.grants

    def broken(where: PostgresSettings) -> Iterator[Any]:
        yield from grants(where)
        raise RuntimeError("the power is cut")

    monkeypatch.setattr(server, "grants", broken)
    with pytest.raises(RuntimeError):
        catalogue.create(settings(where))
    with closing(postgres.connect(where.database)) as superuser:
        assert schemas(superuser) == set()
        monkeypatch.setattr(server, "grants", grants)
        catalogue.create(settings(where))
        assert schemas(superuser) == {"daicho"}
    assert catalogue.exists(settings(where))
    with pytest.raises(Conflict) as caught:
        catalogue.create(settings(where))
    assert caught.value.code == "catalogue.exists"
    with use_server(where):
        assert queries.integrity() == "ok"
        assert queries.municipality() is None


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize("cut", ["nowhere", "set aside", "made", "half folded", "folded", "carried"])
def test_a_rebuild_that_is_cut_short(postgres: PostgresServer, tmp_path: Path, kind: str, cut: str) -> None:
    """The second one finishes it; the password, which is nowhere else, is still there."""
    (tmp_path / "data").mkdir()
    here = settings(postgres.new() if kind == "postgresql" else None, tmp_path / "data")
    with use_database(catalogue.django_database(here)):
        catalogue.create(here)
        house = House.founded()
        house.ledger()
        house.sealed(house.batch(2), 1)
        access_queries.save_credential(house.officer.person, "scrypt$a$b")
        digest, segments = catalogue_digest(), Segment.objects.count()

        def half() -> None:
            with queries.exclusive():
                Segment.objects.create(number=1, digest="", first=1, entries=1)

        def put_aside() -> None:
            connection.close()
            catalogue.set_aside(here)

        steps: list[tuple[str, Callable[[], object]]] = [
            ("set aside", put_aside),
            ("made", lambda: catalogue.create(here)),
            ("half folded", half),
            ("folded", lambda: rebuild(house.stores)),
            ("carried", lambda: catalogue.carry_credentials(here)),
        ]
        if cut != "nowhere":
            for name, step in steps:
                if name != "half folded" or cut == name:
                    step()
                if name == cut:
                    break
            assert catalogue.exists(here) == (cut != "set aside")
        put_aside()
        assert not catalogue.exists(here)
        catalogue.create(here)
        assert rebuild(house.stores) == segments
        assert catalogue.carry_credentials(here) == 1
        catalogue.drop_aside(here)
        catalogue.drop_aside(here)
        credential = access_queries.credential(house.officer.person)
        assert credential is not None and credential.password == "scrypt$a$b"
        assert catalogue_digest() == digest
        assert queries.integrity() == "ok"
    if kind == "sqlite":
        assert {file.name for file in here.data.iterdir()} == {"catalogue.sqlite3"}
    else:
        assert here.catalogue_engine is not None
        with closing(postgres.connect(here.catalogue_engine.database)) as superuser:
            assert schemas(superuser) == {"daicho"}


def test_nothing_aside_has_no_passwords(made: PostgresSettings, tmp_path: Path) -> None:
    with use_server(made):
        assert catalogue.carry_credentials(settings(made)) == 0
