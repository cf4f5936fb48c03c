"""A rebuild that was broken off goes on, on both engines of the catalogue, and only where what it left is whole as far as it goes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from core.errors import Conflict
from core.settings import load
from records import rebuild
from records.check import catalogue_digest
from records.models import Municipality, Segment
from tests.house import House, use_database
from tests.servers.running import PostgresServer
from wiring import catalogue
from wiring.open import give_way, goes_on


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_it_goes_on_with_its_own_work_alone(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server: PostgresServer | None = request.getfixturevalue("postgres") if kind == "postgresql" else None
    here = replace(load(tmp_path / "data", environment={}), catalogue_engine=server.new() if server else None)
    here.data.mkdir()
    with use_database(catalogue.django_database(here)):
        catalogue.create(here)
        house = House.founded()
        house.ledger()
        house.sealed(house.batch(2), 1)
        digest, journal = catalogue_digest(), house.stores.journal
        assert not goes_on(here, "s-memory", journal)  # nothing was broken off
        give_way(here, "s-memory", journal)
        assert not goes_on(here, "s-memory", journal)  # nothing was begun
        assert catalogue.unfinished(here) and not catalogue.exists(here)
        catalogue.create(here)
        assert goes_on(here, "s-memory", journal)  # begun, and nothing folded

        monkeypatch.setattr(rebuild, "GROUP", 1)
        last = journal.last()
        while Segment.objects.count() < last - 1:
            assert rebuild.fold_some(house.stores, "default", last)
        assert goes_on(here, "s-memory", journal)
        assert Municipality.objects.count() == 1
        assert not goes_on(here, "s-another", journal)
        with pytest.raises(Conflict) as caught:
            give_way(here, "s-another", journal)
        assert caught.value.code == "catalogue.foreign"

        segments: list[bytes] = journal._segments  # type: ignore[attr-defined]
        whole = list(segments)
        for other in (whole[: last - 2], [*whole[: last - 2], whole[last - 2] + b" ", whole[-1]]):
            segments[:] = other
            assert not goes_on(here, "s-memory", journal)
        segments[:] = whole
        monkeypatch.setattr(catalogue, "up_to_date", lambda: False)
        assert not goes_on(here, "s-memory", journal)
        monkeypatch.undo()

        assert goes_on(here, "s-memory", journal)
        rebuild.rebuild(house.stores)
        assert catalogue_digest() == digest
        catalogue.drop_aside(here)
        assert not catalogue.unfinished(here)
        connection.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_where_there_was_none_it_is_told_too(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """A catalogue that is lost leaves nothing to set aside; that a rebuild is unfinished is known all the same."""
    server: PostgresServer | None = request.getfixturevalue("postgres") if kind == "postgresql" else None
    here = replace(load(tmp_path / "data", environment={}), catalogue_engine=server.new() if server else None)
    here.data.mkdir()
    with use_database(catalogue.django_database(here)):
        journal: Any = House  # never asked: there is no catalogue
        give_way(here, "s-memory", journal)
        assert catalogue.unfinished(here)
        catalogue.create(here)
        assert catalogue.unfinished(here) and catalogue.up_to_date()
        assert catalogue.carry_credentials(here) == 0
        catalogue.drop_aside(here)
        assert not catalogue.unfinished(here) and catalogue.exists(here)
        connection.close()
