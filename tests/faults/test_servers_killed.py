"""PostgreSQL or the object storage is killed (SIGKILL) at random moments of an ingest and started again: the same command makes the batch whole.

Engines that cut, refuse and are silent behind a network: tests/cli/test_engine_faults.py.
"""

from __future__ import annotations

import random
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.settings import engines_toml, load
from tests.faults.operations import PAGES, PARTS, SEED, Operation, content, laid_out, pages, without
from tests.installed import HASTY, done, environment
from tests.servers.running import PostgresServer, S3Server, Server

pytestmark = pytest.mark.slow

KILLS = 1 if PARTS == 1 else 12


@pytest.fixture(scope="module")
def here(town: Path, tmp_path_factory: pytest.TempPathFactory, minio: S3Server, postgres: PostgresServer) -> Path:
    """The base with its store on MinIO and its catalogue on PostgreSQL."""
    folder = laid_out(town, tmp_path_factory.mktemp("killed") / "here")
    embedded = load(folder / "data", environment={})
    engines = replace(embedded, store_engine=minio.new(timeout=5), catalogue_engine=postgres.new(timeout=5))
    file = folder / "engines.toml"
    file.touch(0o600)
    file.write_text(engines_toml(engines), "utf-8")
    done("migrate", "--to", file, data=folder / "data")
    return folder


@pytest.mark.parametrize("number", range(KILLS))
@pytest.mark.parametrize("name", ["postgres", "minio"])
def test_killed_at_a_random_moment(
    name: str, number: int, here: Path, minio: S3Server, postgres: PostgresServer, tmp_path: Path
) -> None:
    server: Server = {"postgres": postgres, "minio": minio}[name]
    rng = random.Random(f"{SEED} {name} {number}")
    scans = pages(tmp_path / "scans", PAGES, rng.randrange(1 << 30))
    before = content(here / "data")
    command = [
        "ingest",
        str(scans),
        "--ledger",
        "whole-pages",
        "--no-text",
        "--jobs",
        "1",
        "--json",
        "--data",
        str(here / "data"),
    ]
    process = subprocess.Popen(
        [*HASTY, *command], env=environment(), cwd="/", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("読み取って"):
            break
    time.sleep(rng.uniform(0, 2.5))
    server.kill()
    try:
        _, err = process.communicate(timeout=120)
    finally:
        server.start()
    where = f"seed {SEED}, {name} {number}: {err}"
    assert "Traceback" not in err, where
    assert process.returncode in (0, 75), where
    done("ingest", scans, "--ledger", "whole-pages", "--no-text", "--jobs", "1", data=here / "data")
    after = content(here / "data")
    assert (after["unread"], after["findings"]) == (0, []), where
    assert _sealed(after) == _sealed(before) + PAGES, where
    assert after["documents"] == before["documents"] + PAGES, where
    assert all(record in after["records"] for record in before["records"]), where


QUICKLY = "from core import clock; clock.FIRST_PAUSE, clock.ENOUGH = 0.02, 1.0\n"
"""Soon gives up an engine that does not answer."""

PAUSED = """
import os, pathlib, time
from storage.s3 import S3Journal
place, append = pathlib.Path(os.environ["PAUSED"]), S3Journal.append
def stopping(self, number, segment):
    append(self, number, segment)
    if b'"sealed"' in segment and not place.exists():
        place.touch()
        while place.exists():
            time.sleep(0.01)
S3Journal.append = stopping
"""
"""Stands still between the journal's segment and the commit, until the file that PAUSED names is taken away."""

FORGETFUL = "from storage.s3 import S3Journal as J; J.segments = lambda self, first=1: iter(())"


def test_a_start_that_does_not_look_at_the_journal_is_seen(
    here: Path, postgres: PostgresServer, tmp_path: Path
) -> None:
    """The control: PostgreSQL killed between the journal and its commit. A program that takes nothing in afterwards does not come to the same end."""
    scans = pages(tmp_path / "scans", 2, SEED + 7)
    before = content(here / "data")
    words = ("ingest", str(scans), "--ledger", "whole-pages", "--no-text", "--jobs", "1")
    paused, ingest = tmp_path / "paused", Operation("ingest on engines", words, 0, 0)
    process = subprocess.Popen(
        without(ingest, QUICKLY + PAUSED).command(here),
        env=environment(PAUSED=str(paused)),
        cwd="/",
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until = time.monotonic() + 60
        while not paused.exists():
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.01)
        postgres.kill()
        paused.unlink()
        _, err = process.communicate(timeout=120)
    finally:
        process.kill()
        postgres.start()
    assert process.returncode == 75, err
    with pytest.raises(AssertionError):
        without(ingest, FORGETFUL).given_again(here)
    ingest.given_again(here)
    after = content(here / "data")
    assert (after["unread"], after["findings"], _sealed(after)) == (0, [], _sealed(before) + 2)


def _sealed(told: Any) -> int:
    return int(told["events"]["sealed"])
