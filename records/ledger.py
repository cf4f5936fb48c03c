"""Definitions of ledgers as values: items, forms, schedule. `records.template` reads them from the files that staff write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ingest.form import Form, ItemType, Zone

FORMAT = "daicho-ledger-1"

Label = dict[str, str]
"""{"ja": …, "en": …}."""


@dataclass(frozen=True)
class Approval:
    """The council's approval of holding this personal data (S-X2): who, which decision, when (ISO day), and what they asked for."""

    body: Label
    number: str
    date: str
    note: Label


@dataclass(frozen=True)
class Item:
    """One item (項目) of a ledger. `alone`: it must be destroyable alone (個別廃棄), as the individual number must: see `records.alone`."""

    id: str
    type: ItemType
    label: Label
    required: bool = False
    choices: tuple[str, ...] = ()
    facet: bool = False
    alone: bool = False


@dataclass(frozen=True)
class Schedule:
    """How long records are kept (保存年限) and what happens then.

    `trigger`: an item of type date, or "creation". `start`: `fiscal_year_after` (1 April), `calendar_year_after` (1 January) or `same_day`.
    `years`: None means permanent (永年). `action`: `destroy`, `transfer` or `review`.
    """

    title: Label
    mandate: Label
    trigger: str
    start: str
    years: int | None
    action: str


@dataclass(frozen=True)
class Definition:
    """One version of a ledger's definition. `worm`: its records may only lie where a probe could neither delete nor shorten a lock."""

    id: str
    name: Label
    purpose: Label
    legal_basis: Label
    usage_rules: Label
    approval: Approval | None
    items: tuple[Item, ...]
    forms: tuple[Form, ...]
    schedule: Schedule
    title: tuple[str, ...] = ()
    year_item: str = ""
    whole_page_text: bool = False
    worm: bool = False
    form_titles: Mapping[str, Label] = field(default_factory=dict)

    @property
    def alone(self) -> tuple[str, ...]:
        """Ids of the items that must be destroyable alone."""
        return tuple(item.id for item in self.items if item.alone)

    def item(self, item_id: str) -> Item | None:
        return next((item for item in self.items if item.id == item_id), None)

    def form(self, form_id: str) -> Form | None:
        return next((form for form in self.forms if form.id == form_id), None)


@dataclass(frozen=True)
class Template:
    """What a template folder holds: the definition, the blank forms (form id -> PNG bytes), posts and their actions."""

    definition: Definition
    images: Mapping[str, bytes]
    posts: Mapping[str, Label] = field(default_factory=dict)
    rights: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def to_json(definition: Definition) -> dict[str, Any]:
    """The definition as plain JSON values, as it stands in the journal. `alone` stands only where it is true."""
    value = {"format": FORMAT, **asdict(definition)}
    value["items"] = [{k: v for k, v in item.items() if k != "alone" or v} for item in value["items"]]
    return value


def from_json(value: Mapping[str, Any]) -> Definition:
    """The reverse of `to_json`."""
    forms = tuple(
        Form(
            **{
                **form,
                "zones": tuple(Zone(**{**zone, "choices": tuple(zone["choices"])}) for zone in form["zones"]),
                "marks": tuple((x, y) for x, y in form["marks"]),
            }
        )
        for form in value["forms"]
    )
    return Definition(
        **{
            **{key: part for key, part in value.items() if key != "format"},
            "items": tuple(Item(**{**item, "choices": tuple(item["choices"])}) for item in value["items"]),
            "forms": forms,
            "approval": Approval(**value["approval"]) if value["approval"] else None,
            "schedule": Schedule(**value["schedule"]),
            "title": tuple(value["title"]),
        }
    )
