"""The pictures that people see of a page: upright, small, and zone by zone."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from ingest.form import Form, ItemReading
from ingest.geometry import Registration, grey, skew_degrees
from ingest.port import ScannedPage
from ingest.sheet import snippet, thumbnail, upright_page

WIDTH = 1240
"""Width in pixels of an upright page as people see it: 150 dpi of A4."""


def pictures(
    scanned: ScannedPage, index: int, placed: tuple[Form, Registration] | None, items: Sequence[ItemReading]
) -> dict[str, bytes]:
    """`view-NNNN.jpg` and `thumb-NNNN.jpg` of the page at `index` (from 0), and `snippet-ITEM.png` of every given item.

    Args:
        placed: the form of a form sheet and where it lies; None for other pages, which are only made level.
    """
    pixels = scanned.pixels
    if placed is None:
        view = upright_page(pixels, skew_degrees(grey(pixels), scanned.dpi), width_px=WIDTH)
    else:
        form, registration = placed
        view = upright_page(pixels, registration, form, WIDTH)
    upright = np.asarray(cv2.imdecode(np.frombuffer(view, np.uint8), cv2.IMREAD_COLOR), np.uint8)
    made = {f"view-{index + 1:04}.jpg": view, f"thumb-{index + 1:04}.jpg": thumbnail(upright)}
    if placed is not None:
        made |= {f"snippet-{item.item}.png": snippet(pixels, placed[1], item) for item in items}
    return made
