"""A template folder as values: what the generator needs of the YAML, no more.

The product reads the same files with its own loader in `records/`; the samples stand on their own feet so that a
fault of one does not hide a fault of the other. Nothing here draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Item:
    """An item of a ledger; `type` is one of `ingest.form.ItemType`."""

    id: str
    type: str
    label: str
    required: bool
    choices: tuple[str, ...]


@dataclass(frozen=True)
class Field:
    """Where an item is written, in mm: the zone, 1 mm inside the rules."""

    item: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Paper:
    """A printed form as it is drawn; lengths in mm. `code`: x, y, size of the place for the label."""

    id: str
    title: str
    width: float
    height: float
    marks: tuple[tuple[float, float], ...]
    code: tuple[float, float, float]
    fields: tuple[Field, ...]
    texts: tuple[tuple[float, float, float, str], ...]
    frames: tuple[tuple[float, float, float, float, str], ...]


@dataclass(frozen=True)
class Template:
    """A ledger's template; `papers` is empty for material without a form."""

    id: str
    name: str
    items: tuple[Item, ...]
    papers: tuple[Paper, ...]

    def item(self, key: str) -> Item:
        """The item of that id. `KeyError` when there is none."""
        for item in self.items:
            if item.id == key:
                return item
        raise KeyError(key)


def read_template(folder: Path) -> Template:
    """The template in `folder`. `KeyError` or `yaml.YAMLError` when it is incomplete or no YAML."""
    ledger = _yaml(folder / "ledger.yaml")
    items = tuple(
        Item(entry["id"], entry["type"], entry["label"]["ja"], entry["required"], tuple(entry["choices"]))
        for entry in _yaml(folder / "items.yaml")
    )
    papers = tuple(_paper(_yaml(path)) for path in sorted(folder.glob("forms/*.yaml")))
    return Template(ledger["id"], ledger["name"]["ja"], items, papers)


def read_templates(folder: Path = TEMPLATES) -> dict[str, Template]:
    """All templates below `folder`, by id."""
    found = (read_template(path.parent) for path in sorted(folder.glob("*/ledger.yaml")))
    return {template.id: template for template in found}


def _paper(entry: dict[str, Any]) -> Paper:
    return Paper(
        id=entry["id"],
        title=entry["title"]["ja"],
        width=float(entry["page"]["width"]),
        height=float(entry["page"]["height"]),
        marks=tuple((float(x), float(y)) for x, y in entry["marks"]),
        code=(float(entry["code"]["x"]), float(entry["code"]["y"]), float(entry["code"]["size"])),
        fields=tuple(Field(z["item"], z["x"], z["y"], z["width"], z["height"]) for z in entry["zones"]),
        texts=tuple((t["x"], t["y"], t["size"], t["text"]) for t in entry.get("texts", [])),
        frames=tuple((f["x"], f["y"], f["width"], f["height"], f["text"]) for f in entry.get("frames", [])),
    )


def _yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))
