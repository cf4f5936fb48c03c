"""The power goes: disks made from the calls of a real run, on which every change that was not synced is kept, lost or torn (tests/faults/disk.py).

What the command had told before is there; the same command given again ends as if nothing had happened; nothing is found wrong.
"""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.calls import STEADY
from tests.faults.conftest import Unharmed
from tests.faults.disk import CUTS, Disk, Step, cut_states, steps, tracing
from tests.faults.operations import OPERATIONS, PARTS, SEED, Operation, acknowledged
from tests.installed import environment

pytestmark = pytest.mark.slow

STATES = {"ingest": (4, 160), "backup": (4, 160), "rebuild": (8, 200), "rotation": (6, 160)}
"""Operation -> disks that are looked at in CI, and by `make faults`."""


def recorded(operation: Operation, base: Path, folder: Path, *, believes: bool = True) -> tuple[Disk, list[Step], int]:
    """Run the operation on a copy of the base: the disk before it, its steps, and how many had been taken when it told that it was done."""
    here = operation.laid_out(base, folder / "here")
    disk = Disk(here, believes=believes)
    calls = folder / "calls"
    calls.mkdir()
    command = [*tracing(calls), *operation.command(here)]
    subprocess.run(command, env=environment(**STEADY), cwd="/", stdout=subprocess.PIPE, check=True, timeout=600)
    taken = steps(calls)
    told = [number for number, step in enumerate(taken, 1) if _tells(step, taken[0].thread)]
    assert told, "the run told nothing"
    return disk, taken, told[0]


def _tells(step: Step, first: int) -> bool:
    """Whether the program's first thread told the result; its children have outputs of their own."""
    return (
        step.name == "write"
        and step.thread == first
        and step.given.startswith("1<")
        and acknowledged(step.bytes().decode())
    )


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("name", STATES)
def test_power_cut(name: str, part: int, unharmed: Callable[[Operation], Unharmed], tmp_path: Path) -> None:
    operation = OPERATIONS[name]
    whole = unharmed(operation)
    disk, taken, told = recorded(operation, whole.base, tmp_path)
    rng = random.Random(f"{SEED} {name} {part}")
    wanted = STATES[name][PARTS > 1] // PARTS
    # Of the steps after it was told as many as one in four, since there the promise counts.
    late = range(told, len(taken) + 1)
    when = {*rng.choices(range(1, len(taken) + 1), k=wanted), *rng.choices(late, k=max(wanted // 4, 1))}
    looked = 0
    for number, cut, nodes in cut_states(disk, taken, when, rng, rng.sample(sorted(CUTS), 3)):
        if looked == wanted:
            break
        here = tmp_path / "cut"
        disk.laid_out(nodes, here)
        where = f"seed {SEED}, {name} after step {number} of {len(taken)} ({taken[number - 1].name}), {cut}"
        if number >= told:
            assert operation.outcome(here) == whole.outcome, f"{where}: what was told is not there"
        operation.given_again(here)
        assert operation.outcome(here) == whole.outcome, where
        shutil.rmtree(here)
        looked += 1
    print(f"{name}: {looked} disks after power cuts; {len(taken)} steps")


def test_without_syncs_it_is_lost(unharmed: Callable[[Operation], Unharmed], tmp_path: Path) -> None:
    """The control: on a disk that takes no sync for one, what was told is lost, or names stand for bytes that are gone."""
    operation = OPERATIONS["ingest"]
    whole = unharmed(operation)
    disk, taken, _ = recorded(operation, whole.base, tmp_path, believes=False)
    rng = random.Random(SEED)
    cuts = ("nothing unsynced", "names without bytes", "names with torn bytes")
    lost = 0
    for number, (_, _, nodes) in enumerate(cut_states(disk, taken, {len(taken)}, rng, cuts)):
        here = tmp_path / f"cut{number}"
        disk.laid_out(nodes, here)
        try:
            lost += operation.outcome(here) != whole.outcome
        except AssertionError:  # it does not even open
            lost += 1
    assert lost == len(cuts)
