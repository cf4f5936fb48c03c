"""Our own static files, read once into memory and served under an address that changes with their bytes."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "static"

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@cache
def files() -> dict[str, tuple[str, str, bytes]]:
    """Name -> (digest, media type, bytes) of every file that may be served."""
    found = {}
    for file in sorted(FOLDER.iterdir()):
        if file.suffix in TYPES:
            data = file.read_bytes()
            found[file.name] = (hashlib.sha256(data).hexdigest()[:16], TYPES[file.suffix], data)
    return found


def digest(name: str) -> str:
    """The digest in the file's address. KeyError for a file that is not there: a template names what does not exist."""
    return files()[name][0]
