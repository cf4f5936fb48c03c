"""Capture: spans of sheets become records, sealed or waiting; waiting ones are settled or refused; sealed ones are edited.

Order of every write: the key is durable, the object version is sealed, then one operation (journal and catalogue), then the index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from access.decide import Actor, require
from core.clock import day_in_japan, stamp
from core.errors import BadInput, Conflict
from records import queries
from records.content import CONTENT, FORMAT, Content, newest, unknown_batch, unknown_record
from records.found import definition_of, require_worm
from records.indexing import feed
from records.ledger import Definition
from records.models import Record
from records.operation import Operation, note_alone, operation
from records.retention import compute
from records.spans import Captured
from records.stores import Stores
from records.values import checked
from storage.canonical import canonical
from storage.cipher import encrypt
from storage.port import NewVersion, Pin


def seal_spans(stores: Stores, actor: Actor, batch: str, spans: Sequence[Captured]) -> None:
    """Seal spans of one batch, in one group and one journal segment; each ends sealed or waiting. The caller feeds the index.

    Raises:
        NotFound, NotPermitted: the actor may not bring sheets into the batch's ledger.
    """
    row = queries.batch(batch)
    if row is None:
        raise unknown_batch()
    require(actor, "capture", row.ledger_id, unknown_batch())
    definition, version = definition_of(row.ledger_id)
    require_worm(stores, definition)
    now = stores.clock.now()
    bodies = [_body(definition, version, batch, span, actor, stamp(now)) for span in spans]
    pins = stores.objects.seal(
        [
            NewVersion(
                span.record,
                stores.objects.head(span.record) + 1,
                {CONTENT: encrypt(canonical(body), stores.keys.get(span.record).recipient), **span.files},
                stamp(now),
                actor.person,
                "capture",
            )
            for span, body in zip(spans, bodies, strict=True)
        ]
    )
    with operation(stores, actor) as work:
        for span, body, pin in zip(spans, bodies, pins, strict=True):
            if queries.record(span.record) is None:
                _note_outcome(work, definition, version, batch, body, pin, span)
    for span in spans:
        if span.derived:
            stores.derivatives.put(span.record, span.derived)


def refuse_sheets(stores: Stores, actor: Actor, batch: str, numbers: Sequence[int], reason: str) -> None:
    """Give sheets that could not be read at all their outcome: refused, with an error code as the reason."""
    row = queries.batch(batch)
    if row is None:
        raise unknown_batch()
    require(actor, "capture", row.ledger_id, unknown_batch())
    with operation(stores, actor) as work:
        work.note(
            "sheets_refused",
            ledger=row.ledger_id,
            batch=batch,
            data={"sheets": [{"number": number, "reason": reason[:32]} for number in numbers]},
        )


def _body(definition: Definition, version: int, batch: str, span: Captured, actor: Actor, at: str) -> dict[str, Any]:
    settled = not any(page.reason for page in span.pages) and not any(item.reason for item in span.items)
    return {
        "format": FORMAT,
        "record": span.record,
        "generation": 1 if settled else 0,
        "state": "sealed" if settled else "waiting",
        "ledger": definition.id,
        "ledger_version": version,
        "form": span.form,
        "case": span.case,
        "made": {"at": at, "by": actor.person, "why": ""},
        "captured": at,
        "items": [
            {
                "item": item.item,
                "value": item.value,
                "raw": item.raw,
                "confidence": round(item.confidence, 4),
                "reader": item.reader,
                "second": item.second,
                "reason": item.reason,
                "box": list(item.box),
            }
            for item in span.items
        ],
        "pages": [
            {
                "path": page.path,
                "media_type": page.media_type,
                "digest": page.digest,
                "width": page.width,
                "height": page.height,
                "dpi": round(page.dpi, 2),
                "kind": page.kind,
                "blank": page.blank,
                "batch": batch,
                "sheet": page.sheet,
            }
            for page in span.pages
        ],
        "reading": {
            "page": span.form_page,
            "matrix": [round(number, 9) for number in span.matrix],
            "dpi": span.dpi,
            "method": span.method,
            "rotation": span.rotation,
        },
    }


def _note_outcome(
    work: Operation, definition: Definition, version: int, batch: str, body: Mapping[str, Any], pin: Pin, span: Captured
) -> None:
    sheets = [{"number": page.sheet, "reason": page.reason} for page in span.pages]
    if body["state"] == "sealed":
        _note_sealed(work, "sealed", definition, body, pin, batch, sheets)
        return
    reasons = [page.reason for page in span.pages if page.reason] or ["items"]
    work.note(
        "waiting",
        ledger=definition.id,
        batch=batch,
        record=span.record,
        data={
            "ledger_version": version,
            "reason": reasons[0],
            "pin": {"version": pin.number, "digest": pin.digest},
            "sheets": [
                {"number": page.sheet, "reason": page.reason or ("items" if index == span.form_page else "with_case")}
                for index, page in enumerate(span.pages)
            ],
            "items": [
                {"item": item.item, "reason": item.reason, "confidence": round(item.confidence * 1000)}
                for item in span.items
                if item.reason
            ],
        },
    )


def _note_sealed(
    work: Operation,
    event: str,
    definition: Definition,
    body: Mapping[str, Any],
    pin: Pin,
    batch: str,
    sheets: Sequence[Mapping[str, Any]] = (),
) -> None:
    values = {item["item"]: item["value"] for item in body["items"]}
    captured = day_in_japan(datetime.fromisoformat(body["captured"]))
    kept = compute(definition.schedule, values, captured)
    work.note(
        event,
        ledger=definition.id,
        batch=batch,
        record=body["record"],
        data={
            "generation": body["generation"],
            "ledger_version": body["ledger_version"],
            "form": body["form"],
            "pin": {"version": pin.number, "digest": pin.digest},
            "sheets": list(sheets),
            "retention": {
                "state": kept.state,
                "start": kept.start.isoformat() if kept.start else "",
                "due": kept.due.isoformat() if kept.due else "",
                "action": kept.action,
            },
        },
    )


def note_pages_read(stores: Stores, actor: Actor, read: Sequence[tuple[str, int]]) -> None:
    """Journal that the pages of records have been read whole: (record, number of pages). Their texts lie in the derivatives already."""
    with operation(stores, actor) as work:
        for record_id, pages in read:
            record = queries.record(record_id)
            if record is None:
                raise unknown_record()
            require(actor, "capture", record.ledger_id, unknown_record())
            work.note("pages_read", ledger=record.ledger_id, record=record_id, data={"pages": pages})


def settle(stores: Stores, actor: Actor, record_id: str, values: Mapping[str, str], form: str | None = None) -> Content:
    """A person has looked: seal a waiting record with these values (item id -> text as typed; items not given keep theirs).

    Args:
        form: for a sheet whose form was not recognised, the form it is, or "" for a page without one.

    Raises:
        NotFound, NotPermitted: as for any waiting record.
        Conflict: (`record.not_waiting`) somebody has settled it meanwhile.
        BadInput: a value does not fit its item.
    """
    record, definition = _waiting_record(actor, record_id)
    body = dict(newest(stores, record).body)
    if form is not None:
        if form and definition.form(form) is None:
            raise BadInput(
                "その様式はこの台帳にありません。選び直してください。",
                "This ledger has no such form. Choose another.",
                code="form.unknown",
            )
        body["form"] = form
    made = _next_body(stores, actor, definition, body, values, generation=1, why="")
    pin = _seal_next(stores, actor, record, made, "settle")
    with operation(stores, actor) as work:
        require(actor, "settle", record.ledger_id, unknown_record())
        _same_version(record)
        sheets = [{"number": page["sheet"], "reason": ""} for page in body["pages"]]
        _note_sealed(work, "sealed", definition, made, pin, record.batch_id or "", sheets)
    feed(stores)
    return Content(record_id, pin, made)


def refuse(stores: Stores, actor: Actor, record_id: str, reason: str) -> None:
    """A person has looked: the waiting sheets are no record (`blank`, `not_a_record`, `duplicate`, `rescan`). What was scanned stays in the store."""
    if reason not in REFUSALS:
        raise BadInput(
            f"理由は {'、'.join(REFUSALS)} のどれかにしてください。",
            f"Give one of these reasons: {', '.join(REFUSALS)}.",
            code="refusal.reason",
        )
    record, _ = _waiting_record(actor, record_id)
    pages = newest(stores, record).body["pages"]
    with operation(stores, actor) as work:
        require(actor, "settle", record.ledger_id, unknown_record())
        _same_version(record)
        work.note(
            "refused",
            ledger=record.ledger_id,
            batch=record.batch_id or "",
            record=record_id,
            data={
                "reason": reason,
                "pin": {"version": record.object_version, "digest": record.object_digest},
                "sheets": [{"number": page["sheet"], "reason": reason} for page in pages],
            },
        )


REFUSALS = ("blank", "not_a_record", "duplicate", "rescan")


def edit(stores: Stores, actor: Actor, record_id: str, base: int, values: Mapping[str, str], why: str) -> Content:
    """Seal the next generation (世代) of a record with these values; the ones before stay as they are.

    Args:
        base: the generation that the actor has seen.
        why: the reason, in the actor's words; it is sealed with the generation.

    Raises:
        Conflict: (`record.moved_on`) there is a newer generation than `base`.
        BadInput: (`edit.why`) no reason, (`edit.nothing`) nothing would change, or a value that does not fit.
    """
    record = queries.record(record_id)
    if record is None or record.state != "sealed":
        raise unknown_record()
    require(actor, "view", record.ledger_id, unknown_record())
    require(actor, "edit", record.ledger_id, unknown_record())
    if not why.strip():
        raise BadInput("変更の理由を入れてください。", "Enter the reason for the change.", code="edit.why")
    if record.generation != base:
        raise _moved_on()
    definition, _ = definition_of(record.ledger_id)
    before = newest(stores, record)
    made = _next_body(stores, actor, definition, before.body, values, generation=base + 1, why=why.strip())
    if {item["item"]: item["value"] for item in made["items"]} == before.values:
        raise BadInput("何も変わっていません。", "Nothing has changed.", code="edit.nothing")
    pin = _seal_next(stores, actor, record, made, "edit")
    with operation(stores, actor) as work:
        require(actor, "edit", record.ledger_id, unknown_record())
        _same_version(record)
        _note_sealed(work, "edited", definition, made, pin, "")
    feed(stores)
    return Content(record_id, pin, made)


def waiting_content(stores: Stores, actor: Actor, record_id: str) -> tuple[Record, Definition, Content]:
    """A waiting record with what was read, journalled before it is given out."""
    record, definition = _waiting_record(actor, record_id)
    note_alone(stores, actor, "waiting_viewed", ledger=record.ledger_id, batch=record.batch_id or "", record=record_id)
    return record, definition, newest(stores, record)


def _waiting_record(actor: Actor, record_id: str) -> tuple[Record, Definition]:
    record = queries.record(record_id)
    if record is None:
        raise unknown_record()
    require(actor, "settle", record.ledger_id, unknown_record())
    if record.state != "waiting":
        raise Conflict(
            "この件は、もう確認が済んでいます。次の件へ進んでください。",
            "Somebody has settled this already. Go on to the next.",
            code="record.not_waiting",
        )
    return record, definition_of(record.ledger_id)[0]


def _next_body(
    stores: Stores,
    actor: Actor,
    definition: Definition,
    before: Mapping[str, Any],
    values: Mapping[str, str],
    *,
    generation: int,
    why: str,
) -> dict[str, Any]:
    at = stamp(stores.clock.now())
    known = {item["item"]: item for item in before["items"]}
    if strangers := sorted(set(values) - {item.id for item in definition.items}):
        raise BadInput(
            f"項目「{'、'.join(strangers)}」はこの台帳にありません。",
            f"This ledger has no item {', '.join(strangers)}.",
            code="value.item",
        )
    items = []
    for item in definition.items:
        if not before["form"]:
            item = replace(item, required=False)  # a page without a form is kept for its image, whatever it says
        old = known.get(item.id)
        if item.id not in values:
            if old is None and not item.required:
                continue
            value = checked(item, old["value"] if old else "") if generation == 1 else (old or {"value": ""})["value"]
        else:
            value = checked(item, values[item.id])
        row = dict(old or {"item": item.id, "raw": "", "confidence": 1.0, "reader": "person", "second": "", "box": []})
        if old is None and not value:
            continue
        changed = old is None or old["value"] != value
        row |= {"value": value, "reason": ""}
        if changed or (generation == 1 and item.id in values):
            row |= {"settled": {"at": at, "by": actor.person}}
        items.append(row)
    return {
        **before,
        "generation": generation,
        "state": "sealed",
        "ledger_version": definition_of(definition.id)[1],
        "made": {"at": at, "by": actor.person, "why": why},
        "items": items,
    }


def _seal_next(stores: Stores, actor: Actor, record: Record, body: Mapping[str, Any], message: str) -> Pin:
    """Seal the body as the object's next version, pages carried over; an unacknowledged version in between is left behind."""
    require_worm(stores, definition_of(record.ledger_id)[0])
    key = stores.keys.get(record.id)
    number = stores.objects.head(record.id) + 1
    version = NewVersion(
        record.id,
        number,
        {CONTENT: encrypt(canonical(body), key.recipient)},
        stamp(stores.clock.now()),
        actor.person,
        message,
        carried=[page["path"] for page in body["pages"]],
    )
    return stores.objects.seal([version])[0]


def _same_version(record: Record) -> None:
    """Inside the operation: the record is still at the version that was read."""
    now = queries.record(record.id)
    if now is None or now.object_digest != record.object_digest or now.state != record.state:
        raise _moved_on()


def _moved_on() -> Conflict:
    return Conflict(
        "ほかの人が先に変更しました。新しい内容を見てから、もう一度入れてください。",
        "Somebody has changed it meanwhile. Look at the newest generation and enter your change again.",
        code="record.moved_on",
    )
