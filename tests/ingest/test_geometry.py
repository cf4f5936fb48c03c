"""Where a page lies: marks, features, turned pages, torn pages, and forms that are not there."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from drawn_forms import (
    VALUES,
    blank_image,
    corner_error,
    draw,
    ledger_form,
    other_form,
    placed,
    sister_form,
    worn,
)

from ingest import geometry

LEDGER = ledger_form()
BLANK = blank_image(LEDGER)


@pytest.fixture(scope="module")
def sheet():
    return draw(LEDGER, VALUES)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_a_page_any_way_up_maps_to_the_upright_form(sheet, rotation):
    page = geometry.turned(worn(placed(sheet, 1.3, (12, -9))[0]), rotation)
    found = geometry.register(page, 300.0, LEDGER.form, BLANK)
    assert found is not None
    assert (found.method, found.rotation, found.torn) == ("marks", -rotation % 360, ())
    assert found.score > 0.7


@pytest.mark.parametrize(
    "degrees, shift, stretch", [(0, (0, 0), 1.0), (2.5, (40, -30), 0.985), (-2.5, (-40, 30), 1.01)]
)
def test_marks_place_zones_within_two_pixels(sheet, degrees, shift, stretch):
    page, truth = placed(sheet, degrees, shift, stretch)
    found = geometry.register(worn(page), 300.0, LEDGER.form, BLANK)
    assert found is not None and found.method == "marks"
    assert corner_error(found.matrix, truth, LEDGER, 300.0) < 2.0


def test_a_scan_at_another_resolution_maps_to_the_same_form(sheet):
    page, _ = placed(sheet, 1.0)
    for dpi in (150.0, 200.0, 240.0):
        small = geometry.scaled(page, dpi / 300.0)
        found = geometry.register(small, dpi, LEDGER.form, BLANK)
        assert found is not None
        truth = np.diag([small.shape[1] / page.shape[1], small.shape[0] / page.shape[0], 1.0]) @ placed(sheet, 1.0)[1]
        assert corner_error(found.matrix, truth, LEDGER, 300.0) < 4.0


@pytest.mark.parametrize("corner, ground", [((0, 0), 255), ((2480, 0), 8), ((2480, 3508), 255), ((0, 3508), 8)])
def test_three_marks_are_enough(sheet, corner, ground):
    page, truth = placed(sheet, -0.8, (5, 5))
    x, y = corner
    inward = (x - 600 if x else 600, y - 400 if y else 400)
    cv2.fillPoly(page, [np.array([corner, (inward[0], y), (x, inward[1])])], (ground, ground, ground))
    found = geometry.register(worn(page), 300.0, LEDGER.form, BLANK)
    assert found is not None and found.method == "marks"
    assert corner_error(found.matrix, truth, LEDGER, 300.0) < 4.0


@pytest.mark.parametrize("ground", [255, 8])
def test_zones_that_are_not_on_the_paper_are_torn(sheet, ground):
    page, _ = placed(sheet, 0.5)
    cv2.fillPoly(page, [np.array([(2480, 2300), (2480, 3508), (1500, 3508), (1500, 2800)])], (ground, ground, ground))
    found = geometry.register(worn(page), 300.0, LEDGER.form, BLANK)
    assert found is not None
    assert "note" in found.torn
    assert not {"id", "name", "born", "address"} & set(found.torn)


def test_a_zone_beyond_the_edge_of_the_scan_is_torn(sheet):
    page, _ = placed(sheet, 0.0)
    found = geometry.register(page[:, :2000], 300.0, LEDGER.form, BLANK)
    assert found is not None
    assert set(found.torn) == {"address", "note"}


@pytest.mark.parametrize("rotation", [0, 180])
def test_without_marks_the_print_itself_is_found(sheet, rotation):
    bare = ledger_form(marks=False)
    page, truth = placed(draw(bare, VALUES), 2.2, (30, -20))
    found = geometry.register(geometry.turned(worn(page), rotation), 300.0, bare.form, blank_image(bare))
    assert found is not None
    assert (found.method, found.rotation, found.torn) == ("akaze", rotation, ())
    if not rotation:
        assert corner_error(found.matrix, truth, bare, 300.0) < 6.0


def test_the_right_form_is_recognised_among_several():
    drawn = [ledger_form("f-1"), other_form("f-2"), sister_form("f-3")]
    forms = [(each.form, blank_image(each)) for each in drawn]
    for each in drawn:
        found = geometry.recognise(worn(placed(draw(each, {}), 0.7)[0]), 300.0, forms)
        assert found is not None and found[0].id == each.form.id


def test_a_form_never_seen_is_no_form():
    forms = [(LEDGER.form, BLANK)]
    for stranger in (other_form(), sister_form()):
        assert geometry.recognise(worn(placed(draw(stranger, {}), 0.7)[0]), 300.0, forms) is None
    assert geometry.recognise(np.full((3508, 2480), 255, np.uint8), 300.0, forms) is None
    noise = np.random.default_rng(3).integers(0, 255, (3508, 2480), dtype=np.uint8)
    assert geometry.recognise(noise, 300.0, forms) is None


def test_two_forms_that_print_the_same_are_left_to_a_person(sheet):
    twin = replace(LEDGER.form, id="f-9")
    assert geometry.recognise(worn(sheet), 300.0, [(LEDGER.form, BLANK), (twin, BLANK)]) is None


@pytest.mark.parametrize("kind", ["blur", "noise", "jpeg", "faint", "bilevel", "grey"])
def test_worn_scans_still_register(sheet, kind):
    page, truth = placed(sheet, -1.4, (10, 12))
    page = {
        "blur": lambda: worn(page, blur=2.5),
        "noise": lambda: worn(page, noise=20),
        "jpeg": lambda: worn(page, jpeg=15),
        "faint": lambda: (255 - (255 - worn(page).astype(int)) * 0.35).astype(np.uint8),
        "bilevel": lambda: np.where(geometry.grey(worn(page)) < 140, 0, 255).astype(np.uint8),
        "grey": lambda: geometry.grey(worn(page)),
    }[kind]()
    found = geometry.register(page, 300.0, LEDGER.form, BLANK)
    assert found is not None and found.torn == ()
    assert corner_error(found.matrix, truth, LEDGER, 300.0) < 2.5


@pytest.mark.parametrize("degrees", [-7.3, -2.1, 0.0, 0.4, 3.0, 9.0])
def test_skew_is_found_within_a_tenth_of_a_degree(sheet, degrees):
    assert geometry.skew_degrees(placed(sheet, degrees)[0], 300.0) == pytest.approx(degrees, abs=0.1)


def test_an_empty_page_has_no_skew():
    assert geometry.skew_degrees(np.full((3508, 2480), 255, np.uint8), 300.0) == 0.0
