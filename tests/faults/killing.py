"""Breaking an operation with SIGKILL at one call after the other. The tests of it lie in two files, so that two processes share them."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from tests.faults.calls import Call
from tests.faults.conftest import Unharmed
from tests.faults.operations import PARTS, SEED, Operation

RECORDS = ("ingest", "edit", "backup", "extension")
"""Operations whose kills are in test_kill_records.py; all others are in test_kill_projections.py."""


def killed_at_calls(operation: Operation, whole: Unharmed, part: int, folder: Path) -> None:
    """Kill the operation at each of its chosen calls, give it again, and compare with the unharmed run; `part`: which of PARTS shares."""
    some = _chosen(operation, whole.calls, part)
    kills = 0
    for call in some:
        here = operation.laid_out(whole.base, folder / "here")
        where = f"seed {SEED}, {operation.name} killed at {call}"
        killed, told = operation.killed(here, call)
        if told:
            assert operation.outcome(here) == whole.outcome, f"{where}: what was told is not there"
        operation.given_again(here)
        assert operation.outcome(here) == whole.outcome, where
        kills += killed
        shutil.rmtree(here)
    print(f"{operation.name}: killed at {kills} of {len(some)} calls; {len(whole.calls)} in all")
    assert kills >= 0.9 * len(some), "the calls of two runs differ: the numbers mean nothing"


def _chosen(operation: Operation, calls: list[Call], part: int) -> list[Call]:
    """The calls to be broken: a sample, or one share of all of them as far as the operation's number goes."""
    rng = random.Random(f"{SEED} {operation.name}")
    wanted = operation.points if PARTS > 1 else operation.sample
    some = calls if wanted >= len(calls) else sorted(rng.sample(calls, wanted), key=calls.index)
    return some[part::PARTS]
