"""The disk answers with an error, at every write, sync, rename and link of an operation of the installed command.

Either the command ends with a coded error that says so, or what failed was nothing that it promises; it never tells success after a sync that
failed. The same command given again, on a disk that works, ends as if nothing had happened.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.calls import NAMES, OPENS, SIZES, SYNCS, WRITES, Call, failed
from tests.faults.conftest import Unharmed
from tests.faults.operations import OPERATIONS, PARTS, SEED, Operation, acknowledged, without

pytestmark = pytest.mark.slow

ERRORS = {
    name: errors
    for names, errors in (
        (WRITES, ("EIO", "ENOSPC")),
        (OPENS, ("EIO", "ENOSPC")),
        (SYNCS, ("EIO", "ENOSPC")),
        (SIZES, ("EIO",)),
        (NAMES, ("EIO", "ENOSPC")),
    )
    for name in names
}
"""System call -> the errors that a disk gives it."""

COUNTS = {"ingest": (3, 120), "backup": (4, 150), "rebuild": (5, 200), "reindex": (5, 100), "rotation": (4, 150)}
"""Operation -> calls that fail in CI, and in `make faults`."""

CODES = {"storage.failed", "storage.full", "index.damaged", "index.full"}
"""What may be told: each says what to do. An index that could not be written is made again, whatever the cause was."""


DEAF = """
from storage import durable
def heard(sync, fd):
    try:
        sync(fd)
    except OSError:
        pass
durable._final = heard
"""


def on_disk(call: Call) -> bool:
    return call.name in ERRORS and ("/data" in call.shown or "/copy" in call.shown)


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("name", COUNTS)
def test_an_error_at_every_call(
    name: str, part: int, unharmed: Callable[[Operation], Unharmed], tmp_path: Path
) -> None:
    operation = OPERATIONS[name]
    whole = unharmed(operation)
    every = [(call, error) for call in whole.calls if on_disk(call) for error in ERRORS[call.name]]
    rng = random.Random(f"{SEED} {name}")
    wanted = min(COUNTS[name][PARTS > 1], len(every))
    survived = 0
    for call, error in rng.sample(every, wanted)[part::PARTS]:
        here = operation.laid_out(whole.base, tmp_path / "here")
        where = f"seed {SEED}, {name}: {error} at {call}"
        ended = failed(operation.command(here), call, error)
        assert "Traceback" not in ended.stderr, f"{where}: {ended.stderr[-3000:]}"
        if ended.returncode == 0:
            survived += 1
            assert call.name not in SYNCS, f"{where}: success was told"
            assert operation.outcome(here) == whole.outcome, f"{where}: success was told"
        else:
            rows = [json.loads(line) for line in ended.stdout.splitlines()]
            codes = {row["error"] for row in rows if "error" in row}
            assert codes and codes <= CODES, f"{where}: {codes} {ended.stderr[-2000:]}"
            assert not acknowledged(ended.stdout), where
        operation.given_again(here)
        assert operation.outcome(here) == whole.outcome, where
        shutil.rmtree(here)
    print(f"{name}: {wanted} errors, {survived} of them at calls that nothing rests on")


def test_a_sync_whose_failure_is_not_heard_is_seen(unharmed: Callable[[Operation], Unharmed], tmp_path: Path) -> None:
    """The control: a program that does not listen to what a sync answers tells success."""
    operation = OPERATIONS["rotation"]
    whole = unharmed(operation)
    [call, *_] = [call for call in whole.calls if call.name == "fsync" and "/data-keys" in call.shown]
    deaf = without(operation, DEAF)
    for each, code in ((operation, 74), (deaf, 0)):
        here = operation.laid_out(whole.base, tmp_path / f"{code}")
        assert failed(each.command(here), call, "EIO").returncode == code
