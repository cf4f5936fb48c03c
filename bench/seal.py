"""How many records a second are sealed, durable, how long an edit takes until it is acknowledged, and how long until the index shows it: on a
filesystem by one process and by two, and in a bucket of MinIO on this machine, in turn in one run. Nothing is deleted before the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from bench.ingest import DAICHO, ROOT, command
from bench.sealing import LEDGER
from core.settings import engines_toml, load
from tests.servers.running import minio


def run(records: int = 300, edits: int = 100, rounds: int = 3, folder: Path | None = None) -> dict[str, Any]:
    """Seal `records` records a process and round; the filesystem of `folder` is what is measured.

    The one process on the filesystem has one core, as facts/seal.md had; the two, and the one that shares the machine with MinIO, have all.
    """
    rates: dict[str, list[float]] = {"one": [], "two": [], "s3": []}
    took: dict[str, list[float]] = {"one_edit": [], "s3_edit": [], "one_found": [], "s3_found": []}
    cpu: list[float] = []
    with tempfile.TemporaryDirectory(dir=folder) as place, minio(Path(place)) as server:
        for number in range(rounds):
            for name, processes in (("one", 1), ("two", 2), ("s3", 1)):
                data = Path(place) / f"{name}{number}"
                engines = Path(place) / "engines.toml"
                if name == "s3":
                    settings = replace(load(data, environment={}), store_engine=server.new())
                    engines.write_text(engines_toml(settings))
                command([DAICHO, "init", "--data", data, *(["--engines", engines] if name == "s3" else [])])
                command([DAICHO, "ledger", "apply", ROOT / "samples" / "templates" / LEDGER, "--data", data])
                told = _sealed(data, processes, records, 0 if name == "two" else edits, pinned=name == "one")
                seconds = max(each["ended"] for each in told) - min(each["began"] for each in told)
                rates[name].append(records * processes / seconds)
                if name != "two":
                    took[f"{name}_edit"] += told[0]["edits"]
                    took[f"{name}_found"] += told[0]["found"]
                if name == "one":
                    cpu.append(told[0]["cpu"] / records * 1000)
    return {
        "records": records,
        "rounds": rounds,
        "sealed_per_s": _told(rates["one"]),
        "seal_cpu_ms": round(median(cpu), 2),
        "two_processes_to_one": _told([two / one for two, one in zip(rates["two"], rates["one"], strict=True)]),
        "s3_sealed_per_s": _told(rates["s3"]),
        **{f"{name}_{which}_ms": value for name, times in took.items() for which, value in _percentiles(times).items()},
    }


def _told(values: list[float]) -> dict[str, float]:
    return {"median": round(median(values), 2), "low": round(min(values), 2), "high": round(max(values), 2)}


def _percentiles(seconds: list[float]) -> dict[str, float]:
    return {"p50": round(median(seconds) * 1000, 1), "p95": round(quantiles(seconds, n=20)[-1] * 1000, 1)}


def _sealed(data: Path, processes: int, records: int, edits: int, *, pinned: bool) -> list[dict[str, Any]]:
    """Start the processes, let them begin together, and give what each told."""
    words = [sys.executable, "-m", "bench.sealing", str(data), str(records), str(edits)]
    cores = sorted(os.sched_getaffinity(0))
    with contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(
                subprocess.Popen(
                    words,
                    cwd=ROOT,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    preexec_fn=(lambda: os.sched_setaffinity(0, cores[:1])) if pinned else None,
                )
            )
            for _ in range(processes)
        ]
        for each in started:
            if each.stdout is None or each.stdout.readline() != "ready\n":
                raise SystemExit("a process that was to seal did not begin")
        told = []
        for each in started:
            assert each.stdin is not None
            each.stdin.write("\n")
            each.stdin.flush()
        for each in started:
            said, _ = each.communicate()
            if each.returncode:
                raise SystemExit("a process that was to seal ended with an error")
            told.append(json.loads(said))
    return told
