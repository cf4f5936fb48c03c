"""An index that asks again: the wrapper around one whose server may be away for a moment.

Adapters do not try again themselves; how often and how long is decided here alone.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from core.errors import Unreachable
from search.port import Document, Page, Query, Scope, SearchIndex

_Answer = TypeVar("_Answer")


class RetryingIndex:
    """A `SearchIndex` that repeats what failed as `Unreachable`, each time after a longer pause.

    Args:
        index: the index to ask.
        tries: how often a call is made at most.
        pause: seconds before the second try; doubled for each one after it, and shortened by up to a half by chance, so
            that many processes do not come back at once.
        sleep: waits that many seconds.
    """

    def __init__(
        self,
        index: SearchIndex,
        *,
        tries: int = 4,
        pause: float = 0.25,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._index = index
        self._tries = tries
        self._pause = pause
        self._sleep = sleep

    def write(self, documents: Iterable[Document], gone: Iterable[str], upto: int) -> None:
        # Repeating a write changes nothing, as the port promises; what can be read only once is kept for it.
        given, removed = list(documents), list(gone)
        self._again(lambda: self._index.write(given, removed, upto))

    def upto(self) -> int:
        return self._again(self._index.upto)

    def search(
        self, query: Query, scope: Scope, *, past: bool = False, limit: int = 50, cursor: str | None = None
    ) -> Page:
        return self._again(lambda: self._index.search(query, scope, past=past, limit=limit, cursor=cursor))

    def facet(self, facet: str, query: Query, scope: Scope, *, past: bool = False) -> dict[str, int]:
        return self._again(lambda: self._index.facet(facet, query, scope, past=past))

    def count(self) -> int:
        return self._again(self._index.count)

    def _again(self, call: Callable[[], _Answer]) -> _Answer:
        pause = self._pause
        for _ in range(self._tries - 1):
            try:
                return call()
            except Unreachable:
                self._sleep(pause * random.uniform(0.5, 1))  # noqa: S311  # spreads the load, guards nothing
                pause *= 2
        return call()
