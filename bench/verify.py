"""How fast a store is verified, against what `sha512sum` reads of the same files: rounds of both, in turn, in one run.

Warm: everything was read before and fits in memory, so the work is counted. Cold: the system is asked to drop each file's pages before, so the
disk is. The verification that is measured is that of `daicho verify --store`: journal, inventories, every byte; with one thread, with one a
core, and (to compare) with one process a core.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

from core.settings import load
from records.entries import FORMAT
from storage import durable
from storage.canonical import canonical, sha256_hex
from storage.filesystem import FilesystemJournal, FilesystemObjects, create_store
from storage.port import NewVersion, Pin
from wiring.setup import set_up

GROUP = 50
_here: list[FilesystemObjects] = []


def run(records: int = 400, rounds: int = 5, folder: Path | None = None) -> dict[str, Any]:
    """Verify a store of `records` records (2 KB and two scans of 500 KB each) beneath `folder`."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        set_up(load(Path(place) / "data", environment={}))
        root = Path(place) / "store"
        pins = filled(root, records, 500_000)
        lying = [path for path in root.rglob("*") if path.is_file() and "scratch" not in path.parts]
        files, size = [str(path) for path in lying], sum(path.stat().st_size for path in lying)
        cores = os.cpu_count() or 1
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(cores, mp_context=spawn, initializer=_open, initargs=(root,)) as pool:
            list(pool.map(_check, [[pin] for pin in pins]))  # also reads everything once
            ways: dict[str, Callable[[], object]] = {
                "sha512sum": lambda: subprocess.run(["sha512sum", *files], stdout=subprocess.DEVNULL, check=True),
                "one thread": lambda: _verify(root, 1),
                f"{cores} threads": lambda: _verify(root, cores),
                f"{cores} processes": lambda: list(pool.map(_check, _parts(pins, GROUP))),
            }
            figures: dict[str, Any] = {"records": records, "files": len(files), "bytes": size, "rounds": rounds}
            for state in ("warm", "cold"):
                rates: dict[str, list[float]] = {name: [] for name in ways}
                for _ in range(rounds):
                    for name, way in ways.items():
                        if state == "cold":
                            _drop(files)
                        begun = time.perf_counter()
                        way()
                        rates[name].append(size / (time.perf_counter() - begun) / 1e6)
                figures[state] = {
                    name: {
                        "mb_per_s": round(median(each)),
                        "ratio": round(median(a / b for a, b in zip(each, rates["sha512sum"], strict=True)), 2),
                    }
                    for name, each in rates.items()
                }
        return figures


def filled(root: Path, records: int, scan: int) -> list[Pin]:
    """A store of `records` sealed records with two scans of `scan` bytes each, acknowledged by its journal; their pins."""
    create_store(root, "s-bench")
    objects, journal = FilesystemObjects(root), FilesystemJournal(root)
    pins: list[Pin] = []
    previous, number = "", 0
    for first in range(0, records, GROUP):
        names = [f"r-{name:07}" for name in range(first, min(first + GROUP, records))]
        group = [NewVersion(name, 1, _content(scan), "2026-04-01T00:00:00Z", "p-bench", "capture") for name in names]
        made = objects.seal(group)
        entries = []
        for pin in made:
            number += 1
            entries.append(_entry(number, pin))
        segment = canonical({"format": FORMAT, "segment": first // GROUP + 1, "previous": previous, "entries": entries})
        journal.append(first // GROUP + 1, segment)
        previous = sha256_hex(segment)
        pins += made
    return pins


def _content(scan: int) -> dict[str, bytes]:
    pages = {f"page-{number:04}.age": os.urandom(scan) for number in (1, 2)}
    return {"record.json.age": os.urandom(2_000), **pages}


def _entry(number: int, pin: Pin) -> dict[str, Any]:
    data = {"pin": {"version": pin.number, "digest": pin.digest}}
    about = {"ledger": "", "batch": "", "record": pin.object_id}
    return {"number": number, "at": "", "person": "", "via": "cli", "event": "sealed", "data": data, **about}


def _verify(root: Path, jobs: int) -> None:
    from records.check import Reading, verify_copy

    result = verify_copy(FilesystemJournal(root), FilesystemObjects(root), reading=Reading(jobs=jobs))
    assert result.whole and not result.findings


def _parts(pins: list[Pin], size: int) -> list[list[Pin]]:
    return [pins[first : first + size] for first in range(0, len(pins), size)]


def _open(root: Path) -> None:
    _here.append(FilesystemObjects(root))


def _check(pins: list[Pin]) -> None:
    for pin in pins:
        assert not _here[0].check(pin.object_id, [pin]).findings


def _drop(files: list[str]) -> None:
    for file in files:
        fd = os.open(file, os.O_RDONLY)
        durable.uncached(fd)
        os.close(fd)


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
