"""What every template knows: language, who is signed in, and which parts of the menu are theirs."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest

from access.decide import ledgers
from records.batches import SEES
from web import serve


def language_of(request: HttpRequest) -> str:
    """The language chosen with the switch, else the installation's."""
    chosen = request.COOKIES.get("language", "")
    return chosen if chosen in ("ja", "en") else serve.settings().language


def page(request: HttpRequest) -> dict[str, Any]:
    """The context of every page."""
    actor = getattr(request, "actor", None)
    language = language_of(request)
    here = request.get_full_path() if request.method in ("GET", "HEAD") else ""
    return {
        "language": language,
        "language_switch": urlencode({"to": "ja" if language == "en" else "en", "next": here}),
        "municipality": serve.municipality(),
        "person_name": getattr(request, "person_name", ""),
        "may_settle": bool(actor and ledgers(actor, "settle")),
        "may_see_batches": bool(actor and ledgers(actor, *SEES)),
        "here": getattr(getattr(request, "resolver_match", None), "url_name", ""),
    }
