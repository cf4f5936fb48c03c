"""Reads a registered form sheet: cuts zones, cleans them, has them read, and makes the pictures people see.

Where the page lies is `ingest.geometry`'s, what a text means `ingest.items`'s.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ingest import items
from ingest.form import Form, ItemReading, ItemType, SheetReading, Zone
from ingest.geometry import READ_DPI, Registration, scaled
from ingest.port import Pixels, TextReader
from ingest.readers import CharacterReader, ReadCharacter, text_of

_PX = READ_DPI / 25.4
_LEAST_LINE = round(1.8 * _PX)
"""Height of the lowest line of writing, ruby left aside."""


def read_sheet(
    pixels: Pixels,
    dpi: float,
    form: Form,
    registration: Registration,
    reader: TextReader,
    second: TextReader | None = None,
) -> SheetReading:
    """Read every zone of `form`; `second` is asked about items below `form.accept` and never raises confidence."""
    readings = tuple(_read_zone(pixels, form, zone, registration, reader, second) for zone in form.zones)
    matrix = tuple(float(v) for v in registration.matrix.ravel())
    return SheetReading(form.id, readings, matrix, READ_DPI, registration.method, registration.rotation)


def _read_zone(
    pixels: Pixels, form: Form, zone: Zone, registration: Registration, reader: TextReader, second: TextReader | None
) -> ItemReading:
    box = (round(zone.x * _PX), round(zone.y * _PX), round(zone.width * _PX), round(zone.height * _PX))
    if zone.item in registration.torn:
        return ItemReading(zone.item, "", "", 0.0, reader.name, box, reason="torn")
    lines = zone_lines(cut(pixels, registration.matrix, box))
    if not lines:
        empty = items.settled(zone, "", 1.0, form.accept)
        return ItemReading(zone.item, "", empty.value, empty.confidence, reader.name, box, reason=empty.reason)
    raw, confidence, characters = _read(reader, lines)
    settled = items.settled(zone, raw, confidence, form.accept, characters)
    other, reason = "", settled.reason
    if second is not None and settled.confidence < form.accept:
        other, other_confidence, _ = _read(second, lines)
        against = items.settled(zone, other, other_confidence, form.accept).value
        # Readers space names as they like; that is no disagreement.
        if reason == "low_confidence" and "".join(against.split()) != "".join(settled.value.split()):
            reason = "readers_disagree"
    return ItemReading(zone.item, raw, settled.value, settled.confidence, reader.name, box, other, reason)


def _read(reader: TextReader, lines: list[Pixels]) -> tuple[str, float, tuple[ReadCharacter, ...]]:
    if isinstance(reader, CharacterReader):
        characters = tuple(each for line in lines for each in reader.characters(line))
        return (*text_of(characters), characters)
    parts = [reader.read(line) for line in lines]
    length = sum(max(1, len(text)) for text, _ in parts)
    return "".join(text for text, _ in parts), sum(max(1, len(text)) * conf for text, conf in parts) / length, ()


def cut(pixels: Pixels, matrix: NDArray[np.float64], box: tuple[int, int, int, int], margin: int = 0) -> Pixels:
    """The part of the upright form in `box` (x, y, width, height at READ_DPI), grey or BGR as the page; off the page
    is white."""
    x, y, w, h = box
    shift = np.array([[1, 0, margin - x], [0, 1, margin - y], [0, 0, 1]], np.float64)
    size = (w + 2 * margin, h + 2 * margin)
    return np.asarray(
        cv2.warpPerspective(
            pixels,
            shift @ matrix,
            size,
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=(255, 255, 255),
        ),
        dtype=np.uint8,
    )


def zone_lines(zone_pixels: Pixels) -> list[Pixels]:
    """Lines of writing in a cut zone, each trimmed to its ink, top to bottom; none when nothing is written."""
    # Red ink (seals) is nearly as bright as paper in the red channel.
    gray = np.ascontiguousarray(zone_pixels[:, :, 2]) if zone_pixels.ndim == 3 else zone_pixels
    ink = _without_rules(_ink(gray))
    if int(ink.sum()) < 30:
        return []
    lines = []
    for top, bottom in _bands(ink):
        columns = np.flatnonzero(ink[top:bottom].sum(axis=0))
        left, right = int(columns[0]), int(columns[-1]) + 1
        # A tenth of paper above and below: the reader is as exact, and a fifth cheaper, since it scales to a fixed
        # height.
        pad = max(4, (bottom - top) // 10)
        lines.append(gray[max(0, top - pad) : bottom + pad, max(0, left - 4) : right + 4])
    return lines


def _ink(gray: Pixels) -> Pixels:
    ground = cv2.blur(cv2.dilate(gray, np.ones((15, 15), np.uint8)), (15, 15)).astype(np.int16)
    dark = ((ground - gray) > np.maximum(25, ground // 5)).astype(np.uint8)
    return np.asarray(cv2.medianBlur(dark, 3), dtype=np.uint8)


def _without_rules(ink: Pixels) -> Pixels:
    height, width = ink.shape
    ink = ink.copy()
    edge = 24
    for axis, length in ((1, width), (0, height)):
        share = ink.sum(axis=axis) / length
        runs = np.flatnonzero(share > 0.6)
        for index in runs:
            if index < edge or index >= len(share) - edge:
                low, high = max(0, index - 2), index + 3
                if axis == 1:
                    ink[low:high, :] = 0
                else:
                    ink[:, low:high] = 0
    return ink


def _bands(ink: Pixels) -> list[tuple[int, int]]:
    """Top and bottom of every line. A gap parts two lines only when both are as high as writing is, and one is long:

    二, 昌 and ー have gaps too.
    """
    rows = ink.sum(axis=1)
    inked = np.flatnonzero(rows > 0.02 * rows.max())
    cuts = np.flatnonzero(np.diff(inked) > 1)
    parts = list(
        zip(
            [int(inked[0]), *(int(inked[n + 1]) for n in cuts)],
            [*(int(inked[n]) + 1 for n in cuts), int(inked[-1]) + 1],
            strict=True,
        )
    )
    lines: list[tuple[int, int]] = [parts[0]]
    for part in parts[1:]:
        both = (lines[-1], part)
        tall = min(bottom - top for top, bottom in both) >= _LEAST_LINE
        if tall and any(_length(ink[top:bottom]) >= 3 * (bottom - top) for top, bottom in both):
            lines.append(part)
        else:
            lines[-1] = (lines[-1][0], part[1])
    return lines


def _length(ink: Pixels) -> int:
    columns = np.flatnonzero(ink.any(axis=0))
    return int(columns[-1] - columns[0]) + 1 if len(columns) else 0


def read_image(pixels: Pixels, kind: ItemType, reader: TextReader) -> tuple[str, float]:
    """(value, confidence) of an image that holds one item and nothing else, normalised after its type."""
    zone = Zone("", kind, 0, 0, 0, 0)
    lines = zone_lines(pixels)
    if not lines:
        return "", 1.0
    raw, confidence, characters = _read(reader, lines)
    settled = items.settled(zone, raw, confidence, 0.0, characters)
    return settled.value, settled.confidence


def snippet(pixels: Pixels, registration: Registration, reading: ItemReading) -> bytes:
    """PNG of the item's zone with 3 mm around it, level and in colour where the scan is: what a person settles it
    by."""
    return _encoded(
        ".png", cut(pixels, registration.matrix, reading.box, margin=round(3 * _PX)), [cv2.IMWRITE_PNG_COMPRESSION, 6]
    )


def upright_page(
    pixels: Pixels, placement: Registration | float, form: Form | None = None, width_px: int = 1654
) -> bytes:
    """JPEG, `width_px` wide, of the page made upright and level.

    `placement`: the registration (then `form` too), or the degrees of skew of a page without one (which stays the way
    up it lies).
    """
    if isinstance(placement, Registration):
        if form is None:
            raise TypeError("a registration maps to a form: give it")
        factor = width_px / (form.width * _PX)
        size = (width_px, round(form.height * _PX * factor))
        matrix = np.diag([factor, factor, 1.0]) @ placement.matrix
    else:
        height, width = pixels.shape[:2]
        factor = width_px / width
        size = (width_px, round(height * factor))
        level = np.vstack([cv2.getRotationMatrix2D((width / 2, height / 2), placement, 1.0), [0.0, 0.0, 1.0]])
        matrix = np.diag([factor, factor, 1.0]) @ level
    reduced, before = _reduced(pixels, matrix)
    page = cv2.warpPerspective(
        reduced,
        matrix @ before,
        size,
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(255, 255, 255),
    )
    return _encoded(".jpg", np.asarray(page, dtype=np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 80])


def _reduced(pixels: Pixels, matrix: NDArray[np.float64]) -> tuple[Pixels, NDArray[np.float64]]:
    """The page averaged down to about the size it is warped to (a warp alone skips pixels), and the matrix back up."""
    factor = float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))
    if factor >= 0.9:
        return pixels, np.eye(3)
    reduced = scaled(pixels, factor)
    return reduced, np.diag([pixels.shape[1] / reduced.shape[1], pixels.shape[0] / reduced.shape[0], 1.0])


def thumbnail(pixels: Pixels) -> bytes:
    """JPEG of the page as it lies, at most 300 px either way."""
    factor = min(1.0, 300 / max(pixels.shape[:2]))
    return _encoded(".jpg", scaled(pixels, factor), [cv2.IMWRITE_JPEG_QUALITY, 75])


def _encoded(kind: str, pixels: Pixels, options: list[int]) -> bytes:
    return bytes(cv2.imencode(kind, pixels, options)[1])
