"""kill -9 at every call by which a rebuild, a change of the master key or of the index changes something (tests/faults/killing.py).

`make faults` breaks every call there is, up to a number for each operation; a run here breaks a sample drawn with a seed that is printed when a
comparison fails (`DAICHO_KILL_SEED` sets it).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.conftest import Unharmed
from tests.faults.killing import RECORDS, killed_at_calls
from tests.faults.operations import OPERATIONS, PARTS, Operation, without

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("name", [name for name in OPERATIONS if name not in RECORDS])
def test_killed_at_every_call(name: str, part: int, unharmed: Callable[[Operation], Unharmed], tmp_path: Path) -> None:
    operation = OPERATIONS[name]
    killed_at_calls(operation, unharmed(operation), part, tmp_path)


def test_a_start_that_does_not_look_at_the_journal_is_seen(
    unharmed: Callable[[Operation], Unharmed], tmp_path: Path
) -> None:
    """The control: killed between the journal and the catalogue, a program that takes nothing in afterwards does not come to the same end."""
    operation = OPERATIONS["rotation"]
    whole = unharmed(operation)
    journalled = max(n for n, call in enumerate(whole.calls) if call.name == "linkat" and "/journal/" in call.shown)
    [call, *_] = [call for call in whole.calls[journalled:] if "catalogue.sqlite3-wal" in call.shown]
    forgetful = without(
        operation, "from storage.filesystem import FilesystemJournal as J; J.segments = lambda self, first=1: iter(())"
    )
    here = operation.laid_out(whole.base, tmp_path / "here")
    assert operation.killed(here, call) == (True, False)
    with pytest.raises(AssertionError):
        forgetful.given_again(here)
    operation.given_again(here)
    assert operation.outcome(here) == whole.outcome
