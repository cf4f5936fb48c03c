"""Sheets an hour and core, from files to sealed, journalled, committed and indexed, beside the naive chain on the same sheets.

Both chains run with the same number of workers, pinned to as many cores, one after the other, in turn (A B A B …).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

from bench.sheets import pdf

ROOT = Path(__file__).resolve().parent.parent
LEDGER = "care-clients"
DAICHO = Path(sys.executable).with_name("daicho")


def run(sheets: int = 40, rounds: int = 3, jobs: int = 1) -> dict[str, Any]:
    """Measure `rounds` times `sheets` colour sheets of 300 dpi (13 zones and a QR label each), `jobs` workers on `jobs` cores."""
    template = ROOT / "samples" / "templates" / LEDGER
    cores = sorted(os.sched_getaffinity(0))[:jobs]
    ours, naive, outcome, peak = [], [], {}, 0.0
    with tempfile.TemporaryDirectory() as place:
        scans = Path(place) / "scans.pdf"
        pdf(scans, sheets, LEDGER, 300)
        for number in range(rounds):
            data = Path(place) / f"data{number}"
            command([DAICHO, "init", "--data", data])
            command([DAICHO, "ledger", "apply", template, "--data", data])
            seconds, rows, high = timed(
                [
                    DAICHO,
                    "ingest",
                    scans,
                    "--ledger",
                    LEDGER,
                    "--jobs",
                    str(jobs),
                    "--no-text",
                    "--json",
                    "--data",
                    data,
                ],
                cores,
            )
            outcome = next(row for row in rows if "batch" in row)
            if outcome["sheets"] != sheets or not outcome["balanced"]:
                raise SystemExit(f"the batch does not balance: {outcome}")
            ours.append(seconds)
            peak = max(peak, high)
            seconds, rows, _ = timed([sys.executable, "-m", "bench.naive", scans, template, str(jobs)], cores)
            naive.append(seconds)
            shutil.rmtree(data)
    return {
        "sheets": sheets,
        "zones": rows[0]["zones"],
        "rounds": rounds,
        "workers": jobs,
        "sheets_per_hour_core": round(sheets * 3600 / median(ours) / jobs),
        "sheets_per_hour_core_range": [round(sheets * 3600 / value / jobs) for value in (max(ours), min(ours))],
        "naive_sheets_per_hour_core": round(sheets * 3600 / median(naive) / jobs),
        "ratio_to_naive": round(median(b / a for a, b in zip(ours, naive, strict=True)), 2),
        "ratio_range": [
            round(min(b / a for a, b in zip(ours, naive, strict=True)), 2),
            round(max(b / a for a, b in zip(ours, naive, strict=True)), 2),
        ],
        "peak_rss_mib": round(peak),
        "sealed": outcome["sealed"],
        "waiting": outcome["waiting"],
    }


def command(arguments: list[Any]) -> None:
    """Run a command that must succeed."""
    subprocess.run([str(each) for each in arguments], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)


def timed(arguments: list[Any], cores: list[int]) -> tuple[float, list[dict[str, Any]], float]:
    """(seconds of the whole process, the JSON lines it printed, the highest resident memory of any of its processes in MiB)."""
    began = time.perf_counter()
    process = subprocess.Popen(
        ["taskset", "-c", ",".join(map(str, cores)), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        env={**os.environ, "OMP_THREAD_LIMIT": "1"},
    )
    peaks: dict[int, float] = {}
    ended = threading.Event()
    watch = threading.Thread(target=_watch, args=(process.pid, peaks, ended), daemon=True)
    watch.start()
    out, _ = process.communicate()
    seconds = time.perf_counter() - began
    ended.set()
    watch.join()
    if process.returncode:
        raise SystemExit(f"{arguments[0]} ended with {process.returncode}")
    return seconds, [json.loads(line) for line in out.decode().splitlines()], max(peaks.values(), default=0.0)


def _watch(root: int, peaks: dict[int, float], ended: threading.Event) -> None:
    while not ended.wait(0.25):
        family = {root}
        for stat in sorted(Path("/proc").glob("[0-9]*/stat"), key=lambda path: int(path.parent.name)):
            try:
                if int(stat.read_text().rpartition(")")[2].split()[1]) in family:
                    family.add(int(stat.parent.name))
            except (OSError, ValueError, IndexError):
                continue
        for pid in family:
            try:
                status = Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue
            for line in status.splitlines():
                if line.startswith("VmHWM"):
                    peaks[pid] = int(line.split()[1]) / 1024
