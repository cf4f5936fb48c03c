"""kill -9 at every call by which an ingest, an edit, a backup or a lengthening of locks changes something (tests/faults/killing.py).

`make faults` breaks every call there is, up to a number for each operation; a run here breaks a sample drawn with a seed that is printed when a
comparison fails (`DAICHO_KILL_SEED` sets it).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.conftest import Unharmed
from tests.faults.killing import RECORDS, killed_at_calls
from tests.faults.operations import OPERATIONS, PARTS, Operation

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("name", RECORDS)
def test_killed_at_every_call(name: str, part: int, unharmed: Callable[[Operation], Unharmed], tmp_path: Path) -> None:
    operation = OPERATIONS[name]
    killed_at_calls(operation, unharmed(operation), part, tmp_path)
