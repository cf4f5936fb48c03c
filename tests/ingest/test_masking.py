"""Masked pages: nothing of a zone is left to see, and nothing else has changed."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from drawn_forms import VALUES, blank_image, draw, ledger_form, placed, worn

from ingest import geometry, masking, readers, sheet
from ingest.masking import MARGIN_MM, masked
from ingest.pages import LimitedPageSource
from ingest.port import Pixels, ScannedPage

LEDGER = ledger_form()
BLANK = blank_image(LEDGER)
NUMBER = next(zone for zone in LEDGER.form.zones if zone.item == "id")


def scan(kind: str, rotation: int) -> Pixels:
    page = geometry.turned(worn(placed(draw(LEDGER, VALUES), 1.7, (14, -9))[0], jpeg=60), rotation)
    if kind == "colour":
        return page if page.ndim == 3 else np.asarray(cv2.cvtColor(page, cv2.COLOR_GRAY2BGR), np.uint8)
    grey = geometry.grey(page)
    return grey if kind == "grey" else np.where(grey > 160, 255, 0).astype(np.uint8)


@pytest.mark.parametrize(
    ("kind", "rotation", "media_type"),
    [("colour", 0, "image/png"), ("grey", 90, "image/png"), ("bilevel", 180, "image/tiff")],
)
def test_the_zone_is_black_and_all_else_is_as_it_was(kind: str, rotation: int, media_type: str) -> None:
    pixels = scan(kind, rotation)
    found = geometry.register(pixels, 300.0, LEDGER.form, BLANK)
    assert found is not None
    over = masked(ScannedPage(b"", "image/jpeg", pixels, 300.0), [NUMBER], found.matrix, BLANK)
    assert over.media_type == media_type
    with LimitedPageSource() as source:
        decoded = source.decode(over.original, over.media_type)
    assert np.array_equal(decoded.pixels, over.pixels)
    assert abs(decoded.dpi - 300.0) < 0.1

    changed = (over.pixels != pixels).reshape(*pixels.shape[:2], -1).any(axis=2)
    px = geometry.READ_DPI / 25.4
    page = np.full(pixels.shape[:2], 255, np.uint8)
    page[changed] = 0
    level = cv2.warpPerspective(page, found.matrix, (2480, 3508), borderValue=255)
    rows, columns = np.nonzero(level < 128)
    zone = np.array([NUMBER.x, NUMBER.x + NUMBER.width, NUMBER.y, NUMBER.y + NUMBER.height]) * px
    out = (MARGIN_MM + 0.3) * px
    # Nothing is touched beyond the margin, and whatever was to be seen within it is.
    assert columns.min() >= zone[0] - out and columns.max() <= zone[1] + out
    assert rows.min() >= zone[2] - out and rows.max() <= zone[3] + out
    box = (
        round(zone[0] - 1.8 * px),
        round(zone[2] - 1.8 * px),
        round(zone[1] - zone[0] + 3.6 * px),
        round(zone[3] - zone[2] + 3.6 * px),
    )
    assert not sheet.cut(over.pixels, found.matrix, box).any(), "one colour, over the whole zone and its margin"
    assert sheet.cut(pixels, found.matrix, box).any(), "the control: before, there was something to see"


def test_a_reader_finds_every_item_but_the_masked_one() -> None:
    pixels = scan("colour", 0)
    found = geometry.register(pixels, 300.0, LEDGER.form, BLANK)
    assert found is not None
    over = masked(ScannedPage(b"", "image/jpeg", pixels, 300.0), [NUMBER], found.matrix, BLANK)
    paddle = readers.PaddleReader()

    def values(page: Pixels) -> dict[str, str]:
        return {each.item: each.value for each in sheet.read_sheet(page, 300.0, LEDGER.form, found, paddle).items}

    before, after = values(pixels), values(over.pixels)
    assert before[NUMBER.item] and not any(character.isdigit() for character in after[NUMBER.item])
    assert {**after, NUMBER.item: ""} == {**before, NUMBER.item: ""}


def test_a_coarse_scan_has_a_wider_margin() -> None:
    """Compression spreads traces over blocks of pixels, not over millimetres."""
    pixels = np.full((1169, 827), 255, np.uint8)
    matrix = np.diag([3.0, 3.0, 1.0])  # 100 dpi
    over = masked(ScannedPage(b"", "image/jpeg", pixels, 100.0), [NUMBER], matrix, BLANK)
    rows, columns = np.nonzero(over.pixels == 0)
    assert columns.min() <= NUMBER.x / 25.4 * 100 - 15 and rows.min() <= NUMBER.y / 25.4 * 100 - 15


def test_a_zone_that_hangs_off_the_paper_is_masked_as_far_as_there_is_paper() -> None:
    pixels = np.full((300, 300, 3), 200, np.uint8)
    matrix = np.array([[1, 0, NUMBER.x * 11.8 - 280], [0, 1, NUMBER.y * 11.8 - 280], [0, 0, 1]], np.float64)
    over = masked(ScannedPage(b"", "image/jpeg", pixels, 300.0), [NUMBER], matrix, BLANK)
    assert not over.pixels[285:, 285:].any() and over.pixels[:200, :200].all()


@pytest.mark.parametrize(
    ("text", "size", "place"),
    [("7", 3.2, (0.3, 1.9)), ("4", 3.2, (0.6, 0.6)), ("123", 1.8, (0.9, 0.9))],
    ids=["below", "above", "to the right"],
)
def test_writing_that_leaves_its_zone_is_followed(
    monkeypatch: pytest.MonkeyPatch, text: str, size: float, place: tuple[float, float]
) -> None:
    """Digits so large that they cross the rules: what is beyond the margin is covered too, and their neighbours are not."""
    px = 300 / 25.4
    at = (round((NUMBER.x + place[0] * NUMBER.width) * px), round((NUMBER.y + place[1] * NUMBER.height) * px))
    sheet_pixels = draw(LEDGER, VALUES)
    alone = np.full(sheet_pixels.shape, 255, np.uint8)
    for picture in (sheet_pixels, alone):
        cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, size * 2, (60, 40, 30), 9, cv2.LINE_AA)
    pixels, _ = placed(sheet_pixels, 1.1, (5, 8))
    stroke, _ = placed(alone, 1.1, (5, 8))
    strokes = geometry.grey(stroke) < 128
    pixels = worn(pixels)
    found = geometry.register(pixels, 300.0, LEDGER.form, BLANK)
    assert found is not None
    scanned = ScannedPage(b"", "image/jpeg", pixels, 300.0)
    over = masked(scanned, [NUMBER], found.matrix, BLANK).pixels.reshape(*strokes.shape, -1)
    assert not over[strokes].any()
    covered = (over != pixels.reshape(over.shape)).any(axis=2)
    assert covered.sum() < 2.2 * NUMBER.width * NUMBER.height * px**2 + 8 * strokes.sum()
    monkeypatch.setattr(masking, "_leaving", lambda *_: [])
    unfollowed = masked(scanned, [NUMBER], found.matrix, BLANK).pixels.reshape(over.shape)
    assert unfollowed[strokes].any(), "the control"
