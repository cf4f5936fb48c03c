"""`MemoryIndex` keeps the contract, and converges when a write breaks before or after it lands."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from search.memory import MemoryIndex
from search.port import SearchIndex
from tests.contracts.index_contract import IndexContract, doc, found


@pytest.fixture
def make_index() -> Callable[[], SearchIndex]:
    return MemoryIndex


@pytest.fixture
def index() -> SearchIndex:
    return MemoryIndex()


class TestMemoryIndex(IndexContract):
    pass


@pytest.mark.parametrize(("step", "upto"), [("write.before", 1), ("write.after", 2)])
def test_a_write_that_breaks_lands_whole_or_not_at_all(step: str, upto: int) -> None:
    steps: list[str] = []

    def fail(at: str) -> None:
        if at in steps:
            steps.remove(at)
            raise OSError(at)

    index = MemoryIndex(fail)
    index.write([doc("r-1", "山")], (), 1)
    steps.append(step)
    with pytest.raises(OSError, match=step):
        index.write([doc("r-2", "川")], ["r-1"], 2)
    assert (index.upto(), index.count(), found(index, "川")) == (upto, 1, ["r-2"] if upto == 2 else [])
    index.write([doc("r-2", "川")], ["r-1"], 2)
    assert (index.upto(), index.count(), found(index, "山")) == (2, 1, [])
