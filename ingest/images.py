"""One image in memory as pixels: JPEG, PNG, TIFF (one page), JPEG 2000, WebP. Runs in the decoder's child only.

What a file is, is decided by its content. Containers with several pages belong to `tiff` and `pdf`.
"""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
from PIL import Image

from core.errors import BadFile
from ingest.port import Pixels

MAX_PAGES = 10_000
MAX_PIXELS = 140_000_000
"""A0 at 300 dpi or A2 at 600 dpi in grey. In colour the memory of the child ends it earlier: A3 at 600 dpi fits 1
GiB."""
MAX_ORIGINAL = 256 << 20
MAX_PIXEL_BYTES = 3 * MAX_PIXELS
RENDER_DPI = 300.0
LONG_SIDE_OF_A4 = 297 / 25.4

Image.MAX_IMAGE_PIXELS = None  # our own limit is checked before decoding

MEDIA = {"JPEG": "image/jpeg", "PNG": "image/png", "TIFF": "image/tiff", "JPEG2000": "image/jp2", "WEBP": "image/webp"}
KIND = {media: kind for kind, media in MEDIA.items()} | {"application/pdf": "PDF"}


def kind_of(head: bytes) -> str:
    """The type that the first 1024 bytes show, whatever the file is called: `PDF` or a name of Pillow's; `BadFile`
    `file.type` otherwise."""
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if head.startswith((b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")):
        return "JPEG2000"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if b"%PDF-" in head:
        return "PDF"
    raise bad("file.type")


def bad(code: str) -> BadFile:
    """Only the code travels: the parent has the words."""
    return BadFile(code, code, code=code)


def check_size(width: int, height: int) -> None:
    if width <= 0 or height <= 0:
        raise bad("file.broken")
    if width * height > MAX_PIXELS:
        raise bad("file.too_large")


def plausible_dpi(dpi: float, width: int, height: int) -> float:
    """`dpi` if a scanner could have meant it, else that of a page as long as A4."""
    return float(dpi) if 50 <= dpi <= 2400 else round(max(width, height) / LONG_SIDE_OF_A4, 2)


# Single images


def _complete_jpeg(data: bytes) -> bool:
    """Whether the scan data are followed by an end marker; decoders fill a missing rest with grey and say nothing."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return False
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker == 0xDA:
            return data.rfind(b"\xff\xd9") > at
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False


_TURN = {3: cv2.ROTATE_180, 6: cv2.ROTATE_90_CLOCKWISE, 8: cv2.ROTATE_90_COUNTERCLOCKWISE}
_MIRROR_THEN_TURN = {2: None, 4: cv2.ROTATE_180, 5: cv2.ROTATE_90_COUNTERCLOCKWISE, 7: cv2.ROTATE_90_CLOCKWISE}


def oriented(pixels: Pixels, orientation: int) -> Pixels:
    """Pixels turned upright as the orientation tag (Exif and TIFF 274, 1..8) says."""
    turn: int | None
    if orientation in _MIRROR_THEN_TURN:
        pixels = np.ascontiguousarray(pixels[:, ::-1])
        turn = _MIRROR_THEN_TURN[orientation]
    else:
        turn = _TURN.get(orientation)
    return pixels if turn is None else u8(cv2.rotate(pixels, turn))


def u8(pixels: Any) -> Pixels:
    return np.ascontiguousarray(pixels, dtype=np.uint8)


def _is_grey_palette(image: Image.Image) -> bool:
    palette = np.frombuffer(bytes(image.getpalette("RGB") or ()), dtype=np.uint8).reshape(-1, 3)
    return bool((palette == palette[:, :1]).all())


def _pixels_of(image: Image.Image) -> Pixels:
    """A Pillow image as grey or BGR; what is transparent is white paper."""
    mode = image.mode
    if mode == "P":
        if "transparency" in image.info:
            image, mode = image.convert("RGBA"), "RGBA"
        else:
            mode = "L" if _is_grey_palette(image) else "RGB"
            image = image.convert(mode)
    if mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        grey = mode in ("LA", "La")
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, (255, 255, 255, 255))
        paper.alpha_composite(image)
        image, mode = paper.convert("L" if grey else "RGB"), "L" if grey else "RGB"
    if mode in ("1", "L"):
        return u8(image.convert("L"))
    if mode.startswith("I;16"):
        return u8(np.asarray(image).astype(np.uint16, copy=False) >> 8)
    if mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        image, mode = image.convert("RGB"), "RGB"
    if mode != "RGB":
        raise bad("file.type")  # measurements (32-bit, floating point) are no scans
    height, width = image.height, image.width
    return np.frombuffer(image.tobytes("raw", "BGR"), dtype=np.uint8).reshape(height, width, 3)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(274, 1))
    except Exception:  # a broken Exif block is no reason to refuse the page
        return 1


def _resolution(image: Image.Image) -> float:
    try:
        value = image.info.get("dpi") or (0, 0)
        return float(value[0])
    except Exception:
        return 0.0


def decoded(data: bytes, kind: str, *, upright: bool = True) -> tuple[Pixels, float]:
    """Pixels and dpi of a one-page image; without `upright` its orientation tag is ignored, as a PDF does."""
    with Image.open(io.BytesIO(data), formats=[kind]) as image:
        check_size(*image.size)
        dpi = plausible_dpi(_resolution(image), *image.size)
        # Pillow itself turns a TIFF upright while loading it and takes the tag away.
        orientation = 1 if kind == "TIFF" or not upright else _orientation(image)
        if kind == "JPEG" and image.mode in ("L", "RGB"):
            if not _complete_jpeg(data):
                raise bad("file.broken")
            how = cv2.IMREAD_IGNORE_ORIENTATION | (cv2.IMREAD_GRAYSCALE if image.mode == "L" else cv2.IMREAD_COLOR)
            try:
                pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), how)
            except cv2.error as error:
                raise bad("file.too_large" if error.code == cv2.Error.StsNoMem else "file.broken") from error
            if pixels is None or pixels.shape[1::-1] != image.size:
                raise bad("file.broken")
            return oriented(u8(pixels), orientation), dpi
        image.load()
        return oriented(_pixels_of(image), orientation), dpi
