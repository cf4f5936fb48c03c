"""The disk is full, with more and more room left on it: coded, nothing is lost, and with room made the same command goes on.

tests/cli/test_bad_input.py has one operation at three sizes; here every operation runs at many.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import Unharmed
from tests.faults.operations import OPERATIONS, PARTS, SEED, Operation, acknowledged, without
from tests.installed import environment, run

pytestmark = pytest.mark.slow

SIZES = {"ingest": (1, 40), "backup": (1, 40), "rebuild": (2, 40), "reindex": (1, 20), "rotation": (1, 20)}
"""Operation -> amounts of room that are tried in CI, and by `make faults`."""

CODES = {"storage.full", "index.full"}

ROOM = 50_000
"""Bytes in which a rotation of the base's keys finds room to begin and none to end."""

DEAF = """
import os
from contextlib import suppress
from storage import durable
def heard(fd, data):
    with suppress(OSError):
        os.write(fd, data)
durable.write_all = heard
"""


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A disk of its own, of 128 MiB."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small disk")
    place = tmp_path_factory.mktemp("disk")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128m", "daicho-faults", str(place)], check=False)
    if mounted.returncode:
        pytest.skip("this machine lets nobody mount a disk")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def room_of(disk: Path) -> int:
    told = os.statvfs(disk)
    return told.f_bavail * told.f_frsize


def most_used(operation: Operation, here: Path, disk: Path) -> int:
    """Bytes that an unharmed run takes on the disk at most; what it made goes again."""
    begin = least = room_of(disk)
    running = subprocess.Popen(operation.command(here), env=environment(), cwd="/", stdout=subprocess.DEVNULL)
    while running.poll() is None:
        least = min(least, room_of(disk))
        time.sleep(0.001)
    assert running.returncode == 0
    least = min(least, room_of(disk))
    shutil.rmtree(here)
    return begin - least


def filled_up(operation: Operation, whole: Unharmed, disk: Path, room: int, elsewhere: Path) -> bool:
    """Run it with so many bytes left, then again with room enough, and compare; whether the disk was full.

    Args:
        elsewhere: for temporary files, which are not to take room.
    """
    here, filler = operation.laid_out(whole.base, disk / "here"), disk / "filler"
    where = f"seed {SEED}, {operation.name} with {room} bytes left"
    try:
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(room_of(disk) - room, 1))
        ended = run(*operation.command(here), program=(), plain=True, TMPDIR=str(elsewhere))
        assert "Traceback" not in ended.err, f"{where}: {ended.err}"
        if ended.code:
            assert any(f"[{code}]" in ended.err for code in CODES), f"{where}: {ended.err}"
            assert not acknowledged(ended.out), where
        filler.unlink()
        operation.given_again(here)
        assert operation.outcome(here) == whole.outcome, where
    finally:
        filler.unlink(missing_ok=True)
        shutil.rmtree(here)
    return ended.code != 0


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("name", SIZES)
def test_a_full_disk(
    name: str, part: int, unharmed: Callable[[Operation], Unharmed], disk: Path, tmp_path: Path
) -> None:
    operation = OPERATIONS[name]
    whole = unharmed(operation)
    used = most_used(operation, operation.laid_out(whole.base, disk / "whole"), disk)
    rng = random.Random(f"{SEED} {name}")
    sizes = [rng.randrange(0, used * 9 // 10) for _ in range(SIZES[name][PARTS > 1])]
    full = 0
    for room in sizes[part::PARTS]:
        full += filled_up(operation, whole, disk, room, tmp_path)
    assert full, f"{name}: it takes less than {used} bytes"
    print(f"{name}: {len(sizes[part::PARTS])} sizes below {used} bytes, full at {full}")


def test_a_disk_that_is_full_and_not_heard_is_seen(
    unharmed: Callable[[Operation], Unharmed], disk: Path, tmp_path: Path
) -> None:
    """The control: a program that does not listen to what a write answers wraps keys into empty files."""
    operation = OPERATIONS["rotation"]
    whole = unharmed(operation)
    assert filled_up(operation, whole, disk, 0, tmp_path), "not even SQLite finds room"
    assert filled_up(operation, whole, disk, ROOM, tmp_path)
    with pytest.raises(AssertionError):
        filled_up(without(operation, DEAF), whole, disk, ROOM, tmp_path)


@pytest.mark.parametrize("room", [100_000, 300_000, 460_000])
def test_an_installation_for_which_there_is_no_room_leaves_nothing(room: int, disk: Path) -> None:
    """The folders are gone, so that the same command can be given again."""
    place, filler = disk / "new", disk / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, room_of(disk) - room)
    ended = run("init", "--data", str(place / "data"))
    filler.unlink()
    assert (ended.code, ended.error) == (74, "storage.full"), ended.err
    assert list(place.iterdir()) == []
    assert run("init", "--data", str(place / "data")).code == 0
    shutil.rmtree(place)
