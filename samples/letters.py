"""Draws the letters of printed pages from a font: `ingest/letters.txt.xz`, which `ingest/letters.py` reads.

    apt-get install fonts-morisawa-bizud-gothic
    pip install fonttools
    python -m samples.letters

Run when the set of characters changes, which is hardly ever. The font's licence goes with them: `ingest/letters-OFL.txt`.
"""

from __future__ import annotations

import lzma
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

FONT = Path("/usr/share/fonts/truetype/bizud-gothic/BIZUDGothic-Regular.ttf")
TARGET = Path(__file__).resolve().parent.parent / "ingest" / "letters.txt.xz"
UNITS = 500
"""Of an em in the file: a fortieth of a millimetre in the largest letters that are printed."""

SYMBOLS, KANA, LEVEL_1, LEVEL_2 = (1, 2, 3), (4, 5), range(16, 48), range(48, 85)
"""Rows of JIS X 0208."""

ADDED = (0xFA, 0xFB, 0xFC)
"""First bytes of the extension of code page 932."""


def characters() -> Iterator[str]:
    """Latin 1, dashes as different programs write them, JIS X 0208 but Greek, Cyrillic and rules, and the letters that Windows adds to it (髙, 﨑): what Japanese names are written with."""
    yield from map(chr, (*range(0x20, 0x7F), *range(0xA1, 0x100)))
    yield from "—–‘’“”…〜～‖∥−－￠￡￢"
    listed = [(row + 0xA0, cell + 0xA0) for row in (*SYMBOLS, *KANA, *LEVEL_1, *LEVEL_2) for cell in range(1, 95)]
    added = [(first, second) for first in ADDED for second in range(0x40, 0xFD)]
    for encoding, places in (("euc_jp", listed), ("cp932", added)):
        for place in places:
            with suppress(UnicodeDecodeError):
                yield bytes(place).decode(encoding)


def path(font: object, name: str) -> str:
    """A glyph as steps: `M x y`, `L x y`, `Q x y x y` (a quadratic curve), `Z`; each point in whole units from the one before, a control point too."""
    from fontTools.pens.basePen import BasePen

    glyphs = font.getGlyphSet()  # type: ignore[attr-defined]
    scale = UNITS / font["head"].unitsPerEm  # type: ignore[index]
    told: list[str] = []
    at = [0, 0]

    class Pen(BasePen):  # its methods are named by fontTools
        def _put(self, step: str, *points: tuple[float, float]) -> None:
            moves = []
            for point in points:
                for axis, value in enumerate(point):
                    moves.append(str(round(value * scale) - at[axis]))
                    at[axis] = round(value * scale)
            told.append(step + " ".join(moves))

        def _moveTo(self, point: tuple[float, float]) -> None:  # noqa: N802
            self._put("M", point)

        def _lineTo(self, point: tuple[float, float]) -> None:  # noqa: N802
            self._put("L", point)

        def _qCurveToOne(self, control: tuple[float, float], point: tuple[float, float]) -> None:  # noqa: N802
            self._put("Q", control, point)

        def _closePath(self) -> None:  # noqa: N802
            told.append("Z")

    glyphs[name].draw(Pen(glyphs))
    return "".join(told)


def main() -> None:
    """Write the file."""
    from fontTools.ttLib import TTFont

    font = TTFont(FONT)
    names, widths = font.getBestCmap(), font["hmtx"].metrics
    scale = UNITS / font["head"].unitsPerEm
    lines = []
    for character in dict.fromkeys(characters()):
        name = names.get(ord(character))
        if name is not None:
            lines.append(f"{ord(character):x} {round(widths[name][0] * scale)} {path(font, name)}\n")
    data = "".join(sorted(lines, key=lambda line: int(line.split()[0], 16))).encode("ascii")
    TARGET.write_bytes(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))
    print(f"{TARGET}: {len(lines)} letters, {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
