"""All writing of a page, in reading order, and its ALTO 4.4 form: for finding pages, not for items.

Lines are detected by the model bundled with `rapidocr` and read by the zones' reader. Nothing read here becomes a
record's value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from lxml import etree
from numpy.typing import NDArray

from ingest.alto import NAMESPACE
from ingest.port import Pixels, TextReader
from ingest.readers import DETECTION_MODEL, PaddleReader, open_model

_LONG_SIDE = 1760
_SHORT_SIDE = 736
_INK = 0.3
_LINE = 0.5
_GROW = 1.6
_LEAST_CONFIDENCE = 0.5
"""Lines read with less than this are specks, rules and pictures."""

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class TextLine:
    """One line. `box`: x, y, width, height in pixels of the page; `vertical`: written top to bottom."""

    text: str
    box: Box
    confidence: float
    vertical: bool


@dataclass(frozen=True)
class PageText:
    """The lines of a page in reading order."""

    lines: tuple[TextLine, ...]


def read_page(pixels: Pixels, reader: TextReader | None = None) -> PageText:
    """Detect and read every line of an upright page (grey or BGR). `ToolMissing` as `ingest.readers.open_model`.

    Seconds of computing for an A4 page. `reader`: one PaddleReader for many pages; made here when None.
    """
    colour = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR), dtype=np.uint8) if pixels.ndim == 2 else pixels
    reader = reader or PaddleReader()
    lines = []
    for corners in _detected(colour):
        crop = _straightened(colour, corners)
        vertical = crop.shape[0] > 1.5 * crop.shape[1]
        text, confidence = reader.read(np.ascontiguousarray(np.rot90(crop)) if vertical else crop)
        text = text.strip()
        if text and confidence >= _LEAST_CONFIDENCE:
            low = np.floor(corners.min(axis=0)).astype(int)
            high = np.ceil(corners.max(axis=0)).astype(int)
            box = (int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1]))
            lines.append(TextLine(text, box, round(confidence, 4), vertical))
    along = sum(len(line.text) for line in lines if line.vertical)
    upright = sum(len(line.text) for line in lines if not line.vertical)
    order = _ordered([line.box for line in lines], along > upright)
    return PageText(tuple(lines[n] for n in order))


@lru_cache(maxsize=1)
def _detector() -> Any:
    return open_model(DETECTION_MODEL)


def _detected(colour: Pixels) -> list[NDArray[np.float32]]:
    """Corners (4, 2) of each line, in page pixels."""
    height, width = colour.shape[:2]
    factor = min(1.0, _LONG_SIDE / max(height, width))
    factor = max(factor, min(_SHORT_SIDE / min(height, width), 4.0)) if max(height, width) < _LONG_SIDE else factor
    high, wide = (max(32, round(side * factor / 32) * 32) for side in (height, width))
    sized = cv2.resize(colour, (wide, high), interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    batch = (sized.astype(np.float32) / 127.5 - 1.0).transpose(2, 0, 1)[None]
    session = _detector()
    likely = session.run(None, {session.get_inputs()[0].name: np.ascontiguousarray(batch)})[0][0, 0]
    mask = cv2.dilate((likely > _INK).astype(np.uint8), np.ones((2, 2), np.uint8))
    found = []
    for contour in cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)[0][:4000]:
        centre, (a, b), angle = cv2.minAreaRect(contour)
        if min(a, b) < 3:
            continue
        x, y, w, h = cv2.boundingRect(contour)
        inside = np.zeros((h, w), np.uint8)
        cv2.fillPoly(inside, [contour - np.array([x, y])], (1,))
        if cv2.mean(likely[y : y + h, x : x + w], inside)[0] < _LINE:
            continue
        # The model marks the cores of lines; what it was trained to shrink is grown back.
        grow = a * b * _GROW / (a + b)
        corners = cv2.boxPoints((centre, (a + grow, b + grow), angle))
        corners = (corners + 0.5) * np.array([width / wide, height / high]) - 0.5
        found.append(np.clip(corners, 0, [width - 1, height - 1]).astype(np.float32))
    return found


def _straightened(colour: Pixels, corners: NDArray[np.float32]) -> Pixels:
    """The line cut out level: corners sorted to top left, top right, bottom right, bottom left."""
    by_x = corners[np.argsort(corners[:, 0], kind="stable")]
    top_left, bottom_left = sorted(by_x[:2], key=lambda p: float(p[1]))
    top_right, bottom_right = sorted(by_x[2:], key=lambda p: float(p[1]))
    square = np.array([top_left, top_right, bottom_right, bottom_left], np.float32)
    wide = max(4, round(float(np.linalg.norm(top_right - top_left))))
    high = max(4, round(float(np.linalg.norm(bottom_left - top_left))))
    target = np.array([[0, 0], [wide, 0], [wide, high], [0, high]], np.float32)
    matrix = cv2.getPerspectiveTransform(square, target)
    return np.asarray(
        cv2.warpPerspective(colour, matrix, (wide, high), borderMode=cv2.BORDER_REPLICATE), dtype=np.uint8
    )


def _ordered(boxes: Sequence[Box], vertical: bool) -> list[int]:
    """Indices in reading order. Vertical writing is horizontal writing with the page laid on its side."""
    laid = [(y, -x - w, h, w) for x, y, w, h in boxes] if vertical else list(boxes)
    return _parted(laid, list(range(len(laid))))


def _parted(boxes: Sequence[Box], chosen: list[int]) -> list[int]:
    """Columns first where a gutter runs through all lines, else rows of blocks, else line by line."""
    if len(chosen) <= 1:
        return chosen
    size = float(np.median([boxes[n][3] for n in chosen]))
    for axis in (0, 1):
        groups = _gaps(boxes, chosen, axis, size * (0.8 if axis == 0 else 0.0))
        if len(groups) > 1:
            return [n for group in groups for n in _parted(boxes, group)]
    return sorted(chosen, key=lambda n: (boxes[n][1] + boxes[n][3] / 2, boxes[n][0]))


def _gaps(boxes: Sequence[Box], chosen: list[int], axis: int, least: float) -> list[list[int]]:
    """Groups along `axis`: parted at every gutter of `least` pixels (columns), or at the widest gap alone (rows)."""
    order = sorted(chosen, key=lambda n: boxes[n][axis])
    gaps: list[tuple[float, int]] = []
    end = boxes[order[0]][axis] + boxes[order[0]][axis + 2]
    for position, n in enumerate(order[1:], 1):
        gap = boxes[n][axis] - end
        if gap > least:
            gaps.append((gap, position))
        end = max(end, boxes[n][axis] + boxes[n][axis + 2])
    if not gaps:
        return [chosen]
    cuts = sorted(position for _, position in gaps) if axis == 0 else [max(gaps)[1]]
    edges = [0, *cuts, len(order)]
    return [order[a:b] for a, b in pairwise(edges)]


def alto(page_text: PageText, width: int, height: int, dpi: float) -> bytes:
    """ALTO 4.4 (UTF-8) of a page of `width` x `height` pixels, one TextBlock a line; valid against the published
    schema."""
    root = etree.Element(f"{{{NAMESPACE}}}alto", nsmap={None: NAMESPACE})
    description = _child(root, "Description")
    _child(description, "MeasurementUnit").text = "pixel"
    step = _child(description, "Processing", ID="reading")
    _child(step, "processingStepDescription").text = "character recognition"
    _child(step, "processingStepSettings").text = f"dpi={dpi:g}"
    page = _child(_child(root, "Layout"), "Page", ID="page", PHYSICAL_IMG_NR="1", WIDTH=str(width), HEIGHT=str(height))
    space = _child(page, "PrintSpace", HPOS="0", VPOS="0", WIDTH=str(width), HEIGHT=str(height))
    for n, line in enumerate(page_text.lines, 1):
        x, y, w, h = line.box
        place = {"HPOS": str(x), "VPOS": str(y), "WIDTH": str(w), "HEIGHT": str(h)}
        direction = "ttb" if line.vertical else "ltr"
        block = _child(space, "TextBlock", ID=f"b{n}", **place)
        row = _child(block, "TextLine", ID=f"l{n}", BASEDIRECTION=direction, **place)
        _child(row, "String", ID=f"s{n}", CONTENT=line.text, WC=f"{line.confidence:.4f}", **place)
    return bytes(etree.tostring(root, xml_declaration=True, encoding="UTF-8"))


def _child(parent: Any, name: str, **attributes: str) -> Any:
    return etree.SubElement(parent, f"{{{NAMESPACE}}}{name}", attributes)
