"""A page to be printed and put away: texts as characters and as QR codes, which `ingest.codes` reads back from the paper.

PDF that embeds no font, so that none has to be on the machine that makes it. Lines in English and the texts themselves stand in fonts that every viewer
brings; lines in Japanese need a viewer with a Japanese font, as the machines of an office have.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pikepdf
from pikepdf import Array, Dictionary, Name, Pdf

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
    fonts = Dictionary(J=_japanese(pdf), H=_latin(Name.Helvetica), M=_latin(Name.Courier))
    images = Dictionary()
    drawn: list[str] = []
    y = HEIGHT - _MARGIN

    def line(text: str, size: float, font: str = "H") -> None:
        nonlocal y
        y -= size * 1.45
        try:
            shown = text.encode("cp1252").hex()
        except UnicodeEncodeError:
            font, shown = "J", text.encode("utf-16-be").hex()
        drawn.append(f"BT /{font} {size} Tf {_MARGIN} {y:.2f} Td <{shown}> Tj ET")

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
                line(row[start : start + _COLUMNS], 9, "M")
        y -= _CODE + _LINE / 2
        name = f"Q{number}"
        images[f"/{name}"] = _image(pdf, text)
        drawn.append(f"q {_CODE} 0 0 {_CODE} {_MARGIN} {y:.2f} cm /{name} Do Q")
    content = pdf.make_stream("\n".join(drawn).encode("ascii"))
    page = Dictionary(
        Type=Name.Page,
        MediaBox=Array([0, 0, WIDTH, HEIGHT]),
        Resources=Dictionary(Font=fonts, XObject=images),
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


def _latin(name: Name) -> Dictionary:
    """A font that every viewer brings."""
    return Dictionary(Type=Name.Font, Subtype=Name.Type1, BaseFont=name, Encoding=Name.WinAnsiEncoding)


def _japanese(pdf: Pdf) -> Dictionary:
    """A font of Adobe-Japan1 that viewers bring or replace; nothing of it is embedded."""
    descriptor = Dictionary(
        Type=Name.FontDescriptor,
        FontName=Name("/GothicBBB-Medium"),
        Flags=4,
        FontBBox=Array([-174, -268, 1001, 944]),
        ItalicAngle=0,
        Ascent=752,
        Descent=-271,
        CapHeight=737,
        StemV=99,
    )
    inner = Dictionary(
        Type=Name.Font,
        Subtype=Name.CIDFontType0,
        BaseFont=Name("/GothicBBB-Medium"),
        CIDSystemInfo=Dictionary(Registry=pikepdf.String("Adobe"), Ordering=pikepdf.String("Japan1"), Supplement=5),
        FontDescriptor=pdf.make_indirect(descriptor),
        DW=1000,
        W=Array([1, 94, 556, 231, 632, 500]),
    )
    return Dictionary(
        Type=Name.Font,
        Subtype=Name.Type0,
        BaseFont=Name("/GothicBBB-Medium-UniJIS-UTF16-H"),
        Encoding=Name("/UniJIS-UTF16-H"),
        DescendantFonts=Array([pdf.make_indirect(inner)]),
    )
