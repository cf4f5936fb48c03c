"""The ports of ingest: where pages come from, what reads codes, what reads characters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ingest.form import Code

Pixels = NDArray[np.uint8]
"""(height, width) grey or (height, width, 3) BGR, 8 bits."""


@dataclass(frozen=True)
class ScannedPage:
    """One page side as scanned. `original` are its bytes, never re-encoded, of type `media_type`; `pixels` its decoded image."""

    original: bytes
    media_type: str
    pixels: Pixels
    dpi: float


class PageSource(Protocol):
    """Opens files of scans. Decoding happens in a limited child process, so no file can harm the caller."""

    def count(self, path: Path) -> int:
        """Number of pages. `BadFile` with codes `file.type`, `file.broken`, `file.encrypted`, `file.empty`, `file.too_large`, `file.timeout`."""
        ...

    def page(self, path: Path, index: int) -> ScannedPage:
        """Page `index` (from 0), decoded at its own resolution; errors as `count`."""
        ...

    def decode(self, original: bytes, media_type: str) -> ScannedPage:
        """Decode bytes that `page` once returned as `original`."""
        ...

    def close(self) -> None:
        """End the child; may be called twice."""
        ...


class CodeReader(Protocol):
    """Reads bar codes and 2D codes."""

    name: str

    def read(self, pixels: Pixels) -> list[Code]:
        """All codes on the page, any rotation, top to bottom; none is no error."""
        ...


class TextReader(Protocol):
    """Reads one line of characters in a trimmed image."""

    name: str

    def read(self, line: Pixels) -> tuple[str, float]:
        """(text as seen, confidence 0..1); ("", 1.0) for an image without ink is decided by the caller, not here."""
        ...
