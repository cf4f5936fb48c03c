"""Letters as outlines, and the fonts that a PDF of ours carries: only those letters that stand in it, so that it prints the same everywhere.

`letters.txt.xz` has a line a letter: its code (hex), its width, and its outline as samples/letters.py writes it, in units of which `UNITS` are an em. They are
those of BIZ UDGothic (SIL Open Font License 1.1: `letters-OFL.txt`), all of JIS X 0208 that names are written with and what Windows adds to it.
"""

from __future__ import annotations

import functools
import lzma
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from pikepdf import Array, Dictionary, Name, Pdf

UNITS = 500
LACKING = "〓"
"""Printers' sign for a letter that is not in the case."""

_FILE = Path(__file__).with_name("letters.txt.xz")
_STEP = re.compile(r"([MLQZ])([-0-9 ]*)")
_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_CODES = 255
"""Letters of one font, by codes from 1."""


@functools.cache
def _letters() -> dict[str, tuple[int, str]]:
    """Letter -> (width, outline)."""
    told = {}
    for line in lzma.decompress(_FILE.read_bytes()).decode("ascii").splitlines():
        code, width, outline = line.split(" ", 2)
        told[chr(int(code, 16))] = (int(width), outline)
    return told


def written(text: str) -> str:
    """The text in letters that there are: variant forms that are asked for by a selector and what can only be taken apart are simplified, all else is `LACKING`."""
    return "".join(_known(character) for character in _SELECTORS.sub("", text))


def _known(character: str) -> str:
    if character in _letters():
        return character
    apart = unicodedata.normalize("NFKC", character)
    return apart if all(each in _letters() for each in apart) else LACKING


def width(text: str) -> float:
    """Of a text in letters that there are, in ems."""
    return sum(_letters()[character][0] for character in text) / UNITS


def wrapped(text: str, ems: float) -> Iterator[str]:
    """The text in lines of at most so many ems, broken at spaces where there are some."""
    rest = written(text)
    while width(rest) > ems:
        end = next(count for count in range(len(rest), 0, -1) if count == 1 or width(rest[:count]) <= ems)
        space = rest.rfind(" ", 1, end + 1)
        yield rest[: space if space > 0 else end]
        rest = rest[space + 1 if space > 0 else end :]
    yield rest


class Lettering:
    """The letters of one document: told as it is drawn, and then put into it as fonts (Type 3: drawn by the outlines themselves)."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}

    def shown(self, text: str, size: float) -> str:
        """Operators that show a text at the current place, in letters that there are."""
        parts: list[str] = []
        font = -1
        for character in written(text):
            number = self._codes.setdefault(character, len(self._codes))
            if number // _CODES != font:
                font = number // _CODES
                parts.append(f"{'> Tj ' if parts else ''}/L{font} {size} Tf <")
            parts.append(f"{number % _CODES + 1:02x}")
        return "".join(parts) + ("> Tj" if parts else "")

    def fonts(self, pdf: Pdf) -> Dictionary:
        """The fonts by the names that `shown` gives them."""
        letters = list(self._codes)
        made = Dictionary()
        for number, start in enumerate(range(0, len(letters), _CODES)):
            made[f"/L{number}"] = pdf.make_indirect(_font(pdf, letters[start : start + _CODES]))
        return made


def _font(pdf: Pdf, letters: list[str]) -> Dictionary:
    drawn = Dictionary()
    for character in letters:
        drawn[f"/{_name(character)}"] = pdf.make_stream(_drawn(*_letters()[character]).encode("ascii"))
    return Dictionary(
        Type=Name.Font,
        Subtype=Name.Type3,
        FontBBox=Array([0, 0, 0, 0]),  # any: each letter tells its own
        FontMatrix=Array([1 / UNITS, 0, 0, 1 / UNITS, 0, 0]),
        CharProcs=drawn,
        Encoding=Dictionary(Type=Name.Encoding, Differences=Array([1, *(Name(f"/{_name(each)}") for each in letters)])),
        FirstChar=1,
        LastChar=len(letters),
        Widths=Array([_letters()[each][0] for each in letters]),
        Resources=Dictionary(),
        ToUnicode=pdf.make_stream(_to_unicode(letters)),
    )


def _name(character: str) -> str:
    return f"u{ord(character):04X}"


def _drawn(advance: int, outline: str) -> str:
    """A letter as PDF draws it: its quadratic curves as cubic ones."""
    x = y = 0
    steps, points = [], [(0, 0)]
    for step, numbers in _STEP.findall(outline):
        values = [int(each) for each in numbers.split()]
        moves = list(zip(values[::2], values[1::2], strict=True))
        begin = (x, y)
        reached = []
        for right, up in moves:
            x, y = x + right, y + up
            reached.append((x, y))
        points += reached
        if step == "Q":
            control, end = reached
            first = tuple((begin[axis] + 2 * control[axis]) / 3 for axis in (0, 1))
            second = tuple((end[axis] + 2 * control[axis]) / 3 for axis in (0, 1))
            steps.append(f"{first[0]:.1f} {first[1]:.1f} {second[0]:.1f} {second[1]:.1f} {end[0]} {end[1]} c")
        else:
            steps.append("h" if step == "Z" else f"{x} {y} {'m' if step == 'M' else 'l'}")
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    low, high = min(y for _, y in points), max(y for _, y in points)
    return f"{advance} 0 {left} {low} {right} {high} d1 {' '.join(steps)}" + (" f" if steps else "")


def _to_unicode(letters: list[str]) -> bytes:
    """So that the text can be searched and copied."""
    rows = [f"<{code:02x}> <{each.encode('utf-16-be').hex()}>" for code, each in enumerate(letters, 1)]
    groups = [rows[start : start + 100] for start in range(0, len(rows), 100)]
    told = "\n".join(f"{len(group)} beginbfchar\n" + "\n".join(group) + "\nendbfchar" for group in groups)
    return (
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /daicho def /CMapType 2 def\n"
        f"1 begincodespacerange <00> <ff> endcodespacerange\n{told}\nendcmap CMapName currentdict /CMap defineresource pop end end"
    ).encode("ascii")
