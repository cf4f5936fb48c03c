"""What each type of item makes of the characters read: value, confidence, and whether a person should look.

Rules may lower confidence, never raise it. Pixels and models are not known here; nor what an item is for. The words for
a person (`reason`) are those of `ItemReading`.

Characters that stand for one another in names. The reader cannot give 﨑 or 𠮷 at all, and gives 高 for nearly every
髙, each time with more than 98 % confidence; its best guess is therefore no evidence. The small probabilities beside it
are: shown 髙 it leaves 髙 between 0.2 % and 4 %, shown 高 below 0.03 %; shown 﨑 it thinks of characters with 啇 or 章
at the right (嘀 嶂), shown 崎 of those with 奇 (畸 椅). `TWINS` holds these signs, so that only the doubtful 高 go to a
person and not every 高橋.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from core.eras import parse_date
from ingest.form import Zone
from ingest.readers import ReadCharacter


@dataclass(frozen=True)
class Settled:
    """What became of one item: the value, confidence 0..1, and the reason for a person to look ("" for none)."""

    value: str
    confidence: float
    reason: str = ""


@dataclass(frozen=True)
class Twin:
    """The character read may be `other` when the summed probability of `signs` is at least `least` and exceeds that
    of `against`."""

    other: str
    signs: str
    least: float
    against: str = ""


TWINS: dict[str, Twin] = {
    "高": Twin("髙", "髙", 1e-3),
    "崎": Twin("﨑", "嶂嘀岣崞喑啼", 2e-6, "畸奇椅齮"),
    "吉": Twin("𠮷", "告吾", 5e-4),
    "柳": Twin("栁", "栁枷椥郴", 5e-5),
    "濱": Twin("濵", "演瀘湞滇", 1e-2),
}
"""Measured on four typefaces; see the module's docstring."""

VARIANTS = (
    "高髙",
    "辺邊邉",
    "斎齋斉齊",
    "浜濱",
    "崎嵜",
    "徳德",
    "館舘",
    "富冨",
    "柳栁",
    "沢澤",
    "広廣",
    "真眞",
    "桑桒",
    "国國",
    "島嶋嶌",
    "渕淵渊",
)
"""Characters of names that the reader knows both of and may take for each other."""

_NEAR = 0.03
"""A variant this likely beside the character read makes it doubtful."""

_OUTSIDE = 0.5
"""Ceiling of confidence for a text with characters its type cannot have."""
_MENDED = 0.99
"""Factor for a text in which look-alikes were replaced: the type says what was meant, but a person may have meant
otherwise."""

_DIGIT_LIKE = str.maketrans(
    {
        **dict.fromkeys("OoDQ〇○◯", "0"),
        **dict.fromkeys("lIi|!", "1"),
        "Z": "2",
        "z": "2",
        "S": "5",
        "s": "5",
        "B": "8",
        "b": "6",
        "q": "9",
    }
)
_DASHES = str.maketrans(dict.fromkeys("‐‑‒–—―−－ーｰ─一~〜", "-"))
_KANA_LIKE = str.maketrans(
    {
        "力": "カ",
        "二": "ニ",
        "口": "ロ",
        "夕": "タ",
        "工": "エ",
        "八": "ハ",
        "卜": "ト",
        "千": "チ",
        "三": "ミ",
        "-": "ー",
        "—": "ー",
        "―": "ー",
        "一": "ー",
        "‐": "ー",
        "−": "ー",
        "–": "ー",
        "─": "ー",
    }
)
_DATE_LIKE = (
    ("合和", "令和"),
    ("今和", "令和"),
    ("冷和", "令和"),
    ("昭知", "昭和"),
    ("平戌", "平成"),
    ("平戊", "平成"),
    ("大止", "大正"),
)
_KANA = re.compile(r"[ァ-ヺー・ヽヾ ]*")
_NUMBER = re.compile(r"[0-9][0-9.\-]*|-[0-9][0-9.]*")
_THOUSANDS = re.compile(r"-?[0-9]{1,3}(,[0-9]{3})+(\.[0-9]+)?")
_YES = frozenset([*"有要可済○〇◯Oo0レ✓✔☑Vvν√", "はい", "該当", "あり"])
_NO = frozenset(["無", "いいえ", "不要", "不可", "非該当", "未", "なし", "×", "✕", "X", "x", "☒"])


def settled(
    zone: Zone, raw: str, confidence: float, accept: float, characters: Sequence[ReadCharacter] = ()
) -> Settled:
    """What was written in `zone`, by the rules of its type.

    `raw` and `confidence` as the reader gave them; `characters` when the reader tells them apart (used for
    look-alikes of names).
    A zone without ink is `raw` "" with confidence 1.0.
    """
    result = _RULES[zone.type](zone, _spaced(raw), confidence)
    if not result.value:
        return Settled("", result.confidence, "missing" if zone.required else "")
    reason = result.reason
    if not reason and zone.type in ("name", "address") and _doubtful(characters):
        reason = "ambiguous"
    if not reason and result.confidence < accept:
        reason = "low_confidence"
    return Settled(result.value, result.confidence, reason)


def _spaced(text: str) -> str:
    return " ".join(text.split())


def _text(zone: Zone, text: str, confidence: float) -> Settled:
    return Settled(text, confidence)


def _kana(zone: Zone, text: str, confidence: float) -> Settled:
    wide = unicodedata.normalize("NFKC", text)
    wide = "".join(chr(ord(c) + 0x60) if "ぁ" <= c <= "ゖ" else c for c in wide)
    value = wide.translate(_KANA_LIKE)
    if not _KANA.fullmatch(value):
        return Settled(value, min(confidence, _OUTSIDE))
    return Settled(value, confidence * (_MENDED if value != wide else 1.0))


def _digits(text: str) -> tuple[str, float]:
    plain = unicodedata.normalize("NFKC", text).translate(_DASHES).replace(" ", "")
    value = plain.translate(_DIGIT_LIKE)
    return value, _MENDED if value != plain else 1.0


def _number(zone: Zone, text: str, confidence: float) -> Settled:
    value, factor = _digits(text)
    if _THOUSANDS.fullmatch(value):
        value = value.replace(",", "")
    if value and not _NUMBER.fullmatch(value):
        return Settled(value, min(confidence * factor, _OUTSIDE))
    return Settled(value, confidence * factor)


def _phone(zone: Zone, text: str, confidence: float) -> Settled:
    value, factor = _digits(text)
    value = re.sub(r"-{2,}", "-", re.sub(r"[()/.・]", "-", value)).strip("-")
    digits = value.replace("-", "").removeprefix("+81")
    whole = digits.isdigit() and (
        len(digits) in (10, 11) if digits.startswith("0") else value.startswith("+81") and len(digits) in (9, 10)
    )
    if value and not whole:
        return Settled(value, min(confidence * factor, _OUTSIDE))
    return Settled(value, confidence * factor)


def _date(zone: Zone, text: str, confidence: float) -> Settled:
    value = unicodedata.normalize("NFKC", text)
    if not value.strip("年月日 .・/-"):
        # The form's own 年 月 日, and nothing between them.
        return Settled("", confidence)
    factor = 1.0
    parsed = parse_date(value)
    if parsed is None:
        mended = value.translate(_DIGIT_LIKE)
        for wrong, right in _DATE_LIKE:
            mended = mended.replace(wrong, right)
        parsed = parse_date(mended) if mended != value else None
        factor = 0.97
    if parsed is None:
        return Settled(value, confidence, "not_a_date")
    return Settled(parsed.day.isoformat(), confidence * factor)


def _choice(zone: Zone, text: str, confidence: float) -> Settled:
    if not text:
        return Settled("", confidence)
    folded = {choice: _folded(choice) for choice in zone.choices}
    read = _folded(text)
    same = [choice for choice, key in folded.items() if key == read]
    if len(same) == 1:
        return Settled(same[0], confidence)
    near = [choice for choice, key in folded.items() if len(key) >= 2 and _one_apart(key, read)]
    if not same and len(near) == 1:
        return Settled(near[0], confidence * 0.9)
    return Settled(text, confidence, "not_a_choice")


def _yes_no(zone: Zone, text: str, confidence: float) -> Settled:
    read = _folded(text)
    for value, words in (("yes", _YES), ("no", _NO)):
        if text in words or read in words:
            return Settled(value, confidence)
    return Settled(text, confidence, "not_a_choice" if text else "")


_RULES: dict[str, Callable[[Zone, str, float], Settled]] = {
    "text": _text,
    "kana": _kana,
    "name": _text,
    "address": _text,
    "date": _date,
    "number": _number,
    "phone": _phone,
    "choice": _choice,
    "yes_no": _yes_no,
}


def _folded(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).split()).casefold()


def _one_apart(a: str, b: str) -> bool:
    """Whether one insertion, deletion or replacement makes `a` of `b`."""
    if abs(len(a) - len(b)) > 1:
        return False
    short, long = sorted((a, b), key=len)
    start = 0
    while start < len(short) and short[start] == long[start]:
        start += 1
    rest = short[start + 1 :] if len(short) == len(long) else short[start:]
    return rest == long[start + 1 :]


def _doubtful(characters: Sequence[ReadCharacter]) -> bool:
    for each in characters:
        beside = dict(each.rivals)
        twin = TWINS.get(each.text)
        if twin is not None:
            signs = sum(beside.get(c, 0.0) for c in twin.signs)
            if signs >= twin.least and signs > sum(beside.get(c, 0.0) for c in twin.against):
                return True
        for group in VARIANTS:
            if each.text in group and sum(beside.get(c, 0.0) for c in group if c != each.text) >= _NEAR:
                return True
    return False
