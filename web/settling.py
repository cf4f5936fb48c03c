"""Batches, what waits in them, and the keyboard page that settles it: each view asks a function of `records/`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta
from urllib.parse import urlencode

from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from access.decide import may
from core.eras import ERAS, GREGORIAN
from core.errors import BadInput, Conflict
from records import batches as records_batches
from records import capture
from records import show as records_show
from records.batches import Balance, place_in_queue, waiting_cases
from records.content import Content
from records.found import visible_ledgers
from records.ledger import Definition
from records.models import Record
from records.operation import note_alone
from web.context import language_of
from web.fields import Field, errors, look_alikes, text_of, typed
from web.middleware import PersonRequest, status_of

SHEETS = 500
"""Sheets of a batch on one page."""

CASES = 200
"""Waiting cases listed of a batch."""

STATES = ("sealed", "waiting", "refused", "")


@require_safe
def batches(request: PersonRequest) -> HttpResponse:
    """All batches with their balances, newest first."""
    listed = records_batches.list_batches(request.actor)
    note_alone(request.stores, request.actor, "batches_viewed")
    return render(request, "web/batches.html", {"listed": [_Listed(one) for one in listed]})


@dataclass(frozen=True)
class _Listed:
    """A balance with the shares of its bar."""

    balance: Balance

    @property
    def shares(self) -> list[tuple[str, int, int, int]]:
        """As `_shares`."""
        return _shares(self.balance)


def _shares(one: Balance) -> list[tuple[str, int, int, int]]:
    """(state, count, left, width), the last two in thousandths of the bar, of the states that occur."""
    left, made = 0, []
    for state, count in (
        ("sealed", one.sealed),
        ("waiting", one.waiting),
        ("refused", one.refused),
        ("unread", one.unread),
    ):
        if count:
            width = round(1000 * count / one.total)
            made.append((state, count, left, width))
            left += width
    return made


@require_safe
def batch(request: PersonRequest, batch: str) -> HttpResponse:
    """A batch: its balance, and every sheet by name."""
    one = records_batches.balance(request.actor, batch)
    note_alone(request.stores, request.actor, "batch_viewed", ledger=one.ledger, batch=one.batch)
    return _batch_page(request, one)


def _batch_page(request: PersonRequest, one: Balance, *, error: str = "", status: int = 200) -> HttpResponse:
    state = request.GET.get("state")
    sheets = [sheet for sheet in one.sheets if state not in STATES or sheet.state == state]
    asked = request.GET.get("from", "")
    start = max(0, int(asked) - 1) if asked.isdecimal() and len(asked) < 10 else 0
    sees, settles = may(request.actor, "view", one.ledger), may(request.actor, "settle", one.ledger)
    address = reverse("batch", args=[one.batch])

    def at(number: int) -> str:
        return f"{address}?{urlencode({'from': number, **({'state': state} if state in STATES else {})})}"

    waiting = next((sheet.record_id for sheet in one.sheets if sheet.state == "waiting"), "")
    return render(
        request,
        "web/batch.html",
        {
            "one": one,
            "shares": _shares(one),
            "sheets": sheets[start : start + SHEETS],
            "state": state if state in STATES else None,
            "before": at(max(1, start + 1 - SHEETS)) if start else "",
            "after": at(start + 1 + SHEETS) if start + SHEETS < len(sheets) else "",
            "page_size": SHEETS,
            "sees": sees,
            "settles": settles,
            "first_waiting": waiting if settles else "",
            "done": request.GET.get("done", ""),
            "error": error,
        },
        status=status,
    )


@require_POST
def close_batch(request: PersonRequest, batch: str) -> HttpResponse:
    """Close a balanced batch."""
    try:
        records_batches.close_batch(request.stores, request.actor, batch)
    except Conflict as error:
        one = records_batches.balance(request.actor, batch)
        return _batch_page(request, one, error=error.message(language_of(request)), status=status_of(error))
    return redirect(reverse("batch", args=[batch]))


@require_safe
def queue(request: PersonRequest) -> HttpResponse:
    """What waits: by batch, or the cases of one batch."""
    chosen = request.GET.get("batch") or None
    cases = waiting_cases(request.actor, chosen)
    note_alone(request.stores, request.actor, "queue_viewed", batch=chosen or "")
    definitions = {definition.id: definition for definition, _ in visible_ledgers(request.actor)}
    if chosen is not None:
        one = records_batches.balance(request.actor, chosen)
        listed = [
            {
                "case": case,
                "items": [(definitions[case.ledger].item(each.item), each.reason) for each in case.items],
            }
            for case in cases[:CASES]
        ]
        parts = {"one": one, "listed": listed, "count": len(cases), "more": max(0, len(cases) - CASES)}
        return render(request, "web/queue_batch.html", parts)
    counted: dict[str, int] = {}
    first: dict[str, str] = {}
    for case in cases:
        counted[case.batch] = counted.get(case.batch, 0) + 1
        first.setdefault(case.batch, case.record)
    waiting = [
        {"one": one, "count": counted[one.batch], "first": first[one.batch]}
        for one in records_batches.list_batches(request.actor)
        if one.batch in counted
    ]
    return render(request, "web/queue.html", {"waiting": waiting, "done": request.GET.get("done", "")})


@require_safe
def waiting(request: PersonRequest, record: str) -> HttpResponse:
    """The keyboard page: the snippet of each doubtful item beside its field."""
    try:
        row, definition, content = capture.waiting_content(request.stores, request.actor, record)
    except Conflict:
        return _onward(request, record, "taken")
    form = content.body["form"] or (definition.forms[0].id if definition.forms else "")
    return _waiting_page(request, row, definition, content, _fields(definition, content), form)


def _fields(definition: Definition, content: Content) -> list[Field]:
    """The case's items as fields. What was read with certainty counts as settled only when it is changed."""
    read = {item["item"]: item for item in content.body["items"]}
    unknown = not content.body["form"] and bool(definition.forms)
    made = []
    for item in definition.items:
        row = read.get(item.id)
        text = text_of(item, row["value"]) if row else ""
        doubtful = unknown or bool(row and row["reason"]) or (item.required and not text)
        made.append(
            Field(
                item,
                text,
                None if doubtful else text,
                (row["reason"] if row else "") or ("missing" if doubtful and not unknown else ""),
                row["raw"] if row else "",
                row["second"] if row else "",
                bool(row and row["box"] and row["reason"]),
            )
        )
    return made


def _waiting_page(
    request: PersonRequest,
    row: Record,
    definition: Definition,
    content: Content,
    fields: list[Field],
    form: str,
    *,
    status: int = 200,
    **parts: object,
) -> HttpResponse:
    unknown = not content.body["form"] and bool(definition.forms)
    look = [field for field in fields if field.was is None or field.error]
    pages = content.body["pages"]
    return render(
        request,
        "web/waiting.html",
        {
            "record": row.id,
            "definition": definition,
            "place": place_in_queue(request.actor, row.id),
            "reason": row.reason,
            "unknown": unknown,
            "form": form,
            "look": look,
            "sure": [field for field in fields if field not in look],
            "beside": unknown or not any(field.snippet for field in look),
            "page": content.body["reading"]["page"] + 1,
            "pages": range(1, len(pages) + 1),
            "refusals": capture.REFUSALS,
            "refuse_first": row.reason in capture.REFUSALS,
            "own_address": reverse("waiting", args=[row.id]),
            "done": request.GET.get("done", ""),
            "variants": " ".join(look_alikes()),
            "eras": " ".join(_eras()),
            **parts,
        },
        status=status,
    )


def _eras() -> list[str]:
    """The eras for the script that shows a day while it is typed: name, letter, first and last day, the year in which it began."""
    ends = [after.start - timedelta(days=not after.shared) for after in ERAS[1:]]
    return [
        f"{era.name},{era.letter},{max(era.start, GREGORIAN)},{last},{era.start.year}"
        for era, last in zip(ERAS, [*ends, date.max], strict=True)
    ]


@require_safe
def snippet(request: PersonRequest, record: str, item: str) -> HttpResponse:
    """The image of one item's zone."""
    image = records_show.snippet(request.stores, request.actor, record, item)
    return HttpResponse(image, content_type="image/png")


@require_POST
def settle(request: PersonRequest, record: str) -> HttpResponse:
    """Seal a waiting case with what was typed, and go on to the next of its batch."""
    sent = request.POST
    values = typed(sent)
    try:
        capture.settle(request.stores, request.actor, record, values, sent.get("form"))
    except Conflict:
        return _onward(request, record, "taken")
    except BadInput as error:
        row, definition, content = capture.waiting_content(request.stores, request.actor, record)
        language = language_of(request)
        form = sent.get("form", content.body["form"])
        fields = [replace(field, text=values.get(field.item.id, field.text)) for field in _fields(definition, content)]
        entered = {
            **content.values,
            **{field.item.id: values.get(field.item.id, "") for field in fields if field.was is None},
        }
        wrong = errors(definition, {**entered, **values}, language, formless=not form)
        return _waiting_page(
            request,
            row,
            definition,
            content,
            [replace(field, error=wrong.get(field.item.id, "")) for field in fields],
            form,
            error="" if wrong else error.message(language),
            status=status_of(error),
        )
    return _onward(request, record, "settled")


@require_POST
def refuse(request: PersonRequest, record: str) -> HttpResponse:
    """Say that a waiting case is no record, and go on to the next of its batch."""
    try:
        capture.refuse(request.stores, request.actor, record, request.POST.get("reason", ""))
    except Conflict:
        return _onward(request, record, "taken")
    return _onward(request, record, "refused")


def _onward(request: PersonRequest, record: str, done: str) -> HttpResponse:
    """To the next waiting case of the batch; after the last one to the batch, which can be closed then."""
    place = place_in_queue(request.actor, record)
    address = reverse("waiting", args=[place.next]) if place.next else reverse("batch", args=[place.batch])
    return redirect(f"{address}?{urlencode({'done': done if place.next else 'finished'})}")
