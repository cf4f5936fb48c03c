"""`RetryingIndex` keeps the contract of what it wraps, and repeats what failed for want of an answer, nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from core.clock import FIRST_PAUSE, TRIES
from core.errors import BadInput, Busy, DaichoError, Unreachable
from search.memory import MemoryIndex
from search.port import Contains, SearchIndex
from search.retrying import RetryingIndex
from tests.contracts.index_contract import EVERYTHING, OPEN, IndexContract, doc, found


@pytest.fixture
def make_index() -> Callable[[], SearchIndex]:
    return lambda: RetryingIndex(MemoryIndex())


@pytest.fixture
def index() -> SearchIndex:
    return RetryingIndex(MemoryIndex())


class TestRetryingIndex(IndexContract):
    pass


class Away(MemoryIndex):
    """An index that fails as it is told, so many times, before every answer; a write has landed by then or not."""

    def __init__(self, error: DaichoError, times: int, step: str = "write.before") -> None:
        self.error, self.times, self.asked = error, times, 0
        super().__init__(lambda at: self.may_fail() if at == step else None)

    def may_fail(self) -> None:
        self.asked += 1
        if self.asked <= self.times:
            raise self.error

    def search(self, *args: object, **more: object) -> object:  # type: ignore[override]
        self.may_fail()
        return super().search(*args, **more)  # type: ignore[arg-type]

    def count(self) -> int:
        self.may_fail()
        return super().count()

    def upto(self) -> int:
        self.may_fail()
        return super().upto()

    def facet(self, *args: object, **more: object) -> dict[str, int]:  # type: ignore[override]
        self.may_fail()
        return super().facet(*args, **more)  # type: ignore[arg-type]


GONE = Unreachable("応答がありません", "no answer", code="index.unreachable")


@pytest.mark.parametrize("step", ["write.before", "write.after"])
def test_a_write_is_repeated_with_all_its_documents(step: str) -> None:
    waited: list[float] = []
    away = Away(GONE, 2, step)
    RetryingIndex(away, sleep=waited.append).write(iter([doc("r-1", "山"), doc("r-2", "山")]), iter(["r-3"]), 4)
    assert (found(away, "山"), away.upto()) == (["r-1", "r-2"], 4)
    assert len(waited) == 2
    assert FIRST_PAUSE / 2 <= waited[0] <= FIRST_PAUSE <= waited[1] <= FIRST_PAUSE * 2


@pytest.mark.parametrize(
    "ask",
    [
        lambda index: index.search(Contains("山"), OPEN),
        lambda index: index.facet("year", EVERYTHING, OPEN),
        lambda index: index.count(),
        lambda index: index.upto(),
    ],
)
def test_every_question_is_repeated_and_given_up_in_the_end(ask: Callable[[SearchIndex], object]) -> None:
    waited: list[float] = []
    ask(RetryingIndex(Away(GONE, 3), sleep=waited.append))
    assert len(waited) == 3
    away = Away(GONE, TRIES)
    with pytest.raises(Unreachable):
        ask(RetryingIndex(away, sleep=waited.append))
    assert (away.asked, len(waited)) == (TRIES, 3 + TRIES - 1)


def test_a_silent_index_is_given_up_before_it_holds_a_page_for_minutes() -> None:
    """Each question takes thirty seconds to fail: there is no second one."""
    time = iter(range(0, 10_000, 30))
    away = Away(GONE, TRIES)
    with pytest.raises(Unreachable):
        RetryingIndex(away, lambda seconds: pytest.fail("it waits"), lambda: next(time)).count()
    assert away.asked == 1


@pytest.mark.parametrize("error", [Busy("待つ", "wait"), BadInput("誤り", "bad")])
def test_nothing_else_is_repeated(error: DaichoError) -> None:
    away = Away(error, 1)
    with pytest.raises(type(error)):
        RetryingIndex(away, sleep=lambda seconds: pytest.fail("it waits")).write([doc("r-1", "山")], (), 1)
    assert away.asked == 1
