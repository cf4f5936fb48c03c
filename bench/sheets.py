"""Filled forms for measures: other seeds and other fonts than the committed samples, on which zones and rules were tuned."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ingest.sheetcode import SheetCode, encode
from samples.generate import draw_sheet, invent_values, read_templates, write_pdf
from samples.paper import BENCH_FONTS, Style, degrade

SEED = 77_000_000
CONDITIONS = (
    ("scan",),
    ("scan", "skew"),
    ("scan", "blur"),
    ("noise",),
    ("faint", "scan"),
    ("scan", "jpeg"),
    ("scan", "stain"),
    ("scan", "shift", "skew"),
)
"""Degradations, in turn; every third sheet has a seal over the name as well."""


@dataclass(frozen=True)
class Drawn:
    """A sheet with its truth: item id -> value (dates in ISO)."""

    ledger: str
    form: str
    picture: NDArray[np.uint8]
    values: dict[str, str]
    condition: str


def drawn(number: int, ledger: str, *, dpi: int, clean: bool = False) -> Drawn:
    """Sheet `number` of the measure, the same at every call."""
    template = read_templates()[ledger]
    rng = np.random.default_rng([SEED, number])
    values = invent_values(template, rng)
    paper = template.papers[0]
    faults = ("scan",) if clean else CONDITIONS[number % len(CONDITIONS)]
    named = next(item.id for item in template.items if item.type == "name")
    seals = (named,) if number % 3 == 0 and not clean else ()
    face = BENCH_FONTS[number % len(BENCH_FONTS)]
    label = encode(SheetCode("sheet", ledger, paper.id, f"B-{number:05}", 1, 1))
    style = Style(face, dpi=dpi, dates=("kanji", "dots", "slash")[number % 3], seals=seals, code=label)
    picture = draw_sheet(template, values, rng, style)
    for fault in faults:
        picture = degrade(picture, rng, fault)
    return Drawn(ledger, paper.id, picture, values, "+".join((*faults, *(("seal",) if seals else ()))))


def pdf(path: Path, count: int, ledger: str, dpi: int) -> None:
    """Write `count` clean scans as the pages of a PDF, as a scanner does: one colour JPEG a page."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, 75]
    pages = (drawn(number, ledger, dpi=dpi, clean=True).picture for number in range(count))
    write_pdf(path, [cv2.imencode(".jpg", page, quality)[1].tobytes() for page in pages], dpi)
