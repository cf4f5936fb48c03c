"""What daicho prints it reads again, and what was altered it refuses."""

from __future__ import annotations

import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import BadInput
from core.ids import RandomIds
from ingest.codes import ZxingCodes
from ingest.qr import qr_pixels
from ingest.sheetcode import SheetCode, encode, parse

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
codes = st.builds(
    SheetCode,
    st.sampled_from(["cover", "separator", "sheet"]),
    names,
    names,
    names,
    st.integers(0, 9_999_999),
    st.integers(0, 9_999_999),
)
QR_ALPHABET = set(string.digits + string.ascii_uppercase + " $%*+-./:")


@given(codes)
def test_every_code_comes_back(code: SheetCode) -> None:
    text = encode(code)
    assert parse(text) == code
    assert text.startswith("DC1:")
    assert set(text) <= QR_ALPHABET


@given(codes, st.data())
def test_one_altered_character_is_noticed(code: SheetCode, data: st.DataObject) -> None:
    text = encode(code)
    place = data.draw(st.integers(4, len(text) - 1))
    other = data.draw(st.sampled_from(sorted(QR_ALPHABET - {" ", text[place]})))
    with pytest.raises(BadInput) as caught:
        parse(text[:place] + other + text[place + 1 :])
    assert caught.value.code == "code.damaged"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("DC1:S:L-KOSEKI:F-1:C-0042:3:12:JTHSFN", SheetCode("sheet", "l-koseki", "f-1", "c-0042", 3, 12)),
        (
            "DC1:C:DV-SUPPORT::%E6%A1%88%E4%BB%B6%3A1%20%25:0:0:75OTYG",
            SheetCode("cover", "dv-support", "", "案件:1 %", 0, 0),
        ),
    ],
)
def test_what_version_0_1_printed_is_read(text: str, code: SheetCode) -> None:
    """Paper stays: labels are on sheets that are scanned years later."""
    assert encode(code) == text
    assert parse(text + "\r\n") == code


@pytest.mark.parametrize("text", ["", "DC1", "dc1:S", "DC2:S:A:B:C:1:1:AAAAAA", "https://example.jp/", "4901234567894"])
def test_other_codes_are_not_ours(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize("text", ["DC1:", "DC1:S:A:B:C:1:1:AAAAAA", "DC1:" + "A" * 5000])
def test_ours_but_damaged(text: str) -> None:
    with pytest.raises(BadInput):
        parse(text)


def test_what_does_not_fit_a_label_is_refused() -> None:
    for code in (SheetCode("sheet", "x" * 600, "", "", 0, 0), SheetCode("sheet", "", "", "", -1, 0)):
        with pytest.raises(BadInput) as caught:
            encode(code)
        assert caught.value.code == "code.range"


@settings(max_examples=20, deadline=None)
@given(codes)
def test_drawn_and_read(code: SheetCode) -> None:
    text = encode(code)
    page = np.full((1200, 1000), 255, np.uint8)
    drawn = qr_pixels(text, 4)
    page[100 : 100 + drawn.shape[0], 50 : 50 + drawn.shape[1]] = drawn
    (read,) = ZxingCodes().read(page)
    assert read.text == text
    assert parse(read.text) == code


def test_a_label_with_real_ids_fits_28_mm_at_300_dpi() -> None:
    ids = RandomIds()
    text = encode(SheetCode("sheet", ids.new("l"), ids.new("f"), ids.new("c"), 120, 300))
    modules = qr_pixels(text, 1).shape[0] - 8
    assert 28 / 25.4 * 300 / modules >= 5  # pixels a module
