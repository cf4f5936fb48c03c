"""Files of any size: memory stays as it is while a gibibyte is encrypted, sealed, read, checked and copied."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from storage.s3 import create_s3_store
from tests.installed import HOUSE
from tests.servers.running import S3Server

pytestmark = pytest.mark.slow

BOUND = 96 << 10
"""KiB. Without a file it is 45 MiB."""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder whose gibibytes do not stay behind."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def most_memory(place: Path, size: int, how: str, *more: str) -> int:
    command = [sys.executable, "-m", "tests.storage.large", str(place), str(size), how, *more]
    done = subprocess.run(command, cwd=HOUSE, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    return int(done.stdout)


def test_a_gibibyte_on_a_filesystem(place: Path) -> None:
    assert most_memory(place, 1 << 30, "streamed") < BOUND


def test_in_a_bucket(minio: S3Server, place: Path) -> None:
    where = minio.new(lock_mode="GOVERNANCE", timeout=60)
    create_s3_store(where, "s-1")
    assert most_memory(place, 160 << 20, "streamed", json.dumps(asdict(where))) < BOUND


def test_held_in_memory_it_would_be_seen(place: Path) -> None:
    assert most_memory(place, 96 << 20, "held") > BOUND
