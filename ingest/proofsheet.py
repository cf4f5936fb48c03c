"""A page to be printed and put away: texts as characters and as QR codes, which `ingest.codes` reads back from the paper.

PDF with the letters that stand in it (`ingest.letters`): it needs no font on the machine that makes it, nor on the one that prints it.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pikepdf
from pikepdf import Array, Dictionary, Name, Pdf

from ingest.letters import Lettering, wrapped
from ingest.qr import qr_pixels

WIDTH, HEIGHT = 595.28, 841.89
"""A4 in points."""

_MARGIN = 56.0
_LINE = 15.0
_CODE = 230.0
"""Side of a QR code in points: 8 cm, modules of a millimetre and more."""

_COLUMNS = 78
"""Characters of a line of the text itself."""


def proof_sheet(title: Sequence[str], explained: Sequence[str], codes: Sequence[tuple[str, str]]) -> bytes:
    """The page as PDF.

    Args:
        title: large lines.
        explained: lines of words; each in one language.
        codes: (what it is, text) of each text that stands there as characters and as a QR code; ASCII and dashes, at most two.
    """
    pdf = Pdf.new()
    lettering = Lettering()
    images = Dictionary()
    drawn: list[str] = []
    y = HEIGHT - _MARGIN

    def line(text: str, size: float) -> None:
        nonlocal y
        for part in wrapped(text, (WIDTH - 2 * _MARGIN) / size):
            y -= size * 1.45
            drawn.append(f"BT {_MARGIN} {y:.2f} Td {lettering.shown(part, size)} ET")

    for text in title:
        line(text, 17)
    y -= _LINE / 2
    for text in explained:
        line(text, 10)
    for number, (what, text) in enumerate(codes):
        y -= _LINE
        line(what, 11)
        for row in text.splitlines():
            for start in range(0, max(len(row), 1), _COLUMNS):
                line(row[start : start + _COLUMNS], 9)
        y -= _CODE + _LINE / 2
        name = f"Q{number}"
        images[f"/{name}"] = _image(pdf, text)
        drawn.append(f"q {_CODE} 0 0 {_CODE} {_MARGIN} {y:.2f} cm /{name} Do Q")
    content = pdf.make_stream("\n".join(drawn).encode("ascii"))
    page = Dictionary(
        Type=Name.Page,
        MediaBox=Array([0, 0, WIDTH, HEIGHT]),
        Resources=Dictionary(Font=lettering.fonts(pdf), XObject=images),
        Contents=content,
    )
    pdf.pages.append(pikepdf.Page(pdf.make_indirect(page)))
    out = io.BytesIO()
    pdf.save(out, deterministic_id=True)
    return out.getvalue()


def _image(pdf: Pdf, text: str) -> pikepdf.Stream:
    """The QR code of a text, a grey pixel a module."""
    pixels = qr_pixels(text, 1)
    height, width = pixels.shape
    return pdf.make_stream(
        np.ascontiguousarray(pixels).tobytes(),
        Type=Name.XObject,
        Subtype=Name.Image,
        Width=width,
        Height=height,
        ColorSpace=Name.DeviceGray,
        BitsPerComponent=8,
        Interpolate=False,
    )
