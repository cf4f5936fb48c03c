"""Items as fields of a form: what stands in them, what came back, and what is wrong with it. What fits an item says `records.values`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from core.errors import BadInput
from ingest.items import TWINS, VARIANTS
from records.ledger import Definition, Item
from records.values import checked, shown

MOST_RADIOS = 9
"""Up to this many choices are laid out, so that a digit key picks one; more go into a list."""


@dataclass(frozen=True)
class Choice:
    """A choice of a field. `key`: the digit that picks it, "" where there is none. `word`: key of its words, else its own text."""

    value: str
    key: str
    word: str = ""


@dataclass(frozen=True)
class Field:
    """An item in a form.

    `text`: what stands in the field. `was`: what stood there when the page was made; None when the value counts even if nobody changed
    it. `snippet`: there is an image of its zone. `error`: what is wrong with it. `now`: what the record says meanwhile, where that differs.
    """

    item: Item
    text: str
    was: str | None
    reason: str = ""
    raw: str = ""
    second: str = ""
    snippet: bool = False
    error: str = ""
    now: str | None = None

    @property
    def name(self) -> str:
        return f"v-{self.item.id}"

    @property
    def kind(self) -> str:
        """How it is entered: radio, list, lines or line."""
        if self.item.type == "choice":
            return "radio" if len(self.item.choices) <= MOST_RADIOS else "list"
        return {"yes_no": "radio", "text": "lines"}.get(self.item.type, "line")

    @property
    def mode(self) -> str:
        """The keyboard that a touch screen offers."""
        return {"number": "numeric", "phone": "tel"}.get(self.item.type, "text")

    @property
    def swaps(self) -> list[tuple[str, str]]:
        """(character of the text, its variant) for each look-alike that it might have been."""
        return [
            (one, other)
            for group in look_alikes()
            for one in group
            if one in self.text
            for other in group
            if other != one
        ]

    @property
    def choices(self) -> Sequence[Choice]:
        """What may be chosen, emptiness last."""
        words = {"yes": "yes", "no": "no"} if self.item.type == "yes_no" else dict.fromkeys(self.item.choices, "")
        made = [Choice(value, str(n) if n < 10 else "", word) for n, (value, word) in enumerate(words.items(), 1)]
        return made if self.item.required else [*made, Choice("", "0", "choose_none")]


def look_alikes() -> list[str]:
    """Groups of characters that a reader takes for one another and that are hard to type: 崎﨑嵜, 高髙, 辺邊邉 …"""
    groups = {group[0]: group for group in VARIANTS}
    for one, twin in TWINS.items():
        rest = groups.get(one, one)[1:].replace(twin.other, "")
        groups[one] = one + twin.other + rest
    return list(groups.values())


def text_of(item: Item, value: str) -> str:
    """A value as it stands in its field: dates with their era, as staff write them."""
    return shown(item, value)


def typed(sent: Mapping[str, str]) -> dict[str, str]:
    """Item id -> text, of the fields that count: those that were changed, and those that are to be settled anyhow."""
    values = {}
    for name in sent:
        if name.startswith("v-"):
            text, was = _lines(sent[name]), sent.get(f"was-{name[2:]}")
            if was is None or text != _lines(was):
                values[name[2:]] = text
    return values


def errors(
    definition: Definition, values: Mapping[str, str], language: str, *, formless: bool = False
) -> dict[str, str]:
    """Item id -> what is wrong with its value. On a page without a form nothing is required."""
    wrong = {}
    for item in definition.items:
        if item.id in values:
            try:
                checked(replace(item, required=False) if formless else item, values[item.id])
            except BadInput as error:
                wrong[item.id] = error.message(language)
    return wrong


def _lines(text: str) -> str:
    """Text with the line ends of records, not those of forms."""
    return text.replace("\r\n", "\n")
