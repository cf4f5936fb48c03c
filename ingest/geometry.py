"""Where a page lies: its skew, and the mapping from a scanned page to the upright form it is a copy of.

Corner marks come first (milliseconds), features of the blank form second; whichever mapping is found counts only when
the printed captions and rules of the blank form are found in the page where that mapping puts them. What is written in
the zones is not read here, and what a zone means is not known here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import cv2
import numpy as np
from numpy.typing import NDArray

from ingest.form import Form
from ingest.port import Pixels

READ_DPI = 300.0
"""Resolution of the upright form: what a registration's matrix maps to, and what zones are cut at."""

FORM_IMAGE_DPI = 150.0
"""Resolution of a blank form image."""

ACCEPT_SCORE = 0.6
"""Registrations below this score are refused."""

_CLEAR = 0.7
"""A placement this good is not compared with others: turned or wrongly placed, a form has stayed below 0.45."""

MARK_MM = 5.0
_WORK_DPI = 100.0
_PX = _WORK_DPI / 25.4
_TILE_MM = 12.0
_SHIFT = 3
"""Pixels at _WORK_DPI by which a caption may lie off (0.76 mm) and still count: paper stretches, feeders slip."""

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Registration:
    """How a page maps to the upright form.

    `matrix`: 3x3, page pixels as decoded -> form pixels at READ_DPI. `method`: `marks` or `akaze`. `rotation`: 0, 90,
    180 or 270 degrees clockwise that made the page upright. `score`: 0..1, how much of the printed form was found in
    the page. `torn`: ids of items whose zone is not wholly on the paper.
    """

    matrix: Matrix
    method: str
    rotation: int
    score: float
    torn: tuple[str, ...] = ()


def grey(pixels: Pixels) -> Pixels:
    """(height, width) grey of a grey or BGR image."""
    return pixels if pixels.ndim == 2 else np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY), dtype=np.uint8)


def scaled(pixels: Pixels, factor: float) -> Pixels:
    """The image resized by `factor`, averaging when it shrinks."""
    if factor == 1.0:
        return pixels
    size = (max(1, round(pixels.shape[1] * factor)), max(1, round(pixels.shape[0] * factor)))
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, size, interpolation=way), dtype=np.uint8)


def turned(pixels: Pixels, rotation: int) -> Pixels:
    """The image turned clockwise by 0, 90, 180 or 270 degrees."""
    return np.ascontiguousarray(np.rot90(pixels, -(rotation // 90) % 4))


def skew_degrees(gray: Pixels, dpi: float = 300.0) -> float:
    """Degrees (clockwise positive, within ±10) by which lines of writing slope; turn the page back by this to level it.

    Projection profile at about 60 dpi: rows are sharpest when the page is level.
    """
    small = scaled(grey(gray), 60.0 / dpi)
    small = small[
        _inset(small.shape[0]) : small.shape[0] - _inset(small.shape[0]),
        _inset(small.shape[1]) : small.shape[1] - _inset(small.shape[1]),
    ]
    ground = cv2.blur(small, (31, 31)).astype(np.float32)
    ink = np.maximum(ground - small - 12, 0).astype(np.float32)
    if not ink.any():
        return 0.0
    best = _sharpest(ink, np.arange(-10.0, 10.01, 1.0))
    best = _sharpest(ink, best + np.arange(-0.8, 0.81, 0.2))
    return float(_sharpest(ink, best + np.arange(-0.15, 0.151, 0.05)))


def _inset(length: int) -> int:
    return length // 40


def _sharpest(ink: NDArray[np.float32], angles: NDArray[np.float64]) -> float:
    height, width = ink.shape
    centre = (width / 2, height / 2)
    best, sharpness = 0.0, -1.0
    for angle in angles:
        level = cv2.warpAffine(ink, cv2.getRotationMatrix2D(centre, float(angle), 1.0), (width, height))
        rows = level.sum(axis=1)
        value = float(np.square(np.diff(rows)).sum())
        if value > sharpness:
            best, sharpness = float(angle), value
    return best


def register(pixels: Pixels, dpi: float, form: Form, form_image: Pixels) -> Registration | None:
    """Find `form` in the page, whichever way up it lies; None when it is not there.

    `pixels`: the page as decoded, at `dpi`; `form_image`: the blank form, grey, at FORM_IMAGE_DPI.
    """
    found = recognise(pixels, dpi, [(form, form_image)])
    return found[1] if found else None


def recognise(pixels: Pixels, dpi: float, forms: Sequence[tuple[Form, Pixels]]) -> tuple[Form, Registration] | None:
    """Which of `forms` the page is a copy of, and where it lies; None when none fits, or when two fit equally well."""
    page = _Page(pixels, dpi)
    prints = [_print_of(form, image.tobytes(), image.shape[:2]) for form, image in forms]
    by_marks = [_by_marks(page, each) for each in prints]
    found = _clearest(by_marks)
    if found is None:
        found = _clearest([_by_features(page, each) for each in prints])
    if found is None:
        return None
    each, fit = found
    matrix = _scale(READ_DPI / _WORK_DPI) @ fit.matrix @ page.to_work
    return each.form, Registration(matrix, fit.method, _rotation(matrix), round(fit.score, 4), fit.torn)


class _Page:
    """A page at working resolution, and what is computed of it once however many forms are tried."""

    def __init__(self, pixels: Pixels, dpi: float) -> None:
        reduced, self.to_work = _at_dpi(pixels, dpi, _WORK_DPI)
        self.grey = grey(reduced)
        self._features: tuple[NDArray[np.float32], NDArray[np.uint8]] | None = None
        self._full = (pixels, dpi)

    def features(self) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        if self._features is None:
            pixels, dpi = self._full
            reduced, to_form = _at_dpi(pixels, dpi, FORM_IMAGE_DPI)
            points, descriptors = _features(grey(reduced))
            back = self.to_work @ np.linalg.inv(to_form)
            self._features = np.asarray(points @ back[:2, :2].T + back[:2, 2], dtype=np.float32), descriptors
        return self._features


@dataclass(frozen=True)
class _Print:
    """A blank form at working resolution; `captions`: boxes (x, y, w, h) of printed words; `rules`: tiles with
    printed lines.

    `lines`: (rows, columns) of the pixels of stretches of rule; `edges`: item id -> the stretches around its zone.
    """

    form: Form
    image: Pixels
    masked: Pixels
    open: NDArray[np.uint8]
    captions: tuple[tuple[int, int, int, int], ...]
    rules: tuple[tuple[int, int, int, int], ...]
    lines: tuple[tuple[NDArray[np.intp], NDArray[np.intp]], ...]
    edges: dict[str, tuple[int, ...]]
    points: NDArray[np.float32]
    descriptors: NDArray[np.uint8]


@dataclass(frozen=True)
class _Fit:
    matrix: Matrix
    method: str
    score: float
    torn: tuple[str, ...]


@lru_cache(maxsize=32)
def _print_of(form: Form, image: bytes, shape: tuple[int, int]) -> _Print:
    full = np.frombuffer(image, np.uint8).reshape(shape)
    # 150 to 100 dpi exactly: whole thirds, or the print would be stretched by a fraction of a pixel that zones then
    # miss.
    high, wide = full.shape[0] // 3 * 2, full.shape[1] // 3 * 2
    small = np.asarray(
        cv2.resize(full[: high // 2 * 3, : wide // 2 * 3], (wide, high), interpolation=cv2.INTER_AREA), dtype=np.uint8
    )
    opened = np.ones(small.shape, np.uint8)
    for zone in form.zones:
        inset = 0.8
        x0, y0 = round((zone.x + inset) * _PX), round((zone.y + inset) * _PX)
        x1, y1 = round((zone.x + zone.width - inset) * _PX), round((zone.y + zone.height - inset) * _PX)
        opened[max(0, y0) : max(0, y1), max(0, x0) : max(0, x1)] = 0
    masked = np.where(opened == 1, small, 255).astype(np.uint8)
    for x, y in form.marks:
        half = round(MARK_MM * 0.75 * _PX)
        cx, cy = round(x * _PX), round(y * _PX)
        masked[max(0, cy - half) : cy + half, max(0, cx - half) : cx + half] = 255
    ink = (masked < 200).astype(np.uint8)
    long = round(8 * _PX)
    across = cv2.morphologyEx(ink, cv2.MORPH_OPEN, np.ones((1, long), np.uint8))
    down = cv2.morphologyEx(ink, cv2.MORPH_OPEN, np.ones((long, 1), np.uint8))
    lines = np.maximum(across, down).astype(np.uint8)
    words = np.where(cv2.dilate(lines, np.ones((3, 3), np.uint8)) > 0, 0, ink).astype(np.uint8)
    joined = cv2.dilate(words, np.ones((round(1.2 * _PX), round(2.5 * _PX)), np.uint8))
    captions = []
    for x, y, w, h, _ in cv2.connectedComponentsWithStats(joined)[2][1:]:
        if int(words[y : y + h, x : x + w].sum()) >= 12:
            captions.append((int(x), int(y), int(w), int(h)))
    rules = []
    tile = round(_TILE_MM * _PX)
    for y in range(0, small.shape[0] - tile, tile):
        for x in range(0, small.shape[1] - tile, tile):
            if int(lines[y : y + tile, x : x + tile].sum()) >= tile // 2:
                rules.append((x, y, tile, tile))
    stretches, edges = _edges(form, lines)
    points, descriptors = _features(full)
    return _Print(
        form, small, masked, opened, tuple(captions), tuple(rules), stretches, edges, _at_work(points), descriptors
    )


def _edges(
    form: Form, lines: NDArray[np.uint8]
) -> tuple[tuple[tuple[NDArray[np.intp], NDArray[np.intp]], ...], dict[str, tuple[int, ...]]]:
    """Stretches of 8 mm or so of the rules that stand within 1 mm of a zone's edges."""
    near, piece = round(1.0 * _PX), round(8.0 * _PX)
    stretches: list[tuple[NDArray[np.intp], NDArray[np.intp]]] = []
    edges: dict[str, tuple[int, ...]] = {}
    for zone in form.zones:
        x0, y0 = round(zone.x * _PX), round(zone.y * _PX)
        x1, y1 = round((zone.x + zone.width) * _PX), round((zone.y + zone.height) * _PX)
        strips = [
            (x, y - near, x + piece, y + near + 1)
            for y in (y0, y1)
            for x in range(x0, max(x0 + 1, x1 - piece + 1), piece)
        ]
        strips += [
            (x - near, y, x + near + 1, y + piece)
            for x in (x0, x1)
            for y in range(y0, max(y0 + 1, y1 - piece + 1), piece)
        ]
        around = []
        for left, top, right, bottom in strips:
            left, top = max(0, left), max(0, top)
            rows, columns = np.nonzero(lines[top:bottom, left:right])
            if len(rows) >= piece // 2:
                around.append(len(stretches))
                stretches.append((rows + top, columns + left))
        edges[zone.item] = tuple(around)
    return tuple(stretches), edges


def _features(image: Pixels) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    points, descriptors = cv2.AKAZE.create().detectAndCompute(image, None)
    if descriptors is None:
        return np.zeros((0, 2), np.float32), np.zeros((0, 61), np.uint8)
    return np.array([point.pt for point in points], np.float32), np.asarray(descriptors, dtype=np.uint8)


def _clearest(fits: Sequence[tuple[_Print, _Fit] | None]) -> tuple[_Print, _Fit] | None:
    good = sorted((each for each in fits if each and each[1].score >= ACCEPT_SCORE), key=lambda each: -each[1].score)
    if not good or (len(good) > 1 and good[0][1].score - good[1][1].score < 0.05):
        return None
    return good[0]


def _by_marks(page: _Page, each: _Print) -> tuple[_Print, _Fit] | None:
    if len(each.form.marks) != 4:
        return None
    marks = np.array(each.form.marks, np.float64) * _PX - 0.5
    best: _Fit | None = None
    for matrix in _placements(_squares(page.grey), marks):
        fit = _verified(page, each, matrix, "marks")
        if best is None or fit.score > best.score:
            best = fit
        if best.score >= _CLEAR:
            break
    return (each, best) if best else None


def _squares(gray: Pixels) -> NDArray[np.float64]:
    """Centres (n, 2) of solid dark squares about the size of a mark, the squarest first, at most 24."""
    ground = cv2.blur(gray, (round(25 * _PX), round(25 * _PX)))
    dark = ((gray < 0.82 * ground.astype(np.float32)) | (gray < 60)).astype(np.uint8)
    side = MARK_MM * _PX
    # Opening parts a mark from thin things that touch it: a rule, a hair, the edge of a shadow.
    dark = np.asarray(cv2.morphologyEx(dark, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8)), dtype=np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(dark)
    found: list[tuple[float, float, float]] = []
    for label in range(1, len(stats)):
        x, y, w, h, area = (int(v) for v in stats[label])
        if not (0.6 * side * side < area < 1.5 * side * side) or not (0.75 < w / h < 1.33) or max(w, h) > 1.5 * side:
            continue
        part = (labels[y : y + h, x : x + w] == label).astype(np.uint8)
        contour = max(cv2.findContours(part, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0], key=len)
        (_, (a, b), _) = cv2.minAreaRect(contour)
        fill = area / ((a + 1) * (b + 1))
        if fill < 0.82 or not (0.75 < (a + 1) / (b + 1) < 1.33):
            continue
        # Weighted by darkness, with a margin: a tenth of a pixel rather than half of one.
        y0, y1, x0, x1 = max(0, y - 2), min(gray.shape[0], y + h + 2), max(0, x - 2), min(gray.shape[1], x + w + 2)
        window = gray[y0:y1, x0:x1].astype(np.float64)
        weight = np.clip(window.max() * 0.9 - window, 0, None)
        weight[
            cv2.dilate(np.pad(part, ((y - y0, y1 - y - h), (x - x0, x1 - x - w))), np.ones((5, 5), np.uint8)) == 0
        ] = 0
        total = weight.sum()
        if total > 0:
            cx = float((weight.sum(axis=0) * np.arange(x0, x1)).sum() / total)
            cy = float((weight.sum(axis=1) * np.arange(y0, y1)).sum() / total)
            found.append((-fill, cx, cy))
    found.sort()
    return np.array([(x, y) for _, x, y in found[:24]], np.float64).reshape(-1, 2)


def _placements(squares: NDArray[np.float64], marks: NDArray[np.float64]) -> list[Matrix]:
    """Page -> form matrices under which at least three marks meet squares; most marks first."""
    if len(squares) < 3:
        return []
    tolerance = 4 * _PX
    seen: dict[tuple[int, ...], tuple[int, float, Matrix]] = {}
    for i, j in combinations(range(4), 2):
        span = marks[j] - marks[i]
        for a in range(len(squares)):
            for b in range(len(squares)):
                if a == b:
                    continue
                turn = complex(*(squares[b] - squares[a])) / complex(*span)
                if not 0.85 < abs(turn) < 1.18:
                    continue
                angle = math.degrees(math.atan2(turn.imag, turn.real))
                if abs((angle + 45) % 90 - 45) > 12:
                    continue
                placed = [squares[a] + _as_xy(turn * complex(*(mark - marks[i]))) for mark in marks]
                gaps = np.linalg.norm(squares[None, :, :] - np.array(placed)[:, None, :], axis=2)
                nearest = gaps.argmin(axis=1)
                hit = gaps.min(axis=1) < tolerance
                key = tuple(int(n) if ok else -1 for n, ok in zip(nearest, hit, strict=True))
                if hit.sum() < 3 or key in seen:
                    continue
                matrix, error = _fitted(squares[nearest[hit]], marks[hit])
                seen[key] = (int(hit.sum()), error, matrix)
    ranked = sorted(seen.values(), key=lambda each: (-each[0], each[1]))
    return [matrix for _, _, matrix in ranked[:8]]


def _as_xy(number: complex) -> NDArray[np.float64]:
    return np.array([number.real, number.imag])


def _fitted(source: NDArray[np.float64], target: NDArray[np.float64]) -> tuple[Matrix, float]:
    """Affine by least squares; a perspective one when four marks do not lie on an affine image of the form (a
    camera's picture)."""
    design = np.hstack([source, np.ones((len(source), 1))])
    solution, *_ = np.linalg.lstsq(design, target, rcond=None)
    matrix = np.vstack([solution.T, [0.0, 0.0, 1.0]])
    error = float(np.abs(design @ solution - target).max())
    if len(source) == 4 and error > 0.15 * _PX:
        matrix = np.asarray(
            cv2.getPerspectiveTransform(source.astype(np.float32), target.astype(np.float32)), np.float64
        )
    return matrix, error


def _by_features(page: _Page, each: _Print) -> tuple[_Print, _Fit] | None:
    points, descriptors = page.features()
    if len(descriptors) < 8 or len(each.descriptors) < 8:
        return None
    pairs = cv2.BFMatcher(cv2.NORM_HAMMING).knnMatch(each.descriptors, descriptors, k=2)
    good = [pair[0] for pair in pairs if len(pair) == 2 and pair[0].distance < 0.8 * pair[1].distance]
    if len(good) < 8:
        return None
    source = points[[match.trainIdx for match in good]]
    target = each.points[[match.queryIdx for match in good]]
    affine, inside = cv2.estimateAffine2D(source, target, method=cv2.RANSAC, ransacReprojThreshold=3.0, maxIters=4000)
    if affine is None or int(inside.sum()) < 8:
        return None
    stretch = np.linalg.svd(affine[:, :2])[1]
    if not 0.7 < stretch[1] <= stretch[0] < 1.4 or stretch[0] / stretch[1] > 1.06 or np.linalg.det(affine[:, :2]) <= 0:
        return None
    return each, _verified(page, each, _refined(page, each, np.vstack([affine, [0.0, 0.0, 1.0]])), "akaze")


def _refined(page: _Page, each: _Print, matrix: Matrix) -> Matrix:
    """The affine matrix that makes page and print most alike (ECC, at half of _WORK_DPI); features alone drift where
    there are none."""
    half = _scale(0.5)
    blank, shown, mask = (_halved(image) for image in (each.masked, page.grey, each.open * 255))
    # ECC's matrix maps the other way, from print to page.
    start = np.linalg.inv(half @ matrix @ np.linalg.inv(half))[:2].astype(np.float32)
    ends = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 40, 1e-5)
    try:
        _, found = cv2.findTransformECCWithMask(
            blank, shown, mask, np.ones_like(shown), start, cv2.MOTION_AFFINE, ends, 5
        )
    except cv2.error:
        return matrix
    return np.asarray(np.linalg.inv(half) @ np.linalg.inv(np.vstack([found, [0.0, 0.0, 1.0]])) @ half, dtype=np.float64)


def _halved(image: Pixels) -> Pixels:
    height, width = image.shape[0] // 2, image.shape[1] // 2
    return np.asarray(
        cv2.resize(image[: height * 2, : width * 2], (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8
    )


def _verified(page: _Page, each: _Print, matrix: Matrix, method: str) -> _Fit:
    height, width = each.image.shape
    level = np.asarray(
        cv2.warpPerspective(
            page.grey, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0
        ),
        dtype=np.uint8,
    )
    solid = cv2.erode((level < 70).astype(np.uint8), np.ones((11, 11), np.uint8))
    dark = np.asarray(cv2.dilate(solid, np.ones((13, 13), np.uint8)), dtype=np.uint8)
    shown = np.where(each.open == 1, level, 255).astype(np.uint8)
    captions = [_likeness(each.masked, shown, box) for box in each.captions if not _covered(dark, box)]
    rules = [_likeness(each.masked, shown, box) for box in each.rules if not _covered(dark, box)]
    if 2 * len(captions) < len(each.captions) or 2 * len(rules) < len(each.rules):
        return _Fit(matrix, method, 0.0, ())
    parts = [sum(values) / len(values) for values in (captions, rules) if values]
    return _Fit(matrix, method, max(0.0, min(parts)) if parts else 0.0, _torn(each, level, dark))


def _covered(dark: NDArray[np.uint8], box: tuple[int, int, int, int]) -> bool:
    """Whether a good part of `box` is off the paper, on the black of the scanner."""
    x, y, w, h = box
    return float(dark[y : y + h, x : x + w].mean()) > 0.2


def _torn(each: _Print, level: Pixels, dark: NDArray[np.uint8]) -> tuple[str, ...]:
    """Items whose zone lies partly on black, or lacks a stretch of the rules printed around it (the white of a lid)."""
    ground = cv2.blur(cv2.dilate(level, np.ones((9, 9), np.uint8)), (9, 9)).astype(np.int16)
    ink = cv2.dilate((ground - level > np.maximum(12, ground // 16)).astype(np.uint8), np.ones((5, 5), np.uint8))
    found = {
        piece: float(ink[each.lines[piece]].mean()) for piece in {p for pieces in each.edges.values() for p in pieces}
    }
    # Rules so faint that the scan lost most of them say nothing about paper.
    seen = bool(found) and float(np.median(list(found.values()))) > 0.7
    torn = []
    for zone in each.form.zones:
        x0, y0 = max(0, round((zone.x - 1) * _PX)), max(0, round((zone.y - 1) * _PX))
        x1, y1 = round((zone.x + zone.width + 1) * _PX), round((zone.y + zone.height + 1) * _PX)
        area = dark[y0:y1, x0:x1]
        lacking = seen and any(found[piece] < 0.25 for piece in each.edges[zone.item])
        if lacking or (area.size and float(area.mean()) > 0.02):
            torn.append(zone.item)
    return tuple(torn)


def _likeness(blank: Pixels, shown: Pixels, box: tuple[int, int, int, int]) -> float:
    x, y, w, h = box
    x0, y0 = max(_SHIFT, x), max(_SHIFT, y)
    x1, y1 = min(blank.shape[1] - _SHIFT, x + w), min(blank.shape[0] - _SHIFT, y + h)
    if x1 - x0 < 4 or y1 - y0 < 4:
        return 0.0
    around = shown[y0 - _SHIFT : y1 + _SHIFT, x0 - _SHIFT : x1 + _SHIFT]
    found = cv2.matchTemplate(around, blank[y0:y1, x0:x1], cv2.TM_CCOEFF_NORMED)
    best = float(found.max())
    return best if math.isfinite(best) and best <= 1.001 else 0.0


def _at_work(points: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray((points + 0.5) * (_WORK_DPI / FORM_IMAGE_DPI) - 0.5, dtype=np.float32)


def _at_dpi(pixels: Pixels, dpi: float, wanted: float) -> tuple[Pixels, Matrix]:
    """The page at `wanted` dpi, and the exact matrix to it. Whole ratios cut a pixel or two at the far edges: ten
    times faster."""
    ratio = round(dpi / wanted)
    if ratio >= 2 and abs(dpi / wanted - ratio) < 0.01:
        height, width = pixels.shape[0] // ratio * ratio, pixels.shape[1] // ratio * ratio
        reduced = cv2.resize(pixels[:height, :width], (width // ratio, height // ratio), interpolation=cv2.INTER_AREA)
        return np.asarray(reduced, dtype=np.uint8), _scale(1 / ratio)
    reduced = scaled(pixels, wanted / dpi)
    by_x, by_y = reduced.shape[1] / pixels.shape[1], reduced.shape[0] / pixels.shape[0]
    return reduced, np.array([[by_x, 0, by_x / 2 - 0.5], [0, by_y, by_y / 2 - 0.5], [0, 0, 1]], np.float64)


def _scale(factor: float) -> Matrix:
    """Scaling by `factor` about pixel corners, in coordinates of pixel centres (as OpenCV resizes and warps)."""
    return np.array([[factor, 0, factor / 2 - 0.5], [0, factor, factor / 2 - 0.5], [0, 0, 1]], np.float64)


def _rotation(matrix: Matrix) -> int:
    return round(math.degrees(math.atan2(matrix[1, 0], matrix[0, 0])) / 90) % 4 * 90
