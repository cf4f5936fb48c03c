"""The server from outside of Django: connecting, what it must be, and the schema that a rebuild replaces.

The owner's role is used by `create`, `set_aside`, `credentials_aside` and `drop_aside` alone, each with a connection that ends with the call.
"""

from __future__ import annotations

import os
import re
import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psycopg
from django.core.management import call_command
from django.db import connections, transaction
from psycopg import pq, sql
from psycopg.conninfo import make_conninfo

from core.errors import Conflict, DaichoError
from core.settings import PostgresSettings
from wiring.postgresql import errors

SCHEMA, ASIDE = "daicho", "daicho_before"

OLDEST = 14

ANSWER = 120.0
"""Seconds in which the server must answer a statement of the application; longer than LOCK_WAIT. The owner's have no such limit."""

HEALTH = 5.0
"""Seconds in which an open connection must answer before it is used again; silent ones are closed."""

LOCK_WAIT = 30
"""Seconds to wait for another writer, as long as SQLite waits."""

INSTALLATION = (0x64616963, 2)
"""The advisory lock that says who uses the installation. The one of writers is in `records.queries`."""

SORTS_BY_BYTES = {"c", "posix", "c.utf8", "c.utf-8", "pg_unicode_fast"}

OWNER = "owner"
"""Alias of the owner's connection in Django while tables are made."""


@dataclass
class _Hold:
    """The lock that this process holds until it ends, on a connection of its own."""

    where: PostgresSettings
    alone: bool
    connection: Bounded


_holds: list[_Hold] = []
_renewing = threading.Lock()


class Bounded(psycopg.Connection[Any]):
    """A connection on which nobody waits for ever: a server or network that goes silent is given up after `answer` seconds."""

    answer: float | None = None

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        try:
            return super().wait(gen, interval, timeout or self.answer)
        except psycopg.OperationalError:
            if self.pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
                # Its answer may still come, and would be taken for the next one's.
                self.pgconn.finish()
            raise


def django_database(where: PostgresSettings, *, owner: bool = False) -> dict[str, Any]:
    """What Django's `DATABASES` says of the catalogue. Connections stay open and are looked at before each request."""
    return {
        "ENGINE": "wiring.postgresql",
        "NAME": where.database,
        "CONN_MAX_AGE": None,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {"where": where, "owner": owner},
    }


def parameters(where: PostgresSettings, *, owner: bool = False) -> dict[str, Any]:
    """How libpq is told to connect."""
    options = {
        # The temporary schema, last: it would come first unnamed, and could then stand in for our tables.
        "search_path": f"{SCHEMA},pg_temp",
        "timezone": "UTC",
        "lock_timeout": f"{LOCK_WAIT}s",
        "idle_session_timeout": "0",
        # A server must notice that a client is gone while it waits for a lock, and that a network is gone.
        "client_connection_check_interval": "10s",
        "tcp_keepalives_idle": "30",
        "tcp_keepalives_interval": "10",
        "tcp_keepalives_count": "3",
    }
    told = {
        "host": where.host,
        "port": where.port,
        "dbname": where.database,
        "user": where.owner if owner else where.user,
        "password": where.owner_password if owner else where.password,
        "sslmode": where.sslmode,
        "sslrootcert": where.ca,
        "connect_timeout": where.timeout,
        "client_encoding": "UTF8",
        "application_name": "daicho",
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": 60_000,
        "options": " ".join(f"-c {name}={value}" for name, value in options.items()),
    }
    return {name: value for name, value in told.items() if value != ""}


def connect(where: PostgresSettings, *, owner: bool = False, **more: Any) -> Bounded:
    """A connection as the application's role or as the owner.

    Args:
        more: arguments of `psycopg.connect`.

    Raises:
        Unreachable, NotReady: as `check`.
    """
    try:
        connection = Bounded.connect(**parameters(where, owner=owner), **more)
    except psycopg.OperationalError as error:
        raise _refused(where, owner, error) from error
    connection.answer = None if owner else ANSWER
    return connection


def hold(where: PostgresSettings, alone: bool) -> None:
    """As `wiring.catalogue.hold`."""
    _holds.append(_Hold(where, alone, _locked(where, alone)))


def renew_holds() -> None:
    """Take again what a restart of the server took from this process without a sign; called whenever a connection is made.

    Raises:
        Busy: (`installation.in_use`) somebody has begun to replace the catalogue meanwhile.
    """
    with _renewing:
        for held in _holds:
            try:
                held.connection.execute("SELECT 1")
            except psycopg.OperationalError:
                held.connection.close()
                held.connection = _locked(held.where, held.alone)


def _locked(where: PostgresSettings, alone: bool) -> Bounded:
    connection = connect(where, autocommit=True)
    function = sql.Identifier("pg_try_advisory_lock" if alone else "pg_try_advisory_lock_shared")
    try:
        row = connection.execute(sql.SQL("SELECT {}(%s, %s)").format(function), INSTALLATION).fetchone()
    except psycopg.Error as error:
        connection.close()
        if (ours := errors.translated(error)) is None:
            raise
        raise ours from error
    if row is None or not row[0]:
        connection.close()
        raise errors.in_use()
    return connection


def exists(where: PostgresSettings) -> bool:
    """As `wiring.catalogue.exists`."""
    with session(where) as connection:
        return _has(connection, SCHEMA)


def create(where: PostgresSettings) -> None:
    """As `wiring.catalogue.create`; all of it in one transaction, so that it is there whole or not at all."""
    check(where)
    if exists(where):
        raise Conflict(
            f"データベース {where.database} にはもう目録があります。空のデータベースを指定してください。",
            f"The database {where.database} holds a catalogue already. Name an empty one.",
            code="catalogue.exists",
        )
    connections.settings[OWNER] = connections.configure_settings({"default": django_database(where, owner=True)})[
        "default"
    ]
    try:
        with transaction.atomic(using=OWNER, durable=True), connections[OWNER].cursor() as cursor:
            cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
            call_command("migrate", database=OWNER, verbosity=0)
            for statement in grants(where):
                cursor.execute(statement)
    finally:
        connections[OWNER].close()
        del connections[OWNER]
        del connections.settings[OWNER]


def grants(where: PostgresSettings) -> Iterator[sql.Composed]:
    """What the application's role may do: add to the past, everything to the rest, nothing to the schema."""
    from django.apps import apps

    from records.queries import PAST

    past = {model._meta.db_table for model in PAST}
    user, schema = sql.Identifier(where.user), sql.Identifier(SCHEMA)
    database = sql.Identifier(where.database)
    yield sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database)
    yield sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, user)
    yield sql.SQL("REVOKE ALL ON SCHEMA {} FROM PUBLIC, {}").format(schema, user)
    yield sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(schema, user)
    yield sql.SQL("REVOKE ALL ON ALL TABLES IN SCHEMA {} FROM PUBLIC, {}").format(schema, user)
    yield sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA {} TO {}").format(schema, user)
    for model in apps.get_models():
        rights = sql.SQL("INSERT" if model._meta.db_table in past else "INSERT, UPDATE, DELETE")
        table = sql.Identifier(SCHEMA, model._meta.db_table)
        yield sql.SQL("GRANT {} ON {} TO {}").format(rights, table, user)


def set_aside(where: PostgresSettings) -> None:
    """As `wiring.catalogue.set_aside`; one transaction."""
    with session(where, owner=True) as connection:
        if not _has(connection, SCHEMA):
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {ASIDE}")
        elif _there(connection, ASIDE):  # a rebuild was broken off: what lies here is its unfinished work
            connection.execute(f"DROP SCHEMA {SCHEMA} CASCADE")
        else:
            connection.execute(f"ALTER SCHEMA {SCHEMA} RENAME TO {ASIDE}")


def aside_exists(where: PostgresSettings) -> bool:
    """As `wiring.catalogue.unfinished`."""
    with session(where) as connection:
        return _there(connection, ASIDE)


def credentials_aside(where: PostgresSettings) -> list[tuple[str, str]]:
    """(person, password hash) of the set-aside catalogue; none where there is none."""
    with session(where, owner=True) as connection:
        if not _has(connection, ASIDE):
            return []
        table = sql.Identifier(ASIDE, "daicho_access_credential")
        return connection.execute(sql.SQL("SELECT person_id, password FROM {}").format(table)).fetchall()


def drop_aside(where: PostgresSettings) -> None:
    """As `wiring.catalogue.drop_aside`."""
    with session(where, owner=True) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {ASIDE} CASCADE")


def _there(connection: Bounded, schema: str) -> bool:
    return connection.execute("SELECT FROM pg_namespace WHERE nspname = %s", [schema]).fetchone() is not None


def _has(connection: Bounded, schema: str) -> bool:
    """Whether a catalogue lies in the schema."""
    found = connection.execute(
        "SELECT FROM pg_tables WHERE schemaname = %s AND tablename = 'daicho_records_entry'", [schema]
    )
    return found.fetchone() is not None


@contextmanager
def session(where: PostgresSettings, *, owner: bool = False) -> Iterator[Bounded]:
    """A connection with one transaction, committed and closed at the end; the driver's errors as ours."""
    try:
        with connect(where, owner=owner) as connection:
            yield connection
    except psycopg.Error as error:
        if (ours := errors.translated(error)) is None:
            raise
        raise ours from error


def check(where: PostgresSettings) -> None:
    """As `wiring.catalogue.check_server`."""
    with session(where) as connection:
        row = connection.execute(STATE, {"user": where.user, "owner": where.owner}).fetchone()
    assert row is not None
    state = row[0]
    complaints = list(_complaints(where, state))
    if complaints:
        raise errors.unsuitable(*(" ".join(texts) for texts in zip(*complaints, strict=True)))


STATE = """
SELECT jsonb_build_object(
    'version', current_setting('server_version_num')::int / 10000,
    'encoding', current_setting('server_encoding'),
    'fsync', current_setting('fsync'),
    'full_page_writes', current_setting('full_page_writes'),
    'synchronous_commit', current_setting('synchronous_commit'),
    'read_only', pg_is_in_recovery() OR current_setting('default_transaction_read_only')::bool,
    'database', to_jsonb(d),
    'owner', pg_get_userbyid(d.datdba),
    'powerful', EXISTS (SELECT FROM pg_roles WHERE rolname = current_user AND (rolsuper OR rolcreaterole OR rolreplication)),
    'master', EXISTS (SELECT FROM pg_roles WHERE rolname IN (%(owner)s, 'pg_write_all_data', 'pg_execute_server_program',
        'pg_write_server_files') AND pg_has_role(current_user, oid, 'MEMBER')))
FROM pg_database d WHERE datname = current_database()
"""
"""`to_jsonb(d)`, because the columns that tell the collation differ between versions."""


def _complaints(where: PostgresSettings, state: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(ja, en) of each thing that is wrong, with what to do."""
    if state["version"] < OLDEST:
        yield (
            f"サーバーは PostgreSQL {state['version']} です。{OLDEST} 以上にしてください。",
            f"The server is PostgreSQL {state['version']}; it must be {OLDEST} or later.",
        )
    database = state["database"]
    kind = database.get("datlocprovider", "c")
    order = database["datcollate"] if kind == "c" else database.get("datlocale") if kind == "b" else None
    made = (state["encoding"], str(order).lower() in SORTS_BY_BYTES, state["owner"])
    if made != ("UTF8", True, where.owner):
        line = errors.database_line(where)
        yield (
            f"データベース {where.database} の文字コード・照合順序・所有者のどれかが違います（{state['encoding']}、{database['datcollate']}、{state['owner']}）。"
            f"サーバーの管理者が次の行で作り直します: {line}",
            f"Encoding, collation or owner of the database {where.database} is wrong ({state['encoding']}, {database['datcollate']}, {state['owner']}). "
            f"An administrator of the server makes it again with: {line}",
        )
    for name in ("fsync", "full_page_writes", "synchronous_commit"):
        if state[name] == "off":
            yield (
                f"{name} が off です。受け付けた記録が停電で消えます。サーバーの設定で on にしてください。",
                f"{name} is off: what was acknowledged would be lost with the power. Set it to on in the server's configuration.",
            )
    if state["read_only"]:
        yield (
            "このサーバーには書けません（待機系か、読取り専用）。主系を指定してください。",
            "This server cannot be written to (a standby, or read-only). Name the primary.",
        )
    if state["powerful"] or state["master"]:
        yield (
            f"役割 {where.user} の権限が大きすぎ、過去を書き換えられます。SUPERUSER・CREATEROLE・REPLICATION と、{where.owner} や pg_write_all_data などの役割を外してください。",
            f"The role {where.user} has too many rights and could change the past. Take SUPERUSER, CREATEROLE and REPLICATION from it, and roles such as {where.owner} and pg_write_all_data.",
        )


def _refused(where: PostgresSettings, owner: bool, error: psycopg.OperationalError) -> DaichoError:
    """Why a connection was not made.

    libpq tells a program only the server's sentence, in the server's language. The code is in what went over the wire, so the connection is
    tried once more with libpq's trace on.
    """
    tried = error.pgconn
    if tried is None or isinstance(error, psycopg.errors.ConnectionTimeout):
        return errors.unreachable()
    if tried.needs_password:
        return errors.credentials()
    told = _traced(make_conninfo(**parameters(where, owner=owner)), where.timeout)
    if state := re.search(r'^B\t.*ErrorResponse\t.* C "([0-9A-Z]{5})"', told, re.MULTILINE):
        if state[1] == "3D000":
            return errors.no_database(where)
        return errors.of_state(state[1]) or errors.unreachable()
    if "SSLResponse" in told and "StartupMessage" not in told:
        return errors.no_encryption()
    return errors.unreachable()


def _traced(conninfo: str, timeout: float) -> str:
    """What libpq says and hears while it connects. In memory alone, since a server may ask for the password as it is."""
    with open(os.memfd_create("daicho"), "w+b") as told:  # noqa: PTH123
        tried = pq.PGconn.connect_start(conninfo.encode())
        try:
            if tried.status != pq.ConnStatus.BAD:
                tried.trace(told.fileno())
                tried.set_trace_flags(pq.Trace.SUPPRESS_TIMESTAMPS)
                try:
                    _polled(tried, timeout)
                finally:
                    tried.untrace()  # writes out what libpq still holds
        finally:
            tried.finish()
        told.seek(0)
        return told.read().decode("utf-8", "replace")


def _polled(tried: pq.abc.PGconn, timeout: float) -> None:
    """Let libpq connect, or not, but never longer than `timeout` seconds without a word."""
    events = {pq.PollingStatus.READING: select.POLLIN, pq.PollingStatus.WRITING: select.POLLOUT}
    with suppress(psycopg.OperationalError):
        while (status := tried.connect_poll()) in events:
            poll = select.poll()
            poll.register(tried.socket, events[pq.PollingStatus(status)])
            if not poll.poll(timeout * 1000):
                return
