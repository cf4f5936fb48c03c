"""The ports of the store, each call tried again while an engine does not answer: wrappers that implement the port.

All calls of these ports may be repeated, by contract: what was written before the answer got lost is written again with
the same bytes, which succeeds; reads, checks and locks change nothing the second time. Only `Unreachable` is worth
another try: a full store or a wrong password is no better a second later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import BinaryIO, TypeVar

from core.clock import Patient, Sleep
from core.errors import Unreachable
from storage.port import (
    Checked,
    Content,
    DerivativeStore,
    Finding,
    Journal,
    Locks,
    NewVersion,
    ObjectStore,
    Pacer,
    Pin,
    every,
    unhurried,
)
from storage.streams import PIECE, Raw, Stored, buffered

T = TypeVar("T")


class _Resuming(Patient):
    def _resumed(self, begin: Callable[[T | None], Iterator[T]]) -> Iterator[T]:
        """What an iterator gives; where it breaks off, `begin` makes another from the last that was given (None: from
        the beginning).
        """
        running: Iterator[T] | None = None
        last: T | None = None

        def step() -> T:
            nonlocal running
            running = running or begin(last)
            try:
                return next(running)
            except Unreachable:
                running = None
                raise

        while True:
            try:
                last = self.again(step)
            except StopIteration:
                return
            yield last


class RetryingObjects(_Resuming):
    """`ObjectStore` before another one. `objects` remembers the ids it gave, so that none comes twice."""

    def __init__(
        self, store: ObjectStore, sleep: Sleep = time.sleep, now: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(sleep, now)
        self._store = store

    def seal(self, versions: Sequence[NewVersion]) -> list[Pin]:
        return self.again(lambda: self._store.seal(versions))

    def head(self, object_id: str) -> int:
        return self.again(lambda: self._store.head(object_id))

    def read(self, pin: Pin, path: str) -> bytes:
        return self.again(lambda: self._store.read(pin, path))

    def open(self, pin: Pin, path: str) -> BinaryIO:
        return buffered(_Resumed(self, lambda: self._store.open(pin, path)))

    def paths(self, pin: Pin) -> dict[str, str]:
        return self.again(lambda: self._store.paths(pin))

    def pin(self, object_id: str, number: int) -> Pin:
        return self.again(lambda: self._store.pin(object_id, number))

    def exported(self, pin: Pin) -> NewVersion:
        version = self.again(lambda: self._store.exported(pin))
        files = {path: self._patient(content) for path, content in version.files.items()}
        return replace(version, files=files)

    def _patient(self, content: Content) -> Content:
        return replace(content, objects=self) if isinstance(content, Stored) else content

    def objects(self) -> Iterator[str]:
        given: set[str] = set()
        for object_id in self._resumed(lambda _: (each for each in self._store.objects() if each not in given)):
            given.add(object_id)
            yield object_id

    def check(self, object_id: str, pins: Sequence[Pin] = (), pace: Pacer = unhurried) -> Checked:
        return self.again(lambda: self._store.check(object_id, pins, pace))

    def strays(self) -> list[Finding]:
        return self.again(self._store.strays)

    def worm(self) -> bool:
        return self.again(self._store.worm)

    def describe(self) -> dict[str, str]:
        return self.again(self._store.describe)


class _Resumed(Raw):
    """A file being read; where the engine stops answering, it is read again as far as we had come.

    Args:
        begin: opens it. What that raises, but for `Unreachable`, is raised here at once.
    """

    def __init__(self, patient: Patient, begin: Callable[[], BinaryIO]) -> None:
        self._patient = patient
        self._begin = begin
        self._at = 0
        self._stream: BinaryIO | None = patient.again(begin)

    def _next(self, size: int) -> bytes:
        return self._patient.again(lambda: self._step(size))

    def _step(self, size: int) -> bytes:
        try:
            if self._stream is None:
                self._stream = self._begin()
                left = self._at
                while left and (piece := self._stream.read(min(left, PIECE))):
                    left -= len(piece)
            piece = self._stream.read(size)
        except Unreachable:
            self._drop()
            raise
        self._at += len(piece)
        return piece

    def _drop(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def close(self) -> None:
        self._drop()
        super().close()


class RetryingLocks(_Resuming):
    """`Locks` before another one. What is counted is what the last try still found to do."""

    def __init__(self, locks: Locks, sleep: Sleep = time.sleep, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__(sleep, now)
        self._locks = locks

    def extend(self, object_id: str, until: str) -> int:
        return self.again(lambda: self._locks.extend(object_id, until))

    def extend_rest(self, until: str, due: Callable[[int], bool] = every) -> int:
        return self.again(lambda: self._locks.extend_rest(until, due))

    def ends(self, object_id: str) -> str:
        return self.again(lambda: self._locks.ends(object_id))

    def rest_ends(self, due: Callable[[int], bool] = every) -> str:
        return self.again(lambda: self._locks.rest_ends(due))

    def hold(self, object_id: str) -> None:
        self.again(lambda: self._locks.hold(object_id))

    def release(self, object_id: str) -> None:
        self.again(lambda: self._locks.release(object_id))


class RetryingJournal(_Resuming):
    """`Journal` before another one."""

    def __init__(self, journal: Journal, sleep: Sleep = time.sleep, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__(sleep, now)
        self._journal = journal

    def append(self, number: int, segment: bytes) -> None:
        self.again(lambda: self._journal.append(number, segment))

    def last(self) -> int:
        return self.again(self._journal.last)

    def read(self, number: int) -> bytes:
        return self.again(lambda: self._journal.read(number))

    def segments(self, first: int = 1) -> Iterator[tuple[int, bytes]]:
        return self._resumed(lambda last: self._journal.segments(last[0] + 1 if last else first))


class RetryingDerivatives(_Resuming):
    """`DerivativeStore` before another one."""

    def __init__(
        self, derivatives: DerivativeStore, sleep: Sleep = time.sleep, now: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(sleep, now)
        self._derivatives = derivatives

    def put(self, archives: Mapping[str, bytes]) -> None:
        self.again(lambda: self._derivatives.put(archives))

    def get(self, name: str) -> bytes | None:
        return self.again(lambda: self._derivatives.get(name))

    def delete(self, name: str) -> None:
        self.again(lambda: self._derivatives.delete(name))

    def names(self) -> Iterable[str]:
        return self.again(lambda: list(self._derivatives.names()))
