"""What a backup costs: the first one, one with nothing new, one with a few new records; of store and keys."""

from __future__ import annotations

import json
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bench.verify import filled
from storage.backup import Named, follow
from storage.copying import Side
from storage.filesystem import FilesystemDerivatives, FilesystemJournal, FilesystemObjects, create_store
from storage.keycopies import copy_keys
from storage.keys import FilesystemKeys, create_keys
from storage.port import Pin

NOW = datetime(2026, 4, 1, tzinfo=UTC)


def run(records: int = 10_000, folder: Path | None = None) -> dict[str, Any]:
    """Back a store of `records` small records up beneath `folder`; seconds, and records or keys a second."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        root, key_folder, usb = (Path(place) / name for name in ("store", "keys", "usb"))
        names = [pin.object_id for pin in filled(root, records, 5_000)]
        create_keys(key_folder, "s-bench")
        keys = FilesystemKeys(key_folder, "s-bench")
        for first in range(0, records, 1000):
            keys.create(names[first : first + 1000])
        create_store(Path(place) / "copy", "s-bench")
        figures: dict[str, Any] = {"records": records}
        for step in ("first", "nothing_new"):
            begun = time.perf_counter()
            told = follow(_side(root), _side(Path(place) / "copy"), _named)
            figures[f"store_{step}_s"] = round(time.perf_counter() - begun, 2)
            assert not told.damaged and told.segments == -(-records // 50)
        for day, step in enumerate(("first", "nothing_new")):
            begun = time.perf_counter()
            copied = copy_keys(key_folder, usb, NOW + timedelta(days=day), 30)
            figures[f"keys_{step}_s"] = round(time.perf_counter() - begun, 2)
            assert copied.keys == records
        begun = time.perf_counter()
        assert copy_keys(key_folder, usb, NOW + timedelta(days=31), 30).expired == 2
        figures["keys_two_expire_s"] = round(time.perf_counter() - begun, 2)
        return figures


def _side(root: Path) -> Side:
    return Side(FilesystemObjects(root), FilesystemJournal(root), FilesystemDerivatives(root))


def _named(number: int, segment: bytes, previous: str) -> Named:
    entries = json.loads(segment)["entries"]
    pins = tuple(Pin(each["record"], each["data"]["pin"]["version"], each["data"]["pin"]["digest"]) for each in entries)
    return Named(pins, tuple(pin.object_id for pin in pins))


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
