"""The tests of records run on both engines of the catalogue."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from core.settings import PostgresSettings, load
from tests.house import House, empty_tables, put_blank, use_catalogue, use_server
from tests.servers.running import PostgresServer
from wiring import catalogue


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> str:
    """The engine of the catalogue. Tests that are about a file are parametrized with "sqlite" alone."""
    return str(request.param)


@pytest.fixture(scope="session")
def tables(postgres: PostgresServer) -> PostgresSettings:
    """A database with a catalogue, which a test may fill."""
    where = postgres.new()
    catalogue.create(replace(load(environment={}), catalogue_engine=where))
    return where


@pytest.fixture
def emptied(
    engine: str, request: pytest.FixtureRequest, tmp_path: Path, blank_catalogue: Path
) -> Iterator[Callable[[], None]]:
    """The catalogue is of this test alone; the function empties it."""
    if engine == "sqlite":
        place = tmp_path / "catalogue.sqlite3"
        with use_catalogue(place):
            yield lambda: put_blank(blank_catalogue, place)
        return
    where: PostgresSettings = request.getfixturevalue("tables")
    server: PostgresServer = request.getfixturevalue("postgres")
    with closing(server.connect(where.database)) as superuser, use_server(where):
        yield lambda: empty_tables(superuser)


@pytest.fixture
def house(emptied: Callable[[], None]) -> House:
    """A founded house on memory adapters, with an empty catalogue."""
    emptied()
    return House.founded()
