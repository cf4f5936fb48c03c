"""Codes are read wherever and however they lie on the page."""

from __future__ import annotations

import builtins
from ctypes.util import find_library
from typing import Any

import cv2
import numpy as np
import pytest
import zxingcpp

from core.errors import ToolMissing
from ingest.codes import CodeReaders, ZbarCodes, ZxingCodes
from ingest.form import Code
from ingest.port import CodeReader, Pixels
from ingest.qr import qr_pixels

F = zxingcpp.BarcodeFormat


def paper(*, height: int = 1754, width: int = 1240) -> Pixels:
    """A written page, A4 at 150 dpi."""
    pixels = np.full((height, width), 235, np.uint8)
    for y in range(150, height - 100, 45):
        cv2.putText(pixels, "register of persons 0123456789", (120, y), cv2.FONT_HERSHEY_SIMPLEX, 0.8, 40, 2)
    return pixels


def laid(page: Pixels, code: Pixels, x: int, y: int) -> Pixels:
    page[y : y + code.shape[0], x : x + code.shape[1]] = code
    return page


def drawn(text: str, kind: Any, scale: int) -> Pixels:
    return np.array(zxingcpp.create_barcode(text, kind).to_image(scale=scale), dtype=np.uint8)


def turned(page: Pixels, degrees: float) -> Pixels:
    height, width = page.shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 0.7)
    return np.asarray(cv2.warpAffine(page, matrix, (width, height), borderValue=235), dtype=np.uint8)


@pytest.fixture(params=["zxing", "zbar", "chain"])
def reader(request: pytest.FixtureRequest) -> CodeReader:
    if request.param == "zbar" and find_library("zbar") is None:
        pytest.skip("libzbar is not on this machine: apt install libzbar0")
    return {"zxing": ZxingCodes, "zbar": ZbarCodes, "chain": CodeReaders.installed}[request.param]()


@pytest.mark.parametrize("turn", [None, cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_COUNTERCLOCKWISE])
def test_codes_are_found_in_any_rotation(reader: CodeReader, turn: int | None) -> None:
    page = laid(laid(paper(), qr_pixels("DC1:TEST", 5), 200, 300), drawn("CASE-0042", F.Code128, 3), 500, 1200)
    if turn is not None:
        page = np.asarray(cv2.rotate(page, turn), dtype=np.uint8)
    codes = reader.read(page)
    assert {(code.format, code.text) for code in codes} >= {("QRCode", "DC1:TEST")}
    if turn in (None, cv2.ROTATE_180):
        assert {(code.format, code.text) for code in codes} == {("QRCode", "DC1:TEST"), ("Code128", "CASE-0042")}


def test_reading_order_and_boxes(reader: CodeReader) -> None:
    first, second = qr_pixels("SECOND", 6), qr_pixels("FIRST", 6)
    codes = reader.read(laid(laid(paper(), first, 300, 900), second, 700, 200))
    assert [code.text for code in codes] == ["FIRST", "SECOND"]
    x, y, width, height = codes[0].box
    inset = 4 * 6  # the quiet zone is not part of the code
    assert (x, y) == pytest.approx((700 + inset, 200 + inset), abs=3)
    assert (width, height) == pytest.approx((second.shape[1] - 2 * inset, second.shape[0] - 2 * inset), abs=5)


def test_a_page_without_codes_has_none(reader: CodeReader) -> None:
    assert reader.read(paper()) == []
    assert reader.read(np.full((300, 200), 255, np.uint8)) == []


def test_colour_pages(reader: CodeReader) -> None:
    page = cv2.cvtColor(laid(paper(), qr_pixels("COLOUR", 6), 300, 300), cv2.COLOR_GRAY2BGR)
    assert [code.text for code in reader.read(np.asarray(page, dtype=np.uint8))] == ["COLOUR"]


def test_a_skewed_linear_code_is_read_after_deskewing_and_its_box_is_on_the_page() -> None:
    page = paper()
    page[1040:1400] = 235
    page = laid(
        page,
        cv2.resize(drawn("SKEW-77", F.Code128, 3), None, fx=1, fy=0.25, interpolation=cv2.INTER_NEAREST),
        300,
        1200,
    )
    for degrees in (-8, 8):
        skewed = turned(page, degrees)
        zxing = ZxingCodes()
        codes = zxing._turned(skewed, -degrees)  # the third look by itself, with the true angle
        assert [code.text for code in codes] == ["SKEW-77"]
        assert zxing.read(skewed) != []
        x, y, width, height = codes[0].box
        strip = skewed[y : y + height, x : x + width]
        assert (strip < 60).mean() > 0.1


def test_formats_of_older_registers_are_read() -> None:
    for text, kind in (("A12345A", F.Codabar), ("ABC-123", F.Code39), ("4901234567894", F.EAN13)):
        (code,) = ZxingCodes().read(laid(paper(), drawn(text, kind, 3), 100, 1000))
        assert code.text.strip("*") == text
    square = np.array(zxingcpp.create_barcode("DM", F.DataMatrix).to_image(scale=6), dtype=np.uint8)
    assert [code.format for code in ZxingCodes().read(laid(paper(), square, 300, 300))] == ["DataMatrix"]


class Still:
    """A reader that gives what it was given and counts."""

    def __init__(self, name: str, codes: list[Code]) -> None:
        self.name, self.codes, self.asked = name, codes, 0

    def read(self, pixels: Pixels) -> list[Code]:
        self.asked += 1
        return self.codes


def test_the_chain_stops_at_the_first_that_finds_something() -> None:
    code = Code("QRCode", "x", (0, 0, 1, 1))
    nothing, something, never = Still("a", []), Still("b", [code]), Still("c", [code])
    chain = CodeReaders((nothing, something, never))
    assert chain.read(paper()) == [code]
    assert (nothing.asked, something.asked, never.asked) == (1, 1, 0)
    assert (chain.name, chain.left_out) == ("a+b+c", ())


def test_without_libzbar_the_chain_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "pyzbar":
            raise ImportError("Unable to find zbar shared library")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ToolMissing) as caught:
        ZbarCodes()
    assert caught.value.code == "tool.zbar"
    chain = CodeReaders.installed()
    assert (chain.name, chain.left_out) == ("zxing-cpp", ("zbar",))
