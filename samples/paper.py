"""Draws sheets: blank forms, filled forms, covers, seals, and what scanning does to them.

Pictures are (height, width, 3) BGR, 8 bits; lengths on paper are mm. Fonts come from Debian packages when a
picture is made; what is committed needs none of them. What is written on the sheets is decided elsewhere (`people`),
and which sheets make a batch too (`generate`).
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ingest.qr import qr_pixels
from samples.people import Values
from samples.template import Field, Paper, Template

Picture = NDArray[np.uint8]

BLANK_DPI = 150
LEFT_EDGE = 20.0
"""Where the tables of our forms begin, mm: the caption of the first field of a row starts here."""
BASELINE = 0.88
"""Where the baseline of a Japanese character lies in its square, from the top."""
INSET = 1.0
"""A zone lies this far inside the rules, mm."""


@dataclass(frozen=True)
class Face:
    """A font file, the Debian package it comes in, and whether it looks written by hand."""

    path: str
    package: str
    hand: bool = False
    index: int = 0


_NOTO = "/usr/share/fonts/opentype/noto/"
MINCHO = Face("/usr/share/fonts/opentype/ipaexfont-mincho/ipaexm.ttf", "fonts-ipaexfont-mincho")
GOTHIC = Face("/usr/share/fonts/opentype/ipaexfont-gothic/ipaexg.ttf", "fonts-ipaexfont-gothic")
KLEE = Face("/usr/share/fonts/truetype/klee/KleeOne-Regular.ttf", "fonts-klee", hand=True)
NOTO_SERIF = Face(_NOTO + "NotoSerifCJK-Regular.ttc", "fonts-noto-cjk")
NOTO_SANS = Face(_NOTO + "NotoSansCJK-Regular.ttc", "fonts-noto-cjk")
YOZ = Face("/usr/share/fonts/truetype/yozvox-yozfont/YOzRNF.ttf", "fonts-yozvox-yozfont-new-kana", hand=True)

SAMPLE_FONTS = (MINCHO, GOTHIC, KLEE)
"""The fonts of values in the committed samples."""
BENCH_FONTS = (NOTO_SERIF, NOTO_SANS, YOZ)
"""The fonts of measurements: none of them is in the samples, so nothing is measured with what it was tuned on."""


class FontMissing(Exception):
    """A font is not on this machine; the message names the Debian package."""


@dataclass(frozen=True)
class Style:
    """How a sheet is filled in.

    `dates`: `kanji` (昭和12年3月4日), `dots` (S12.3.4) or `slash` (S12/3/4). `ink`: BGR. `seals`: items over whose end
    a red seal is pressed. `code`: text of the label on the form, "" for none. `received`: whether a red receipt stamp
    is on it.
    """

    face: Face
    dpi: int = 200
    dates: str = "kanji"
    ink: tuple[int, int, int] = (45, 35, 30)
    seals: tuple[str, ...] = ()
    code: str = ""
    received: bool = False


ERAS = (("令和", "R", dt.date(2019, 5, 1)), ("平成", "H", dt.date(1989, 1, 8)), ("昭和", "S", dt.date(1926, 12, 25)))


def written_date(iso: str, style: str) -> str:
    """An ISO date as a person writes it. `ValueError` before 昭和."""
    day = dt.date.fromisoformat(iso)
    for name, letter, first in ERAS:
        if day >= first:
            year = day.year - first.year + 1
            if style == "kanji":
                return f"{name}{'元' if year == 1 else year}年{day.month}月{day.day}日"
            mark = "." if style == "dots" else "/"
            return f"{letter}{year}{mark}{day.month}{mark}{day.day}"
    raise ValueError(iso)


def draw_blank(template: Template, paper: Paper, dpi: int = BLANK_DPI) -> Picture:
    """The blank form as it comes from the printer."""
    return _blank(template, paper, dpi).copy()


@lru_cache(maxsize=8)
def _blank(template: Template, paper: Paper, dpi: int) -> Picture:
    # Drawn at twice the size: hinting for screens drops the thin strokes of Mincho (日 becomes 口).
    canvas = _Canvas(paper.width, paper.height, 2 * dpi)
    for x, y in paper.marks:
        canvas.box(x - 2.5, y - 2.5, 5, 5, fill=(0, 0, 0))
    size = min(6.0, 112.0 / max(1, len(paper.title)))
    canvas.text(24 + (116 - size * len(paper.title)) / 2, 33, size, paper.title, MINCHO)
    for x, y, height, text in paper.texts:
        canvas.text(x, y, height, text, GOTHIC)
    for x, y, width, height, text in paper.frames:
        canvas.box(x, y, width, height, line=0.35)
        canvas.text(x + 2, y + 2, 3, text, MINCHO)
    for field, (x, y, width, height) in _captions(paper):
        label = template.item(field.item).label
        canvas.box(x, y, width, height, fill=(238, 238, 238), line=0.25)
        canvas.box(x + width, y, field.width + 2 * INSET, height, line=0.25)
        fit = min(3.6, (width - 4) / len(label))
        gap = (width - 6 - fit * len(label)) / max(1, len(label) - 1) if len(label) <= 4 and width > 20 else 0.0
        left = x + 3 if gap else x + (width - fit * len(label)) / 2
        for number, character in enumerate(label):
            canvas.text(left + number * (fit + gap), y + (height - fit) / 2, fit, character, MINCHO)
    size_px = (round(paper.width * dpi / 25.4), round(paper.height * dpi / 25.4))
    return _as_picture(cv2.resize(canvas.picture(), size_px, interpolation=cv2.INTER_AREA))


def draw_sheet(template: Template, values: Values, rng: np.random.Generator, style: Style, form: str = "") -> Picture:
    """A filled form: BGR at `style.dpi`. `form` chooses among several forms, the first when empty.

    Raises:
        FontMissing: `style.face` or a font of the printed captions is not on this machine.
    """
    paper = next(paper for paper in template.papers if form in ("", paper.id))
    canvas = _Canvas(paper.width, paper.height, style.dpi, draw_blank(template, paper, style.dpi))
    for field in paper.fields:
        value = values.get(field.item, "")
        if value:
            text = written_date(value, style.dates) if template.item(field.item).type == "date" else value
            right = canvas.write(field, text, style, rng)
            if field.item in style.seals:
                canvas.seal(right + float(rng.uniform(-3.0, 1.0)), field.y + field.height / 2, value, rng)
    if style.received:
        canvas.stamp(152 + float(rng.uniform(-1, 2)), 32 + float(rng.uniform(-2, 2)), rng)
    if style.code:
        canvas.code(*paper.code, style.code)
    return canvas.picture()


def draw_code_page(title: str, lines: list[str], code: str, dpi: int = 200) -> Picture:
    """A cover or separator: a large code, its title and a few lines for people."""
    canvas = _Canvas(210, 297, dpi)
    canvas.box(18, 18, 174, 261, line=0.8)
    canvas.text(105 - 7 * len(title), 34, 14, title, GOTHIC)
    canvas.code(70, 64, 70, code)
    for number, line in enumerate(lines):
        canvas.text(35, 155 + number * 14, 6, line, GOTHIC)
    canvas.text(
        35, 262, 3.6, "この紙は読み取りの区切りに使います。捨てずに、もとの順のまま読み取ってください。", GOTHIC
    )
    return canvas.picture()


def draw_letter(
    title: str, heads: tuple[str, str], rows: list[tuple[str, str]], rng: np.random.Generator, style: Style
) -> Picture:
    """A page without marks: a title and a table of two columns under `heads`, as in a record or an application."""
    canvas = _Canvas(210, 297, style.dpi)
    canvas.text(105 - 3.5 * len(title), 28, 7, title, MINCHO)
    canvas.box(22, 48, 166, 10, fill=(238, 238, 238), line=0.3)
    canvas.text(44 - 2 * len(heads[0]), 51, 4, heads[0], MINCHO)
    canvas.text(127 - 2 * len(heads[1]), 51, 4, heads[1], MINCHO)
    for number, (left, right) in enumerate(rows):
        y = 58.0 + 13 * number
        canvas.box(22, y, 44, 13, line=0.3)
        canvas.box(66, y, 122, 13, line=0.3)
        canvas.write(Field("", 23, y + 1, 42, 11), left, style, rng)
        canvas.write(Field("", 67, y + 1, 120, 11), right, style, rng)
    if style.code:
        canvas.code(164, 16, 24, style.code)
    return canvas.picture()


def draw_empty(dpi: int = 200) -> Picture:
    """A page side on which nothing stands."""
    return _Canvas(210, 297, dpi).picture()


def degrade(image: Picture, rng: np.random.Generator, kind: str) -> Picture:
    """What happens between the desk and the file. Call several times for several faults.

    `kind`: `scan` (a good scanner), `skew`, `shift`, `blur`, `noise`, `faint`, `jpeg`, `stain`, `fold`, `torn` (the
    lower right corner is gone with its mark and the end of some zones), `upside_down`. `ValueError` for any other.
    """
    height, width = image.shape[:2]
    if kind == "scan":
        return _noise(_as_picture(cv2.GaussianBlur(image, (0, 0), 0.6 * width / 1654)), rng, 3.0)
    if kind == "skew":
        angle = float(rng.uniform(0.8, 2.0)) * (1 if rng.random() < 0.5 else -1)
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0)
        return _warp(image, np.asarray(turn, dtype=np.float64))
    if kind == "shift":
        reach = 0.014 * width
        dx, dy = (float(rng.uniform(-reach, reach)) for _ in range(2))
        return _warp(image, np.array([[1, 0, dx], [0, 1, dy]], dtype=np.float64))
    if kind == "blur":
        return _as_picture(cv2.GaussianBlur(image, (0, 0), 1.3 * width / 1654))
    if kind == "noise":
        # Dust on the glass, some grains larger than others: about 900 on a page at 200 dpi.
        fine, coarse = (rng.random((height, width)) < share for share in (0.00018, 0.00006))
        speckled = image.copy()
        speckled[fine] = 90
        speckled[cv2.dilate(coarse.astype(np.uint8), np.ones((2, 2), np.uint8)) > 0] = 70
        return _noise(speckled, rng, 9.0)
    if kind == "faint":
        return _as_picture(255 - (255 - image.astype(np.float32)) * 0.45)
    if kind == "jpeg":
        squeezed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 28])[1]
        return _as_picture(np.asarray(cv2.imdecode(squeezed, cv2.IMREAD_COLOR)))
    if kind == "stain":
        mask = np.zeros((height, width), np.float32)
        centre = (int(width * rng.uniform(0.35, 0.7)), int(height * rng.uniform(0.25, 0.6)))
        cv2.ellipse(mask, centre, (int(width * 0.16), int(width * 0.12)), float(rng.uniform(0, 90)), 0, 360, 1.0, -1)
        mask = cv2.GaussianBlur(mask, (0, 0), width / 90)[..., None] * 0.55
        return _as_picture(image * (1 - mask) + image * mask * np.array([0.55, 0.75, 0.88], np.float32))
    if kind == "fold":
        light = np.ones((height, 1), np.float32)
        at = int(height * rng.uniform(0.44, 0.56))
        light[at : at + max(2, width // 600)] = 0.72
        return _as_picture(image * cv2.GaussianBlur(light, (1, 9), 0).reshape(height, 1, 1))
    if kind == "torn":
        return _torn(image, rng)
    if kind == "upside_down":
        return _as_picture(cv2.rotate(image, cv2.ROTATE_180))
    raise ValueError(kind)


def bilevel(image: Picture) -> NDArray[np.bool_]:
    """(height, width), True where paper is white: what a scanner set to black and white delivers."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return np.asarray(grey > 165)


def _torn(image: Picture, rng: np.random.Generator) -> Picture:
    height, width = image.shape[:2]
    corners = [(1.0, 0.58), (0.9, 0.64), (0.84, 0.7), (0.8, 0.8), (0.83, 0.9), (0.78, 1.0)]
    edge: list[tuple[float, float]] = []
    for (x0, y0), (x1, y1) in pairwise(corners):
        for step in np.linspace(0, 1, 14, endpoint=False):
            edge.append((x0 + (x1 - x0) * step, y0 + (y1 - y0) * step))
    jagged = [(x * width + rng.normal(0, width * 0.004), y * height + rng.normal(0, width * 0.003)) for x, y in edge]
    outline = np.array([*jagged, (0.78 * width, height), (width, height), (width, jagged[0][1])], dtype=np.int32)
    gone = np.zeros((height, width), np.uint8)
    cv2.fillPoly(gone, [outline], 255)
    shadow = cv2.GaussianBlur(gone, (0, 0), width / 250).astype(np.float32)[..., None] / 255
    result = image * (1 - 0.25 * shadow)
    result[gone > 0] = 228
    return _as_picture(result)


def _noise(image: NDArray[np.uint8], rng: np.random.Generator, sigma: float) -> Picture:
    return _as_picture(image + rng.normal(0, sigma, image.shape[:2])[..., None].astype(np.float32))


def _warp(image: Picture, matrix: NDArray[np.float64]) -> Picture:
    height, width = image.shape[:2]
    paper = tuple(int(value) for value in image[3, 3])
    return _as_picture(
        cv2.warpAffine(
            image, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT, borderValue=paper
        )
    )


def _as_picture(values: NDArray[Any]) -> Picture:
    picture: Picture = np.clip(values, 0, 255).astype(np.uint8)
    return picture


def _captions(paper: Paper) -> list[tuple[Field, tuple[float, float, float, float]]]:
    """Each field with its caption's cell (x, y, width, height): what lies left of it, to its neighbour or the edge."""
    cells = []
    for field in paper.fields:
        left = max([LEFT_EDGE, *(o.x + o.width + INSET for o in paper.fields if o.y == field.y and o.x < field.x)])
        cells.append((field, (left, field.y - INSET, field.x - INSET - left, field.height + 2 * INSET)))
    return cells


class _Canvas:
    """A sheet of paper under the pen; mm in, pixels out."""

    def __init__(self, width: float, height: float, dpi: int, picture: Picture | None = None) -> None:
        self._scale = dpi / 25.4
        if picture is None:
            self._image = Image.new("RGB", (round(width * self._scale), round(height * self._scale)), (255, 255, 255))
        else:
            self._image = Image.fromarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
        self._draw = ImageDraw.Draw(self._image)

    def picture(self) -> Picture:
        return _as_picture(cv2.cvtColor(np.asarray(self._image), cv2.COLOR_RGB2BGR))

    def _px(self, *lengths: float) -> tuple[int, ...]:
        return tuple(round(length * self._scale) for length in lengths)

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        line: float = 0.0,
        fill: tuple[int, int, int] | None = None,
    ) -> None:
        x0, y0, x1, y1 = self._px(x, y, x + width, y + height)
        outline = (20, 20, 20) if line else None
        self._draw.rectangle((x0, y0, x1, y1), fill=fill, outline=outline, width=max(1, self._px(line)[0]))

    def text(self, x: float, y: float, size: float, text: str, face: Face) -> None:
        for number, character in enumerate(text):
            font = _font(_covering(face, character), self._px(size)[0])
            left, base = self._px(x + self._advance(text[:number], size, face), y + BASELINE * size)
            self._draw.text((left, base), character, fill=(15, 15, 15), font=font, anchor="ls")

    def _advance(self, text: str, size: float, face: Face) -> float:
        pixels = self._px(size)[0]
        return sum(_font(_covering(face, c), pixels).getlength(c) for c in text) / self._scale

    def write(self, field: Field, text: str, style: Style, rng: np.random.Generator) -> float:
        """Write `text` into `field`; returns where it ends, mm. A hand wavers; a printer does not."""
        hand = style.face.hand
        height = min(field.height, 12.0)
        size = height * (0.62 if hand else 0.5)
        room = field.width - 5
        size = min(size, size * room / max(0.1, self._advance(text, size, style.face)))
        pixels = self._px(size)[0]
        x = field.x + 2 + (float(rng.uniform(0, 2)) if hand else 0.0)
        top = field.y + (min(field.height, 12.0) - size) / 2
        for character in text:
            font = _font(_covering(style.face, character), 2 * pixels)
            advance = font.getlength(character) / 2
            pad = pixels // 4
            tile = Image.new("L", (2 * (round(advance) + 2 * pad), 2 * (pixels + 2 * pad)), 0)
            anchor = (2 * pad, 2 * pad + round(2 * pixels * BASELINE))
            ImageDraw.Draw(tile).text(anchor, character, fill=255, font=font, anchor="ls")
            tile = tile.reduce(2)
            lift = 0.0
            if hand:
                tile = tile.rotate(float(rng.normal(0, 2.2)), resample=Image.Resampling.BICUBIC)
                lift = float(rng.normal(0, size * 0.035))
            blue, green, red = style.ink
            place = (round(x * self._scale) - pad, round((top + lift) * self._scale) - pad)
            self._image.paste((red, green, blue), place, tile)
            x += advance / self._scale * (float(rng.normal(0.98, 0.03)) if hand else 1.0)
        return x

    def seal(self, x: float, y: float, name: str, rng: np.random.Generator) -> None:
        """A round personal seal (認印) of the surname, 9 mm, a little turned; ink shows what lies under it."""
        surname = name.split(" ")[0][:3]
        self._press(self._seal_tile(9.0, surname, 0.5), x, y, float(rng.normal(0, 8)), rng)

    def stamp(self, x: float, y: float, rng: np.random.Generator) -> None:
        """A round receipt stamp (収受印), 20 mm."""
        scale = self._scale * 2
        side = round(20 * scale)
        tile = Image.new("L", (side, side), 0)
        draw = ImageDraw.Draw(tile)
        draw.ellipse((2, 2, side - 3, side - 3), outline=255, width=round(0.6 * scale))
        for y0 in (0.36, 0.62):
            draw.line((side * 0.03, side * y0, side * 0.97, side * y0), fill=255, width=round(0.4 * scale))
        for row, text, size in ((0.13, "みどり野市", 2.7), (0.42, "6.7.18", 3.6), (0.68, "収 受", 3.4)):
            font = _font(GOTHIC, round(size * scale))
            draw.text(((side - font.getlength(text)) / 2, side * row), text, fill=255, font=font)
        self._press(tile, x, y, float(rng.normal(0, 3)), rng)

    def _seal_tile(self, size: float, text: str, line: float) -> Image.Image:
        scale = self._scale * 2
        side = round(size * scale)
        tile = Image.new("L", (side, side), 0)
        draw = ImageDraw.Draw(tile)
        draw.ellipse((1, 1, side - 2, side - 2), outline=255, width=round(line * scale))
        height = size * min(0.38, 0.72 / len(text))
        for number, character in enumerate(text):
            font = _font(_covering(MINCHO, character), round(height * scale))
            top = side / 2 + (number - len(text) / 2) * height * scale
            draw.text(
                ((side - font.getlength(character)) / 2, top + BASELINE * height * scale),
                character,
                fill=255,
                font=font,
                anchor="ls",
            )
        return tile

    def _press(self, tile: Image.Image, x: float, y: float, angle: float, rng: np.random.Generator) -> None:
        turned = tile.rotate(angle, resample=Image.Resampling.BICUBIC)
        side = tile.width // 2
        cover = np.asarray(turned.resize((side, side), Image.Resampling.LANCZOS), dtype=np.float32) / 255
        # Ink lies unevenly: a slow blotch, never fully opaque.
        blotch = cv2.resize(
            rng.uniform(0.65, 1.0, (6, 6)).astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC
        )
        cover = (cover * np.clip(blotch, 0, 1) * 0.9)[..., None]
        left, top = round(x * self._scale - side / 2), round(y * self._scale - side / 2)
        left = max(0, min(left, self._image.width - side))
        under = np.asarray(self._image.crop((left, top, left + side, top + side)), dtype=np.float32)
        inked = under * np.array([0.86, 0.2, 0.17], np.float32)
        self._image.paste(Image.fromarray((under * (1 - cover) + inked * cover).astype(np.uint8)), (left, top))

    def code(self, x: float, y: float, size: float, text: str) -> None:
        """A QR code of `size` mm, quiet zone within."""
        modules = qr_pixels(text, 1)
        side = round(size * self._scale)
        module = max(1, side // modules.shape[0])
        drawn = Image.fromarray(modules).resize((modules.shape[1] * module,) * 2, Image.Resampling.NEAREST)
        offset = (side - drawn.width) // 2
        left, top = self._px(x, y)
        self._image.paste(drawn.convert("RGB"), (left + offset, top + offset))


@lru_cache(maxsize=256)
def _font(face: Face, pixels: int) -> ImageFont.FreeTypeFont:
    if not Path(face.path).is_file():
        raise FontMissing(f"フォントがありません: {face.path} (apt-get install {face.package})")
    return ImageFont.truetype(face.path, pixels, index=face.index)


@lru_cache(maxsize=4096)
def _covering(face: Face, character: str) -> Face:
    """`face`, or Noto where it lacks the character (𠮷 is in few fonts)."""
    probe = _font(face, 32)
    absent = bytes(probe.getmask("\U0010fffe"))
    if character.isspace() or bytes(probe.getmask(character)) != absent:
        return face
    return NOTO_SERIF if face is MINCHO else NOTO_SANS
