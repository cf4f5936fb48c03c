"""What a test needs of the machine beside Python packages. What is missing is left out and named, or fails where CI requires everything."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

PACKAGES = {
    "age": "age",
    "tesseract": "tesseract-ocr tesseract-ocr-jpn",
    "pdftoppm": "poppler-utils",
    "chromium": "chromium",
    "chromedriver": "chromium-driver",
}


def need(*programs: str) -> None:
    """Leave the test out when one of these programs is not on this machine."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not on this machine: apt install {PACKAGES[program]}")


def need_file(path: str | Path, packages: str) -> None:
    """Leave the test out when a file of these Debian packages is not on this machine."""
    if not Path(path).is_file():
        pytest.skip(f"{Path(path).name} is not on this machine: apt install {packages}")
