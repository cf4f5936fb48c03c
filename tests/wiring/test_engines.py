"""What may run once on a machine at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import Busy
from wiring.engines import alone


def test_a_second_one_is_told_and_the_next_may_begin(tmp_path: Path) -> None:
    busy = Busy("始まっています。", "Under way.", code="reindex.running")
    with alone(tmp_path / "lock", busy):
        with pytest.raises(Busy) as told, alone(tmp_path / "lock", busy):
            pass
        assert told.value is busy
    with alone(tmp_path / "lock", busy):
        pass


def test_what_the_work_itself_meets_is_not_taken_for_somebody_else(tmp_path: Path) -> None:
    with pytest.raises(BlockingIOError), alone(tmp_path / "lock", Busy("", "", code="reindex.running")):
        raise BlockingIOError
