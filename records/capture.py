"""Capture: spans of sheets become records, sealed or waiting; waiting ones are settled or refused; sealed ones are edited.

Order of every write: the key is durable, the object version is sealed, then one operation (journal and catalogue). The index follows when
that is acknowledged (`records/indexing.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import Any

from access.decide import Actor, require
from core.clock import day_in_japan, stamp
from core.errors import BadInput, Conflict
from records import queries
from records.alone import Kept, destroyed_item, is_alone, key_of, opened, opened_item, sealed_item
from records.content import CONTENT, FORMAT, Content, newest, unknown_batch, unknown_record
from records.found import definition_of, require_worm
from records.ledger import Definition
from records.models import Record
from records.operation import Operation, moment, note_alone, operation
from records.retention import compute
from records.spans import Captured, CapturedPage, WholePage
from records.stores import Stores
from records.values import checked
from storage.canonical import canonical
from storage.cipher import encrypt
from storage.port import NewVersion, Pin, Source


def seal_spans(stores: Stores, actor: Actor, batch: str, spans: Sequence[Captured]) -> None:
    """Seal spans of one batch, in one group and one journal segment; each ends sealed or waiting.

    Raises:
        NotFound, NotPermitted: the actor may not bring sheets into the batch's ledger.
    """
    row = queries.batch(batch)
    if row is None:
        raise unknown_batch()
    require(actor, "capture", row.ledger_id, unknown_batch())
    definition, version = definition_of(row.ledger_id)
    require_worm(stores, definition)
    now = moment(stores)
    made = [_body(stores, definition, version, batch, span, actor, stamp(now)) for span in spans]
    bodies = [body for body, _ in made]
    pins = _seal_first(
        stores,
        [
            NewVersion(
                span.record,
                1,
                {CONTENT: encrypt(canonical(body), stores.keys.get(span.record).recipient), **items, **span.files},
                stamp(now),
                actor.person,
                "capture",
            )
            for span, (body, items) in zip(spans, made, strict=True)
        ],
    )
    with operation(stores, actor) as work:
        for span, body, pin in zip(spans, bodies, pins, strict=True):
            if queries.record(span.record) is None:
                _note_outcome(work, definition, version, batch, body, pin, span)
    stores.derivatives.put({span.record: span.derived for span in spans if span.derived})


def _seal_first(stores: Stores, versions: Sequence[NewVersion]) -> list[Pin]:
    """Seal first versions of objects; behind what lies there, where a capture was broken off before anybody acknowledged it."""
    try:
        return stores.objects.seal(versions)
    except Conflict:
        pins = []
        for version in versions:
            try:
                pins += stores.objects.seal([version])
            except Conflict:
                pins += stores.objects.seal([replace(version, number=stores.objects.head(version.object_id) + 1)])
        return pins


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


def _body(
    stores: Stores, definition: Definition, version: int, batch: str, span: Captured, actor: Actor, at: str
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The record's JSON, and the encrypted files (logical path -> bytes) of items that must be destroyable alone."""
    settled = not any(page.reason for page in span.pages) and not any(item.reason for item in span.items)
    rows, files = _rows(stores, definition, span)
    body = {
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
        "items": rows,
        "pages": [_page(page, batch) for page in span.pages],
        "reading": {
            "page": span.form_page,
            "matrix": [round(number, 9) for number in span.matrix],
            "dpi": span.dpi,
            "method": span.method,
            "rotation": span.rotation,
        },
    }
    return body, files


def _page(page: CapturedPage, batch: str) -> dict[str, Any]:
    """A row of `pages[]`. The digest of a page that bears what must be destroyable alone stands with that: it might be guessed from it."""
    row: dict[str, Any] = {
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
    if page.under:
        del row["digest"]
        row["under"] = list(page.under)
    if page.whole is not None:
        row["whole"] = {"path": page.whole.path, "under": list(page.whole.under)}
    return row


def _rows(stores: Stores, definition: Definition, span: Captured) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """The rows of `items[]` as read, and the files of those that must be destroyable alone."""
    rows = {
        item.item: {
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
    }
    whole = [
        *(WholePage(page.path, page.media_type, page.digest, page.under) for page in span.pages if page.under),
        *(page.whole for page in span.pages if page.whole is not None),
    ]
    files = {}
    for item in definition.alone:
        pages = tuple(
            {"path": page.path, "media_type": page.media_type, "digest": page.digest}
            for page in whole
            if item in page.under
        )
        if item in rows or pages:
            (key,) = stores.keys.create([key_of(span.record, item)])
            row, data = sealed_item(span.record, item, Kept(rows.get(item), pages), key.recipient)
            rows[item], files[row["path"]] = row, data
    return list(rows.values()), files


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
    values = {item["item"]: item["value"] for item in body["items"] if not is_alone(item)}
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
    read = newest(stores, record)
    if form is not None:
        if form and definition.form(form) is None:
            raise BadInput(
                "その様式はこの台帳にありません。選び直してください。",
                "This ledger has no such form. Choose another.",
                code="form.unknown",
            )
        read = replace(read, body={**read.body, "form": form})
    made, files = _next_body(stores, actor, definition, read, values, generation=1, why="")
    pin = _seal_next(stores, actor, record, made, "settle", files)
    with operation(stores, actor) as work:
        require(actor, "settle", record.ledger_id, unknown_record())
        _same_version(record)
        sheets = [{"number": page["sheet"], "reason": ""} for page in made["pages"]]
        _note_sealed(work, "sealed", definition, made, pin, record.batch_id or "", sheets)
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
    record = editable(actor, record_id, base, why)
    definition, _ = definition_of(record.ledger_id)
    before = newest(stores, record)
    made, files = _next_body(stores, actor, definition, before, values, generation=base + 1, why=why.strip())
    if not files and Content(record_id, before.pin, made).values == before.values:
        raise BadInput("何も変わっていません。", "Nothing has changed.", code="edit.nothing")
    return seal_generation(stores, actor, record, definition, made, "edit", files)


def editable(actor: Actor, record_id: str, base: int, why: str) -> Record:
    """The record, where the actor may seal its next generation upon `base` for the reason `why`; errors as `edit`."""
    record = queries.record(record_id)
    if record is None or record.state != "sealed":
        raise unknown_record()
    require(actor, "view", record.ledger_id, unknown_record())
    require(actor, "edit", record.ledger_id, unknown_record())
    if not why.strip():
        raise BadInput("変更の理由を入れてください。", "Enter the reason for the change.", code="edit.why")
    if record.generation != base:
        raise _moved_on()
    return record


def seal_generation(
    stores: Stores,
    actor: Actor,
    record: Record,
    definition: Definition,
    body: Mapping[str, Any],
    message: str,
    files: Mapping[str, bytes | Source] = MappingProxyType({}),
) -> Content:
    """Seal the body, and files that are new in it, as the generation after `record`, unless somebody else was first (`record.moved_on`)."""
    pin = _seal_next(stores, actor, record, body, message, files)
    with operation(stores, actor) as work:
        require(actor, "edit", record.ledger_id, unknown_record())
        _same_version(record)
        _note_sealed(work, "edited", definition, body, pin, "")
    return Content(record.id, pin, body)


def waiting_content(stores: Stores, actor: Actor, record_id: str) -> tuple[Record, Definition, Content]:
    """A waiting record with what was read, journalled before it is given out."""
    record, definition = _waiting_record(actor, record_id)
    note_alone(
        stores,
        actor,
        "waiting_viewed",
        ledger=record.ledger_id,
        batch=record.batch_id or "",
        record=record_id,
        data={"alone": list(definition.alone)} if definition.alone else {},
    )
    return record, definition, opened(stores, newest(stores, record))


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
    before: Content,
    values: Mapping[str, str],
    *,
    generation: int,
    why: str,
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The JSON after `before`, and the encrypted files (logical path -> bytes) of items that must be destroyable alone and have changed."""
    at = stamp(moment(stores))
    known = {item["item"]: item for item in before.body["items"]}
    if strangers := sorted(set(values) - {item.id for item in definition.items}):
        raise BadInput(
            f"項目「{'、'.join(strangers)}」はこの台帳にありません。",
            f"This ledger has no item {', '.join(strangers)}.",
            code="value.item",
        )
    items, files = [], {}
    for item in definition.items:
        if not before.body["form"]:
            item = replace(item, required=False)  # a page without a form is kept for its image, whatever it says
        old, kept, pointer = known.get(item.id), Kept(None, ()), None
        if old is not None and is_alone(old):
            pointer, read = old, opened_item(stores, before, old)
            if read is None:
                if item.id in values:
                    raise destroyed_item(item)
                items.append({**pointer, "reason": ""})
                continue
            kept, old = read, read.row
        if item.id not in values:
            if old is None and not item.required:
                items += [pointer] if pointer else []
                continue
            value = checked(item, old["value"] if old else "") if generation == 1 else (old or {"value": ""})["value"]
        else:
            value = checked(item, values[item.id])
        row = dict(old or {"item": item.id, "raw": "", "confidence": 1.0, "reader": "person", "second": "", "box": []})
        if old is None and not value:
            items += [pointer] if pointer else []
            continue
        changed = old is None or old["value"] != value
        row |= {"value": value, "reason": ""}
        if changed or (generation == 1 and item.id in values):
            row |= {"settled": {"at": at, "by": actor.person}}
        if pointer is not None and row == old:
            row = pointer
        elif pointer is not None or item.alone:  # what was once apart does not come back among the others
            (key,) = stores.keys.create([key_of(before.record, item.id)])
            row, data = sealed_item(before.record, item.id, replace(kept, row=row), key.recipient)
            files[row["path"]] = data
        items.append(row)
    body = {
        **before.body,
        "generation": generation,
        "state": "sealed",
        "ledger_version": definition_of(definition.id)[1],
        "made": {"at": at, "by": actor.person, "why": why},
        "items": items,
    }
    return body, files


def _seal_next(
    stores: Stores,
    actor: Actor,
    record: Record,
    body: Mapping[str, Any],
    message: str,
    files: Mapping[str, bytes | Source] = MappingProxyType({}),
) -> Pin:
    """Seal the body as the object's next version, all other files carried over; an unacknowledged version in between is left behind."""
    require_worm(stores, definition_of(record.ledger_id)[0])
    key = stores.keys.get(record.id)
    acknowledged = Pin(record.id, record.object_version, record.object_digest)
    # Not carried over: a version in between, which nobody acknowledged, may hold another file under this name.
    alone = {
        row["path"]: stores.objects.read(acknowledged, row["path"])
        for row in body["items"]
        if is_alone(row) and row["path"] not in files
    }
    own = {CONTENT: encrypt(canonical(body), key.recipient), **alone, **files}
    at = stamp(moment(stores))

    def sealed_on(before: Pin) -> Pin:
        # Also what the body no longer names: a version that lacks something could not be followed by one that needs it.
        carried = [path for path in stores.objects.paths(before) if path not in own]
        made = NewVersion(record.id, before.number + 1, own, at, actor.person, message, carried)
        return stores.objects.seal([made])[0]

    try:
        return sealed_on(acknowledged)
    except Conflict:
        head = stores.objects.head(record.id)
        if head == acknowledged.number:
            raise
        return sealed_on(stores.objects.pin(record.id, head))


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
