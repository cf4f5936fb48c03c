"""The same ingest on the embedded engines and on real ones (MinIO, PostgreSQL, Elasticsearch) of this machine, in turn in one run.

Nothing is pinned: the servers share the cores with daicho, as they would where one machine does it all.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from bench.ingest import DAICHO, LEDGER, ROOT, command, timed
from bench.sheets import pdf
from tests.servers.engines import write_engines
from tests.servers.running import elasticsearch, minio, postgres


def run(sheets: int = 80, rounds: int = 3) -> dict[str, Any]:
    """Measure `rounds` times `sheets` colour sheets of 300 dpi on each set of engines, a worker a core."""
    cores = sorted(os.sched_getaffinity(0))
    seconds: dict[str, list[float]] = {"embedded": [], "real": []}
    with (
        tempfile.TemporaryDirectory() as place,
        minio(Path(place)) as objects,
        postgres(Path(place)) as database,
        elasticsearch(Path(place)) as index,
    ):
        scans = Path(place) / "scans.pdf"
        pdf(scans, sheets, LEDGER, 300)
        for number in range(rounds):
            for name in seconds:
                data = Path(place) / f"{name}{number}"
                file = write_engines(Path(place) / "engines.toml", objects.new(), database.new(), index.new())
                engines = ["--engines", file] if name == "real" else []
                command([DAICHO, "init", "--data", data, *engines])
                command([DAICHO, "ledger", "apply", ROOT / "samples" / "templates" / LEDGER, "--data", data])
                arguments = [DAICHO, "ingest", scans, "--ledger", LEDGER, "--jobs", str(len(cores)), "--no-text"]
                took, rows, _ = timed([*arguments, "--json", "--data", data], cores)
                outcome = next(row for row in rows if "batch" in row)
                if outcome["sheets"] != sheets or not outcome["balanced"]:
                    raise SystemExit(f"the batch does not balance: {outcome}")
                seconds[name].append(took)
                shutil.rmtree(data)
    ratios = [a / b for a, b in zip(seconds["embedded"], seconds["real"], strict=True)]
    return {
        "sheets": sheets,
        "rounds": rounds,
        "workers": len(cores),
        "embedded_sheets_per_hour": round(sheets * 3600 / median(seconds["embedded"])),
        "real_sheets_per_hour": round(sheets * 3600 / median(seconds["real"])),
        "ratio_to_embedded": round(median(ratios), 2),
        "ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
    }
