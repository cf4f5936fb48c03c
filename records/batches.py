"""Batches: every sheet counted by name, each with an outcome; sheets in = sealed + waiting + refused."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from access.actions import Action
from access.decide import Actor, ledgers, require
from core.errors import Conflict
from records import queries
from records.content import mark, unknown_batch, unknown_record
from records.found import definition_of, require_worm, unknown_ledger
from records.ledger import Label
from records.models import Batch, Sheet, WaitingItem
from records.operation import operation
from records.stores import Stores

SEES: tuple[Action, ...] = ("view", "capture", "settle")
"""Rights each of which lets a person see the batches of a ledger."""


@dataclass(frozen=True)
class NewSheet:
    """A sheet about to be counted. `digest`: SHA-256 (hex) of the page as scanned ("" for a file that could not be opened).

    `kind`: form, cover, separator, page, blank or file. `refused`: why it is refused at once (an error code), or "".
    """

    file: str
    page: int
    digest: str
    kind: str
    refused: str = ""


@dataclass(frozen=True)
class Balance:
    """The balance of a batch. `unread`: sheets that a broken-off ingest has still to read."""

    batch: str
    name: str
    ledger: str
    ledger_name: Label
    opened_at: str
    closed_at: str
    total: int
    sealed: int
    waiting: int
    refused: int
    unread: int
    sheets: tuple[Sheet, ...] = ()

    @property
    def balanced(self) -> bool:
        return self.total == self.sealed + self.waiting + self.refused


def open_batch(stores: Stores, actor: Actor, ledger: str, name: str, sheets: Sequence[NewSheet]) -> tuple[str, bool]:
    """Count the sheets of a batch, before any is read. Returns its id, and whether the same sheets were brought in before.

    The batch is known by the content and order of its sheets: the same again is the same batch, which is resumed, not begun.
    """
    require(actor, "capture", ledger, unknown_ledger())
    require_worm(stores, definition_of(ledger)[0])
    told = "\n".join(f"{sheet.file}\t{sheet.page}\t{sheet.digest}\t{sheet.kind}" for sheet in sheets)
    source = mark(stores, hashlib.sha256(f"{ledger}\n{told}".encode()).hexdigest())
    if (known := queries.batch_by_source(source)) is not None:
        return known.id, True
    batch = stores.ids.new("b")
    stores.keys.create([batch])
    with operation(stores, actor) as work:
        if (known := queries.batch_by_source(source)) is not None:
            return known.id, True
        work.note(
            "batch_opened",
            ledger=ledger,
            batch=batch,
            data={
                "source": source,
                "sheets": [
                    {
                        "number": number,
                        "page": sheet.page,
                        "mark": mark(stores, sheet.digest) if sheet.digest else "",
                        "kind": sheet.kind,
                        "state": "refused" if sheet.refused else "",
                        "reason": sheet.refused,
                    }
                    for number, sheet in enumerate(sheets, 1)
                ],
            },
            personal={"name": name, "files": [sheet.file for sheet in sheets]},
            key=batch,
        )
    return batch, False


def balance(actor: Actor, batch_id: str) -> Balance:
    """The balance of a batch with all its sheets; `NotFound` without a right in its ledger, as for an unknown batch."""
    return _balance(_batch(actor, batch_id))


def list_batches(actor: Actor) -> list[Balance]:
    """All batches of the ledgers in which the actor may see batches, newest first, without their sheets."""
    permitted = ledgers(actor, *SEES)
    names = {ledger: definition_of(ledger)[0].name for ledger in permitted}
    return [
        Balance(
            row.id,
            row.name,
            row.ledger_id,
            names[row.ledger_id],
            row.opened_at,
            row.closed_at,
            sum(counted.values()),
            counted.get("sealed", 0),
            counted.get("waiting", 0),
            counted.get("refused", 0),
            counted.get("", 0),
        )
        for row, counted in queries.batches(permitted)
    ]


def close_batch(stores: Stores, actor: Actor, batch_id: str) -> Balance:
    """Close a balanced batch in which nothing waits.

    Raises:
        NotFound, NotPermitted: no right to settle in the batch's ledger.
        Conflict: `batch.closed`, `batch.waiting`, `batch.unread`.
    """
    row = _batch(actor, batch_id)
    require(actor, "settle", row.ledger_id, unknown_batch())
    with operation(stores, actor) as work:
        row = _batch(actor, batch_id)
        now = _balance(row)
        if now.closed_at:
            raise Conflict("このバッチは、もう締められています。", "This batch is closed already.", code="batch.closed")
        if now.unread:
            raise Conflict(
                f"まだ読んでいない紙が {now.unread} 枚あります。同じ `daicho ingest` をもう一度実行してください。",
                f"{now.unread} sheets have not been read yet. Run the same `daicho ingest` again.",
                code="batch.unread",
            )
        if now.waiting:
            raise Conflict(
                f"確認待ちが {now.waiting} 枚あります。確認を終えてから締めてください。",
                f"{now.waiting} sheets wait for a person. Settle them, then close the batch.",
                code="batch.waiting",
            )
        work.note("batch_closed", ledger=row.ledger_id, batch=batch_id, data={"sheets": now.total})
    return _balance(_batch(actor, batch_id))


def _batch(actor: Actor, batch_id: str) -> Batch:
    row = queries.batch(batch_id)
    if row is None or row.ledger_id not in ledgers(actor, *SEES):
        raise unknown_batch()
    return row


def _balance(row: Batch) -> Balance:
    sheets = tuple(queries.sheets(row.id))
    counted = {state: sum(sheet.state == state for sheet in sheets) for state in ("sealed", "waiting", "refused", "")}
    return Balance(
        row.id,
        row.name,
        row.ledger_id,
        definition_of(row.ledger_id)[0].name,
        row.opened_at,
        row.closed_at,
        len(sheets),
        counted["sealed"],
        counted["waiting"],
        counted["refused"],
        counted[""],
        sheets,
    )


@dataclass(frozen=True)
class Case:
    """A case that waits for a person: its sheets by name, and the items to look at."""

    record: str
    ledger: str
    batch: str
    reason: str
    sheets: tuple[str, ...]
    items: tuple[WaitingItem, ...]


def waiting_cases(actor: Actor, batch_id: str | None = None) -> list[Case]:
    """Cases that wait, of all ledgers in which the actor may settle, or of one batch (`NotFound` as in `balance`)."""
    if batch_id is not None:
        _batch(actor, batch_id)
    rows = queries.waiting(ledgers(actor, "settle"), batch_id)
    items: dict[str, list[WaitingItem]] = {}
    for item in queries.waiting_items([row.id for row in rows]):
        items.setdefault(item.record_id, []).append(item)
    names = queries.sheet_names([row.id for row in rows])
    return [
        Case(row.id, row.ledger_id, row.batch_id or "", row.reason, names.get(row.id, ()), tuple(items.get(row.id, ())))
        for row in rows
    ]


@dataclass(frozen=True)
class Place:
    """Where a case stands among those of its batch that wait. `left`: how many wait; `next`: the one after it, in the order of the sheets
    and then from the first again; "" when no other waits."""

    batch: str
    left: int
    next: str


def place_in_queue(actor: Actor, record_id: str) -> Place:
    """The place of a case that waits, or that has just been settled; `NotFound` without the right to settle in its ledger."""
    record = queries.record(record_id)
    if record is None or record.ledger_id not in ledgers(actor, "settle"):
        raise unknown_record()
    here = queries.first_sheet(record_id)
    waiting = queries.waiting_places(record.batch_id or "")
    others = [case for case in waiting if case[1] != record_id]
    following = next((case for number, case in others if number > here), others[0][1] if others else "")
    return Place(record.batch_id or "", len(waiting), following)
