"""Records a second from store and keys to a whole catalogue: folded from the journal, every pin looked up in the store, every key opened. Then
how fast a catalogue under suspicion is compared with the journal.

The store is a real one, brought in as an ingest does (batches of 500 sheets, 16 cases a segment), with one small page a record: what is measured
reads no page. It is grown once and measured at a tenth of its size and whole, so that the memory of both can be compared.

    python -m bench.rebuild grow DATA RECORDS       until the installation holds so many
    python -m bench.rebuild fold DATA [ENGINES]     a new catalogue in DATA, or where the file ENGINES says
    python -m bench.rebuild compare DATA            the one in DATA with the journal
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.settings import engines_toml, load
from wiring.setup import set_up

ROOT = Path(__file__).resolve().parent.parent
LEDGER = "dv-support"
BATCH, GROUP = 500, 16
SCAN = 1000
DROP = Path("/proc/sys/vm/drop_caches")
EXTRAPOLATED = 1_000_000


def run(records: int = 100_000, folder: Path | None = None) -> dict[str, Any]:
    """Measure `records` records on SQLite, in a store whose filesystem is that of `folder`; a tenth of them on PostgreSQL too."""
    from tests.servers.running import postgres

    told: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=folder) as place:
        data = Path(place) / "data"
        for size in (records // 10, records):
            _asked("grow", data, size)
            before = _asked("digest", data)["digest"]
            one = _asked("fold", data, cold=True)
            warm = _asked("fold", data)
            compared = _asked("compare", data)
            if {one["digest"], warm["digest"]} != {before} or one["findings"] or compared["findings"]:
                raise SystemExit(f"the rebuilt catalogue is another one: {one}, {compared}")
            told[f"of_{size}"] = {
                "records_per_s": round(size / one["seconds"]),
                "cold": one["cold"],
                "fold_s": one["fold"],
                "check_s": one["check"],
                "cpu_ms_a_record": round(one["cpu"] / size * 1000, 3),
                "peak_rss_mib": one["peak_mib"],
                "warm_records_per_s": round(size / warm["seconds"]),
                "compare_records_per_s": round(size / compared["seconds"]),
                "compare_cpu_ms_a_record": round(compared["cpu"] / size * 1000, 3),
                "compare_peak_rss_mib": compared["peak_mib"],
                "catalogue_mib": round((data / "catalogue.sqlite3").stat().st_size / 2**20, 1),
            }
            if size == records // 10:
                with postgres(Path(place)) as server:
                    engines = Path(place) / "engines.toml"
                    where = replace(load(data, environment={}), catalogue_engine=server.new())
                    engines.write_text(engines_toml(where))
                    there = _asked("fold", data, engines)
                if there["digest"] != before:
                    raise SystemExit("the catalogue on PostgreSQL is another one")
                told["postgresql"] = {"records": size, "warm_records_per_s": round(size / there["seconds"])}
    rate = told[f"of_{records}"]["records_per_s"]
    return {
        "records": records,
        **told,
        "hours_extrapolated": {str(EXTRAPOLATED): round(EXTRAPOLATED / rate / 3600, 2)},
    }


def _asked(what: str, *words: object, cold: bool = False) -> dict[str, Any]:
    """Run one step in a process of its own, since a process serves one installation."""
    dropped = cold and _drop_caches()
    command = [sys.executable, "-m", "bench.rebuild", what, *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return {**json.loads(done.stdout or "{}"), "cold": dropped}


def _drop_caches() -> bool:
    """Let the kernel forget files and folders that it has read; False where only root may."""
    os.sync()
    try:
        DROP.write_text("3")
    except OSError:
        return False
    return True


def _grow(data: Path, records: int) -> dict[str, Any]:
    settings = load(data, environment={}, person="officer", language="en")
    set_up(settings)
    from access.decide import Actor
    from records import queries
    from records.found import define, found, person_by_login
    from records.template import read_folder
    from storage import durable
    from wiring.open import create, open_installation

    durable._final = lambda sync, handle: None  # how fast it is sealed is not measured here, and no power will go
    if not data.exists():
        stores = create(settings, "officer")
        actor = Actor(found(stores, "みどり野市", "officer", "文書 整理"), "cli")
        define(stores, actor, read_folder(ROOT / "samples" / "templates" / LEDGER))
    stores = open_installation(settings, index=False)
    actor = Actor(person_by_login("officer"), "cli")
    there = queries.counts()["daicho_records_record"]
    for first in range(there, records, BATCH):
        _bring_in(stores, actor, range(first, min(first + BATCH, records)))
    return {}


def _bring_in(stores: Any, actor: Any, numbers: range) -> None:
    """One batch. Every tenth record waits for a person, as an ingest leaves some."""
    from ingest.form import ItemReading
    from records.batches import NewSheet, open_batch
    from records.capture import seal_spans
    from records.found import definition_of
    from records.spans import Captured, CapturedPage
    from storage.cipher import encrypt

    definition, _ = definition_of(LEDGER)
    values = {"date": "2024-05-01", "number": "12", "phone": "0422-00-0000", "yes_no": "yes"}
    scans = {number: b"%d" % number + os.urandom(SCAN) for number in numbers}
    digests = {number: hashlib.sha256(scan).hexdigest() for number, scan in scans.items()}
    sheets = [NewSheet(f"箱{numbers.start:07}.pdf", place, digests[n], "form") for place, n in enumerate(numbers, 1)]
    batch, _ = open_batch(stores, actor, LEDGER, f"箱 {numbers.start}", sheets)
    for start in range(0, len(numbers), GROUP):
        spans = []
        keys = stores.keys.create([stores.ids.new("r") for _ in numbers[start : start + GROUP]])
        for place, key in enumerate(keys, start):
            number = numbers[place]
            items = tuple(
                ItemReading(
                    item.id,
                    item.choices[0] if item.choices else values.get(item.type, "みどり野市中央一丁目2番3号"),
                    "",
                    0.99,
                    "ppocrv6",
                    (0, 0, 900, 80),
                    "",
                    "low_confidence" if number % 10 == 9 and item is definition.items[0] else "",
                )
                for item in definition.items
            )
            page = CapturedPage(
                place + 1, "page-0001.age", "image/jpeg", digests[number], 2480, 3508, 300.0, "form", False
            )
            files = {page.path: encrypt(scans[number], key.recipient)}
            spans.append(Captured(key.id, definition.forms[0].id, "", (page,), items, files, b""))
        seal_spans(stores, actor, batch, spans)


def _digest(data: Path) -> dict[str, Any]:
    settings = load(data, environment={}, language="en")
    set_up(settings)
    from records.check import catalogue_digest

    return {"digest": catalogue_digest()}


def _fold(data: Path, engines: Path | None = None) -> dict[str, Any]:
    settings = load(data, environment={}, engines=engines, language="en")
    set_up(settings)
    from records.check import catalogue_digest
    from records.rebuild import check_pins, rebuild
    from wiring import catalogue
    from wiring.open import open_installation

    began, cpu = time.perf_counter(), time.process_time()
    catalogue.set_aside(settings)
    stores = open_installation(settings, fresh=True, index=False)
    rebuild(stores)
    folded = time.perf_counter()
    findings = check_pins(stores)
    ended, cpu = time.perf_counter(), time.process_time() - cpu
    peak = _peak()
    catalogue.drop_aside(settings)
    return {
        "seconds": ended - began,
        "cpu": cpu,
        "fold": round(folded - began, 1),
        "check": round(ended - folded, 1),
        "findings": len(findings),
        "peak_mib": peak,
        "digest": catalogue_digest(),
    }


def _compare(data: Path) -> dict[str, Any]:
    settings = load(data, environment={}, language="en")
    set_up(settings)
    from records.compare import compare
    from wiring.open import open_installation

    stores = open_installation(settings, index=False)
    began, cpu = time.perf_counter(), time.process_time()
    findings = compare(stores)
    ended, cpu = time.perf_counter(), time.process_time() - cpu
    return {"seconds": ended - began, "cpu": cpu, "findings": len(findings), "peak_mib": _peak()}


def _peak() -> int:
    """The most memory this process has had at a time, in MiB; unlike `getrusage` it forgets what was before this program."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return round(int(line.split()[1]) / 1024)


if __name__ == "__main__":
    name, place, *more = sys.argv[1:]
    match name:
        case "grow":
            print(json.dumps(_grow(Path(place), int(more[0]))))
        case "digest":
            print(json.dumps(_digest(Path(place))))
        case "fold":
            print(json.dumps(_fold(Path(place), *map(Path, more))))
        case "compare":
            print(json.dumps(_compare(Path(place))))
