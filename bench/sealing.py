"""One process that seals records into an installation and edits them: `python -m bench.sealing DATA RECORDS EDITS`.

It says `ready`, waits for a line, seals, and prints when it began and ended (CLOCK_MONOTONIC, seconds), how long each edit took until it was
acknowledged, and how long from its beginning until the index had it, which a thread feeds as in `daicho serve`. What is sealed is what an
ingest hands to `seal_spans`: a case of two scans of 500 KB with thirteen items, its pictures and texts beside it.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import time
from pathlib import Path

from core.settings import load
from wiring.setup import set_up

GROUP = 50
SCAN, DERIVED = 500_000, 2 * (60_000 + 10_000 + 20_000)
"""Bytes of a scan, and of what is made of two: upright pages, thumbnails, texts (facts of the seal prototype)."""
LEDGER = "dv-support"


def main() -> None:
    data, records, edits = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    settings = load(data, language="en")
    set_up(settings)

    from access.decide import Actor
    from ingest.form import ItemReading
    from records import queries
    from records.batches import NewSheet, open_batch
    from records.capture import edit, seal_spans
    from records.found import definition_of, person_by_login
    from records.indexing import feed
    from records.spans import Captured, CapturedPage
    from storage.cipher import encrypt
    from web.serve import keep_fed
    from wiring.open import open_installation

    stores = open_installation(settings)
    actor = Actor(person_by_login(settings.person), "cli")
    definition, _ = definition_of(LEDGER)
    scans = [os.urandom(SCAN), os.urandom(SCAN)]
    digests = [hashlib.sha256(scan).hexdigest() for scan in scans]
    pictures = os.urandom(DERIVED)
    items = [
        ItemReading(item.id, "みどり野市中央一丁目2番3号", "", 0.99, "ppocrv6", (0, 0, 900, 80))
        for item in definition.items
    ]
    sheets = [
        NewSheet(f"{os.getpid()}-{number}.tif", page + 1, digests[page], "page")
        for number in range(records)
        for page in (0, 1)
    ]
    batch, _ = open_batch(stores, actor, LEDGER, "bench", sheets)
    print("ready", flush=True)
    sys.stdin.readline()

    made = []
    cpu, began = time.process_time(), time.monotonic()
    for first in range(0, records, GROUP):
        numbers = range(first, min(first + GROUP, records))
        spans = []
        for number, key in zip(numbers, stores.keys.create([stores.ids.new("r") for _ in numbers]), strict=True):
            pages = tuple(
                CapturedPage(
                    2 * number + page + 1,
                    f"page-{page + 1:04}.age",
                    "image/tiff",
                    digests[page],
                    2480,
                    3508,
                    300.0,
                    "page",
                    False,
                )
                for page in (0, 1)
            )
            files = {page.path: encrypt(scan, key.recipient) for page, scan in zip(pages, scans, strict=True)}
            derived = encrypt(pictures, key.recipient)
            spans.append(Captured(key.id, "", "", pages, tuple(items), files, derived))
        seal_spans(stores, actor, batch, spans)
        made += [span.record for span in spans]
    ended, cpu = time.monotonic(), time.process_time() - cpu

    took, found = [], []
    feed(stores)
    stop = threading.Event()
    feeder = threading.Thread(target=keep_fed, args=(stores, stop))
    feeder.start()
    for record in made[:edits]:
        begin = time.monotonic()
        edit(stores, actor, record, 1, {"note": "電話で確かめた"}, "確認")
        took.append(time.monotonic() - begin)
        number, _ = queries.last_entry()
        while stores.index.upto() < number:
            time.sleep(0.002)
        found.append(time.monotonic() - begin)
    stop.set()
    stores.outbox.waits.set()
    feeder.join()
    print(json.dumps({"began": began, "ended": ended, "cpu": cpu, "edits": took, "found": found}), flush=True)


if __name__ == "__main__":
    main()
