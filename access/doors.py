"""Every door by which somebody can reach the house, and what is decided there. A door that is not listed does not open.

`web/middleware.py` and `cli/main.py` look doors up here before anything runs; tests compare the list with the real routes and commands.

Decisions: `anyone` (no one need be known), `signed_in` (a known person; what they may see is decided per ledger inside), a ledger right
(`view`, `capture`, `settle`, `edit`, `define`; likewise decided per ledger inside), `administrator`, and `installation`: whoever holds the data and
key folders, since those open everything anyway.
"""

from __future__ import annotations

from collections.abc import Mapping

COMMANDS: Mapping[str, str] = {
    "init": "installation",
    "demo": "installation",
    "ledger apply": "administrator",
    "ledger list": "signed_in",
    "person list": "administrator",
    "person add": "administrator",
    "person password": "administrator",
    "ingest": "capture",
    "batch list": "signed_in",
    "batch show": "signed_in",
    "batch close": "settle",
    "queue": "settle",
    "read": "anyone",
    "codes": "anyone",
    "search": "view",
    "record show": "view",
    "record history": "view",
    "record attach": "edit",
    "record detach": "edit",
    "record export": "view",
    "verify": "installation",
    "rebuild": "installation",
    "reindex": "installation",
    "migrate": "installation",
    "locks extend": "installation",
    "locks check": "installation",
    "ocfl check": "anyone",
    "keys check": "installation",
    "keys rotate": "administrator",
    "backup": "installation",
    "restore": "installation",
    "drill": "administrator",
    "serve": "installation",
    "info": "installation",
    "audit checkpoint": "installation",
    "audit witness": "installation",
    "audit print": "installation",
    "audit verify": "anyone",
    "audit show": "administrator",
    "audit expire": "administrator",
}
"""Command -> decision."""

ROUTES: Mapping[str, str] = {
    "sign_in": "anyone",
    "sign_out": "anyone",
    "language": "anyone",
    "asset": "anyone",
    "home": "signed_in",
    "ledgers": "signed_in",
    "record": "view",
    "page_image": "view",
    "edit": "edit",
    "attachment": "view",
    "attach": "edit",
    "detach": "edit",
    "batches": "signed_in",
    "batch": "signed_in",
    "close_batch": "settle",
    "queue": "settle",
    "waiting": "settle",
    "snippet": "settle",
    "settle": "settle",
    "refuse": "settle",
}
"""Name of a web route -> decision."""
