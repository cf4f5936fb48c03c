"""Searching, ledgers, a record, and its edit form: each view asks one function of `records/` and lays out what it gives."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import BinaryIO, cast
from urllib.parse import urlencode

from django.core.files.uploadedfile import UploadedFile
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import content_disposition_header
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from access.actions import ACTIONS
from access.decide import ledgers as ledgers_in_which
from access.decide import may, require
from core.errors import BadFile, BadInput, Conflict, DaichoError
from records import attachments, capture
from records import show as records_show
from records.content import unknown_record
from records.find import find
from records.found import visible_ledgers
from records.ledger import Definition, Item
from web import serve
from web.bodies import ticket
from web.context import language_of
from web.fields import Field, errors, text_of, typed
from web.middleware import PersonRequest, status_of
from web.templatetags.words import year_name
from web.words import word

HITS = 25
VALUES = 12
"""Values shown of a facet."""


@require_safe
def home(request: PersonRequest) -> HttpResponse:
    """The search box; with anything asked, the results."""
    asked = {name: request.GET[name] for name in request.GET if request.GET[name] or name == "q"}
    permitted = ledgers_in_which(request.actor, "view")
    known = {
        definition.id: definition for definition, _ in visible_ledgers(request.actor) if definition.id in permitted
    }
    chosen = asked.get("ledger")
    parts: dict[str, object] = {
        "known": known.values(),
        "text": asked.get("q", ""),
        "past": "past" in asked,
        "chosen": known.get(chosen or ""),
    }
    if not asked:
        return render(request, "web/home.html", parts)
    items = [item for item in known[chosen].items if item.facet] if chosen in known else []
    facets = ("ledger", "year", *(item.id for item in items))
    has = {name[2:]: value for name, value in asked.items() if name.startswith("f-")}
    try:
        results = find(
            request.stores,
            request.actor,
            asked.get("q", ""),
            ledger=chosen,
            has=has,
            facets=facets,
            past="past" in asked,
            limit=HITS,
            cursor=asked.get("cursor"),
        )
    except BadInput as error:
        parts["error"] = error.message(language_of(request))
        return render(request, "web/home.html", parts, status=status_of(error))
    language = language_of(request)
    titles = {"ledger": word("facet.ledger", language), "year": word("facet.year", language)}
    titles |= {item.id: _label(item.label, language) for item in items}
    groups, narrowed = [], []
    for facet in facets:
        name = "ledger" if facet == "ledger" else f"f-{facet}"
        if name in asked:
            shown = _value_name(facet, asked[name], known, language)
            dropped = (
                ("ledger", *(key for key in asked if key.startswith("f-") and key != "f-year"))
                if facet == "ledger"
                else (name,)
            )
            narrowed.append({"title": titles[facet], "value": shown, "address": _address(asked, {}, dropped)})
            continue
        counts = results.facets.get(facet, {})
        if len(counts) > 1 or (counts and facet == "year"):
            groups.append({"title": titles[facet], "values": _values(facet, name, counts, asked, known, language)})
    return render(
        request,
        "web/results.html",
        {
            **parts,
            "results": results,
            "groups": groups,
            "narrowed": narrowed,
            "kept": [(name, value) for name, value in asked.items() if name.startswith("f-")],
            "further": _address(asked, {"cursor": results.cursor}) if results.cursor else "",
            "first": _address(asked, {}) if "cursor" in asked else "",
        },
    )


def _values(
    facet: str, name: str, counts: Mapping[str, int], asked: dict[str, str], known: dict[str, Definition], language: str
) -> list[dict[str, object]]:
    """A facet's values with their counts and where they lead: years from the newest, the rest from the most frequent."""
    order = sorted(counts.items(), key=lambda each: (each[0],) if facet == "year" else (each[1], each[0]), reverse=True)
    return [
        {
            "value": _value_name(facet, value, known, language),
            "count": count,
            "address": _address(asked, {name: value}),
        }
        for value, count in order[:VALUES]
    ]


def _value_name(facet: str, value: str, known: dict[str, Definition], language: str) -> str:
    if facet == "ledger":
        return _label(known[value].name, language) if value in known else value
    return year_name(value, language) if facet == "year" else value


def _label(label: dict[str, str], language: str) -> str:
    return label.get(language) or label["ja"]


def _address(asked: dict[str, str], more: dict[str, str], drop: tuple[str, ...] = ()) -> str:
    """The search page with these parameters changed; the cursor is dropped, since it belongs to one query."""
    kept = {name: value for name, value in asked.items() if name != "cursor" and name not in drop}
    return f"{reverse('home')}?{urlencode({'q': '', **kept, **more})}"


@require_safe
def ledgers(request: PersonRequest) -> HttpResponse:
    """The ledgers that the person may use, with purpose, basis and rules."""
    listed = [
        {
            "definition": definition,
            "version": version,
            "rights": [f"right.{action}" for action in ACTIONS if may(request.actor, action, definition.id)],
            "searchable": may(request.actor, "view", definition.id),
        }
        for definition, version in visible_ledgers(request.actor)
    ]
    return render(request, "web/ledgers.html", {"listed": listed})


@require_safe
def record(request: PersonRequest, record: str) -> HttpResponse:
    """A record's page images beside what they say, and its attachments."""
    return _record_page(request, record, _number(request.GET.get("generation")))


def _record_page(
    request: PersonRequest, record: str, generation: int | None = None, *, status: int = 200, **parts: object
) -> HttpResponse:
    shown = records_show.show(request.stores, request.actor, record, generation)
    changes = records_show.history(request.stores, request.actor, record)
    pages = shown.content.body["pages"]
    page = min(_number(request.GET.get("page")) or 1, len(pages))
    rows = []
    for row in records_show.values_as_read(shown):
        item = shown.ledger.item(row["item"])
        by_person = "settled" in row or row.get("reader") == "person"
        percent = "" if by_person or not row["value"] else f"{min(99, int(row['confidence'] * 100))}%"
        rows.append(
            {
                "item": item,
                "value": row["value"],
                "by_person": by_person and row["value"],
                "percent": percent,
                "destroyed": "destroyed" in row,
            }
        )
    return render(
        request,
        "web/record.html",
        {
            "shown": shown,
            "rows": rows,
            "changes": changes[::-1],
            "page": page,
            "pages": range(1, len(pages) + 1),
            "title": [text_of(item, value) for item, value in _title(shown)],
            "attachments": attachments.listed(shown.content),
            "ticket": ticket(record, request.actor.person) if shown.may_edit else "",
            **parts,
        },
        status=status,
    )


def _title(shown: records_show.Shown) -> list[tuple[Item, str]]:
    """The title items that say something."""
    found = ((shown.ledger.item(name), shown.content.values.get(name, "")) for name in shown.ledger.title)
    return [(item, value) for item, value in found if item is not None and value]


def _number(text: str | None) -> int | None:
    """A positive number of an address, None where it was not given; anything else names nothing."""
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and int(text[:9]) > 0 and len(text) < 10):
        raise unknown_record()
    return int(text)


@require_safe
def page_image(request: PersonRequest, record: str, page: int, size: str) -> HttpResponse:
    """A page's image; each look is journalled, so browsers may not keep it."""
    image = records_show.page_image(request.stores, request.actor, record, page, size)
    return HttpResponse(image, content_type="image/jpeg")


@require_safe
def attachment(request: PersonRequest, record: str, attachment: str) -> HttpResponseBase:
    """An attachment, to be kept as a file: no browser may show or run it here. It breaks off where damage is found on the way."""
    number = _number(request.GET.get("generation"))
    opened = attachments.read(request.stores, request.actor, record, attachment, number)
    response = StreamingHttpResponse(opened.pieces, content_type="application/octet-stream")
    response["Content-Length"] = str(opened.attachment.size)
    response["Content-Disposition"] = content_disposition_header(True, opened.attachment.name) or "attachment"
    return response


@require_POST
def attach(request: PersonRequest, record: str) -> HttpResponse:
    """Add files to a record; they make its next generation."""
    files = [
        attachments.Given(file.name or "", functools.partial(_begun, file)) for file in request.FILES.getlist("files")
    ]
    base, why = _number(request.POST.get("base")) or 0, request.POST.get("why", "")
    try:
        attachments.attach(request.stores, request.actor, record, base, files, why, serve.settings().scratch)
    except (BadInput, BadFile, Conflict) as error:
        return _attached_page(request, record, error, "attach_error")
    return redirect(f"{reverse('record', args=[record])}#attachments")


def _begun(file: UploadedFile) -> BinaryIO:
    """The file from its beginning."""
    file.seek(0)
    return cast(BinaryIO, file.file)


@require_POST
def detach(request: PersonRequest, record: str) -> HttpResponse:
    """Take attachments off; the generations before keep them."""
    base, why = _number(request.POST.get("base")) or 0, request.POST.get("why", "")
    gone = request.POST.getlist("attachment")
    try:
        attachments.detach(request.stores, request.actor, record, base, gone, why)
    except (BadInput, Conflict) as error:
        return _attached_page(request, record, error, "detach_error")
    return redirect(f"{reverse('record', args=[record])}#attachments")


def _attached_page(request: PersonRequest, record: str, error: DaichoError, at: str) -> HttpResponse:
    """The record again with what was wrong, at the form where it was; a browser forgets which files were chosen."""
    told = {at: error.message(language_of(request)), "why": request.POST.get("why", "")}
    return _record_page(request, record, status=status_of(error), **told)


@require_http_methods(["GET", "HEAD", "POST"])
def edit(request: PersonRequest, record: str) -> HttpResponse:
    """The edit form; what is saved is a new generation."""
    if request.method != "POST":
        shown = records_show.show(request.stores, request.actor, record)
        require(request.actor, "edit", shown.ledger.id, unknown_record())
        return _edit_page(request, shown, _fields(shown), "")
    sent, why, language = request.POST, request.POST.get("why", ""), language_of(request)
    base = _number(sent.get("base")) or 0
    values = typed(sent)
    try:
        capture.edit(request.stores, request.actor, record, base, values, why)
    except Conflict as error:
        newest = records_show.show(request.stores, request.actor, record)
        fields = [
            replace(field, text=values[field.item.id], now=field.text if field.text != values[field.item.id] else None)
            if field.item.id in values
            else field
            for field in _fields(newest)
        ]
        return _edit_page(request, newest, fields, why, moved_on=True, status=status_of(error))
    except BadInput as error:
        shown = records_show.show(request.stores, request.actor, record)
        wrong = errors(shown.ledger, values, language, formless=not shown.content.body["form"])
        fields = [
            replace(field, text=values.get(field.item.id, field.text), error=wrong.get(field.item.id, ""))
            for field in _fields(shown)
        ]
        at_why = error.code == "edit.why"
        return _edit_page(
            request,
            shown,
            fields,
            why,
            why_error=error.message(language) if at_why else "",
            error="" if at_why or wrong else error.message(language),
            status=status_of(error),
        )
    return redirect(reverse("record", args=[record]))


def _fields(shown: records_show.Shown) -> list[Field]:
    values = shown.content.values
    texts = [(item, text_of(item, values.get(item.id, ""))) for item in shown.ledger.items]
    return [Field(item, text, text) for item, text in texts]


def _edit_page(
    request: PersonRequest,
    shown: records_show.Shown,
    fields: list[Field],
    why: str,
    *,
    status: int = 200,
    **parts: object,
) -> HttpResponse:
    pages = shown.content.body["pages"]
    return render(
        request,
        "web/edit.html",
        {
            "shown": shown,
            "fields": fields,
            "why": why,
            "page": shown.content.body["reading"]["page"] + 1,
            "pages": range(1, len(pages) + 1),
            **parts,
        },
        status=status,
    )
