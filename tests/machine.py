"""What a test needs of the machine beside Python packages. What is missing is left out and named, or fails where CI requires everything."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NoReturn, TypeVar

import pytest

from tests.servers.build import Missing

_Server = TypeVar("_Server")

PACKAGES = {
    "age": "age",
    "tesseract": "tesseract-ocr tesseract-ocr-jpn",
    "pdftoppm": "poppler-utils",
    "chromium": "chromium",
    "chromedriver": "chromium-driver",
    "strace": "strace",
    "faketime": "faketime",
    "mkfs.exfat": "exfatprogs",
    "mount.exfat-fuse": "exfat-fuse",
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


@contextmanager
def need_server(running: AbstractContextManager[_Server]) -> Iterator[_Server]:
    """A server of tests/servers/running.py; leave the tests out that ask for it when this machine cannot have it.

    DAICHO_REQUIRE_SERVERS makes that a failure. A server that is there and does not start is a failure everywhere.
    """
    try:
        server = running.__enter__()
    except Missing as error:
        _leave_out(str(error), "DAICHO_REQUIRE_SERVERS")
    try:
        yield server
    finally:
        running.__exit__(None, None, None)


def need_built(make: Callable[[], Path]) -> Path:
    """A program of tests/servers/build.py; leave the test out when this machine cannot have it. DAICHO_REQUIRE_SERVERS makes that a failure."""
    try:
        return make()
    except Missing as error:
        _leave_out(str(error), "DAICHO_REQUIRE_SERVERS")


def _leave_out(reason: str, required: str = "DAICHO_REQUIRE_TOOLS") -> NoReturn:
    """Skip the test, or the module that is being imported; fail it where everything is required."""
    if os.environ.get(required):
        pytest.fail(reason)
    pytest.skip(reason, allow_module_level=True)
