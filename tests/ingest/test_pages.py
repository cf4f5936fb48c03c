"""Files of scans become pages: originals as they were, pixels as they look."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pikepdf
import pypdfium2
import pytest
from PIL import Image

from core.errors import BadFile, BadInput, NotFound
from ingest import tiff
from ingest.codes import ZxingCodes
from ingest.pages import LimitedPageSource, is_blank, read_codes, survey_file
from ingest.port import Pixels, ScannedPage

sys.path.append(str(Path(__file__).parent))

from scans import HEIGHT, WIDTH, Name, bilevel, colour, grey, image_pdf, jpeg_pdf, saved


@pytest.fixture(scope="module")
def source() -> Iterator[LimitedPageSource]:
    with LimitedPageSource() as source:
        yield source


def array(image: Image.Image) -> Pixels:
    if image.mode == "RGB":
        return np.asarray(image)[:, :, ::-1]
    return np.asarray(image.convert("L"))


def checked(source: LimitedPageSource, path: Path, index: int = 0) -> ScannedPage:
    """The page, which must come out the same from its own original."""
    page = source.page(path, index)
    again = source.decode(page.original, page.media_type)
    assert np.array_equal(again.pixels, page.pixels)
    assert again.original == page.original
    return page


def refused(source: LimitedPageSource, path: Path) -> str:
    with pytest.raises(BadFile) as caught:
        for index in range(source.count(path)):
            source.page(path, index)
    assert caught.value.ja
    return caught.value.code


@pytest.mark.parametrize(
    ("kind", "media_type", "image"),
    [
        ("PNG", "image/png", grey()),
        ("PNG", "image/png", colour()),
        ("PNG", "image/png", bilevel()),
        ("PNG", "image/png", grey().convert("P")),
        ("TIFF", "image/tiff", grey()),
        ("JPEG2000", "image/jp2", grey()),
    ],
)
def test_lossless_images_keep_bytes_and_pixels(
    source: LimitedPageSource, tmp_path: Path, kind: str, media_type: str, image: Image.Image
) -> None:
    path = tmp_path / "scan.dat"  # the name says nothing, the content all
    path.write_bytes(saved(image, kind))
    page = checked(source, path)
    assert source.count(path) == 1
    assert page.media_type == media_type
    assert page.original == path.read_bytes()
    assert np.array_equal(page.pixels, array(image.convert("L") if image.mode == "P" else image))


def test_a_jpeg_called_pdf_is_a_jpeg_and_has_its_dpi(source: LimitedPageSource, tmp_path: Path) -> None:
    path = tmp_path / "scan.pdf"
    path.write_bytes(saved(colour(), "JPEG", quality=95, dpi=(75, 75)))
    page = checked(source, path)
    assert (page.media_type, page.dpi, page.pixels.shape) == ("image/jpeg", 75.0, (HEIGHT, WIDTH, 3))
    assert page.original == path.read_bytes()
    assert np.abs(page.pixels.astype(int) - array(colour())).mean() < 4


def test_without_a_resolution_the_page_is_taken_for_a4(source: LimitedPageSource, tmp_path: Path) -> None:
    path = tmp_path / "scan.webp"
    path.write_bytes(saved(colour(), "WEBP", lossless=True))
    page = checked(source, path)
    assert page.dpi == pytest.approx(75, abs=0.1)
    assert np.array_equal(page.pixels, array(colour()))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_turns_pixels_not_bytes(source: LimitedPageSource, tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    upright = np.asarray(grey())
    for kind in ("JPEG", "TIFF"):
        path = tmp_path / kind
        path.write_bytes(
            saved(grey(), kind, exif=exif) if kind == "JPEG" else saved(grey(), kind, tiffinfo={274: orientation})
        )
        page = checked(source, path)
        assert page.original == path.read_bytes()
        mirrored = upright[:, ::-1] if orientation in (2, 4, 5, 7) else upright
        turns = {1: 0, 2: 0, 3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}[orientation]
        expected = np.rot90(mirrored, turns)
        assert page.pixels.shape == expected.shape
        assert np.abs(page.pixels.astype(int) - expected).mean() < 3


@pytest.mark.parametrize("compression", ["group4", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "raw"])
def test_tiff_pages_are_cut_out_as_they_are(source: LimitedPageSource, tmp_path: Path, compression: str) -> None:
    first = {"group4": bilevel, "jpeg": colour}.get(compression, grey)()
    second = first.rotate(180)
    path = tmp_path / "scan.tif"
    path.write_bytes(
        saved(first, "TIFF", compression=compression, save_all=True, append_images=[second, first], dpi=(75, 75))
    )
    assert source.count(path) == 3
    whole = path.read_bytes()
    pages = tiff.directories(lambda at, length: whole[at : at + length], len(whole), most=9)
    with Image.open(path) as reference:
        for index in range(3):
            page = checked(source, path, index)
            reference.seek(index)
            assert np.array_equal(page.pixels, array(reference.copy()))
            assert page.dpi == 75
            strips = [
                whole[at : at + length]
                for at, length in zip(pages[index].numbers(273), pages[index].numbers(279), strict=True)  # type: ignore[arg-type]
            ]
            (alone,) = tiff.directories(lambda at, n, data=page.original: data[at : at + n], len(page.original), most=9)  # type: ignore[misc]
            assert [
                page.original[at : at + length]
                for at, length in zip(alone.numbers(273), alone.numbers(279), strict=True)  # type: ignore[arg-type]
            ] == strips
    with pytest.raises(NotFound):
        source.page(path, 3)
    with pytest.raises(BadInput):
        source.page(path, -1)


def test_bigtiff_and_motorola_order(source: LimitedPageSource, tmp_path: Path) -> None:
    path = tmp_path / "big.tif"
    path.write_bytes(saved(grey(), "TIFF", big_tiff=True, save_all=True, append_images=[grey().rotate(180)]))
    assert source.count(path) == 2
    assert np.array_equal(checked(source, path, 1).pixels, np.asarray(grey().rotate(180)))
    motorola = tmp_path / "mm.tif"
    directory = tiff.Directory(">", ())
    assert directory.numbers(256) is None
    data = np.asarray(grey()).tobytes()

    def short(tag: int, value: int) -> tiff.Entry:
        return tiff.Entry(tag, 3, 1, value.to_bytes(2, "big"))

    entries = [short(256, WIDTH), short(257, HEIGHT), short(258, 8), short(259, 1), short(262, 1), short(277, 1)]
    entries += [tiff.Entry(273, 4, 1, (1000).to_bytes(4, "big")), tiff.Entry(279, 4, 1, len(data).to_bytes(4, "big"))]
    held = b"\0" * 1000 + data
    motorola.write_bytes(
        tiff.cut(lambda at, n: held[at : at + n], len(held), tiff.Directory(">", tuple(entries)), most=1 << 24)
    )
    assert motorola.read_bytes()[:2] == b"MM"
    assert np.array_equal(checked(source, motorola).pixels, np.asarray(grey()))


def test_a_scanned_pdf_gives_the_embedded_jpeg(source: LimitedPageSource, tmp_path: Path) -> None:
    path = jpeg_pdf(tmp_path / "scan.pdf", pages=3)
    assert source.count(path) == 3
    page = checked(source, path, 2)
    assert (page.media_type, page.original) == ("image/jpeg", saved(grey(), "JPEG", quality=80))
    assert page.dpi == pytest.approx(75, abs=0.1)


def test_invisible_text_does_not_hide_the_scan_and_visible_text_is_not_lost(
    source: LimitedPageSource, tmp_path: Path
) -> None:
    scan = b"q 595.2 0 0 841.92 0 0 cm /Im0 Do Q BT %d Tr /F0 40 Tf 100 100 Td (written over) Tj ET"
    assert checked(source, jpeg_pdf(tmp_path / "ocr.pdf", content=scan % 3)).media_type == "image/jpeg"
    page = checked(source, jpeg_pdf(tmp_path / "stamped.pdf", content=scan % 0))
    assert page.media_type == "application/pdf"
    plain = checked(source, jpeg_pdf(tmp_path / "plain.pdf"))
    assert (cv2.resize(page.pixels, (WIDTH, HEIGHT)) < 100).sum() > (plain.pixels < 100).sum() + 500


def test_rotation_survives_in_what_is_kept(source: LimitedPageSource, tmp_path: Path) -> None:
    flat = checked(source, jpeg_pdf(tmp_path / "flat.pdf"))
    page = checked(source, jpeg_pdf(tmp_path / "turned.pdf", rotate=90))
    assert np.array_equal(page.pixels, np.rot90(flat.pixels, -1))
    assert flat.original in page.original  # the scan itself is untouched inside


@pytest.mark.parametrize("black_is_1", [False, True])
@pytest.mark.parametrize("decode", [None, [1, 0]])
def test_fax_in_pdf_has_the_polarity_pdfium_gives_it(
    source: LimitedPageSource, tmp_path: Path, black_is_1: bool, decode: list[int] | None
) -> None:
    whole = saved(bilevel(), "TIFF", compression="group4", tiffinfo={278: HEIGHT})
    (page,) = tiff.directories(lambda at, n: whole[at : at + n], len(whole), most=9)
    offsets, counts = page.numbers(273), page.numbers(279)
    assert offsets and counts and len(offsets) == 1
    data = whole[offsets[0] : offsets[0] + counts[0]]
    settings = pikepdf.Dictionary(K=-1, Columns=WIDTH, Rows=HEIGHT, BlackIs1=black_is_1)
    facts = {"/BitsPerComponent": 1, "/Filter": Name.CCITTFaxDecode, "/DecodeParms": settings}
    path = image_pdf(tmp_path / "g4.pdf", [(data, facts | ({"/Decode": decode} if decode else {}))])
    got = checked(source, path)
    assert got.media_type == "image/tiff"
    assert data in got.original
    assert set(np.unique(got.pixels)) == {0, 255}
    drawn = (
        pypdfium2.PdfDocument(path)[0]
        .render(scale=75 / 72, grayscale=True)
        .to_numpy()[:HEIGHT, :WIDTH]
        .reshape(HEIGHT, WIDTH)
    )
    assert np.abs(drawn.astype(int) - got.pixels).mean() < 20


@pytest.mark.parametrize(
    ("predictor", "mode"), [(1, "L"), (1, "RGB"), (1, "1"), (2, "L"), (2, "RGB"), (15, "L"), (15, "RGB"), (15, "1")]
)
def test_deflated_scans_keep_their_stream(source: LimitedPageSource, tmp_path: Path, predictor: int, mode: str) -> None:
    image = {"L": grey, "RGB": colour, "1": bilevel}[mode]()
    samples = np.asarray(image)
    rows = np.packbits(samples, axis=1) if mode == "1" else samples.reshape(HEIGHT, -1)
    colours, bits = (3 if mode == "RGB" else 1), (1 if mode == "1" else 8)
    if predictor == 2:
        shaped = samples.reshape(HEIGHT, WIDTH, colours).copy()
        shaped[:, 1:] -= samples.reshape(HEIGHT, WIDTH, colours)[:, :-1]
        rows = shaped.reshape(HEIGHT, -1)
    if predictor == 15:
        up = rows.copy()
        up[1:] -= rows[:-1]
        rows = np.concatenate([np.full((HEIGHT, 1), 2, np.uint8), up], axis=1)
    data = zlib.compress(rows.tobytes())
    settings = pikepdf.Dictionary(Predictor=predictor, Columns=WIDTH, Colors=colours, BitsPerComponent=bits)
    space = Name.DeviceRGB if mode == "RGB" else Name.DeviceGray
    facts = {"/Filter": Name.FlateDecode, "/ColorSpace": space, "/BitsPerComponent": bits, "/DecodeParms": settings}
    page = checked(source, image_pdf(tmp_path / "flate.pdf", [(data, facts)]))
    assert page.media_type == ("image/png" if predictor == 15 else "image/tiff")
    assert data in page.original
    assert np.array_equal(page.pixels, array(image))
    assert page.dpi == pytest.approx(75, abs=0.1)


def test_an_owner_password_is_no_obstacle_a_user_password_is(source: LimitedPageSource, tmp_path: Path) -> None:
    open_to_all = jpeg_pdf(tmp_path / "owner.pdf", encryption=pikepdf.Encryption(owner="secret", user=""))
    assert checked(source, open_to_all).original == saved(grey(), "JPEG", quality=80)
    locked = jpeg_pdf(tmp_path / "user.pdf", encryption=pikepdf.Encryption(owner="secret", user="other"))
    assert refused(source, locked) == "file.encrypted"


def test_drawn_pages_are_rendered_at_300_dpi(source: LimitedPageSource, tmp_path: Path) -> None:
    with pikepdf.new() as pdf:
        for _ in range(2):
            pdf.add_blank_page(page_size=(200, 100))
        pdf.pages[1].Contents = pikepdf.Stream(pdf, b"1 0 0 rg 0 0 100 100 re f")
        pdf.save(tmp_path / "drawn.pdf")
    blank, drawn = (checked(source, tmp_path / "drawn.pdf", index) for index in (0, 1))
    assert (drawn.media_type, drawn.dpi) == ("application/pdf", 300.0)
    assert blank.pixels.ndim == 2
    assert drawn.pixels.ndim == 3
    assert drawn.pixels[200, 100].tolist() == [0, 0, 255]
    assert len(pikepdf.open(io.BytesIO(drawn.original)).pages) == 1
    assert is_blank(blank.pixels)
    assert not is_blank(drawn.pixels)


# Files that are no pages


def test_broken_files_are_refused_with_a_code(source: LimitedPageSource, tmp_path: Path) -> None:
    jpeg, multi = saved(grey(), "JPEG"), saved(grey(), "TIFF", save_all=True, append_images=[grey()])
    loop = bytearray(multi)
    first = int.from_bytes(loop[4:8], "little")
    tags = int.from_bytes(loop[first : first + 2], "little")
    loop[first + 2 + 12 * tags : first + 6 + 12 * tags] = first.to_bytes(4, "little")
    with pikepdf.new() as none:
        none.save(tmp_path / "none.pdf")
    cases = {
        b"": "file.empty",
        b"hello": "file.type",
        b"GIF89a" + b"\0" * 100: "file.type",
        b"PK\x03\x04" + b"\0" * 100: "file.type",
        jpeg[: len(jpeg) // 2]: "file.broken",
        jpeg[:20]: "file.broken",
        saved(grey(), "PNG")[:3000]: "file.broken",
        multi[: len(multi) // 2]: "file.broken",
        bytes(loop): "file.broken",
        b"%PDF-1.7\n" + b"\0" * 2000: "file.broken",
        (tmp_path / "none.pdf").read_bytes(): "file.empty",
    }
    for data, code in cases.items():
        path = tmp_path / "case"
        path.write_bytes(data)
        assert refused(source, path) == code, data[:20]
    assert refused(source, tmp_path / "nothing") == "file.missing"
    assert refused(source, tmp_path) == "file.missing"
    os.mkfifo(tmp_path / "pipe")
    assert refused(source, tmp_path / "pipe") == "file.missing"
    with pytest.raises(BadFile):
        source.decode(jpeg, "image/png")
    with pytest.raises(BadFile):
        source.decode(jpeg, "text/html")


def test_a_pixel_flood_is_refused_before_it_is_decoded(source: LimitedPageSource, tmp_path: Path) -> None:
    flood = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(flood, "PNG")
    (tmp_path / "flood.png").write_bytes(flood.getvalue())
    assert len(flood.getvalue()) < 300_000
    started = time.monotonic()
    assert refused(source, tmp_path / "flood.png") == "file.too_large"
    assert time.monotonic() - started < 2
    with pikepdf.new() as pdf:
        pdf.add_blank_page(page_size=(14_400, 14_400))
        pdf.save(tmp_path / "wide.pdf")
    assert refused(source, tmp_path / "wide.pdf") == "file.too_large"


def test_a_deflate_bomb_costs_the_child_no_more_than_its_limit(source: LimitedPageSource, tmp_path: Path) -> None:
    bomb = zlib.compress(b"\0" * (300 << 20), 1)
    facts = {"/Filter": Name.FlateDecode, "/Width": 100, "/Height": 100}
    assert refused(source, image_pdf(tmp_path / "bomb.pdf", [(bomb, facts)])) == "file.too_large"
    twice = {"/Filter": [Name.FlateDecode, Name.DCTDecode]}
    assert refused(source, image_pdf(tmp_path / "bomb2.pdf", [(bomb, twice)])) == "file.too_large"
    path = image_pdf(tmp_path / "bomb3.pdf", [(saved(grey(), "JPEG"), {"/Filter": Name.DCTDecode})])
    with pikepdf.open(path, allow_overwriting_input=True) as pdf:
        pdf.pages[0].Contents = pikepdf.Stream(pdf, zlib.compress(b" " * (600 << 20), 1), Filter=Name.FlateDecode)
        pdf.save(path)
    with LimitedPageSource(memory=512 << 20) as narrow:
        with pytest.raises(BadFile):
            narrow.page(path, 0)
        assert narrow.count(jpeg_pdf(tmp_path / "after.pdf")) == 1


def test_page_trees_without_an_end_are_refused(source: LimitedPageSource, tmp_path: Path) -> None:
    def pdf(*objects: str) -> Path:
        body = b"%PDF-1.4\n"
        places = []
        for number, text in enumerate(objects, 1):
            places.append(len(body))
            body += f"{number} 0 obj\n{text}\nendobj\n".encode()
        table = "".join(f"{place:010} 00000 n \n" for place in places)
        size = len(objects) + 1
        head = f"xref\n0 {size}\n0000000000 65535 f \n{table}"
        end = f"{head}trailer\n<< /Size {size} /Root 1 0 R >>\n"
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.pdf"
        path.write_bytes(body + end.encode() + f"startxref\n{len(body)}\n%%EOF\n".encode())
        return path

    catalogue = "<< /Type /Catalog /Pages 2 0 R >>"
    assert refused(source, pdf(catalogue, "<< /Type /Pages /Kids [2 0 R] /Count 1 >>")) in ("file.broken", "file.empty")
    assert refused(
        source, pdf(catalogue, "<< /Type /Pages /Kids [3 0 R] /Count 1 >>", "<< /Type /Pages /Kids [2 0 R] /Count 1 >>")
    ) in ("file.broken", "file.empty")
    page = "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 10 10] >>"
    many = pdf(catalogue, f"<< /Type /Pages /Kids [{'3 0 R ' * 10_001}] /Count 10001 >>", page)
    assert refused(source, many) == "file.too_large"
    nested = "[" * 100_000 + "]" * 100_000
    deep = pdf(
        catalogue,
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        page[:-2] + "/Contents " + nested + ">>",
    )
    with pytest.raises(BadFile):
        source.page(deep, 0)
    assert source.count(jpeg_pdf(tmp_path / "after.pdf")) == 1


def test_a_file_that_changes_is_opened_again(source: LimitedPageSource, tmp_path: Path) -> None:
    path = jpeg_pdf(tmp_path / "scan.pdf", pages=2)
    assert source.count(path) == 2
    jpeg_pdf(path, pages=3)
    assert source.count(path) == 3


def test_surveys_name_the_scan(source: LimitedPageSource, tmp_path: Path) -> None:
    path = tmp_path / "scan.tif"
    path.write_bytes(
        saved(
            bilevel(), "TIFF", compression="group4", save_all=True, append_images=[Image.new("1", (WIDTH, HEIGHT), 1)]
        )
    )
    first, second = survey_file(source, ZxingCodes(), path)
    assert (first.index, second.index, first.blank, second.blank) == (0, 1, False, True)
    assert (first.width, first.height, first.media_type) == (WIDTH, HEIGHT, "image/tiff")
    assert first.digest == hashlib.sha256(source.page(path, 0).original).hexdigest()
    assert [index for index, _ in read_codes(source, ZxingCodes(), path)] == [0, 1]


def test_real_pages(source: LimitedPageSource) -> None:
    folder = Path(__file__).parents[2].parent / "shared/data/real-pages"
    paths = sorted([*folder.glob("*.jpg"), *folder.glob("*.png")])
    assert len(paths) == 3
    for path in paths:
        page = checked(source, path)
        assert page.original == path.read_bytes()
        assert not is_blank(page.pixels)
