"""Pages of a PDF: the scan embedded in it as it is, or else the page cut out and rendered. Runs in the decoder's child
only.

A scanned page is one image that covers the page, perhaps with invisible recognised text over it. Its bytes are the
original. All other pages (several images, drawings, turned pages, codecs that only PDF has) keep a PDF of that one page
as their original.
"""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from typing import Any, BinaryIO

import cv2
import pikepdf
import pypdfium2

from ingest import tiff
from ingest.images import MAX_ORIGINAL, MAX_PAGES, RENDER_DPI, bad, check_size, decoded, plausible_dpi, u8
from ingest.port import Pixels, ScannedPage

_MAX_CONTENT = 1 << 20
_STATE = ("q", "Q", "cm", "Do", "w", "J", "j", "M", "d", "i", "ri", "re", "W", "W*", "n")
_TEXT = ("BT", "ET", "Tf", "Td", "TD", "Tm", "T*", "Tc", "Tw", "Tz", "TL", "Ts", "Tr", "Tj", "TJ", "'", '"')
_MARKS = ("BMC", "BDC", "EMC", "MP", "DP")
_HARMLESS = frozenset((*_STATE, *_TEXT, *_MARKS))
"""Operators that may stand beside the one image: they paint nothing (text is judged apart, by its rendering mode)."""
_SHOWS_TEXT = frozenset(["Tj", "TJ", "'", '"'])
_INVISIBLE = 3
_TURN = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}

_CUT_SHORT = ("can't find startxref", "treating stream as empty")
"""qpdf's words where the end of a file or of a stream is missing. It mends such a file by leaving out what is gone, and
scans whose copying broke off would then pass for blank pages.
"""


class Unrendered(Exception):
    """pdfium cannot draw this page; `original` is the page cut out, for another program to try."""

    def __init__(self, original: bytes) -> None:
        super().__init__("pdfium refused the page")
        self.original = original


@dataclass(frozen=True)
class _Scan:
    """The one image of a page. `dpi` by its size on the paper."""

    image: Any
    width: int
    height: int
    dpi: float


class PdfFile:
    """A PDF of any number of pages, opened with the empty password."""

    def __init__(self, stream: BinaryIO) -> None:
        try:
            self._pdf = pikepdf.open(stream, suppress_warnings=True)
            self.count = len(self._pdf.pages)
            mended = " ".join(self._pdf.get_warnings())
        except pikepdf.PasswordError as error:
            raise bad("file.encrypted") from error
        except pikepdf.PdfError as error:
            raise bad("file.broken") from error
        if any(words in mended for words in _CUT_SHORT):
            raise bad("file.broken")
        if self.count == 0:
            raise bad("file.empty")
        if self.count > MAX_PAGES:
            raise bad("file.too_large")

    def page(self, index: int) -> ScannedPage:
        """Page `index`: (original, media type, pixels, dpi)."""
        page = self._pdf.pages[index]
        turn = int(page.get("/Rotate", 0)) % 360
        scan = _scan_of(page)
        found = None if scan is None else _embedded(scan)
        if found is not None and scan is not None:
            original, media_type, kind = found
            pixels, _ = decoded(original, kind, upright=False)
            if turn == 0:
                return ScannedPage(original, media_type, pixels, scan.dpi)
            if turn in _TURN:
                # The turn must survive in what is kept, so that decoding it again gives these very pixels.
                return ScannedPage(self._cut(page), "application/pdf", u8(cv2.rotate(pixels, _TURN[turn])), scan.dpi)
        original = self._cut(page)
        dpi = RENDER_DPI if scan is None else min(max(scan.dpi, 100.0), 600.0)
        return ScannedPage(original, "application/pdf", rendered(original, dpi), dpi)

    def _cut(self, page: pikepdf.Page) -> bytes:
        """A PDF of this page alone, streams as they are; no actions, links, metadata."""
        with pikepdf.new() as one:
            one.pages.append(page)
            copy = one.pages[0]
            for key in ("/AA", "/B", "/Metadata", "/PieceInfo", "/StructParents", "/Thumb", "/PZ"):
                if key in copy:
                    del copy[key]
            if "/Annots" in copy:
                kept = [
                    note
                    for note in list(copy.Annots)
                    if isinstance(note, pikepdf.Dictionary)
                    and note.get("/Subtype") not in ("/Link", "/Widget", "/Popup")
                ]
                copy.Annots = pikepdf.Array(kept)
            out = io.BytesIO()
            one.save(
                out,
                compress_streams=False,
                stream_decode_level=pikepdf.StreamDecodeLevel.none,
                object_stream_mode=pikepdf.ObjectStreamMode.disable,
                deterministic_id=True,
            )
        if out.tell() > MAX_ORIGINAL:
            raise bad("file.too_large")
        return out.getvalue()


def _box(page: pikepdf.Page) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = (float(side) for side in page.cropbox)
    return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)


def _scan_of(page: pikepdf.Page) -> _Scan | None:
    """The image if it is all that the page shows and fills it to 2 %, upright; else None."""
    try:
        images = {str(name): image for name, image in page.images.items()}
        if len(images) != 1 or len(page.get("/Annots", ())) > 0:
            return None
        contents = page.get("/Contents")
        streams: list[Any] = list(contents) if isinstance(contents, pikepdf.Array) else [contents]
        if len(streams) > 64 or sum(int(one.get("/Length", 0)) for one in streams) > _MAX_CONTENT:
            return None
        placed = _placed(page, next(iter(images)))
        if placed is None:
            return None
        x0, y0, x1, y1 = _box(page)
        wide, high = x1 - x0, y1 - y0
        left, bottom, right, top = placed
        slack_x, slack_y = wide * 0.02, high * 0.02
        if (
            abs(left - x0) > slack_x
            or abs(right - x1) > slack_x
            or abs(bottom - y0) > slack_y
            or abs(top - y1) > slack_y
        ):
            return None
        image = next(iter(images.values()))
        width, height = int(image.Width), int(image.Height)
        unit = float(page.get("/UserUnit", 1))
        return _Scan(image, width, height, plausible_dpi(width / ((right - left) * unit / 72), width, height))
    except (pikepdf.PdfError, AttributeError, KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None  # odd structures are for the renderer


def _placed(page: pikepdf.Page, name: str) -> tuple[float, float, float, float] | None:
    """Where the one image is painted, in points: left, bottom, right, top."""
    matrix = pikepdf.Matrix()
    saved: list[tuple[pikepdf.Matrix, int]] = []
    mode, found = 0, None
    for instruction in pikepdf.parse_content_stream(page):
        word, operands = str(instruction.operator), instruction.operands
        if word not in _HARMLESS:
            return None
        if word == "q":
            saved.append((matrix, mode))
        elif word == "Q" and saved:
            matrix, mode = saved.pop()
        elif word == "cm":
            matrix = pikepdf.Matrix(operands) @ matrix
        elif word == "Tr":
            mode = int(operands[0])
        elif word in _SHOWS_TEXT and mode != _INVISIBLE:
            return None
        elif word == "Do":
            if str(operands[0]) != name or found is not None:
                return None
            a, b, c, d, e, f = matrix.shorthand
            if a <= 0 or d <= 0 or abs(b) > 1e-3 * a or abs(c) > 1e-3 * d:
                return None
            found = (e, f, e + a, f + d)
    return found


def _plain_colours(image: Any) -> int | None:
    """Number of components if the samples mean grey or RGB directly."""
    space = image.get("/ColorSpace")
    if isinstance(space, pikepdf.Array):
        family = str(space[0])
        if family == "/ICCBased":
            return {1: 1, 3: 3}.get(int(space[1].get("/N", 0)))
        return {"/CalGray": 1, "/CalRGB": 3}.get(family)
    return {"/DeviceGray": 1, "/DeviceRGB": 3}.get(str(space))


def _inflated(data: bytes, most: int) -> bytes:
    stream = zlib.decompressobj()
    out = stream.decompress(data, most + 1)
    if len(out) > most:
        raise bad("file.too_large")
    return out


def _embedded(scan: _Scan) -> tuple[bytes, str, str] | None:
    """(original bytes, media type, Pillow's name) of an image that stands for itself outside the PDF; None for all
    others."""
    image = scan.image
    if any(key in image for key in ("/SMask", "/Mask")) or bool(image.get("/ImageMask", False)):
        return None
    check_size(scan.width, scan.height)
    filters = image.get("/Filter", pikepdf.Array([]))
    names = [str(one) for one in filters] if isinstance(filters, pikepdf.Array) else [str(filters)]
    parameters = image.get("/DecodeParms", pikepdf.Array([]))
    given = list(parameters) if isinstance(parameters, pikepdf.Array) else [parameters]
    settings = [one if isinstance(one, pikepdf.Dictionary) else pikepdf.Dictionary() for one in given]
    settings += [pikepdf.Dictionary()] * (len(names) - len(settings))
    decode = [float(one) for one in image.get("/Decode", pikepdf.Array([]))]
    bits = int(image.get("/BitsPerComponent", 8))
    colours = _plain_colours(image)
    if not names or (decode and decode != [0.0, 1.0] * (len(decode) // 2) and names[-1] != "/CCITTFaxDecode"):
        return None
    data = bytes(image.read_raw_bytes())
    while len(names) > 1 and names[0] == "/FlateDecode" and int(settings[0].get("/Predictor", 1)) == 1:
        data, names, settings = _inflated(data, MAX_ORIGINAL), names[1:], settings[1:]
    if len(names) != 1:
        return None
    name, setting = names[0], settings[0]
    if name == "/DCTDecode" and colours is not None and "/ColorTransform" not in setting:
        return data, "image/jpeg", "JPEG"
    if name == "/JPXDecode" and (colours is not None or "/ColorSpace" not in image):
        return data, "image/jp2", "JPEG2000"
    if (
        name == "/CCITTFaxDecode"
        and colours == 1
        and int(setting.get("/K", 0)) < 0
        and not bool(setting.get("/EncodedByteAlign", False))
    ):
        if int(setting.get("/Columns", 1728)) != scan.width or decode not in ([], [0.0, 1.0], [1.0, 0.0]):
            return None
        # The stream's 1 bits are black. PDF turns them into samples of 0, which /Decode may swap again; TIFF names what
        # 0 bits are.
        inverted = bool(setting.get("/BlackIs1", False)) != (decode == [1.0, 0.0])
        return (
            _tiff(data, scan, compression=4, photometric=1 if inverted else 0, bits=1, colours=1, predictor=1),
            "image/tiff",
            "TIFF",
        )
    if name != "/FlateDecode" or colours is None:
        return None
    predictor = int(setting.get("/Predictor", 1))
    shape = tuple(
        int(setting.get(key, usual)) for key, usual in (("/Columns", 1), ("/Colors", 1), ("/BitsPerComponent", 8))
    )
    if predictor > 1 and shape != (scan.width, colours, bits):
        return None
    row = (scan.width * colours * bits + 7) // 8 + (1 if predictor >= 10 else 0)
    if len(_inflated(data, row * scan.height + 4096)) < row * scan.height:
        raise bad("file.broken")
    if predictor >= 10 and bits in (1, 8, 16):
        return _png(data, scan, colours, bits), "image/png", "PNG"
    if predictor in (1, 2) and bits in (1, 8):
        photometric = 1 if colours == 1 else 2
        return (
            _tiff(data, scan, compression=8, photometric=photometric, bits=bits, colours=colours, predictor=predictor),
            "image/tiff",
            "TIFF",
        )
    return None


def _tiff(
    data: bytes, scan: _Scan, *, compression: int, photometric: int, bits: int, colours: int, predictor: int
) -> bytes:
    return tiff.wrapped(
        data,
        scan.width,
        scan.height,
        compression=compression,
        photometric=photometric,
        bits=bits,
        samples=colours,
        predictor=predictor,
        dpi=scan.dpi,
    )


def _png(data: bytes, scan: _Scan, colours: int, bits: int) -> bytes:
    """A PNG around a stream with PDF's PNG predictor, which is PNG's own filter: the stream goes in as it is."""
    per_metre = round(scan.dpi / 0.0254).to_bytes(4, "big")
    head = (
        scan.width.to_bytes(4, "big")
        + scan.height.to_bytes(4, "big")
        + bytes((bits, 0 if colours == 1 else 2, 0, 0, 0))
    )
    out = [b"\x89PNG\r\n\x1a\n"]
    for kind, body in ((b"IHDR", head), (b"pHYs", per_metre * 2 + b"\x01"), (b"IDAT", data), (b"IEND", b"")):
        out.append(len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big"))
    return b"".join(out)


def rendered(original: bytes, dpi: float) -> Pixels:
    """The first page of `original`, drawn by pdfium (built without JavaScript; no forms), grey if nothing on it has a
    colour."""
    try:
        document = pypdfium2.PdfDocument(original)
        try:
            page = document[0]
            width, height = page.get_size()
            if not (0 < width < 1e6 and 0 < height < 1e6):
                raise bad("file.broken")
            check_size(round(width * dpi / 72), round(height * dpi / 72))
            pixels = page.render(scale=dpi / 72, may_draw_forms=False).to_numpy()
            if pixels.ndim == 3:
                pixels = pixels[:, :, :3]
                if (pixels[:, :, 0] == pixels[:, :, 1]).all() and (pixels[:, :, 1] == pixels[:, :, 2]).all():
                    pixels = pixels[:, :, 0]
            return u8(pixels).copy()
        finally:
            document.close()
    except pypdfium2.PdfiumError as error:
        raise Unrendered(original) from error
