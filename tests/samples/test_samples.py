"""The committed samples agree with each other and with what the generator draws."""

from __future__ import annotations

import io
import json
import re
import unicodedata
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import pikepdf
import pytest
import yaml
import zxingcpp
from PIL import Image

from ingest.form import ItemType
from ingest.sheetcode import parse
from samples import generate
from samples.paper import BENCH_FONTS, GOTHIC, KLEE, MINCHO, NOTO_SANS, NOTO_SERIF, SAMPLE_FONTS, written_date
from samples.template import TEMPLATES, read_templates

SAMPLES = Path(generate.__file__).parent
BATCH = SAMPLES / "batch"
LEDGERS = ["care-clients", "dv-support", "vacant-houses", "whole-pages"]
WITH_FORM = LEDGERS[:3]
ACTIONS = {"view", "capture", "edit", "settle", "define"}
FONTS = [face.path for face in (MINCHO, GOTHIC, KLEE, NOTO_SERIF, NOTO_SANS)]
needs_fonts = pytest.mark.skipif(
    not all(Path(path).is_file() for path in FONTS),
    reason="fonts for drawing: see samples/README.md",
)


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def truths() -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads((BATCH / "truth.json").read_text(encoding="utf-8"))
    return entries


def both_languages(text: dict[str, str]) -> bool:
    return set(text) == {"ja", "en"} and all(value.strip() for value in text.values())


def test_the_templates_are_the_four() -> None:
    assert sorted(path.name for path in TEMPLATES.iterdir()) == LEDGERS


@pytest.mark.parametrize("ledger", LEDGERS)
def test_a_ledger_says_why_it_exists_and_agrees_with_its_items(ledger: str) -> None:
    entry = loaded(TEMPLATES / ledger / "ledger.yaml")
    items = loaded(TEMPLATES / ledger / "items.yaml")
    assert entry["format"] == "daicho-ledger-1"
    assert entry["id"] == ledger
    assert all(both_languages(entry[key]) for key in ("name", "purpose", "legal_basis", "usage_rules"))
    assert both_languages(entry["approval"]["body"])
    types = {item["id"]: item["type"] for item in items}
    assert len(types) == len(items)
    assert set(entry["title"]) <= set(types)
    assert "year_item" not in entry or types[entry["year_item"]] == "date"
    for item in items:
        assert set(item) == {"id", "type", "label", "required", "choices", "facet"}
        assert item["type"] in get_args(ItemType)
        assert re.fullmatch(r"[a-z][a-z0-9_]*", item["id"])
        assert both_languages(item["label"])
        assert (item["type"] == "choice") == bool(item["choices"])
        assert len(set(item["choices"])) == len(item["choices"])


@pytest.mark.parametrize("ledger", WITH_FORM)
def test_zones_lie_on_the_paper_apart_from_each_other_and_cover_the_items(ledger: str) -> None:
    items = [item["id"] for item in loaded(TEMPLATES / ledger / "items.yaml")]
    (path,) = (TEMPLATES / ledger / "forms").glob("*.yaml")
    form = loaded(path)
    assert form["id"] == path.stem
    assert sorted(zone["item"] for zone in form["zones"]) == sorted(items)
    code = form["code"]
    taken = [(code["x"], code["y"], code["size"], code["size"])]
    taken += [(x - 2.5, y - 2.5, 5, 5) for x, y in form["marks"]]
    for zone in form["zones"]:
        x, y, width, height = (zone[key] for key in ("x", "y", "width", "height"))
        assert x >= 12 and y >= 12 and x + width <= 198 and y + height <= 285
        for left, top, wide, high in taken:
            assert x >= left + wide or left >= x + width or y >= top + high or top >= y + height, zone["item"]
        taken.append((x, y, width, height))


@pytest.mark.parametrize("ledger", LEDGERS)
def test_the_schedule_starts_from_a_date_the_ledger_has(ledger: str) -> None:
    schedule = loaded(TEMPLATES / ledger / "schedule.yaml")
    types = {item["id"]: item["type"] for item in loaded(TEMPLATES / ledger / "items.yaml")}
    trigger = schedule["trigger"]
    assert trigger == {"event": "creation"} or types[trigger["item"]] == "date"
    assert schedule["start"] in ("fiscal_year_after", "calendar_year_after", "same_day")
    assert schedule["period"] == "permanent" or schedule["period"]["years"] > 0
    assert schedule["action"] in ("destroy", "transfer", "review")


def test_rights_and_people_agree_and_the_contractor_stays_out_of_support_measures() -> None:
    rights = {ledger: loaded(TEMPLATES / ledger / "rights.yaml")["posts"] for ledger in LEDGERS}
    posts = {post for ledger in rights.values() for post in ledger}
    assert all(set(post["actions"]) <= ACTIONS for ledger in rights.values() for post in ledger.values())
    assert all(set(ledger["records-office"]["actions"]) == ACTIONS for ledger in rights.values())
    assert set(rights["dv-support"]) == {"records-office", "dv-desk"}
    assert rights["care-clients"]["contractor"]["actions"] == ["capture", "settle"]
    people = loaded(SAMPLES / "municipality.yaml")["people"]
    assert {post for person in people for post in person["posts"]} == posts
    assert len({person["login"] for person in people}) == len(people)


@pytest.mark.parametrize("ledger", WITH_FORM)
@needs_fonts
def test_the_committed_blank_form_is_what_the_yaml_draws(ledger: str) -> None:
    template = read_templates()[ledger]
    (paper,) = template.papers
    kept = cv2.imread(str(TEMPLATES / ledger / "forms" / f"{paper.id}.png"), cv2.IMREAD_GRAYSCALE)
    drawn = cv2.cvtColor(generate.draw_blank(template, paper), cv2.COLOR_BGR2GRAY)
    assert kept is not None and kept.shape == drawn.shape
    # Another version of FreeType shades edges differently, but moves nothing.
    soft_kept, soft_drawn = (cv2.GaussianBlur(each, (0, 0), 1.5).astype(np.int16) for each in (kept, drawn))
    assert float(np.mean(np.abs(soft_kept - soft_drawn) > 48)) < 0.001


def test_the_batch_is_what_the_truth_says() -> None:
    pages: dict[str, int] = {}
    for truth in truths():
        assert truth["page"] == pages.get(truth["file"], 0)
        pages[truth["file"]] = truth["page"] + 1
    assert sum(pages.values()) >= 24
    files = {path.name for path in BATCH.iterdir() if path.is_file()}
    assert files == {*pages, "truth.json"}
    for name, count in pages.items():
        if name.endswith(".pdf"):
            with pikepdf.open(BATCH / name) as pdf:
                assert len(pdf.pages) == count
        else:
            with Image.open(BATCH / name) as image:
                assert getattr(image, "n_frames", 1) == count
    assert sum(path.stat().st_size for path in BATCH.rglob("*")) < 12_000_000


def test_the_truth_names_items_choices_dates_and_codes_that_exist() -> None:
    templates = read_templates()
    for truth in truths():
        if truth["code"]:
            code = parse(truth["code"])
            assert code is not None
            assert (code.ledger, code.form, code.case) == (truth["ledger"], truth["form"], truth["case"])
        if truth["kind"] != "form":
            assert truth["values"] == {}
            continue
        template = templates[truth["ledger"]]
        assert truth["form"] in [paper.id for paper in template.papers]
        assert list(truth["values"]) == [item.id for item in template.items]
        for item in template.items:
            value = truth["values"][item.id]
            assert value == unicodedata.normalize("NFC", value)
            assert value or not item.required
            assert not value or item.type != "choice" or value in item.choices
            assert not value or item.type != "date" or written_date(value, "kanji")


def test_the_batch_holds_what_makes_scanning_hard() -> None:
    entries = truths()
    kinds = [entry["kind"] for entry in entries]
    defects = {defect for entry in entries for defect in entry["defects"]}
    assert {"skew", "shift", "noise", "blur", "jpeg", "faint", "stain", "fold"} <= defects
    assert {"torn", "upside_down", "seal"} <= defects
    assert {"form", "cover", "separator", "attachment", "blank", "unknown"} == set(kinds)
    assert [entry["ledger"] for entry in entries if entry["ledger"] not in ("", *LEDGERS)] == ["outdoor-boards"]
    written = "".join(value for entry in entries for value in entry["values"].values())
    assert {"髙", "﨑", "邊", "𠮷"} <= set(written)


def test_the_tiff_mixes_codings() -> None:
    with Image.open(BATCH / generate.TIFF_NAME) as image:
        codings = set()
        for page in range(image.n_frames):
            image.seek(page)
            codings.add(image.info["compression"])
            assert image.info["dpi"] == (200, 200)
    assert codings == {"group4", "jpeg", "tiff_adobe_deflate"}


def test_codes_on_the_committed_pages_can_be_read() -> None:
    for truth in truths():
        if not truth["code"]:
            continue
        path = BATCH / truth["file"]
        if path.suffix == ".pdf":
            with pikepdf.open(path) as pdf:
                scan = io.BytesIO(pdf.pages[truth["page"]].Resources.XObject.Scan.read_raw_bytes())
        else:
            scan = io.BytesIO(path.read_bytes())
        with Image.open(scan) as image:
            image.seek(truth["page"] if path.suffix == ".tif" else 0)
            found = zxingcpp.read_barcodes(image.convert("L"))
        assert [code.text for code in found] == [truth["code"]], truth["file"]


@needs_fonts
def test_a_seed_gives_the_same_sheet_and_another_seed_another() -> None:
    templates = read_templates()
    plan = generate.LOOSE_PLAN[-1]
    first, values, code = generate.make_sheet(plan, templates, np.random.default_rng(5))
    again, same_values, same_code = generate.make_sheet(plan, templates, np.random.default_rng(5))
    other, other_values, _ = generate.make_sheet(plan, templates, np.random.default_rng(6))
    assert np.array_equal(first, again)
    assert (values, code) == (same_values, same_code)
    assert other_values != values
    assert not np.array_equal(first, other)
    assert first.shape == (2339, 1654, 3)


@needs_fonts
def test_a_sheet_differs_from_its_blank_form_only_in_zones_and_label() -> None:
    template = read_templates()["vacant-houses"]
    (paper,) = template.papers
    rng = np.random.default_rng(11)
    values = generate.invent_values(template, rng)
    sheet = generate.draw_sheet(template, values, rng, generate.Style(KLEE, dpi=150))
    changed = np.abs(sheet.astype(np.int16) - generate.draw_blank(template, paper)).max(axis=2) > 0
    assert changed.any()
    for field in paper.fields:
        x0, y0, x1, y1 = (
            round(edge * 150 / 25.4) for edge in (field.x, field.y, field.x + field.width, field.y + field.height)
        )
        assert changed[y0:y1, x0:x1].any() == bool(values[field.item]), field.item
        changed[y0:y1, x0:x1] = False
    assert not changed.any()


def test_a_missing_font_names_its_package() -> None:
    template = read_templates()["dv-support"]
    absent = generate.Face("/nowhere/absent.ttf", "fonts-absent")
    style = generate.Style(absent, dpi=100)
    with pytest.raises(generate.FontMissing, match="fonts-"):
        generate.draw_sheet(template, {"name": "森 静"}, np.random.default_rng(1), style)


def test_measurements_use_other_fonts_than_the_samples() -> None:
    assert not {face.path for face in SAMPLE_FONTS} & {face.path for face in BENCH_FONTS}


@pytest.mark.parametrize(
    ("iso", "kanji", "dots"),
    [
        ("1989-01-07", "昭和64年1月7日", "S64.1.7"),
        ("1989-01-08", "平成元年1月8日", "H1.1.8"),
        ("2019-05-01", "令和元年5月1日", "R1.5.1"),
    ],
)
def test_dates_are_written_in_their_era(iso: str, kanji: str, dots: str) -> None:
    assert written_date(iso, "kanji") == kanji
    assert written_date(iso, "dots") == dots


def test_the_real_pages_come_with_their_source() -> None:
    folder = BATCH / "real-pages"
    pages = sorted(path.name for path in folder.iterdir() if path.suffix in (".jpg", ".png"))
    assert len(pages) == 3
    note = (folder / "ATTRIBUTION.md").read_text(encoding="utf-8")
    assert "CC BY 4.0" in note
    assert all(name in note and (folder / name).with_suffix(".xml").is_file() for name in pages)
