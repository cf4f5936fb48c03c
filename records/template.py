"""Reading a ledger's definition from a template folder of YAML. Staff write these files; a complaint names file, place and what to mend."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import yaml

from access.actions import ACTIONS
from core.errors import BadInput
from ingest.form import Form, ItemType, Zone
from records.ledger import FORMAT, Approval, Definition, Item, Label, Schedule, Template


class _Source:
    """One YAML file being read; complains with its name."""

    def __init__(self, file: Path) -> None:
        self.file = file
        if not file.is_file():
            raise self.wrong("ファイルがありません", "the file is missing")
        try:
            self.value = yaml.safe_load(file.read_text("utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            line = getattr(getattr(error, "problem_mark", None), "line", None)
            where = f"{line + 1}" if isinstance(line, int) else "?"
            raise self.wrong(f"{where} 行目が YAML として読めません", f"line {where} is not YAML") from error

    def wrong(self, ja: str, en: str) -> BadInput:
        return BadInput(
            f"{self.file}: {ja}。直してから `daicho ledger apply` をもう一度実行してください。",
            f"{self.file}: {en}. Mend it and run `daicho ledger apply` again.",
            code="ledger.definition",
        )

    def mapping(self) -> dict[str, Any]:
        if not isinstance(self.value, dict):
            raise self.wrong("「名前: 値」の形で書いてください", "write it as `name: value`")
        return self.value

    def part(self, value: object, name: str) -> dict[str, Any]:
        """A mapping inside the file; empty when it is not there."""
        if value is not None and not isinstance(value, dict):
            raise self.wrong(f"{name} は「名前: 値」の形で書いてください", f"write {name} as `name: value`")
        return value or {}

    def sequence(self, value: object, name: str) -> list[Any]:
        """A list inside the file; empty when it is not there."""
        if value is not None and not isinstance(value, list):
            raise self.wrong(f"{name} は [ ] の並びで書いてください", f"write {name} as a list, in [ ]")
        return value or []

    def rows(self, value: object, name: str) -> list[dict[str, Any]]:
        if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
            raise self.wrong(
                f"{name} は「- 名前: 値」の並びで書いてください", f"{name} must be a list of `- name: value`"
            )
        return value

    def label(self, value: object, name: str) -> Label:
        if isinstance(value, str):
            return {"ja": value, "en": value}
        if not isinstance(value, dict) or not isinstance(value.get("ja"), str):
            raise self.wrong(f"{name} に日本語の名前 (ja) がありません", f"{name} has no Japanese text (ja)")
        return {"ja": value["ja"], "en": str(value.get("en") or value["ja"])}

    def word(self, value: object, name: str) -> str:
        if not isinstance(value, str) or not re.fullmatch(r"[a-z][a-z0-9_-]{0,40}", value):
            raise self.wrong(
                f"{name} の「{value}」は使えません。英小文字で始まる 41 文字までの英小文字・数字・_ - にしてください",
                f'{name} "{value}" cannot be used; write lower-case letters, digits, _ or -, at most 41, a letter first',
            )
        return value

    def one_of(self, value: object, name: str, allowed: tuple[str, ...]) -> str:
        if value not in allowed:
            raise self.wrong(
                f"{name} の「{value}」は使えません。{'、'.join(allowed)} のどれかにしてください",
                f'{name} "{value}" is not one of {", ".join(allowed)}',
            )
        return str(value)

    def millimetres(self, value: object, name: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 2000:
            raise self.wrong(
                f"{name} は 0〜2000 の数（ミリ）にしてください", f"{name} must be a number of mm, 0 to 2000"
            )
        return float(value)


def read_folder(folder: Path) -> Template:
    """Read a template folder: `ledger.yaml`, `items.yaml`, `schedule.yaml`, `rights.yaml`, `forms/*.yaml` with their PNGs.

    Raises:
        BadInput: (`ledger.definition`) names the file and what to mend.
    """
    head = _Source(folder / "ledger.yaml")
    ledger = head.mapping()
    if ledger.get("format") != FORMAT:
        raise head.wrong(f"format は {FORMAT} にしてください", f"format must be {FORMAT}")
    items = _items(_Source(folder / "items.yaml"))
    known = {item.id: item for item in items}
    title = tuple(str(item) for item in head.sequence(ledger.get("title"), "title"))
    year_item = str(ledger.get("year_item") or "")
    for item_id in (*title, *([year_item] if year_item else ())):
        if item_id not in known:
            raise head.wrong(f"項目「{item_id}」は items.yaml にありません", f'item "{item_id}" is not in items.yaml')
    if year_item and known[year_item].type != "date":
        raise head.wrong("year_item は日付の項目にしてください", "year_item must be an item of type date")
    for item_id in (*title, year_item):
        if item_id and known[item_id].alone:
            raise head.wrong(
                f"項目「{item_id}」は alone なので、title や year_item には使えません",
                f'item "{item_id}" is alone: it can be neither in title nor year_item',
            )
    forms, images, form_titles = [], {}, {}
    for file in sorted((folder / "forms").glob("*.yaml")):
        source = _Source(file)
        form, image = _form(source, known)
        forms.append(form)
        images[form.id] = image
        form_titles[form.id] = source.label(source.mapping().get("title", form.id), "title")
    definition = Definition(
        id=head.word(ledger.get("id"), "id"),
        name=head.label(ledger.get("name"), "name"),
        purpose=head.label(ledger.get("purpose"), "purpose"),
        legal_basis=head.label(ledger.get("legal_basis"), "legal_basis"),
        usage_rules=head.label(ledger.get("usage_rules"), "usage_rules"),
        approval=_approval(head, ledger.get("approval")),
        items=items,
        forms=tuple(forms),
        schedule=_schedule(_Source(folder / "schedule.yaml"), known),
        title=title,
        year_item=year_item,
        whole_page_text=bool(ledger.get("whole_page_text", False)),
        worm=bool(ledger.get("worm", False)),
        form_titles=form_titles,
    )
    source = _Source(folder / "rights.yaml")
    posts, rights = {}, {}
    for post, right in source.part(source.mapping().get("posts"), "posts").items():
        if not isinstance(right, dict) or not isinstance(right.get("actions"), list):
            raise source.wrong(f"{post} に actions の並びがありません", f"{post} has no list of actions")
        posts[source.word(post, "posts")] = source.label(right.get("name"), post)
        rights[post] = tuple(source.one_of(action, post, ACTIONS) for action in right["actions"])
    return Template(definition, images, posts, rights)


def _approval(source: _Source, value: object) -> Approval | None:
    if value is None:
        return None
    if not isinstance(value, dict) or not str(value.get("number") or "").strip():
        raise source.wrong("approval に number（決定の番号）がありません", "approval has no number of the decision")
    note = value.get("note") or {"ja": "", "en": ""}
    return Approval(
        source.label(value.get("body"), "approval.body"),
        str(value["number"]),
        str(value.get("date") or ""),
        source.label(note, "approval.note"),
    )


def _items(source: _Source) -> tuple[Item, ...]:
    items: list[Item] = []
    for row in source.rows(source.value, "items.yaml"):
        item_id = source.word(row.get("id"), "id")
        if any(item.id == item_id for item in items):
            raise source.wrong(f"項目「{item_id}」が二つあります", f'item "{item_id}" stands twice')
        kind = source.one_of(row.get("type"), f"{item_id} の type", get_args(ItemType))
        choices = tuple(str(choice) for choice in source.sequence(row.get("choices"), f"{item_id} の choices"))
        if (kind == "choice") != bool(choices):
            raise source.wrong(
                f"項目「{item_id}」: choices は type: choice のときだけ、必ず書いてください",
                f'item "{item_id}": choices go with type: choice, and only with it',
            )
        if row.get("alone") and row.get("facet"):
            raise source.wrong(
                f"項目「{item_id}」は alone なので、facet にはできません",
                f'item "{item_id}" is alone: it cannot be a facet',
            )
        items.append(
            Item(
                item_id,
                kind,  # type: ignore[arg-type]  # checked by one_of
                source.label(row.get("label"), item_id),
                bool(row.get("required", False)),
                choices,
                bool(row.get("facet", False)),
                bool(row.get("alone", False)),
            )
        )
    return tuple(items)


def _form(source: _Source, items: Mapping[str, Item]) -> tuple[Form, bytes]:
    value = source.mapping()
    form_id = source.word(value.get("id"), "id")
    page = source.part(value.get("page"), "page")
    width, height = (
        source.millimetres(page.get("width"), "page.width"),
        source.millimetres(page.get("height"), "page.height"),
    )
    corners = [source.sequence(mark, "marks") for mark in source.sequence(value.get("marks"), "marks")]
    if len(corners) not in (0, 4) or any(len(corner) != 2 for corner in corners):
        raise source.wrong("marks は [x, y] を四つ書くか、書かないでください", "give four marks [x, y] or none")
    marks = tuple((source.millimetres(x, "marks"), source.millimetres(y, "marks")) for x, y in corners)
    zones = []
    for row in source.rows(value.get("zones") or [], "zones"):
        item = items.get(str(row.get("item")))
        if item is None:
            raise source.wrong(
                f"zones の項目「{row.get('item')}」は items.yaml にありません",
                f'zone of unknown item "{row.get("item")}"',
            )
        x, y, w, h = (source.millimetres(row.get(name), f"{item.id}.{name}") for name in ("x", "y", "width", "height"))
        if w <= 0 or h <= 0 or x + w > width or y + h > height:
            raise source.wrong(
                f"項目「{item.id}」の枠が用紙からはみ出しています", f'the zone of "{item.id}" leaves the page'
            )
        zones.append(Zone(item.id, item.type, x, y, w, h, item.choices, item.required))
    for zone in zones:
        for other in zones:
            if items[zone.item].alone and other.item != zone.item and _overlap(zone, other):
                raise source.wrong(
                    f"項目「{zone.item}」は alone なので、その枠は「{other.item}」の枠と重なってはいけません",
                    f'item "{zone.item}" is alone: its zone may not overlap that of "{other.item}"',
                )
    image = source.file.with_suffix(".png")
    if not image.is_file() or not image.read_bytes().startswith(b"\x89PNG"):
        raise source.wrong(
            f"白紙の様式画像 {image.name} (PNG) がありません", f"the blank form {image.name} (PNG) is missing"
        )
    accept = value.get("accept", 0.98)
    if isinstance(accept, bool) or not isinstance(accept, int | float) or not 0.5 <= accept <= 1:
        raise source.wrong("accept は 0.5〜1 の数にしてください", "accept must be a number from 0.5 to 1")
    return Form(form_id, width, height, tuple(zones), marks, float(accept)), image.read_bytes()


def _overlap(one: Zone, other: Zone) -> bool:
    across = one.x < other.x + other.width and other.x < one.x + one.width
    return across and one.y < other.y + other.height and other.y < one.y + one.height


def _schedule(source: _Source, items: Mapping[str, Item]) -> Schedule:
    value = source.mapping()
    trigger = source.part(value.get("trigger"), "trigger")
    if trigger.get("event") == "creation":
        name = "creation"
    elif (item := items.get(str(trigger.get("item")))) is not None and item.type == "date" and not item.alone:
        name = item.id
    else:
        raise source.wrong(
            "trigger は「event: creation」か「item: 日付の項目」（alone でないもの）にしてください",
            "trigger must be `event: creation` or `item: <an item of type date>`, one that is not alone",
        )
    period = value.get("period")
    years = period.get("years") if isinstance(period, dict) else None
    if period != "permanent" and (isinstance(years, bool) or not isinstance(years, int) or not 1 <= years <= 100):
        raise source.wrong(
            "period は「years: 年数（1〜100）」か permanent にしてください",
            "period must be `years: 1 to 100` or `permanent`",
        )
    return Schedule(
        title=source.label(value.get("title"), "title"),
        mandate=source.label(value.get("mandate"), "mandate"),
        trigger=name,
        start=source.one_of(value.get("start"), "start", ("fiscal_year_after", "calendar_year_after", "same_day")),
        years=None if period == "permanent" else years,
        action=source.one_of(value.get("action"), "action", ("destroy", "transfer", "review")),
    )
