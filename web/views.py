"""The frame of the pages: signing in and out, the language, our static files, and what Django itself must answer."""

from __future__ import annotations

import sys

from django.contrib.sessions.exceptions import SessionInterrupted
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import Resolver404, resolve, reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST, require_safe

from access.decide import Actor
from access.signin import check
from core import logs
from core.errors import DaichoError, NotSignedIn
from records.operation import log_key, note_alone
from web import assets
from web.context import language_of
from web.middleware import PersonRequest, answer, error_page, status_of
from web.middleware import sign_in as begin

A_YEAR = 365 * 86400


def sign_in(request: PersonRequest) -> HttpResponse:
    """Ask for login and password; the attempt is journalled either way."""
    after = _local(request.POST.get("next") or request.GET.get("next") or "")
    if request.method != "POST":
        if request.actor is not None:
            return redirect(after)
        return _sign_in_page(request, after, expired="expired" in request.GET)
    stores, login = request.stores, request.POST.get("login", "").strip()
    try:
        person = check(login, request.POST.get("password", ""), stores.clock)
    except NotSignedIn as error:
        nobody = Actor("", "web")
        note_alone(stores, nobody, "sign_in_refused", personal={"login": login[:64]}, key=log_key(stores))
        message = error.message(language_of(request))
        return _sign_in_page(request, after, login=login, error=message, status=status_of(error))
    note_alone(stores, Actor(person, "web"), "signed_in")
    begin(request, person)
    return redirect(after)


def _sign_in_page(request: PersonRequest, after: str, *, status: int = 200, **parts: object) -> HttpResponse:
    return render(request, "web/sign_in.html", {"next": after, **parts}, status=status)


@require_POST
def sign_out(request: PersonRequest) -> HttpResponse:
    """End the session."""
    if request.actor is not None:
        note_alone(request.stores, request.actor, "signed_out")
    request.session.flush()
    return redirect(reverse("sign_in"))


@require_safe
def language(request: PersonRequest) -> HttpResponse:
    """Remember the chosen language in a cookie and go back."""
    response = redirect(_local(request.GET.get("next") or ""))
    chosen = request.GET.get("to")
    if chosen in ("ja", "en"):
        response.set_cookie("language", chosen, max_age=A_YEAR, httponly=True, samesite="Lax")
    return response


@require_safe
def asset(request: HttpRequest, digest: str, name: str) -> HttpResponse:
    """One of our static files; its address changes with its bytes, so it may be kept for ever."""
    known = assets.files().get(name)
    if known is None or known[0] != digest:
        return not_found(request)
    response = HttpResponse(known[2], content_type=known[1])
    response["Cache-Control"] = f"public, max-age={A_YEAR}, immutable"
    return response


def _local(address: str) -> str:
    """The address if it is a page of ours, else the search page."""
    if address.startswith("/") and url_has_allowed_host_and_scheme(address, allowed_hosts=None):
        try:
            resolve(address.partition("?")[0])
        except Resolver404:
            pass
        else:
            return address
    return reverse("home")


def refused(request: HttpRequest, reason: str = "") -> HttpResponse:
    """A form without a valid token: an old page, or somebody else's."""
    return error_page(request, 403, "csrf", context_word="error.csrf")


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return error_page(request, 404, "not_found", context_word="error.not_found")


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """A request that cannot be served; also a session that could not be saved, which Django takes for one that was ended meanwhile."""
    behind: BaseException | None = exception if isinstance(exception, SessionInterrupted) else None
    while behind is not None:
        if isinstance(behind, DaichoError):
            return answer(request, behind)
        behind = behind.__context__
    return error_page(request, 400, "request", context_word="error.request")


def forbidden(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return error_page(request, 403, "request", context_word="error.request")


def failed(request: HttpRequest) -> HttpResponse:
    """Something that we did not foresee; what it was is in the log only, and there without its words.

    What we did foresee comes here too when it happens outside of all views, such as a database that does not answer when a session is to end.
    """
    error = sys.exception()
    if isinstance(error, DaichoError):
        return answer(request, error)
    if error is not None:
        logs.failed(error)
    return error_page(request, 500, "internal", context_word="error.internal")
