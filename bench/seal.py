"""How many records a second one core seals on a filesystem: each a JSON of 2 KB and two scans of 500 KB, encrypted,
in groups of 50.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path

from storage.cipher import encrypt
from storage.filesystem import FilesystemJournal, FilesystemObjects, create_store
from storage.keys import FilesystemKeys, create_keys
from storage.port import NewVersion

GROUP = 50


def run(records: int = 300, folder: Path | None = None) -> dict[str, float]:
    """Seal `records` records beneath `folder` (its filesystem is what is measured), then edit, check and list them."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        root, key_folder = Path(place) / "store", Path(place) / "keys"
        create_store(root, "s-bench")
        create_keys(key_folder, "s-bench")
        objects, journal, keys = FilesystemObjects(root), FilesystemJournal(root), FilesystemKeys(key_folder, "s-bench")
        scan, text = os.urandom(500_000), os.urandom(1_000).hex().encode()
        pins = []
        cpu, begin = time.process_time(), time.perf_counter()
        for first in range(0, records, GROUP):
            names = [f"r-{number}" for number in range(first, min(first + GROUP, records))]
            group = []
            for key in keys.create(names):
                files = {name: encrypt(data, key.recipient) for name, data in (("j", text), ("p1", scan), ("p2", scan))}
                group.append(NewVersion(key.id, 1, files, "2026-04-01T00:00:00Z", "u-bench", "capture"))
            pins += objects.seal(group)
            journal.append(journal.last() + 1, json.dumps([pin.digest for pin in pins[-len(group) :]]).encode())
        sealed, cpu = time.perf_counter() - begin, time.process_time() - cpu

        edits = []
        for pin in pins[:100]:
            begin = time.perf_counter()
            files = {"j": encrypt(text, keys.get(pin.object_id).recipient)}
            objects.seal([NewVersion(pin.object_id, 2, files, "2026-04-02T00:00:00Z", "u-bench", "edit", ("p1", "p2"))])
            edits.append(time.perf_counter() - begin)
        edits.sort()

        begin = time.perf_counter()
        read = sum(objects.check(pin.object_id).bytes for pin in pins)
        checked = time.perf_counter() - begin
        begin = time.perf_counter()
        count = sum(1 for _ in objects.objects())
        listed = time.perf_counter() - begin
        return {
            "sealed_per_s": records / sealed,
            "seal_cpu_ms": cpu / records * 1000,
            "edit_p50_ms": edits[len(edits) // 2] * 1000,
            "edit_p95_ms": edits[int(len(edits) * 0.95)] * 1000,
            "check_mb_per_s": read / checked / 1e6,
            "listed_per_s": count / listed,
        }


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
