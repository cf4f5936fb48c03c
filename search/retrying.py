"""An index that asks again: the wrapper around one whose server may be away for a moment."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from core.clock import Patient, Sleep
from search.port import Document, Page, Query, Scope, SearchIndex


class RetryingIndex(Patient):
    """A `SearchIndex` before another one: every call is asked again while the index does not answer."""

    def __init__(
        self, index: SearchIndex, sleep: Sleep = time.sleep, now: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(sleep, now)
        self._index = index

    def write(self, documents: Iterable[Document], gone: Iterable[str], upto: int) -> None:
        # Repeating a write changes nothing, as the port promises; what can be read only once is kept for it.
        given, removed = list(documents), list(gone)
        self.again(lambda: self._index.write(given, removed, upto))

    def upto(self) -> int:
        return self.again(self._index.upto)

    def search(
        self, query: Query, scope: Scope, *, past: bool = False, limit: int = 50, cursor: str | None = None
    ) -> Page:
        return self.again(lambda: self._index.search(query, scope, past=past, limit=limit, cursor=cursor))

    def facet(self, facet: str, query: Query, scope: Scope, *, past: bool = False) -> dict[str, int]:
        return self.again(lambda: self._index.facet(facet, query, scope, past=past))

    def count(self) -> int:
        return self.again(self._index.count)
