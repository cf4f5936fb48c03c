"""Wrappers that try again: contracts behind a network that loses answers, what is tried again and what is not, for how long."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from typing import Any, BinaryIO

import pytest

from core.clock import ENOUGH, FIRST_PAUSE, TRIES
from core.errors import BadInput, Busy, Conflict, DaichoError, NotReady, StorageFull, Unreachable
from core.settings import S3Settings
from storage.memory import MemoryDerivatives, MemoryJournal, MemoryObjects
from storage.places import segment_place
from storage.port import Pin
from storage.retrying import (
    RetryingDerivatives,
    RetryingJournal,
    RetryingLocks,
    RetryingObjects,
)
from storage.s3 import S3Derivatives, S3Journal, S3Objects, create_s3_store
from storage.streams import Raw, buffered
from tests.contracts.storage_contracts import (
    BIG,
    Damage,
    DerivativeStoreContract,
    Generated,
    JournalContract,
    LocksContract,
    ObjectStoreContract,
    read_through,
    version,
)
from tests.servers.proxy import Answer, Forward, HttpFront, Request
from tests.servers.running import HOST, S3Server
from tests.storage.buckets import damaging, lock_ends, opened, removed, through


def away() -> Unreachable:
    return Unreachable("応答なし", "no answer", code="store.unreachable")


class Shaky:
    """Before any port: each method, whenever it is called, breaks before anything is done, then after all is done, then works.
    Iterators break before the first, then behind the first, then go on.
    """

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method, calls = getattr(self._inner, name), self.__dict__.setdefault("_calls", {})

        def called(*arguments: Any) -> Any:
            turn = calls[name] = (calls.get(name, 0) + 1) % 3
            if turn == 1:
                raise away()
            answer = method(*arguments)
            if isinstance(answer, Iterator) and not isinstance(answer, io.IOBase):
                return broken_off(answer) if turn == 2 else answer
            if turn == 2:
                raise away()
            return answer

        return called


def broken_off(inner: Iterator[Any]) -> Iterator[Any]:
    yield from (each for each, _ in zip(inner, range(1), strict=False))
    raise away()


def no_pause(seconds: float) -> None:
    """Tests do not wait."""


class TestObjectsInMemory(ObjectStoreContract):
    @pytest.fixture
    def inner(self) -> MemoryObjects:
        return MemoryObjects()

    @pytest.fixture
    def objects(self, inner: MemoryObjects) -> RetryingObjects:
        return RetryingObjects(Shaky(inner), no_pause)

    @pytest.fixture
    def damage(self, inner: MemoryObjects) -> Damage:
        def change(pin: Pin, path: str) -> None:
            place = (pin.object_id, f"v{pin.number}/content/{path}")
            inner.files[place] = b"\x00" + inner.files[place][1:]

        return change


class TestJournalInMemory(JournalContract):
    @pytest.fixture
    def journal(self) -> RetryingJournal:
        return RetryingJournal(Shaky(MemoryJournal()), no_pause)


class TestDerivativesInMemory(DerivativeStoreContract):
    @pytest.fixture
    def derivatives(self) -> RetryingDerivatives:
        return RetryingDerivatives(Shaky(MemoryDerivatives()), no_pause)


# The real thing: a server that does what it is asked, and answers that get lost


@pytest.fixture
def straight(minio: S3Server) -> S3Settings:
    where = minio.new(lock_mode="GOVERNANCE", timeout=10)
    create_s3_store(where, "s-1")
    return where


@pytest.fixture
def where(minio: S3Server, straight: S3Settings) -> Iterator[S3Settings]:
    """The same store, where some of the first answers never arrive."""
    count = 0

    def change(request: Request, forward: Forward) -> Answer:
        nonlocal count
        count += 1
        lost = count in (2, 5, 9, 14)
        answer = forward(request)
        if lost:
            raise ConnectionError("lost on the way")
        return answer

    with HttpFront(HOST, minio.port, change) as front:
        yield through(front, straight)


class TestObjectsOnS3(ObjectStoreContract):
    @pytest.fixture
    def objects(self, where: S3Settings) -> RetryingObjects:
        return RetryingObjects(S3Objects(where), no_pause)

    @pytest.fixture
    def damage(self, straight: S3Settings) -> Damage:
        return damaging(opened(straight))


class TestJournalOnS3(JournalContract):
    @pytest.fixture
    def journal(self, where: S3Settings) -> RetryingJournal:
        return RetryingJournal(S3Journal(where), no_pause)


class TestDerivativesOnS3(DerivativeStoreContract):
    @pytest.fixture
    def derivatives(self, where: S3Settings) -> RetryingDerivatives:
        return RetryingDerivatives(S3Derivatives(where), no_pause)


class TestLocksOnS3(LocksContract):
    @pytest.fixture
    def objects(self, straight: S3Settings) -> S3Objects:
        return S3Objects(straight)

    @pytest.fixture
    def locks(self, where: S3Settings) -> RetryingLocks:
        return RetryingLocks(S3Objects(where), no_pause)

    @pytest.fixture
    def ends(self, straight: S3Settings) -> Callable[[str], list[datetime]]:
        return partial(lock_ends, opened(straight))

    @pytest.fixture(name="removed")
    def _removed(self, straight: S3Settings) -> Callable[[str], bool]:
        return partial(removed, opened(straight))


def test_an_append_whose_answer_was_lost_is_there_once(minio: S3Server, straight: S3Settings) -> None:
    def change(request: Request, forward: Forward) -> Answer:
        answer = forward(request)
        if request.method == "PUT" and not lost:
            lost.append(request)
            raise ConnectionError("lost on the way")
        return answer

    lost: list[Request] = []
    with HttpFront(HOST, minio.port, change) as front:
        journal = RetryingJournal(S3Journal(through(front, straight)), no_pause)
        journal.append(1, b"one")
        journal.append(2, b"two")
    assert lost
    assert list(S3Journal(straight).segments()) == [(1, b"one"), (2, b"two")]
    assert [len(opened(straight).of_key(segment_place(number))) for number in (1, 2)] == [1, 1]


# What is tried again, how often, for how long


class Failing(MemoryObjects):
    """Raises `error` so many times (for ever: -1), taking `seconds` each time."""

    def __init__(self, error: DaichoError, times: int = -1, seconds: float = 0) -> None:
        super().__init__()
        self.error, self.times, self.seconds = error, times, seconds
        self.calls, self.time, self.pauses = 0, 0.0, list[float]()

    def head(self, object_id: str) -> int:
        self.calls += 1
        self.time += self.seconds
        if self.calls <= self.times or self.times < 0:
            raise self.error
        return super().head(object_id)

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.time += seconds

    def retried(self) -> RetryingObjects:
        return RetryingObjects(self, self.sleep, lambda: self.time)


@pytest.mark.parametrize("kind", [NotReady, Conflict, StorageFull, Busy, BadInput])
def test_nothing_but_silence_is_tried_again(kind: type[DaichoError]) -> None:
    store = Failing(kind("だめ", "no"))
    with pytest.raises(kind):
        store.retried().head("r-1")
    assert (store.calls, store.pauses) == (1, [])


def test_pauses_grow_until_it_is_enough() -> None:
    store = Failing(away())
    with pytest.raises(Unreachable):
        store.retried().head("r-1")
    assert 4 < store.calls <= TRIES
    assert store.time <= ENOUGH
    for turn, pause in enumerate(store.pauses):
        assert FIRST_PAUSE * 2**turn / 2 <= pause <= FIRST_PAUSE * 2**turn


def test_an_answer_in_time_is_given() -> None:
    store = Failing(away(), times=4)
    assert store.retried().head("r-1") == 0
    assert store.calls == 5


def test_slow_silence_is_not_waited_for_again_and_again() -> None:
    store = Failing(away(), seconds=30)
    with pytest.raises(Unreachable):
        store.retried().head("r-1")
    assert store.calls == 1


def test_a_file_is_read_on_where_it_broke_off() -> None:
    class Torn(MemoryObjects):
        begun = 0

        def open(self, pin: Pin, path: str) -> BinaryIO:
            self.begun += 1
            return buffered(TornOff(super().open(pin, path), self.begun * (5 << 20) if self.begun < 4 else 1 << 40))

    class TornOff(Raw):
        def __init__(self, inner: BinaryIO, after: int) -> None:
            self.inner, self.left = inner, after

        def _next(self, size: int) -> bytes:
            if self.left <= 0:
                raise away()
            piece = self.inner.read(min(size, self.left))
            self.left -= len(piece)
            return piece

    objects = Torn()
    retrying = RetryingObjects(objects, no_pause)
    [pin] = retrying.seal([version(whole=Generated(BIG))])
    assert read_through(retrying.open(pin, "whole")) == read_through(Generated(BIG).open())
    assert objects.begun == 4
    objects.begun = 0
    # What a copy reads is this store's, patience included.
    assert read_through(retrying.exported(pin).files["whole"].open())[0] == BIG  # type: ignore[union-attr]
    assert objects.begun == 4


def test_iterators_go_on_where_they_broke_off() -> None:
    class Torn(MemoryObjects):
        begun = 0

        def objects(self) -> Iterator[str]:
            self.begun += 1
            # Another order each time, and more given before it breaks.
            for count, object_id in enumerate(sorted(super().objects(), reverse=self.begun % 2 == 0)):
                if count == self.begun * 2 and self.begun < 4:
                    raise away()
                yield object_id

    class TornJournal(MemoryJournal):
        begun = 0

        def segments(self, first: int = 1) -> Iterator[tuple[int, bytes]]:
            self.begun += 1
            for count, each in enumerate(super().segments(first)):
                if count == 2 and self.begun < 4:
                    raise away()
                yield each

    objects, journal = Torn(), TornJournal()
    objects.seal([version(f"r-{n}", a=b"1") for n in range(9)])
    assert sorted(RetryingObjects(objects, no_pause).objects()) == [f"r-{n}" for n in range(9)]
    for number in range(1, 10):
        journal.append(number, b"%d" % number)
    given = list(RetryingJournal(journal, no_pause).segments(2))
    assert given == [(number, b"%d" % number) for number in range(2, 10)]
    assert (objects.begun, journal.begun) == (4, 4)
