"""What both engines make of a normalised text: its overlapping character pairs, and the digest of the whole.

How a pair is written as a term of an engine belongs to its adapter.
"""

from __future__ import annotations

import hashlib
import json

END = "\x03"
"""Stands after the last character of a text; no normalised text holds it."""


def pairs(text: str) -> list[str]:
    """Each character with the one after it, the last with the end sign."""
    return [a + b for a, b in zip(text, text[1:] + END, strict=True)]


def exact(item: str, text: str) -> str:
    """The term under which the whole text of an item is found, 32 hexadecimal digits."""
    return hashlib.blake2b(json.dumps([item, text]).encode(), digest_size=16).hexdigest()
