"""One byte string for one value: canonical JSON and the digests taken of it.

Journal segments, record JSON and inventories are written with `canonical`, so that equal values have equal digests on
every machine. Reading back is plain `json.loads`. Encryption and files belong elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

from core.errors import BadInput

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))


def canonical(value: Any) -> bytes:
    """`value` as UTF-8 JSON with sorted keys and no spaces; `json.loads` of it gives `value` again (tuples become
    lists).

    Takes dict with str keys, list, tuple, str, int, finite float, bool, None. `BadInput` (code `canonical.bad`) for
    anything else: NaN, other keys, lone surrogates, dates, bytes.
    """
    _check(value, 0)
    try:
        return _ENCODER.encode(value).encode("utf-8")
    except UnicodeEncodeError as error:
        raise _bad("text that is not valid Unicode") from error


_PLAIN = frozenset([str, int, bool, type(None)])


def _check(value: Any, depth: int) -> None:
    if depth > 100:
        raise _bad("a value nested more than 100 deep")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise _bad(f"a key of type {type(key).__name__}")
            if type(item) not in _PLAIN or depth == 100:  # most are; a call for each takes longer than writing them
                _check(item, depth + 1)
    elif isinstance(value, (list, tuple)):
        for item in value:
            if type(item) not in _PLAIN or depth == 100:
                _check(item, depth + 1)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise _bad("a number that is not finite")
    elif value is not None and not isinstance(value, (str, int)):
        raise _bad(f"a value of type {type(value).__name__}")


def _bad(what: str) -> BadInput:
    return BadInput(
        f"正規の JSON に書けない値です（{what}）。値の作り方を直してください。",
        f"The value cannot be written as canonical JSON ({what}). Correct how it is made.",
        code="canonical.bad",
    )


def sha256_hex(data: bytes) -> str:
    """SHA-256 of `data`, lower-case hex."""
    return hashlib.sha256(data).hexdigest()


def sha512_hex(data: bytes) -> str:
    """SHA-512 of `data`, lower-case hex: the digest of OCFL inventories and content."""
    return hashlib.sha512(data).hexdigest()
