"""Whole sheets: zones, seals, two lines, zones that are off, and the pictures for people."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from drawn_forms import VALUES, blank_image, draw, ledger_form, placed, random_values, worn

from ingest import geometry, readers, sheet

LEDGER = ledger_form()
BLANK = blank_image(LEDGER)
EXPECTED = {**VALUES, "born": "1977-03-14", "since": "2024-04-01", "address": VALUES["address"].replace("\n", "")}


@pytest.fixture(scope="module")
def paddle():
    return readers.PaddleReader()


def registered(page, form=LEDGER.form):
    found = geometry.register(page, 300.0, form, BLANK)
    assert found is not None
    return found


def values(reading):
    return {each.item: each.value.replace(" ", "") for each in reading.items}


def squeezed(expected):
    return {item: value.replace(" ", "") for item, value in expected.items()}


@pytest.mark.parametrize("rotation", [0, 180])
def test_a_scanned_sheet_reads_whole(paddle, rotation):
    page = geometry.turned(worn(placed(draw(LEDGER, VALUES), 1.3, (12, -9))[0]), rotation)
    found = registered(page)
    reading = sheet.read_sheet(page, 300.0, LEDGER.form, found, paddle)
    assert values(reading) == squeezed(EXPECTED)
    assert (reading.form, reading.method, reading.rotation, reading.dpi) == (
        "f-1",
        "marks",
        rotation,
        geometry.READ_DPI,
    )
    assert [each.reason for each in reading.items] == [""] * 12
    assert all(each.reader == "ppocrv6" and each.confidence >= 0.98 for each in reading.items)


def test_what_is_accepted_of_degraded_sheets_is_right(paddle):
    """72 zones: nothing above the form's threshold and without a reason is wrong, and most are above it."""
    accepted = 0
    for seed, worse in enumerate(
        ({}, {"blur": 2.0}, {"noise": 18}, {"jpeg": 15}, {"blur": 1.5, "noise": 12}, {"noise": 10, "jpeg": 25})
    ):
        written = random_values(seed)
        page = worn(
            placed(draw(LEDGER, written, face=("mincho", "sans", "serif")[seed % 3]), seed - 2.5, (8, 12))[0], **worse
        )
        reading = sheet.read_sheet(page, 300.0, LEDGER.form, registered(page), paddle)
        for each in reading.items:
            if not each.reason and each.item not in ("born", "since"):
                accepted += 1
                assert each.value.replace(" ", "") == written[each.item].replace("\n", "").replace(" ", ""), each.item
    assert accepted >= 45


def test_a_red_seal_over_the_name_is_seen_through(paddle):
    page = worn(placed(draw(LEDGER, VALUES, seal="name"), -0.7)[0])
    reading = sheet.read_sheet(page, 300.0, LEDGER.form, registered(page), paddle)
    assert values(reading)["name"] == "山田太郎"


@pytest.mark.parametrize("shift", [(12, 0), (-12, 0), (0, 12), (0, -12), (9, 9)])
def test_zones_off_by_twelve_pixels_still_read(paddle, shift):
    page = worn(draw(LEDGER, VALUES))
    found = registered(page)
    off = np.array([[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1]], np.float64) @ found.matrix
    reading = sheet.read_sheet(page, 300.0, LEDGER.form, replace(found, matrix=off), paddle)
    got, want = values(reading), squeezed(EXPECTED)
    assert {item for item in want if got[item] != want[item]} == set()


def test_an_empty_sheet_holds_nothing_with_certainty(paddle):
    page = worn(placed(draw(LEDGER, {}), 0.9)[0])
    form = replace(LEDGER.form, zones=tuple(replace(zone, required=zone.item == "name") for zone in LEDGER.form.zones))
    reading = sheet.read_sheet(page, 300.0, form, registered(page), paddle)
    assert {(each.value, each.raw, each.confidence) for each in reading.items} == {("", "", 1.0)}
    assert [each.item for each in reading.items if each.reason] == ["name"]
    assert [each.reason for each in reading.items if each.reason] == ["missing"]


def test_a_torn_zone_is_not_read(paddle):
    page, _ = placed(draw(LEDGER, VALUES), 0.0)
    page = page[:, :2000]
    reading = sheet.read_sheet(page, 300.0, LEDGER.form, registered(page), paddle)
    torn = [each for each in reading.items if each.reason == "torn"]
    assert [each.item for each in torn] == ["address", "note"]
    assert {(each.value, each.confidence) for each in torn} == {("", 0.0)}


class _Echo:
    name = "echo"

    def __init__(self, text):
        self.text = text
        self.asked = 0

    def read(self, line):
        self.asked += 1
        return self.text, 1.0


def test_the_second_reader_is_asked_below_the_threshold_only_and_never_raises_confidence(paddle):
    page = worn(placed(draw(LEDGER, VALUES), 0.5)[0])
    found = registered(page)
    idle = _Echo("別")
    sheet.read_sheet(page, 300.0, replace(LEDGER.form, accept=0.5), found, paddle, idle)
    assert idle.asked == 0
    alone = sheet.read_sheet(page, 300.0, replace(LEDGER.form, accept=1.01), found, paddle)
    other = _Echo("別")
    both = sheet.read_sheet(page, 300.0, replace(LEDGER.form, accept=1.01), found, paddle, other)
    assert other.asked >= 12
    assert [each.confidence for each in both.items] == [each.confidence for each in alone.items]
    assert {each.item: each.reason for each in both.items}["office"] == "readers_disagree"
    assert {each.second for each in both.items} >= {"別"}
    same = sheet.read_sheet(page, 300.0, replace(LEDGER.form, accept=1.01), found, paddle, paddle)
    assert {each.item: each.reason for each in same.items}["office"] == "low_confidence"


def test_pictures_for_people(paddle):
    page = geometry.turned(worn(placed(draw(LEDGER, VALUES, seal="name"), 1.3)[0]), 90)
    found = registered(page)
    reading = sheet.read_sheet(page, 300.0, LEDGER.form, found, paddle)
    name = next(each for each in reading.items if each.item == "name")
    shown = cv2.imdecode(np.frombuffer(sheet.snippet(page, found, name), np.uint8), cv2.IMREAD_UNCHANGED)
    assert shown.shape == (name.box[3] + 70, name.box[2] + 70, 3)
    upright = cv2.imdecode(
        np.frombuffer(sheet.upright_page(page, found, LEDGER.form, 827), np.uint8), cv2.IMREAD_GRAYSCALE
    )
    assert upright.shape == (1170, 827)
    x, y = (round(v / 25.4 * 100) for v in LEDGER.form.marks[0])
    assert upright[y, x] < 60 < 200 < upright[y + 20, x]
    assert abs(geometry.skew_degrees(upright, 100.0)) <= 0.1
    small = cv2.imdecode(np.frombuffer(sheet.thumbnail(page), np.uint8), cv2.IMREAD_UNCHANGED)
    assert max(small.shape[:2]) == 300


def test_an_unregistered_page_is_levelled_by_its_skew():
    page, _ = placed(draw(LEDGER, VALUES), 3.0)
    level = sheet.upright_page(page, geometry.skew_degrees(page, 300.0), width_px=1240)
    shown = cv2.imdecode(np.frombuffer(level, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert shown.shape == (1754, 1240)
    assert abs(geometry.skew_degrees(shown, 150.0)) <= 0.15
