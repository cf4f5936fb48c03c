"""Characters and items read wrongly on drawn and degraded sheets whose truth is known, by both readers, from the same cut zones.

Seeds and fonts are not those on which zones and rules were tuned. Blanks are not counted: forms leave them to the writer's hand.
"""

from __future__ import annotations

import unicodedata
from math import sqrt
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bench.sheets import drawn
from core.eras import parse_date
from ingest.geometry import register
from ingest.port import TextReader
from ingest.readers import PaddleReader, TesseractReader
from ingest.sheet import read_sheet
from records.template import read_folder

LEDGERS = ("care-clients", "vacant-houses", "dv-support")
TEMPLATES = Path(__file__).resolve().parent.parent / "samples" / "templates"


def run(sheets: int = 48) -> dict[str, Any]:
    """Read `sheets` sheets of the three sample forms at 200 dpi with both readers."""
    readers: list[TextReader] = [PaddleReader(), TesseractReader()]
    tally = {reader.name: _Tally() for reader in readers}
    unplaced = 0
    for number in range(sheets):
        sheet = drawn(number, LEDGERS[number % len(LEDGERS)], dpi=200)
        template = read_folder(TEMPLATES / sheet.ledger)
        form = template.definition.forms[0]
        blank = np.asarray(
            cv2.imdecode(np.frombuffer(template.images[form.id], np.uint8), cv2.IMREAD_GRAYSCALE), np.uint8
        )
        placed = register(sheet.picture, 200, form, blank)
        if placed is None:
            unplaced += 1
            continue
        for reader in readers:
            for item in read_sheet(sheet.picture, 200, form, placed, reader).items:
                tally[reader.name].add(sheet.values.get(item.item, ""), item.value, item.reason)
    first = tally[readers[0].name]
    return {
        "sheets": sheets,
        "unplaced": unplaced,
        "cer": first.figures()["cer"],
        "exact": first.figures()["exact"],
        "n": first.items,
        "readers": {name: one.figures() for name, one in tally.items()},
    }


class _Tally:
    """Counts of one reader."""

    def __init__(self) -> None:
        self.items = self.exact = self.characters = self.errors = self.accepted = self.accepted_wrong = 0

    def add(self, truth: str, value: str, reason: str) -> None:
        wanted, given = _plain(truth), _plain(value)
        wrong = _distance(wanted, given)
        self.items += 1
        self.characters += len(wanted)
        self.errors += wrong
        self.exact += wrong == 0
        if not reason:
            self.accepted += 1
            self.accepted_wrong += wrong > 0

    def figures(self) -> dict[str, Any]:
        """Rates with 95 % Wilson intervals."""
        return {
            "cer": round(self.errors / self.characters, 4),
            "exact": round(self.exact / self.items, 4),
            "exact_95": _wilson(self.exact, self.items),
            "n": self.items,
            "characters": self.characters,
            "accepted": round(self.accepted / self.items, 4),
            "accepted_wrong": self.accepted_wrong,
            "accepted_wrong_95": _wilson(self.accepted_wrong, self.accepted),
        }


def _plain(text: str) -> str:
    day = parse_date(text)
    return day.day.isoformat() if day else "".join(unicodedata.normalize("NFKC", text).split())


def _wilson(hits: int, total: int) -> list[float]:
    if not total:
        return [0.0, 1.0]
    z, share = 1.96, hits / total
    middle, half = share + z * z / (2 * total), z * sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return [round(max(0.0, (middle + sign * half) / (1 + z * z / total)), 4) for sign in (-1, 1)]


def _distance(a: str, b: str) -> int:
    """Edit distance of Levenshtein."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        left, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            left, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, left + (x != y))
    return row[-1]
