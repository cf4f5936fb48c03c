"""The one normaliser: what is searched and what searches pass through it, for every engine.

Its tables are data: `variants.tsv` beside this file, and the short tables below; docs/search-folding.md is generated
from them. It folds writings of the same thing, never different things: パ, バ and ハ stay apart, as do 斎 and 斉.
Parsing a search box does not belong here (`search.query`), nor does reading dates (`core.eras`).

`normalise` keeps containment: a part of a text, cut between characters that do not compose, normalises to a part of the
normalised text. That is what lets an index of character pairs find every substring. Blanks are dropped, so 山田 太郎
and 山田太郎 are one.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

VERSION = 1
"""Raised with every change of the tables or the steps; an index made by another version must be rebuilt."""

FINGERPRINT = f"{VERSION}/{unicodedata.unidata_version}"
"""What an index records: the tables' version, and that of the Unicode data Python brings (a newer one composes new
characters).
"""

VARIANTS_FILE = Path(__file__).with_name("variants.tsv")

VOICING = {"゛": "\u3099", "ﾞ": "\u3099", "゜": "\u309a", "ﾟ": "\u309a"}
"""Separate voicing marks become combining ones before NFKC, which would otherwise turn U+309B into a blank and a mark.
"""

SMALL = dict(
    zip(
        "ァィゥェォッャュョヮヵヶㇰㇱㇲㇳㇴㇵㇶㇷㇸㇹㇺㇻㇼㇽㇾㇿ",
        "アイウエオツヤユヨワカケクシストヌハヒフヘホムラリルレロ",
        strict=True,
    )
)
"""Small kana, which old registers do not write small."""

DASHES = "ー‐‑‒–—―−─━⁃˗〜～~〰∼"
"""Characters that stand for a dash or a long vowel and that people and readers mix up; all become `-`."""

_DROPPED = frozenset({"Cc", "Cf", "Cs", "Zs", "Zl", "Zp"})


def variants() -> dict[str, str]:
    """Variant character -> the one it is folded to, as written in `variants.tsv`."""
    table: dict[str, str] = {}
    for line in VARIANTS_FILE.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            variant, base = line.split("\t")
            table[variant] = base
    return table


def _folds() -> dict[int, str]:
    table = {ord(k): v for k, v in variants().items()}
    table |= {c: chr(c + 0x60) for c in (*range(0x3041, 0x3097), 0x309D, 0x309E)}
    table |= {ord(small): large for small, large in SMALL.items()}
    table |= {c: SMALL[chr(c + 0x60)] for c in range(0x3041, 0x3097) if chr(c + 0x60) in SMALL}
    return table | dict.fromkeys(map(ord, DASHES), "-")


class _Cleaning(dict[int, "int | str | None"]):
    """For `str.translate`: drops what is not compared, opens voicing marks; filled as characters are met."""

    def __missing__(self, code: int) -> int | None:
        dropped = unicodedata.category(chr(code)) in _DROPPED or 0xFE00 <= code <= 0xFE0F or 0xE0100 <= code <= 0xE01EF
        self[code] = None if dropped else code
        return None if dropped else code


_CLEANING = _Cleaning({ord(mark): combining for mark, combining in VOICING.items()})
_FOLDS = _folds()
_SETTLED = re.compile(r"[!-@\[-~ァ-ヺ・一-\u9fff]*")
"""Folded text of these alone cannot change again; most of it is such."""


def _once(text: str) -> str:
    return unicodedata.normalize("NFKC", text.translate(_CLEANING)).casefold().translate(_FOLDS)


def normalise(text: str) -> str:
    """The form in which `text` is compared: no blanks, no variants, one kana, one dash, lower case. May be empty.

    Idempotent: the steps are repeated until nothing changes (folding can make a pair that composes, as in ゕ + ゛).
    """
    while True:
        folded = _once(text)
        if folded == text or _SETTLED.fullmatch(folded):
            return folded
        text = folded
