"""How much a request may bring. The server takes a body in before anybody can ask who sends it, and keeps it on the disk meanwhile: so a stranger may
send little, and files of any size come only with a ticket that was given, on a page, to somebody who may add them. A ticket lets bytes in; what becomes of
them is decided as everywhere, by session and rights.
"""

from __future__ import annotations

import copy
import re
import sys
from urllib.parse import parse_qs

from django.core import signing
from waitress.parser import HTTPRequestParser  # type: ignore[import-untyped]

LARGEST = 2**21
"""Bytes of a body that comes without a ticket."""

TICKET_LASTS = 8 * 3600
"""Seconds; no session is longer."""

_SALT = "web.bodies"
_ATTACH = re.compile(r"/records/([a-z0-9-]+)/attach/")


def ticket(record: str, person: str) -> str:
    """What lets this person's files for this record in."""
    return signing.dumps([record, person], salt=_SALT)


def _has_ticket(path: str, query: str) -> bool:
    match = _ATTACH.fullmatch(path)
    given = parse_qs(query).get("ticket", [""])[0]
    if match is None or not given:
        return False
    try:
        record, _ = signing.loads(given, salt=_SALT, max_age=TICKET_LASTS)
    except (signing.BadSignature, ValueError):
        return False
    return bool(record == match[1])


class Parser(HTTPRequestParser):  # type: ignore[misc]
    """Reads the head of a request, and then as much of its body as it may bring."""

    def parse_header(self, header_plus: bytes) -> None:
        super().parse_header(header_plus)
        if _has_ticket(self.path, self.query):
            self.adj = copy.copy(self.adj)
            self.adj.max_request_body_size = sys.maxsize
