"""The printed page carries its letters: what stands on it can be read from the paper and copied from the file, with no font on the machine."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pikepdf
import pypdfium2
import pytest

from ingest.letters import LACKING, Lettering, width, wrapped, written
from ingest.proofsheet import proof_sheet
from ingest.readers import PaddleReader

TITLE = "記録簿のチェックポイント"
NOTE = "daicho/s-1\n12\nAbc+/=\n\n— daicho/s-1 Abc+/=\n"


@pytest.fixture(scope="module")
def page() -> bytes:
    return proof_sheet((TITLE,), ("檮原町の髙橋・山﨑",), (("Checkpoint", NOTE), ("Public key", "daicho/s-1+0+A")))


def test_every_font_is_in_the_file(page: bytes) -> None:
    with pikepdf.open(io.BytesIO(page)) as pdf:
        fonts = pdf.pages[0].Resources.Font
        assert [str(font.Subtype) for font in fonts.values()] == ["/Type3"]
        for font in fonts.values():
            assert len(font.CharProcs) == len(font.Widths) == font.LastChar
    assert len(page) < 100_000


def test_what_stands_there_can_be_copied(page: bytes) -> None:
    text = pypdfium2.PdfDocument(page)[0].get_textpage().get_text_range()
    for line in (TITLE, "檮原町の髙橋・山﨑", *filter(None, NOTE.splitlines())):
        assert line in text


def test_what_stands_there_can_be_read(page: bytes) -> None:
    """From the picture of it, by the reader of characters."""
    grey = np.asarray(pypdfium2.PdfDocument(page)[0].render(scale=4, grayscale=True).to_numpy())
    rows = np.flatnonzero((grey < 128).any(axis=1))
    end = rows[np.flatnonzero(np.diff(rows) > 8)[0]]
    line = grey[rows[0] : end + 1]
    columns = np.flatnonzero((line < 128).any(axis=0))
    read, _ = PaddleReader().read(cv2.cvtColor(line[:, columns[0] : columns[-1] + 1], cv2.COLOR_GRAY2BGR))
    assert read == TITLE


def test_more_letters_than_a_font_holds() -> None:
    lettering, pdf = Lettering(), pikepdf.Pdf.new()
    shown = lettering.shown("".join(map(chr, range(0x4E00, 0x5200))), 10)
    fonts = lettering.fonts(pdf)
    assert sum(len(font.CharProcs) for font in fonts.values()) == len(
        set(written("".join(map(chr, range(0x4E00, 0x5200)))))
    )
    assert len(fonts) > 1 and all(f"{name} 10 Tf" in shown for name in fonts)


def test_letters_that_there_are_not() -> None:
    assert written("葛\U000e0100城市ﾃｽﾄ㈱") == "葛城市テスト㈱"
    assert written("𠮷野") == f"{LACKING}野"


def test_long_lines_are_broken() -> None:
    for text in ("To check: read the QR code " * 5, "長い名前の一部事務組合" * 9):
        lines = list(wrapped(text.strip(), 20))
        assert len(lines) > 1 and all(0 < width(line) <= 20 for line in lines)
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert list(wrapped("", 20)) == [""]
