"""The chain that most people would build, for comparison: pdf2image at 300 dpi, pyzbar, one pytesseract call a zone. Prints one JSON object.

Run as `python -m bench.naive PDF TEMPLATE-FOLDER JOBS`; `OMP_THREAD_LIMIT=1` is set by the caller.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pdf2image
import pytesseract
from pyzbar import pyzbar

from records.template import read_folder


def read_page(task: tuple[str, int, list[tuple[str, float, float, float, float]]]) -> dict[str, str]:
    """One page: rendered, its codes read, each zone (mm) cut and read."""
    path, number, zones = task
    (page,) = pdf2image.convert_from_path(path, dpi=300, first_page=number, last_page=number)
    found = {"codes": str(len(pyzbar.decode(page)))}
    scale = 300 / 25.4
    for item, x, y, width, height in zones:
        part = page.crop((round(x * scale), round(y * scale), round((x + width) * scale), round((y + height) * scale)))
        found[item] = pytesseract.image_to_string(part, lang="jpn", config="--psm 7").strip()
    return found


def main() -> None:
    path, folder, jobs = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    form = read_folder(folder).definition.forms[0]
    zones = [(zone.item, zone.x, zone.y, zone.width, zone.height) for zone in form.zones]
    pages = pdf2image.pdfinfo_from_path(path)["Pages"]
    began = time.perf_counter()
    tasks = [(path, number, zones) for number in range(1, pages + 1)]
    with ProcessPoolExecutor(jobs) as pool:
        results = list(pool.map(read_page, tasks))
    print(
        json.dumps(
            {"pages": len(results), "zones": len(zones), "seconds": time.perf_counter() - began, "read": results}
        )
    )


if __name__ == "__main__":
    main()
