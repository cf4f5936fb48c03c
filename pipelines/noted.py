"""Small notes of this package in the data folder, JSON, for what may be lost without harm."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from core.settings import Settings
from storage.canonical import canonical
from storage.durable import replace, write_new, writing


def noted(settings: Settings, name: str) -> dict[str, Any]:
    """What was noted under the file name `name`; nothing where it is not there or cannot be read."""
    with suppress(OSError, ValueError):
        value = json.loads((settings.data / name).read_bytes())
        if isinstance(value, dict):
            return value
    return {}


def note(settings: Settings, name: str, value: dict[str, Any]) -> None:
    """Put `value` in place of what was noted; errors as `storage.durable.writing`."""
    with writing():
        place = settings.data / name
        part = place.with_name(f"{name}.part")
        part.unlink(missing_ok=True)
        write_new(part, canonical(value) + b"\n", 0o600)
        replace(part, place)
