"""The search box: words people type, turned into a query. Other ways of asking build `search.port` values."""

from __future__ import annotations

import unicodedata

from core.eras import parse_date
from core.errors import BadInput
from search.port import All, Any, Contains, Not, Query

MAX_LENGTH = 1000
"""Characters in the search box."""

_QUOTES = '"＂“”'
_MINUS = "-－"
_OR = frozenset({"OR", "ＯＲ", "または"})


def parse(text: str) -> Query:
    """The query that `text` means.

    Words between blanks (of either width) must all occur; `A OR B` or `A または B` asks for one of the two and binds
    more closely than the blank; a leading `-` means the word must not occur; `"…"` keeps blanks and signs together as
    one phrase. A word, or the whole text, that is a date in any writing also finds that day as records hold it (ISO,
    1979-03-02). An empty box asks for everything.

    `BadInput`: `search.too_long` (over 1,000 characters), `search.control` (control characters), `search.quote` (a
    quotation mark without its partner), `search.or` (nothing on one side of OR).
    """
    if len(text) > MAX_LENGTH:
        raise BadInput(
            f"検索の言葉は {MAX_LENGTH} 文字までにしてください。",
            f"Use at most {MAX_LENGTH} characters to search.",
            code="search.too_long",
        )
    if any(unicodedata.category(c) in ("Cc", "Cs") and c not in "\t\r\n" for c in text):
        raise BadInput(
            "検索の言葉に使えない文字(制御文字)が入っています。入力し直してください。",
            "The search text holds control characters. Type it again.",
            code="search.control",
        )
    if parse_date(text) is not None:
        return _word(text.strip())
    choices: list[list[Query]] = []
    joining = False
    for word, quoted in _words(text):
        if not quoted and word in _OR:
            if not choices or joining:
                raise _bad_or()
            joining = True
            continue
        part: Query
        if not quoted and word[0] in _MINUS and len(word) > 1:
            part = Not(_word(word[1:].strip(_QUOTES)))
        else:
            part = _word(word)
        if joining:
            choices[-1].append(part)
            joining = False
        else:
            choices.append([part])
    if joining:
        raise _bad_or()
    parts = tuple(choice[0] if len(choice) == 1 else Any(tuple(choice)) for choice in choices)
    return parts[0] if len(parts) == 1 else All(parts)


def _bad_or() -> BadInput:
    return BadInput(
        'OR(または)の前後に言葉を入れてください。OR という文字を探すときは "OR" と囲んでください。',
        'Put a word on both sides of OR. To find the letters OR, write "OR".',
        code="search.or",
    )


def _word(text: str) -> Query:
    date = parse_date(text)
    if date is None:
        return Contains(text)
    iso = Contains(date.day.isoformat())
    return iso if text == iso.text else Any((Contains(text), iso))


def _words(text: str) -> list[tuple[str, bool]]:
    """(word, whether it was quoted); a minus before a quotation mark stays with it: -"山田 太郎" is one word, not
    quoted.
    """
    words: list[tuple[str, bool]] = []
    place = 0
    while place < len(text):
        if text[place].isspace():
            place += 1
            continue
        start = place
        if text[place] in _MINUS and text[place + 1 : place + 2] and text[place + 1] in _QUOTES:
            place += 1
        if text[place] in _QUOTES:
            end = next((i for i in range(place + 1, len(text)) if text[i] in _QUOTES), None)
            if end is None:
                raise BadInput(
                    '引用符が閉じていません。" を両側に付けてください。',
                    'A quotation mark has no partner. Put " on both sides.',
                    code="search.quote",
                )
            if place == start:
                words.append((text[place + 1 : end], True))
            else:
                words.append((text[start : end + 1], False))
            place = end + 1
            continue
        while place < len(text) and not text[place].isspace() and text[place] not in _QUOTES:
            place += 1
        words.append((text[start:place], False))
    return words
