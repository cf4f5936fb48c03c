"""kill -9 of the whole process group at random moments of an ingest: after a rerun the content is that of a run nobody killed.

A run here kills a few times; `DAICHO_KILLS=50` (what `make faults` and CI set) kills fifty times. The seed is printed
when a comparison fails, and `DAICHO_KILL_SEED` sets it.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
import pytest

from tests.installed import BATCH, DAICHO, Installation, content, copied, environment, made

KILLS = int(os.environ.get("DAICHO_KILLS", "6"))
SEED = int(os.environ.get("DAICHO_KILL_SEED", "20261121"))

PAGES = 20
"""Form-less pages in the batch of pages: more than are sealed together, so that a kill falls between groups too."""

READING = "読み取って"
"""How the line begins that says that sheets are being read and sealed."""


@dataclass(frozen=True)
class Scans:
    """A batch for a ledger: what is brought in, how long that takes alone, how long from the first sheet read, and what it makes."""

    folder: Path
    ledger: str
    seconds: float
    tail: float
    content: Any


def ingest(data: Path, folder: Path, ledger: str) -> subprocess.Popen[str]:
    """Start an ingest as the leader of a process group of its own, which may be interrupted even where a shell put us in the background."""
    command = [
        "env",
        "--default-signal=INT",
        str(DAICHO),
        "ingest",
        str(folder),
        "--ledger",
        ledger,
        "--no-text",
        "--jobs",
        "2",
        "--data",
        str(data),
    ]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment(), start_new_session=True
    )


def until_reading(stderr: IO[str]) -> bool:
    """Wait for the line that says that sheets are being read; False when the process ended without."""
    return any(line.startswith(READING) for line in stderr)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """An installation with its ledgers and no sheet, from which every run starts."""
    return made(tmp_path_factory.mktemp("base") / "data", ["dv-support", "whole-pages"])


@pytest.fixture(scope="module")
def batches(tmp_path_factory: pytest.TempPathFactory, base: Installation) -> list[Scans]:
    """Sheets of a form (one is sealed, one waits, a file that is none) and pages without; each brought in once, unharmed."""
    forms, pages = tmp_path_factory.mktemp("forms"), tmp_path_factory.mktemp("pages")
    for number in (6, 7):
        shutil.copy(BATCH / f"{number:02}-dv-support.jpg", forms)
    (forms / "99-none.pdf").write_bytes(b"%PDF-1.7 nothing of the kind")
    rng = np.random.default_rng(SEED)
    for number in range(PAGES):
        page = np.full((330, 230), 255, np.uint8)
        page[rng.integers(0, 300, 40), rng.integers(0, 200, 40)] = 0
        cv2.putText(page, f"{number}", (60, 200), cv2.FONT_HERSHEY_SIMPLEX, 3, (0,), 8)
        assert cv2.imwrite(str(pages / f"{number:03}.png"), page)
    scans = []
    for folder, ledger in ((forms, "dv-support"), (pages, "whole-pages")):
        alone = copied(base, tmp_path_factory.mktemp("alone"))
        began = time.monotonic()
        process = ingest(alone.data, folder, ledger)
        assert process.stderr is not None and until_reading(process.stderr)
        reading = time.monotonic()
        process.communicate()
        assert process.returncode == 0
        ended = time.monotonic()
        scans.append(Scans(folder, ledger, ended - began, ended - reading, content(alone.data)))
    assert [(one.content["unread"], one.content["findings"], one.content["scratch"]) for one in scans] == [
        (0, [], [])
    ] * 2
    assert [len(one.content["records"]) for one in scans] == [2, PAGES]
    return scans


def killed(data: Path, scans: Scans, rng: random.Random) -> bool:
    """Start the ingest and kill it at a random moment; every other time one after the first sheet is taken up. False when it was faster."""
    process = ingest(data, scans.folder, scans.ledger)
    assert process.stderr is not None
    if rng.random() < 0.5:
        until_reading(process.stderr)
        seconds = rng.uniform(0, scans.tail)
    else:
        seconds = rng.uniform(0, scans.seconds)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return True
    process.communicate()
    assert process.returncode == 0
    return False


def test_killed_at_random_moments(base: Installation, batches: list[Scans], tmp_path: Path) -> None:
    rng = random.Random(SEED)
    kills, tries = 0, 0
    while kills < KILLS:
        tries += 1
        assert tries < 3 * KILLS + 10
        scans = batches[tries % len(batches)]
        here = copied(base, tmp_path / f"{tries}")
        for _ in range(rng.randint(1, 4)):
            if kills < KILLS:
                kills += killed(here.data, scans, rng)
        process = ingest(here.data, scans.folder, scans.ledger)
        _, told = process.communicate(timeout=120)
        where = f"seed {SEED}, try {tries}, {kills} kills, {scans.ledger}: {told}"
        assert process.returncode == 0, where
        assert content(here.data) == scans.content, where
        shutil.rmtree(tmp_path / f"{tries}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_end(base: Installation, batches: list[Scans], tmp_path: Path, number: signal.Signals) -> None:
    """Only the process that was started is told; its workers end with it, and the same command goes on."""
    scans = batches[1]
    here = copied(base, tmp_path)
    process = ingest(here.data, scans.folder, scans.ledger)
    assert process.stderr is not None and until_reading(process.stderr)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == (130 if number == signal.SIGINT else -number), said
    assert "Traceback" not in said
    until = time.monotonic() + 10
    while _children(process.pid) and time.monotonic() < until:
        time.sleep(0.05)  # they end by themselves when their parent is gone
    assert _children(process.pid) == []
    after = ingest(here.data, scans.folder, scans.ledger)
    assert after.wait(120) == 0
    assert content(here.data) == scans.content


def test_a_killed_worker_costs_nothing(base: Installation, batches: list[Scans], tmp_path: Path) -> None:
    """Its sheet is read again by another one, in the same run."""
    scans = batches[0]
    for part in (2, 4, 8, 16, 32):  # a machine that was slow when the unharmed run was timed may be quick now
        here = copied(base, tmp_path / f"{part}")
        process = ingest(here.data, scans.folder, scans.ledger)
        assert process.stderr is not None and until_reading(process.stderr)
        until = time.monotonic() + 20
        while not _workers(process.pid) and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(scans.tail / part)
        if workers := _workers(process.pid):
            break
        process.communicate(timeout=120)
    os.kill(workers[0], signal.SIGKILL)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert content(here.data) == scans.content


def _children(parent: int) -> list[int]:
    """Processes that still are in the process group of `parent`."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[2]) == parent and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def _workers(parent: int) -> list[int]:
    """Direct children of the ingest that were spawned to read."""
    found = []
    for pid in _children(parent):
        try:
            ppid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
            spawned = b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if ppid == parent and spawned:
            found.append(pid)
    return found
