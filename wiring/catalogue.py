"""The catalogue's database, whichever engine holds it: made, found, set aside for a rebuild, held by a process.

One function a step, over SQLite (a file in the data folder) and PostgreSQL (a schema of its own, `wiring/postgresql/`). Django's settings import
this module, so nothing here may import models before it is called.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.db import DEFAULT_DB_ALIAS, connection

from core.settings import Settings
from storage.durable import flush_folder


def django_database(settings: Settings) -> dict[str, Any]:
    """What Django's `DATABASES` says of the catalogue."""
    if settings.catalogue_engine is not None:
        from wiring.postgresql.server import django_database as of_server

        return of_server(settings.catalogue_engine)
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(settings.catalogue),
        "OPTIONS": {
            "timeout": 30,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;",
        },
    }


def keep_log(*, connection: Any, **_: object) -> None:
    """Have SQLite write ahead into a log, on a connection to the catalogue that was just made.

    Asked here and read to its end: where Django asks, which reads no answer, an error of the disk would be lost.
    """
    if connection.vendor == "sqlite" and connection.alias == DEFAULT_DB_ALIAS:
        try:
            connection.connection.execute("PRAGMA journal_mode=WAL").fetchall()
        except sqlite3.Error:
            connection.close()
            raise


def check_server(settings: Settings) -> None:
    """Make sure that the engine can be trusted with a catalogue; a file needs no check.

    Raises:
        Unreachable: (`catalogue.unreachable`) the server does not answer.
        NotReady: (`catalogue.credentials`) it does not let us in, (`catalogue.unsuitable`) it is too old, or sorts or syncs otherwise.
    """
    if settings.catalogue_engine is not None:
        from wiring.postgresql.server import check

        check(settings.catalogue_engine)


def check_owner(settings: Settings) -> None:
    """Make sure that the role that makes tables is let in; errors as `check_server`."""
    if settings.catalogue_engine is not None:
        from wiring.postgresql.server import session

        with session(settings.catalogue_engine, owner=True):
            pass


def unfinished(settings: Settings) -> bool:
    """Does something lie aside, since a rebuild was broken off? What is in its place then is not whole."""
    if settings.catalogue_engine is not None:
        from wiring.postgresql.server import aside_exists

        return aside_exists(settings.catalogue_engine)
    return _aside(settings).exists()


def exists(settings: Settings) -> bool:
    """Is there a catalogue? It may lag behind the journal. Errors of the engine as `check_server`."""
    if settings.catalogue_engine is not None:
        from wiring.postgresql.server import exists as in_server

        return in_server(settings.catalogue_engine)
    return settings.catalogue.is_file()


def create(settings: Settings) -> None:
    """Make the tables of an empty catalogue and protect those of the past. Errors as `check_server`, and:

    Raises:
        Conflict: (`catalogue.exists`) the server holds a catalogue there already. A file that is there stays as it is.
    """
    if settings.catalogue_engine is not None:
        from wiring.postgresql.server import create as in_server

        in_server(settings.catalogue_engine)
    else:
        call_command("migrate", verbosity=0)


def up_to_date() -> bool:
    """Has the catalogue in use every table as this version makes it?"""
    from django.db.migrations.executor import MigrationExecutor

    executor = MigrationExecutor(connection)
    return not executor.migration_plan(executor.loader.graph.leaf_nodes())


def hold(settings: Settings, alone: bool) -> None:
    """Tell processes on other machines that this one uses the catalogue, until it ends; a file is held with its folder.

    Args:
        alone: nobody else may, because the catalogue is about to be replaced.

    Raises:
        Busy: (`installation.in_use`) others are using it, or somebody is replacing it.
    """
    if settings.catalogue_engine is not None:
        from wiring.postgresql.server import hold as in_server

        in_server(settings.catalogue_engine, alone)


def set_aside(settings: Settings) -> None:
    """Move the catalogue out of the way of a rebuild; what a broken-off rebuild left is dropped, and what it had set aside stays aside.

    Where there is none, an empty one lies aside: until `drop_aside` it tells that what is being made is not whole.
    """
    if settings.catalogue_engine is not None:
        from wiring.postgresql.server import set_aside as in_server

        in_server(settings.catalogue_engine)
        return
    aside = _aside(settings)
    if settings.catalogue.exists():
        with contextlib.suppress(sqlite3.Error), sqlite3.connect(settings.catalogue) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if aside.exists():  # a rebuild was broken off: what lies here is its unfinished work
            settings.catalogue.unlink()
        else:
            settings.catalogue.replace(aside)
    elif not aside.exists():
        aside.touch(0o600)
    for suffix in ("-wal", "-shm"):
        settings.catalogue.with_name(settings.catalogue.name + suffix).unlink(missing_ok=True)
    flush_folder(settings.data)


def carry_credentials(settings: Settings) -> int:
    """Copy password hashes of people who are still there out of the set-aside catalogue; they are nowhere else. Returns how many."""
    from access import queries

    living = {person.id for person, _ in queries.people()}
    carried = [(person, password) for person, password in _credentials_aside(settings) if person in living]
    for person, password in carried:
        queries.save_credential(person, password)
    return len(carried)


def drop_aside(settings: Settings) -> None:
    """Give up the set-aside catalogue: the new one is whole."""
    if settings.catalogue_engine is not None:
        from wiring.postgresql.server import drop_aside as in_server

        in_server(settings.catalogue_engine)
        return
    for suffix in ("-wal", "-shm", ""):  # reading it made the first two
        _aside(settings).with_name(_aside(settings).name + suffix).unlink(missing_ok=True)
    flush_folder(settings.data)  # a power cut must not bring back the sign that it is not whole


def _credentials_aside(settings: Settings) -> list[tuple[str, str]]:
    """(person, password hash) of the set-aside catalogue; none where there is none or it is damaged."""
    if settings.catalogue_engine is not None:
        from wiring.postgresql.server import credentials_aside

        return credentials_aside(settings.catalogue_engine)
    try:
        with contextlib.closing(sqlite3.connect(f"file:{_aside(settings)}?mode=ro", uri=True)) as database:
            return database.execute("SELECT person_id, password FROM daicho_access_credential").fetchall()
    except sqlite3.Error:
        return []


def _aside(settings: Settings) -> Path:
    return settings.catalogue.with_suffix(".before")
