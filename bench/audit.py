"""What it costs to append an entry, and how fast a journal is proved from its beginning: `python -m bench audit`.

Journals are invented with the form and the sizes of real ones: a day's mix (one group of an ingest in ten entries, the rest reads and searches of one
entry a segment), and the worst case of one small entry a segment. Both are proved with their tiles and checkpoints, by as many processes as there
are cores.
"""

from __future__ import annotations

import base64
import os
import random
import resource
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from storage.canonical import canonical, sha256_hex

ROUNDS = 3
APPENDS = 300


def run(entries: int = 300_000, rounds: int = ROUNDS, appends: int = APPENDS) -> dict[str, Any]:
    """Prove journals of `entries` entries; append `appends` entries to a real installation."""
    with tempfile.TemporaryDirectory() as place:
        return {
            "entries": entries,
            "processes": os.cpu_count(),
            "mixed": _proved(Path(place) / "mixed", entries, 12, rounds),
            "one_entry_a_segment": _proved(Path(place) / "single", entries // 3, 1, rounds),
            "append": _appended(Path(place) / "house", appends),
        }


def _proved(place: Path, entries: int, group: int, rounds: int) -> dict[str, Any]:
    from records.entries import leaf
    from records.proofs import verify
    from storage.merkle import leaf_hash
    from storage.notes import Checkpoint, Signer
    from storage.tiles import ENTRIES, WIDTH, Edge, LogFolder, Tile, bundle
    from wiring.engines import copied_journal

    signer, log = Signer("daicho/s-bench", bytes(32)), LogFolder(place / "log")
    edge, held, tiles, segments, size = Edge(), [], [], 0, 0
    previous = ""
    log.root.mkdir(parents=True)
    for number, group_of in enumerate(_grouped(entries, group), 1):
        value = {"format": "daicho-journal-1", "segment": number, "previous": previous, "entries": group_of}
        data = canonical(value)
        previous = sha256_hex(data)
        file = place / "journal" / f"{number // 1000:04d}" / f"{number:06d}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        segments, size = number, size + len(data)
        for entry in group_of:
            held.append(leaf(entry))
            if full := edge.add(leaf_hash(held[-1])):
                tiles += [Tile(ENTRIES, full[0].index, WIDTH, bundle(held)), *full]
                held = []
        if len(tiles) > 500:
            log.put(tiles)
            tiles = []
    rest = [Tile(ENTRIES, edge.size // WIDTH, len(held), bundle(held))] if held else []
    log.put([*tiles, *rest, *edge.partial()])
    log.publish(signer.sign(Checkpoint(signer.name, edge.size, edge.root()).text()), str(signer.verifier))
    seconds, spent = [], []
    for _ in range(rounds):
        begun, used = time.monotonic(), _cpu()
        done = verify(partial(copied_journal, place), log, keys=[signer.verifier], jobs=os.cpu_count() or 1)
        seconds.append(time.monotonic() - begun)
        spent.append(_cpu() - used)
        assert not done.faults and done.proven == done.entries == entries, done.faults[:3]
    return {
        "entries": entries,
        "segments": segments,
        "bytes_an_entry": size // entries,
        "tiles": done.tiles,
        "entries_a_second": round(entries / median(seconds)),
        "seconds": [round(each, 2) for each in seconds],
        "cpu_us_an_entry": round(1e6 * median(spent) / entries, 1),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def _cpu() -> float:
    """Seconds of processor of this process and of those of its children that have ended."""
    told = os.times()
    return told.user + told.system + told.children_user + told.children_system


def _grouped(entries: int, group: int) -> Iterator[list[dict[str, Any]]]:
    """Segments' entries: single reads and searches, and, where `group` is more than one, a group of sealed records now and then."""
    chance, number = random.Random(7), 1
    while number <= entries:
        sealing = group > 1 and chance.random() < 0.1
        count = min(group if sealing else 1, entries - number + 1)
        yield [_entry(chance, number + at, sealing) for at in range(count)]
        number += count


def _entry(chance: random.Random, number: int, sealing: bool) -> dict[str, Any]:
    at = f"2026-04-{1 + number // 40_000_000:02d}T00:{number // 1_000_000 % 60:02d}:00.{number % 1_000_000:06d}Z"
    record = "r-" + base64.b32encode(chance.randbytes(16)).decode().rstrip("=").lower()
    entry: dict[str, Any] = {
        "number": number,
        "at": at,
        "person": "p-mfzwizltoq2gk3tpojqw4zzanq",
        "via": "cli" if sealing else "web",
        "event": "page_viewed",
        "ledger": "care-clients",
        "batch": "",
        "record": record,
        "data": {"page": 1, "size": "view"},
    }
    if sealing:
        retention = {"state": "living", "start": "", "due": "", "action": "destroy"}
        pin = {"version": 1, "digest": chance.randbytes(64).hex()}
        entry["event"] = "sealed"
        entry["data"] = {
            "generation": 1,
            "ledger_version": 1,
            "form": "care-clients-1",
            "pin": pin,
            "sheets": [{"number": number % 500, "reason": ""}],
            "retention": retention,
        }
    elif number % 5 == 0:
        box = base64.b64encode(chance.randbytes(330)).decode()
        entry["event"], entry["record"] = "searched", ""
        entry["data"] = {"total": 3, "records": [record] * 3}
        entry["personal"] = {"key": "log-2026", "commitment": chance.randbytes(32).hex(), "box": box}
    return entry


def _appended(place: Path, appends: int) -> dict[str, Any]:
    """CPU and wall time of an operation of one entry, on a real installation with SQLite and a filesystem."""
    from core.settings import load
    from wiring.setup import set_up

    settings = load(place / "data", environment={})
    set_up(settings)
    from access.decide import Actor
    from records.found import found
    from records.operation import operation
    from wiring.open import create

    stores = create(settings, "officer")
    actor = Actor(found(stores, "", "officer", ""), "cli")
    spent: dict[str, list[float]] = {"cpu": [], "wall": []}
    for number in range(appends):
        cpu, wall = time.process_time(), time.monotonic()
        with operation(stores, actor) as work:
            work.note("page_viewed", ledger="care-clients", data={"page": number, "size": "view"})
        spent["cpu"].append(time.process_time() - cpu)
        spent["wall"].append(time.monotonic() - wall)
    return {
        "appends": appends,
        "cpu_ms": round(1000 * median(spent["cpu"]), 3),
        "wall_ms": round(1000 * median(spent["wall"]), 3),
    }
