"""What one operation costs the catalogue."""

from __future__ import annotations

from typing import Any

from django.db import connection

from access.decide import Actor
from records import queries
from records.operation import note_alone
from tests.house import House


def test_an_operation_asks_the_catalogue_once(house: House) -> None:
    """Every look, search and sign-in is one: what is asked or written twice is paid for by all of them."""
    said: list[str] = []

    def listen(execute: Any, sql: str, *more: Any) -> Any:
        if "daicho_records" in sql:
            said.append(sql.split()[0])
        return execute(sql, *more)

    before = queries.head()
    with connection.execute_wrapper(listen):
        note_alone(house.stores, Actor("", "cli"), "batches_viewed")
    assert said == ["SELECT", "INSERT", "INSERT"]
    after = queries.head()
    assert (after.segment, after.entry) == (before.segment + 1, before.entry + 1)
    assert (after.segment, after.digest) == (queries.last_segment().number, queries.last_segment().digest)
    assert (after.entry, after.at) == queries.last_entry()
