"""Scans made for the tests: a written page, and files that hold it in every way a scanner does."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pikepdf
from PIL import Image

Name = pikepdf.Name
WIDTH, HEIGHT = 620, 877
"""A4 at 75 dpi: 595.2 x 841.92 points."""


def grey() -> Image.Image:
    pixels = np.full((HEIGHT, WIDTH), 240, np.uint8)
    for y in range(60, 800, 40):
        cv2.putText(pixels, f"daicho {y} ledger", (40, y), cv2.FONT_HERSHEY_SIMPLEX, 1.0, 30, 2)
    return Image.fromarray(pixels)


def colour() -> Image.Image:
    pixels = np.asarray(grey().convert("RGB")).copy()
    cv2.circle(pixels, (450, 200), 60, (200, 30, 30), 6)
    return Image.fromarray(pixels)


def bilevel() -> Image.Image:
    return grey().point(lambda value: 255 if value > 128 else 0).convert("1")


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.copy().save(out, kind, **options)
    return out.getvalue()


def image_pdf(
    path: Path,
    streams: list[tuple[bytes, dict[str, Any]]],
    *,
    content: bytes = b"q 595.2 0 0 841.92 0 0 cm /Im0 Do Q",
    rotate: int = 0,
    encryption: pikepdf.Encryption | None = None,
) -> Path:
    """A PDF with one page for each (stream, image dictionary), painted by `content`."""
    with pikepdf.new() as pdf:
        for data, facts in streams:
            image = pikepdf.Stream(pdf, data)
            usual = {"/Type": Name.XObject, "/Subtype": Name.Image, "/Width": WIDTH, "/Height": HEIGHT}
            for key, value in (usual | {"/BitsPerComponent": 8, "/ColorSpace": Name.DeviceGray} | facts).items():
                image[key] = value
            font = pikepdf.Dictionary(Type=Name.Font, Subtype=Name.Type1, BaseFont=Name.Helvetica)
            page = pikepdf.Dictionary(
                Type=Name.Page,
                MediaBox=[0, 0, 595.2, 841.92],
                Rotate=rotate,
                Resources=pikepdf.Dictionary(XObject=pikepdf.Dictionary(Im0=image), Font=pikepdf.Dictionary(F0=font)),
                Contents=pikepdf.Stream(pdf, content),
            )
            pdf.pages.append(pikepdf.Page(pdf.make_indirect(page)))
        if encryption is None:
            pdf.save(path)
        else:
            pdf.save(path, encryption=encryption)
    return path


def jpeg_pdf(path: Path, *, pages: int = 1, **options: Any) -> Path:
    data = saved(grey(), "JPEG", quality=80)
    return image_pdf(path, [(data, {"/Filter": Name.DCTDecode})] * pages, **options)
