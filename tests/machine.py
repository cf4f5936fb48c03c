"""What a test needs of the machine beside Python packages. What is missing is left out and named, or fails where CI requires everything."""

from __future__ import annotations

import os
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
            _leave_out(f"{program} is not on this machine: apt install {PACKAGES[program]}")


def need_file(path: str | Path, packages: str) -> None:
    """Leave the test out when a file of these Debian packages is not on this machine."""
    if not Path(path).is_file():
        _leave_out(f"{Path(path).name} is not on this machine: apt install {packages}")


def _leave_out(reason: str) -> None:
    """Skip the test, or the module that is being imported; fail it where everything is required."""
    if os.environ.get("DAICHO_REQUIRE_TOOLS"):
        pytest.fail(reason)
    pytest.skip(reason, allow_module_level=True)
