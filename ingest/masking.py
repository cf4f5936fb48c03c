"""Painting over what must not be seen of a page: the zones of items, in the scan's own pixels, without loss elsewhere.

Which items those are is not known here.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ingest.form import Zone
from ingest.geometry import FORM_IMAGE_DPI, READ_DPI, grey
from ingest.port import Pixels, ScannedPage

MARGIN_MM = 2.0
"""Around a zone: more than a registration may be off (0.76 mm) and than writing commonly leaves its box."""

REACH_MM = 10.0
"""So far beyond the margin writing is followed that begins in the zone."""

_CROSSED_MM = 2.6
"""Of a stroke that crosses a rule, at most so much is taken for print."""

_SPACED_MM = 4.0
"""Between characters of one line."""

_BLOCK = 16
"""Pixels of a JPEG block with halved colours: so far around ink the scan's compression spreads traces of it."""

_PX = READ_DPI / 25.4

Box = tuple[float, float, float, float]
"""left, top, right, bottom in pixels of the upright form at READ_DPI."""


def masked(scanned: ScannedPage, zones: Sequence[Zone], matrix: NDArray[np.float64], blank: Pixels) -> ScannedPage:
    """The page with the zones and a margin around them painted black, and writing that leaves them; every other pixel as it was.

    Args:
        zones: in mm of the upright form.
        matrix: 3x3, page pixels as decoded -> form pixels at READ_DPI (`ingest.geometry.Registration`).
        blank: the blank form, grey, at FORM_IMAGE_DPI: what is printed is no writing.

    Returns:
        `original` is a TIFF in Group 4 where the page has only black and white, else a PNG, at the page's dpi.
    """
    pixels = scanned.pixels.copy()
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))  # form pixels a page pixel
    margin = max(MARGIN_MM * _PX, _BLOCK * scale)
    for zone in zones:
        left, top = zone.x * _PX, zone.y * _PX
        inside = (left, top, left + zone.width * _PX, top + zone.height * _PX)
        for box in (_wider(inside, margin), *_leaving(scanned.pixels, inside, margin, matrix, blank)):
            cv2.fillPoly(pixels, [_on_page(box, matrix)], (0, 0, 0))
    kind, data = _encoded(pixels, scanned.dpi)
    return ScannedPage(data, kind, pixels, scanned.dpi)


def _wider(box: Box, by: float) -> Box:
    return box[0] - by, box[1] - by, box[2] + by, box[3] + by


def _on_page(box: Box, matrix: NDArray[np.float64]) -> NDArray[np.int32]:
    """Corners (4, 1, 2) of a box of the form, in page pixels."""
    left, top, right, bottom = box
    corners = np.array([[(left, top), (right, top), (right, bottom), (left, bottom)]], np.float64)
    placed = cv2.perspectiveTransform(corners, np.linalg.inv(matrix))
    return np.asarray(np.rint(placed), np.int32).reshape(4, 1, 2)


def _leaving(pixels: Pixels, inside: Box, margin: float, matrix: NDArray[np.float64], blank: Pixels) -> list[Box]:
    """Boxes around writing that begins in the zone and goes on beyond its margin."""
    left, top, right, bottom = (round(side) for side in _wider(inside, margin + REACH_MM * _PX))
    move = np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1]], np.float64) @ matrix
    # Beyond the paper goes on what is at its edge: an edge of our own making would be taken for ink.
    level = cv2.warpPerspective(pixels, move, (right - left, bottom - top), borderMode=cv2.BORDER_REPLICATE)
    gray = grey(np.asarray(level, np.uint8))
    written = _ink(gray) & ~_printed(blank, left, top, gray.shape)
    # Bridged straight down where a stroke crosses a rule and the print was taken out of it; straight across from one character to the next.
    down, along = np.ones((round(_CROSSED_MM * _PX), 1), np.uint8), np.ones((1, round(_SPACED_MM * _PX)), np.uint8)
    across = np.maximum(*(cv2.morphologyEx(written, cv2.MORPH_CLOSE, bridge) for bridge in (down, along)))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(np.asarray(across, np.uint8))
    x0, y0, x1, y1 = (round(side) for side in (inside[0] - left, inside[1] - top, inside[2] - left, inside[3] - top))
    begun = set(np.unique(labels[y0:y1, x0:x1])) - {0}
    edge = round(margin)
    boxes = []
    for label in range(1, count):
        x, y, w, h, _ = (int(value) for value in stats[label])
        if label in begun and (x < x0 - edge or y < y0 - edge or x + w > x1 + edge or y + h > y1 + edge):
            boxes.append(_wider((left + x, top + y, left + x + w, top + y + h), margin / 2))
    return boxes


def _ink(gray: Pixels) -> Pixels:
    ground = cv2.blur(cv2.dilate(gray, np.ones((15, 15), np.uint8)), (15, 15)).astype(np.int16)
    return np.asarray((ground - gray) > np.maximum(25, ground // 5), np.uint8)


def _printed(blank: Pixels, left: int, top: int, shape: tuple[int, ...]) -> Pixels:
    """Where the form has print, and 0.8 mm around it: a registration may be so far off. 255 there, else 0."""
    scale = READ_DPI / FORM_IMAGE_DPI
    move = np.array([[scale, 0, scale / 2 - 0.5 - left], [0, scale, scale / 2 - 0.5 - top]], np.float64)
    placed = cv2.warpAffine(blank, move, (shape[1], shape[0]), borderMode=cv2.BORDER_CONSTANT, borderValue=(255,))
    around = 2 * round(0.8 * _PX) + 1
    return np.asarray(
        cv2.dilate(np.asarray(placed < 200, np.uint8) * 255, np.ones((around, around), np.uint8)), np.uint8
    )


def _encoded(pixels: Pixels, dpi: float) -> tuple[str, bytes]:
    """(media type, bytes): all of the pixels, none changed."""
    out = io.BytesIO()
    if pixels.ndim == 2 and bool(((pixels == 0) | (pixels == 255)).all()):
        image = Image.fromarray(pixels).convert("1", dither=Image.Dither.NONE)
        image.save(out, "TIFF", compression="group4", dpi=(dpi, dpi))
        return "image/tiff", out.getvalue()
    rgb = pixels if pixels.ndim == 2 else np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)
    Image.fromarray(rgb).save(out, "PNG", compress_level=4, dpi=(dpi, dpi))
    return "image/png", out.getvalue()
