"""The code that daicho prints on covers, separators and sheets: what it says and how it is written (`ingest/qr.py` draws it).

`DC1:kind:ledger:form:case:sequence:total:check`, all in the QR alphabet of capitals and digits (two characters in 11
bits). Where on a sheet the code is printed is not decided here.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from typing import Literal

from core.errors import BadInput

Kind = Literal["cover", "separator", "sheet"]

_START = "DC1:"
_LETTERS: dict[Kind, str] = {"cover": "C", "separator": "P", "sheet": "S"}
_KINDS: dict[str, Kind] = {letter: kind for kind, letter in _LETTERS.items()}
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-.")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,6}", re.ASCII)
_ESCAPED = re.compile(r"(?:[A-Z0-9.-]|%[0-9A-F]{2})*", re.ASCII)
_LONGEST = 512


@dataclass(frozen=True)
class SheetCode:
    """What a printed code says. `sequence` of `total` sheets of the case, from 1; 0 of 0 where nothing is counted.

    `ledger`, `form` and `case` are opaque ids ("" where there is none): a code is read by whoever holds the paper.
    """

    kind: Kind
    ledger: str
    form: str
    case: str
    sequence: int
    total: int


def _check(body: str) -> str:
    """Six characters (30 bits) that a misread or mistyped code does not have."""
    return base64.b32encode(hashlib.sha256(body.encode()).digest())[:6].decode()


def _escaped(text: str) -> str:
    """Lower-case ids become capitals; every other character is written as %XX of its UTF-8."""
    return "".join(chr(byte).upper() if byte in _PLAIN else f"%{byte:02X}" for byte in text.encode())


def _unescaped(text: str) -> str:
    if not _ESCAPED.fullmatch(text):
        raise ValueError(text)
    out = bytearray()
    for part in re.findall(r"%[0-9A-F]{2}|[A-Z0-9.-]", text):
        out += bytes.fromhex(part[1:]) if part[0] == "%" else part.lower().encode()
    return out.decode()


def encode(code: SheetCode) -> str:
    """The text to print. `BadInput` if it would not fit a label."""
    if not 0 <= code.sequence <= 9_999_999 or not 0 <= code.total <= 9_999_999:
        raise BadInput("シートの番号は0から9999999までです。", "sheet numbers go from 0 to 9999999", code="code.range")
    names = ":".join(_escaped(name) for name in (code.ledger, code.form, code.case))
    body = f"{_START}{_LETTERS[code.kind]}:{names}:{code.sequence}:{code.total}:"
    if len(body) > _LONGEST:
        raise BadInput(
            "識別子が長すぎてラベルに入りません。短くしてください。",
            "the ids are too long for a label: shorten them",
            code="code.range",
        )
    return body + _check(body)


def parse(text: str) -> SheetCode | None:
    """What `text` says; None if it is not one of ours; `BadInput` `code.damaged` if it is ours but was altered or
    misread."""
    text = text.strip()
    if not text.startswith(_START):
        return None
    body, check = text[:-6], text[-6:]
    parts = body.split(":")
    if len(text) <= _LONGEST + 6 and check == _check(body) and len(parts) == 8:
        _, letter, ledger, form, case, sequence, total, rest = parts
        if letter in _KINDS and not rest and _NUMBER.fullmatch(sequence) and _NUMBER.fullmatch(total):
            try:
                return SheetCode(
                    _KINDS[letter], _unescaped(ledger), _unescaped(form), _unescaped(case), int(sequence), int(total)
                )
            except ValueError:
                pass  # falls through to the one refusal
    raise BadInput(
        "シートのコードが壊れています。番号を確かめるか、ラベルを印刷し直してください。",
        "the sheet's code is damaged: check its number or print the label again",
        code="code.damaged",
    )
