"""Showing a record: its values, pages, generations and retention. Journalled before anything leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from access import queries as access_queries
from access.actions import Action
from access.decide import Actor, ledgers, may, require
from core.errors import KeysMissing, NotFound
from records import queries
from records.alone import is_alone, opened
from records.content import Content, content, newest, unknown_record
from records.derive import ensured, snippet_alone, unkept
from records.found import definition_of
from records.ledger import Definition
from records.models import Generation, Record
from records.operation import note_alone
from records.stores import Stores

CHANGES = ("waiting", "sealed", "edited", "refused", "pages_read")


@dataclass(frozen=True)
class Shown:
    """One generation of a record as the actor may see it."""

    record: str
    ledger: Definition
    generation: int
    newest: int
    content: Content
    row: Generation
    by: str
    may_edit: bool
    sheets: tuple[str, ...]


@dataclass(frozen=True)
class Change:
    """A journal entry of a record's history. `why`: the reason sealed with that generation."""

    number: int
    at: str
    event: str
    by: str
    generation: int
    why: str


def show(stores: Stores, actor: Actor, record_id: str, number: int | None = None) -> Shown:
    """A record's newest or numbered generation; `NotFound` for an unknown id, number, or without the right to view its ledger."""
    record = visible(actor, record_id)
    row = queries.generation(record_id, record.generation if number is None else number)
    if row is None:
        raise unknown_record()
    definition, _ = definition_of(record.ledger_id, row.ledger_version)
    shown_alone = {"alone": list(definition.alone)} if definition.alone else {}
    note_alone(
        stores,
        actor,
        "record_viewed",
        ledger=record.ledger_id,
        record=record_id,
        data={"generation": row.number, **shown_alone},
    )
    return Shown(
        record_id,
        definition,
        row.number,
        record.generation,
        opened(stores, content(stores, record_id, row.object_version, row.object_digest)),
        row,
        access_queries.names([row.person]).get(row.person, ""),
        may(actor, "edit", record.ledger_id),
        queries.sheet_names([record_id]).get(record_id, ()),
    )


def history(stores: Stores, actor: Actor, record_id: str) -> list[Change]:
    """What has happened to a record, oldest first."""
    record = visible(actor, record_id)
    note_alone(stores, actor, "history_viewed", ledger=record.ledger_id, record=record_id)
    why = {
        row.number: content(stores, record_id, row.object_version, row.object_digest).body["made"]["why"]
        for row in queries.generations(record_id)
    }
    rows = queries.history(record_id, CHANGES)
    names = access_queries.names([row.person for row in rows])
    return [
        Change(
            row.number,
            row.at,
            row.event,
            names.get(row.person, ""),
            row.data.get("generation", 0),
            why.get(row.data.get("generation", 0), ""),
        )
        for row in rows
    ]


def page_image(stores: Stores, actor: Actor, record_id: str, page: int, size: str) -> bytes:
    """JPEG of an upright page (`size` "view") or its thumbnail ("thumb"); pages count from 1.

    Who may settle sees the pages of waiting records, who may view those of sealed ones.
    """
    record = _pictured(actor, record_id)
    if page < 1 or page > 99_999 or size not in ("view", "thumb"):
        raise unknown_record()
    note_alone(
        stores, actor, "page_viewed", ledger=record.ledger_id, record=record_id, data={"page": page, "size": size}
    )
    read = newest(stores, record)
    if page > len(read.body["pages"]):
        raise unknown_record()
    if "under" in read.body["pages"][page - 1]:
        try:
            return unkept(stores, read, page - 1)[f"{size}-{page:04}.jpg"]
        except KeysMissing as error:
            raise NotFound(
                "このページは、項目とともに廃棄済みです。",
                "This page has been destroyed together with an item.",
                code="page.destroyed",
            ) from error
    image = ensured(stores, read).get(f"{size}-{page:04}.jpg")
    if image is None:
        raise unknown_record()
    return image


def snippet(stores: Stores, actor: Actor, record_id: str, item: str) -> bytes:
    """PNG of the zone of one item of a waiting record; `NotFound` where there is none."""
    record = queries.record(record_id)
    if record is None or record.state != "waiting" or record.ledger_id not in ledgers(actor, "settle"):
        raise unknown_record()
    note_alone(stores, actor, "snippet_viewed", ledger=record.ledger_id, record=record_id, data={"item": item[:64]})
    read = newest(stores, record)
    row = next((row for row in read.body["items"] if row["item"] == item and is_alone(row)), None)
    image = ensured(stores, read).get(f"snippet-{item}.png") if row is None else snippet_alone(stores, read, row)
    if image is None:
        raise NotFound("この項目の画像はありません。", "There is no picture of this item.", code="snippet.not_found")
    return image


def values_as_read(shown: Shown) -> list[Mapping[str, Any]]:
    """The items in the ledger's order, with label, type and what the sealed JSON says; items without a value have "value": ""."""
    known = {item["item"]: item for item in shown.content.body["items"]}
    return [
        {"item": item.id, "label": item.label, "type": item.type, "value": "", **known.get(item.id, {})}
        for item in shown.ledger.items
    ]


def visible(actor: Actor, record_id: str) -> Record:
    """A sealed record whose ledger the actor may view."""
    record = queries.record(record_id)
    if record is None:
        raise unknown_record()
    require(actor, "view", record.ledger_id, unknown_record())
    if record.state != "sealed":
        raise unknown_record()
    return record


def _pictured(actor: Actor, record_id: str) -> Record:
    record = queries.record(record_id)
    right: dict[str, Action] = {"sealed": "view", "waiting": "settle", "refused": "settle"}
    if record is None or not may(actor, right[record.state], record.ledger_id):
        raise unknown_record()
    return record
