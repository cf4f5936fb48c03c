"""Around every request: headers that keep a page to itself, who is asking, and errors turned into statuses.

A route that `access.doors.ROUTES` does not name does not open. Unknown addresses and forbidden records get the same answer, byte for byte.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from urllib.parse import urlencode

from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.urls import Resolver404, resolve, reverse

from access import queries as access_queries
from access.decide import Actor
from access.doors import ROUTES
from core import logs
from core.clock import stamp
from core.errors import (
    BadFile,
    BadInput,
    Busy,
    Conflict,
    DaichoError,
    NotFound,
    NotPermitted,
    NotReady,
    NotSignedIn,
    StorageFailed,
    StorageFull,
    Unreachable,
)
from records.operation import note_refusal
from records.stores import Stores
from web import context, serve

Next = Callable[[HttpRequest], HttpResponse]

IDLE = timedelta(minutes=30)
LONGEST = timedelta(hours=8)
NOTED_EVERY = timedelta(minutes=1)
"""How often the time of the last request is written down."""

STATUSES: tuple[tuple[type[DaichoError], int], ...] = (
    (NotFound, 404),
    (NotPermitted, 403),
    (NotSignedIn, 403),
    (BadInput, 400),
    (BadFile, 400),
    (Conflict, 409),
    (Busy, 503),
    (Unreachable, 503),
    (NotReady, 503),
    (StorageFull, 507),
    (DaichoError, 500),
)
"""The first class that fits gives the status."""

CALM: tuple[tuple[type[DaichoError], str], ...] = (
    (Unreachable, "error.unreachable"),
    (NotReady, "error.not_ready"),
)
"""Errors that the pages tell in their own words."""

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # no-referrer would make browsers send forms with `Origin: null`
    "Permissions-Policy": (
        "camera=(), microphone=(), geolocation=(), display-capture=(), payment=(), usb=(), serial=(), hid=(), midi=()"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}


class PersonRequest(HttpRequest):
    """A request after `PersonMiddleware`: who asks (None on the pages that `anyone` may see), and the ports."""

    actor: Actor
    person_name: str
    stores: Stores


class RequestMiddleware:
    """Gives every request an id, which goes out with the answer, and one line in the log. Outermost, so that nothing goes by it."""

    def __init__(self, get_response: Next) -> None:
        self.get_response = get_response
        # A line of ours tells the same of each request, and `views.failed` what was not foreseen; Django's would be a second one.
        logging.getLogger("django.request").setLevel(logging.CRITICAL)

    def __call__(self, request: HttpRequest) -> HttpResponse:
        begun = time.monotonic()
        with logs.request() as number:
            response = self.get_response(request)
            match = request.resolver_match
            logs.write(
                "request",
                name=(match.url_name or "") if match else "",  # never the address: it may be what somebody searched for
                status=response.status_code,
                ms=(time.monotonic() - begun) * 1000,
            )
        response["X-Request-Id"] = number
        return response


class HeadersMiddleware:
    """Sets the headers, and refuses requests that name another host."""

    def __init__(self, get_response: Next) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        try:
            request.get_host()
            response = self.get_response(request)
        except DisallowedHost:
            response = HttpResponse("Bad Request", status=400, content_type="text/plain; charset=utf-8")
        for name, value in HEADERS.items():
            response[name] = value
        response.setdefault("Cache-Control", "no-store")
        if not response.streaming:
            response["Content-Length"] = str(len(response.content))
        return response


class PersonMiddleware:
    """Finds out who is asking and whether the door is listed; turns errors into pages."""

    def __init__(self, get_response: Next) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        try:
            return self._admitted(request)
        except DaichoError as error:  # the door is not listed, or the session could not be read, or ended
            return _refused_or(request, error)

    def _admitted(self, request: HttpRequest) -> HttpResponse:
        request.stores = serve.stores()  # type: ignore[attr-defined]
        try:
            name = resolve(request.path_info).url_name or ""
        except Resolver404:
            name = ""
        door = ROUTES.get(name)
        if door == "anyone":
            if name != "asset":
                _recognise(request)
            return self.get_response(request)
        expired = "_person" in request.session
        if not _recognise(request):
            return _to_sign_in(request, expired)
        if door is None:
            raise unknown_door()
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Answer for an error that a view did not handle; anything that is not ours stays with Django."""
        return _refused_or(request, error) if isinstance(error, DaichoError) else None


def _refused_or(request: HttpRequest, error: DaichoError) -> HttpResponse:
    """The answer for an error. A known person's refusal is journalled before; what is not there and what may not be known of alike."""
    actor = getattr(request, "actor", None)
    if actor is not None and isinstance(error, NotFound | NotPermitted):
        match = request.resolver_match
        try:
            note_refusal(serve.stores(), actor, (match.url_name or "") if match else "", error, request.get_full_path())
        except DaichoError as failed:  # no entry, no answer but this
            error = failed
    return answer(request, error)


def unknown_door() -> NotFound:
    """The answer for an address that no page has."""
    return NotFound(
        "そのページはありません。アドレスを確かめてください。",
        "There is no such page. Check the address.",
        code="page.not_found",
    )


def sign_in(request: HttpRequest, person: str) -> None:
    """Begin the session of a person, under a new key."""
    now = stamp(serve.stores().clock.now())
    request.session.flush()
    request.session.update({"_person": person, "_since": now, "_seen": now})
    request.session.cycle_key()


def _recognise(request: HttpRequest) -> bool:
    """Set `request.actor` and `request.person_name` when a living session says who it is; end an outlived one."""
    request.actor = None  # type: ignore[attr-defined]
    session = request.session
    person_id = session.get("_person")
    if person_id is None:
        return False
    now = serve.stores().clock.now()
    since, seen = (datetime.fromisoformat(session[name]) for name in ("_since", "_seen"))
    person = access_queries.person(person_id) if now - seen < IDLE and now - since < LONGEST else None
    if person is None:
        session.flush()
        return False
    if now - seen > NOTED_EVERY:
        session["_seen"] = stamp(now)
    request.actor = Actor(person_id, "web")  # type: ignore[attr-defined]
    request.person_name = person.name  # type: ignore[attr-defined]
    return True


def _to_sign_in(request: HttpRequest, expired: bool) -> HttpResponse:
    """Where to go when nobody is signed in: the page asked for comes back after it, if it was a page to look at."""
    asked = {}
    if request.method in ("GET", "HEAD") and request.path != reverse("home"):
        asked["next"] = request.get_full_path()
    if expired:
        asked["expired"] = "1"
    return redirect(f"{reverse('sign_in')}{'?' if asked else ''}{urlencode(asked)}")


def status_of(error: DaichoError) -> int:
    """HTTP status with which an error is told to somebody; the log notes that it was."""
    logs.coded(error)
    return next(status for kind, status in STATUSES if isinstance(error, kind))


def answer(request: HttpRequest, error: DaichoError) -> HttpResponse:
    """The page for an error. What is not there and what may not be known of look alike."""
    if isinstance(error, NotFound):
        logs.coded(error)
        return error_page(request, 404, "not_found", context_word="error.not_found")
    # What engines say is for who runs them: it names servers and settings.
    told = next((name for kind, name in CALM if isinstance(error, kind)), "")
    message = "" if told else error.message(context.language_of(request))
    retryable = isinstance(error, Busy | Unreachable)
    again = request.get_full_path() if retryable and request.method in ("GET", "HEAD") else ""
    response = error_page(request, status_of(error), error.code, message=message, context_word=told, again=again)
    if isinstance(error, StorageFailed):
        serve.stop()
    if retryable:
        response["Retry-After"] = "5"
    return response


def error_page(
    request: HttpRequest, status: int, code: str, *, message: str = "", context_word: str = "", again: str = ""
) -> HttpResponse:
    """A plain page that says what happened. It depends on nothing but its arguments and the language, and asks no database.

    It bears the request's id, for people to quote; not where nothing is found, since pages of that kind must not differ in anything.
    """
    parts = {
        "code": code,
        "request_id": "" if status == 404 else logs.request_id(),
        "message": message,
        "word_key": context_word,
        "again": again,
        "language": context.language_of(request),
        "municipality": serve.municipality(),
    }
    return HttpResponse(render_to_string("web/error.html", parts), status=status)
