"""Bar codes and 2D codes on a page. What a code's text means is not decided here (`sheetcode` knows ours)."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import zxingcpp

from core.errors import ToolMissing
from ingest.form import Code
from ingest.geometry import skew_degrees
from ingest.port import CodeReader, Pixels

_F = zxingcpp.BarcodeFormat
_SHEET = zxingcpp.BarcodeFormats([_F.QRCode, _F.MicroQRCode, _F.DataMatrix, _F.Code128])
"""What stands on labels and forms: the first, fast look."""
_ALL = zxingcpp.BarcodeFormats(
    [
        _F.QRCode,
        _F.MicroQRCode,
        _F.DataMatrix,
        _F.Code128,
        _F.Code39,
        _F.Codabar,
        _F.ITF,
        _F.EAN13,
        _F.EAN8,
    ]
)
"""Also what older registers and library stickers carry (NW-7 is Codabar, ISBN is EAN-13).

PDF417 and Aztec are left out: no register carries them, and looking for them takes a quarter more time.
"""
_LEAST_SKEW = 0.3
"""Degrees. Linear codes fail from about 15 degrees on, small 2D codes on the pixel grid; below this turning only
blurs."""


def _grey(pixels: Pixels) -> Pixels:
    if pixels.ndim == 2:
        return pixels
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY), dtype=np.uint8)


def _in_reading_order(codes: list[Code]) -> list[Code]:
    return sorted(codes, key=lambda code: (code.box[1], code.box[0]))


def _box(corners: np.ndarray, width: int, height: int) -> tuple[int, int, int, int]:
    """The upright box around corners (n, 2), inside the page."""
    x0, y0 = np.clip(np.floor(corners.min(axis=0)), 0, (width - 1, height - 1)).astype(int)
    x1, y1 = np.clip(np.ceil(corners.max(axis=0)), 0, (width - 1, height - 1)).astype(int)
    return int(x0), int(y0), int(x1 - x0 + 1), int(y1 - y0 + 1)


class ZxingCodes:
    """zxing-cpp: a fast look, then a thorough one, then the deskewed page, each only if the one before found
    nothing."""

    name = "zxing-cpp"

    def read(self, pixels: Pixels) -> list[Code]:
        """See `CodeReader.read`."""
        grey = _grey(pixels)
        found = self.fast(grey) or self.thorough(grey)
        if found:
            return found
        skew = skew_degrees(grey)
        return self._turned(grey, skew) if abs(skew) >= _LEAST_SKEW else []

    def fast(self, grey: Pixels) -> list[Code]:
        """Labels' formats, upright or upside down."""
        return self._read(grey, None, _SHEET, everywhere=False)

    def thorough(self, grey: Pixels) -> list[Code]:
        """All formats, any rotation, inverted, at lower resolutions too."""
        return self._read(grey, None, _ALL, everywhere=True)

    def _turned(self, grey: Pixels, degrees: float) -> list[Code]:
        height, width = grey.shape
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
        upright = cv2.warpAffine(grey, matrix, (width, height), flags=cv2.INTER_LINEAR, borderValue=255)
        return self._read(np.asarray(upright, dtype=np.uint8), cv2.invertAffineTransform(matrix), _ALL, everywhere=True)

    @staticmethod
    def _read(
        grey: Pixels, back: np.ndarray | None, formats: zxingcpp.BarcodeFormats, *, everywhere: bool
    ) -> list[Code]:
        """`back`: 2x3, from the pixels of `grey` to those of the page."""
        seen = zxingcpp.read_barcodes(
            grey, formats=formats, try_rotate=everywhere, try_downscale=everywhere, try_invert=everywhere
        )
        codes = []
        for code in seen:
            place = code.position
            corners = np.array(
                [
                    (point.x, point.y)
                    for point in (place.top_left, place.top_right, place.bottom_right, place.bottom_left)
                ],
                dtype=float,
            )
            if back is not None:
                corners = corners @ back[:, :2].T + back[:, 2]
            codes.append(Code(code.format.name, code.text, _box(corners, grey.shape[1], grey.shape[0])))
        return _in_reading_order(codes)


_ZBAR_NAMES = {
    "QRCODE": "QRCode",
    "CODE128": "Code128",
    "CODE39": "Code39",
    "CODABAR": "Codabar",
    "EAN13": "EAN13",
    "EAN8": "EAN8",
    "I25": "ITF",
}


class ZbarCodes:
    """zbar through pyzbar: the better reader of blurred EAN-13. `ToolMissing` where libzbar is not installed."""

    name = "zbar"

    def __init__(self) -> None:
        try:
            from pyzbar import pyzbar
        except ImportError as error:
            raise ToolMissing(
                "zbarライブラリ（libzbar0）がありません。インストールするか、zxing-cppだけで続けてください。",
                "the zbar library (libzbar0) is not installed: install it or go on with zxing-cpp alone",
                code="tool.zbar",
            ) from error
        self._pyzbar = pyzbar
        self._symbols = [getattr(pyzbar.ZBarSymbol, name) for name in _ZBAR_NAMES]

    def read(self, pixels: Pixels) -> list[Code]:
        """See `CodeReader.read`."""
        codes = []
        for code in self._pyzbar.decode(_grey(pixels), symbols=self._symbols):
            box = (code.rect.left, code.rect.top, max(1, code.rect.width), max(1, code.rect.height))
            codes.append(Code(_ZBAR_NAMES[code.type], code.data.decode("utf-8", "replace"), box))
        return _in_reading_order(codes)


class CodeReaders:
    """A chain of readers: the next is asked only if those before found nothing. `left_out` says what this machine
    lacks."""

    def __init__(self, readers: Sequence[CodeReader], left_out: Sequence[str] = ()) -> None:
        self._readers = tuple(readers)
        self.left_out = tuple(left_out)
        self.name = "+".join(reader.name for reader in self._readers)

    @classmethod
    def installed(cls) -> CodeReaders:
        """zxing-cpp, then zbar where there is one.

        A page without codes costs ten times one with a code, half of it zbar's: where a code is not expected,
        `ZxingCodes` alone will do.
        """
        try:
            return cls((ZxingCodes(), ZbarCodes()))
        except ToolMissing:
            return cls((ZxingCodes(),), (ZbarCodes.name,))

    def read(self, pixels: Pixels) -> list[Code]:
        """See `CodeReader.read`."""
        for reader in self._readers:
            codes = reader.read(pixels)
            if codes:
                return codes
        return []
