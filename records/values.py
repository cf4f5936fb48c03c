"""Values as people type them: what fits an item's type, in the one form in which it is kept (dates as ISO days)."""

from __future__ import annotations

import unicodedata

from core.eras import parse_date, wareki
from core.errors import BadInput
from records.ledger import Item


def checked(item: Item, text: str) -> str:
    """The value to keep for what was typed; "" where nothing was.

    Raises:
        BadInput: `value.required`, `value.date`, `value.choice`, `value.number`, `value.length`.
    """
    value = text.strip()
    label_ja, label_en = item.label["ja"], item.label["en"]
    if not value:
        if item.required:
            raise BadInput(
                f"「{label_ja}」は必ず入れる項目です。値を入れてください。",
                f'"{label_en}" must not be empty. Enter a value.',
                code="value.required",
            )
        return ""
    if len(value) > 10_000 or any(unicodedata.category(character) == "Cc" and character != "\n" for character in value):
        raise BadInput(
            f"「{label_ja}」が長すぎるか、使えない文字を含んでいます。短くして入れ直してください。",
            f'"{label_en}" is too long or holds control characters. Shorten it.',
            code="value.length",
        )
    if item.type == "date":
        parsed = parse_date(value)
        if parsed is None:
            raise BadInput(
                f"「{label_ja}」の日付を読めません。令和7年3月1日、R7.3.1、2025-03-01 のように入れてください。",
                f'The date of "{label_en}" cannot be read. Write it as 2025-03-01, R7.3.1 or 令和7年3月1日.',
                code="value.date",
            )
        return parsed.day.isoformat()
    if item.type == "choice" and value not in item.choices:
        raise BadInput(
            f"「{label_ja}」は {'、'.join(item.choices)} のどれかにしてください。",
            f'"{label_en}" must be one of {", ".join(item.choices)}.',
            code="value.choice",
        )
    if item.type in ("number", "phone"):
        value = unicodedata.normalize("NFKC", value)
        if not all(character in "0123456789-+(). " for character in value):
            raise BadInput(
                f"「{label_ja}」には数字とハイフンだけを入れてください。",
                f'"{label_en}" takes digits and hyphens only.',
                code="value.number",
            )
    return value


def shown(item: Item, value: str) -> str:
    """The value as people read it: dates with their era."""
    if item.type == "date" and value:
        parsed = parse_date(value)
        return wareki(parsed.day) if parsed else value
    return value
